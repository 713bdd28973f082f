"""Trees as linear forms: what a server computes for a forest, and what of it a client can read.

`ForestProgram` hides the trees; `LeafProgram` leaves them to the client and hides what they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tacit.fhe import randomness
from tacit.fhe.layout import Index, Int, Layout
from tacit.fhe.noise import FormBounds
from tacit.fhe.primes import next_prime, plain_modulus
from tacit.fhe.program import Forms, Program, l2_of_products

MOST_PACKED = 8
"""Forms in one coefficient. No ring here holds more than that many moduli of four bits and more."""


@final
@dataclass(frozen=True)
class ForestProgram(Program):
    """Trees without a comparison [TMZC17]: the client sends the bits z_i = [x_f > threshold], a path is a linear form
    of them.

    An entry e is a leaf, or a node with two leaves below it. It asks some bits to be 1 (sign -1) and some to be 0
    (sign +1); with offset_e the number of the former,

        cost_e(z) = offset_e + sum_i sign_ei z_i = number of conditions that z violates,    e is reached iff cost_e = 0.

    Its value is linear, too: value_e(z) = values_e + step_e z_fork(e), where the bit `fork` tells a node's two leaves
    apart. For each entry the client gets, in a fresh secret order within its channel, modulo a prime p > max cost,

        (r cost_e,  r'_v cost_e + value_ev(z) + m_tree(e),v for each v),      r != 0, r' uniform, all fresh.

    Not reached: r cost_e is uniform among non-zero residues, and the others are uniform: nothing. Reached: (0, value
    + m). The masks m of the trees of a channel are uniform with sum zero, so the values of the reached leaves are
    uniform but for their sum. The client learns the sum of each channel, and no more: neither which leaves, nor what
    each tree said.

    With `votes` > 0 each tree votes for one of that many labels (the leaves of a forest that was grown to the end are
    pure), and value_e is the number of the label. In a secret order over all trees, the labels of the reached leaves
    are known by how often each occurs, and that *is* the sum: they need no mask. Then no modulus need hold a sum, and
    small ones do, p_j > max cost and > labels. By the Chinese remainder theorem one coefficient modulo t = p_1 ... p_k
    carries k forms, each modulo a prime of its own, with factors of its own.
    """

    bits: int
    leaf: Index
    slot: Index
    sign: Int
    offset: Int
    tree: Index
    channel: Index
    values: Int
    fork: Index
    """The bit that decides between the two leaves of an entry, -1 where it is one leaf."""
    step: Int
    """What that bit adds to the values."""
    votes: int = 0

    fresh: ClassVar[bool] = True

    @property
    def length(self) -> int:
        """Encoded inputs."""
        return self.bits

    @property
    def leaves(self) -> int:
        """Entries of all trees."""
        return len(self.offset)

    @property
    def width(self) -> int:
        """Forms for an entry: its cost and its values."""
        return 1 + int(self.values.shape[1])

    @property
    def outputs(self) -> int:
        """Linear forms."""
        return self.leaves * self.width

    @cached_property
    def conditions(self) -> Int:
        """Conditions on the way to each entry."""
        return np.bincount(self.leaf, minlength=self.leaves).astype(np.int64)

    @cached_property
    def score_bound(self) -> int:
        """No channel's sum exceeds this in absolute value."""
        trees = int(self.tree.max()) + 1
        largest = np.zeros(trees, dtype=np.int64)
        either = np.maximum(np.abs(self.values), np.abs(self.values + self.step))
        np.maximum.at(largest, self.tree, either.max(axis=1, initial=0))
        owner = np.zeros(trees, dtype=np.intp)
        owner[self.tree] = self.channel
        return int(np.bincount(owner, weights=largest).max())

    def moduli(self) -> Iterator[tuple[int, ...]]:
        """Yield a prime that holds a sum; for votes the smallest primes that hold a cost and a label, one or more."""
        most = int(self.conditions.max(initial=0))
        if not self.votes:
            yield (plain_modulus(max(self.score_bound, most), prime=True),)
            return
        primes: list[int] = []
        while len(primes) < MOST_PACKED:
            primes.append(next_prime(max(most + 1, self.votes, 17) if not primes else primes[-1] + 1))
            yield tuple(primes)

    def _places(self) -> Index:
        """Return a fresh place for each entry: a secret order within each channel, channels one after the other."""
        order = randomness.permutation(self.leaves)
        order = order[np.argsort(self.channel[order], kind="stable")]
        places = np.empty(self.leaves, dtype=np.intp)
        places[order] = np.arange(self.leaves)
        return places

    def _tree_masks(self, t: int) -> Int:
        """Return masks (trees, values), uniform modulo t but for their sum over each channel, which is zero."""
        trees, count = int(self.tree.max()) + 1, self.width - 1
        masks = randomness.below(t, trees * count).reshape(trees, count)
        for channel in range(int(self.channel.max()) + 1):
            members = np.unique(self.tree[self.channel == channel])
            masks[members[-1]] = -masks[members[:-1]].sum(axis=0) % t
        return masks

    def _factors(self, moduli: Int) -> Int:
        """Return the fresh r (not zero) and r' of each entry, where form i of the answer is modulo moduli[i]."""
        factors = np.empty((self.leaves, self.width), dtype=np.int64)
        for p in np.unique(moduli):
            here = moduli == p
            first = here & (np.arange(self.width) == 0)
            factors[first] = randomness.nonzero_below(int(p), int(first.sum()))
            factors[here & ~first] = randomness.below(int(p), int((here & ~first).sum()))
        return factors

    def forms(self, moduli: tuple[int, ...]) -> Forms:
        """Return one answer's masked costs and values; form i lies in component i mod k of coefficient i div k."""
        places, k, t = self._places(), len(moduli), int(np.prod(moduli))
        number = places[:, None] * self.width + np.arange(self.width)
        idempotent = np.array([_idempotent(p, t) for p in moduli])[number % k]
        factors = self._factors(np.array(moduli)[number % k])
        constant = factors * self.offset[:, None]
        constant[:, 1:] += self.values
        if not self.votes:
            constant[:, 1:] += self._tree_masks(t)[self.tree]
        value = factors[self.leaf] * self.sign[:, None]
        two = np.flatnonzero(self.fork >= 0)
        rows = np.concatenate([number[self.leaf].ravel(), number[two, 1:].ravel()])
        columns = np.concatenate([np.repeat(self.slot, self.width), np.repeat(self.fork[two], self.width - 1)])
        values = np.concatenate(
            [_lifted(value, idempotent[self.leaf], t), _lifted(self.step[two], idempotent[two, 1:], t)]
        )
        outputs = -(-self.outputs // k)
        table = sparse.coo_array((values, (rows // k, columns)), shape=(outputs, self.bits)).tocsr()  # adds up doubles
        constants = np.zeros(outputs, dtype=np.int64)
        np.add.at(constants, number.ravel() // k, _lifted(constant, idempotent, t))
        table = table.tocoo()
        return Forms(
            table.row.astype(np.intp), table.col.astype(np.intp), centred(table.data, t), centred(constants, t)
        )

    def bounds(self, layout: Layout, moduli: tuple[int, ...]) -> FormBounds:
        """Bound the coefficients: at most t/2 in absolute value, and any order of the entries may come."""
        k, half = len(moduli), float(np.prod(moduli)) / 2
        touched = (k + self.width - 2) // self.width + 1 if k > 1 else 1  # entries with a form in one coefficient
        counts = self._counts
        l2 = half * float(np.sqrt(counts[min(layout.per_product * k, len(counts)) - 1]))
        return FormBounds(half * touched * (int(self.conditions.max(initial=0)) + 1), l2)

    @cached_property
    def _counts(self) -> npt.NDArray[np.float64]:
        """Return how many coefficients the forms have together, the longest first."""
        each = np.repeat(self.conditions + (self.fork >= 0), self.width)
        return np.cumsum(np.sort(each)[::-1], dtype=np.float64)

    @cached_property
    def _matrix(self) -> sparse.csr_array:
        return sparse.csr_array((self.sign, (self.leaf, self.slot)), shape=(self.leaves, self.bits))

    def simulate(self, z: Int) -> Int:
        """Return the sums (rows, channels x values) over the reached entries, or how often each label occurs but for
        the last."""
        reached = ((self._matrix @ z.T).T + self.offset) == 0
        row, entry = np.nonzero(reached)
        value = self.values[entry] + self.step[entry] * z[row, self.fork[entry]][:, None]
        if self.votes:
            counts = np.zeros((len(z), self.votes), dtype=np.int64)
            np.add.at(counts, (row, value[:, 0]), 1)
            return counts[:, : max(self.votes - 1, 1)]
        sums = np.zeros((len(z), int(self.channel.max()) + 1, self.width - 1), dtype=np.int64)
        np.add.at(sums, (row, self.channel[entry]), value)
        return sums.reshape(len(z), -1)


@final
@dataclass(frozen=True)
class LeafProgram(Program):
    """Trees that the client has, with values that it has not: it sends which leaf of each tree its row reaches.

        sum of a channel's values = sum over leaves l of value_l [l is reached]

    is one linear form for each channel and output. The client learns these sums, and so after about as many
    well-chosen rows as there are leaves all values.
    """

    tree: Index
    channel: Index
    values: Int

    fresh: ClassVar[bool] = False

    @property
    def length(self) -> int:
        """Encoded inputs: the leaves of all trees."""
        return len(self.tree)

    @property
    def outputs(self) -> int:
        """One form for each channel and output."""
        return (int(self.channel.max()) + 1) * int(self.values.shape[1])

    @cached_property
    def _weights(self) -> Int:
        """Return the forms as rows."""
        table = np.zeros((int(self.channel.max()) + 1, self.values.shape[1], self.length), dtype=np.int64)
        table[self.channel, :, np.arange(self.length)] = self.values
        return table.reshape(self.outputs, -1)

    def moduli(self) -> Iterator[tuple[int, ...]]:
        """Yield a power of two that holds every sum: one leaf a tree is reached."""
        largest = np.zeros((int(self.tree.max()) + 1, self.outputs), dtype=np.int64)
        np.maximum.at(largest, self.tree, np.abs(self._weights.T))
        yield (plain_modulus(int(largest.sum(axis=0).max()), prime=False),)

    def forms(self, moduli: tuple[int, ...]) -> Forms:
        """Return the forms."""
        weights = self._weights
        row, column = np.nonzero(weights)
        return Forms(row, column, weights[row, column], np.zeros(self.outputs, dtype=np.int64))

    @cached_property
    def _sizes(self) -> tuple[float, npt.NDArray[np.float64]]:
        size = np.abs(self._weights).astype(np.float64)
        return float(size.sum(axis=1).max()), (size**2).sum(axis=1)

    def bounds(self, layout: Layout, moduli: tuple[int, ...]) -> FormBounds:
        """Bound the values as they are."""
        l1, squares = self._sizes
        return FormBounds(l1, l2_of_products(squares, layout.per_product))

    def simulate(self, z: Int) -> Int:
        """Return the sums."""
        return z @ self._weights.T


def _idempotent(p: int, t: int) -> int:
    """Return what is 1 modulo p and 0 modulo t / p."""
    rest = t // p
    return rest * pow(rest, -1, p) % t


def _lifted(values: Int, idempotent: Int, t: int) -> Int:
    """Return the residues modulo t of values in their components, as a row."""
    lifted: Int = (np.mod(values, t) * idempotent % t).ravel()
    return lifted


def centred(values: Int, t: int) -> Int:
    """Return representatives modulo t in (-t/2, t/2]."""
    values = np.mod(values, t)
    return np.where(values > t // 2, values - t, values)
