"""Trees as linear forms: what a server computes for a forest, and what of it a client can read.

`ForestProgram` hides the trees; `LeafProgram` leaves them to the client and hides what they say.
"""

from __future__ import annotations

import math
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

MOST_PACKED = 5
"""Entries in one coefficient. No ring here holds more than that many pairs of moduli, of six bits and more."""


@final
@dataclass(frozen=True)
class ForestProgram(Program):
    """Trees without a comparison [TMZC17]: the client sends the bits z_i = [x_f > threshold], a path is a linear form
    of them.

    An entry e is a leaf, or a node with two leaves below it. Its conditions c ask that a bit is 0 (sign 1), or that one
    of some bits is 1 (sign -1; of a thermometer's bits there is one, of a category's indicators several):

        violated_c(z) = base_c + sum_i sign_ci z_i in {0, 1},      base_c = [sign_c < 0],
        cost_e(z) = sum_c violated_c(z),                           e is reached iff cost_e = 0.

    Its value is linear, too: value_e(z) = values_e + step_e z_fork(e), where the bit `fork` tells a node's two leaves
    apart. For each entry the client gets, in a fresh secret order within its channel,

        r cost_e (mod p),    sum_c r'_cv violated_c + value_ev(z) + m_tree(e),v (mod q) for each v,

    with r != 0 and r' uniform, all fresh, p > max cost a prime and q any modulus. Not reached: r cost_e is uniform
    among non-zero residues, and the others are uniform, since some r' counts: nothing. Reached: (0, value + m). The
    masks m of the trees of a channel are uniform with sum zero, so the values of the reached leaves are uniform but
    for their sum. The client learns the sum of each channel, and no more: neither which leaves, nor what each tree
    said.

    With `votes` > 0 each tree votes for one of that many labels (the leaves of a forest that was grown to the end are
    pure), and value_e is the number of the label. In a secret order over all trees, the labels of the reached leaves
    are known by how often each occurs, and that *is* the sum: they need no mask. Then no modulus need hold a sum, and
    q > labels is small. By the Chinese remainder theorem one coefficient modulo t = p_1 q_1 ... p_k q_k carries k
    entries, each with factors of its own.
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
    condition: Index | None = None
    """The condition that each of `leaf`, `slot`, `sign` belongs to, in ascending order; without it each is one."""

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
    def _conditions(self) -> tuple[Index, Index, Int]:
        """Return the condition of each bit; and the entry and the base of each condition."""
        number = np.arange(len(self.leaf)) if self.condition is None else self.condition
        first = np.flatnonzero(np.diff(number, prepend=-1))
        return number, self.leaf[first], (self.sign[first] < 0).astype(np.int64)

    @cached_property
    def conditions(self) -> Int:
        """Conditions on the way to each entry."""
        return np.bincount(self._conditions[1], minlength=self.leaves).astype(np.int64)

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
        """Yield a prime that holds a sum; for votes the smallest moduli that hold a cost and a label, for one entry or
        more."""
        if self.votes:
            yield from self._small_moduli()
        else:
            yield (plain_modulus(max(self.score_bound, self._most), prime=True),)

    def spread_moduli(self) -> Iterator[tuple[int, ...]]:
        """Yield the same, but for one sum an entry a prime that holds a cost, and a modulus that holds the sum."""
        if self.votes or self.width > 2:
            yield from self.moduli()
            return
        p, q = next_prime(max(self._most + 1, 17)), plain_modulus(self.score_bound, prime=False) + 1
        yield p, q if math.gcd(p, q) == 1 else q + 2

    @property
    def _most(self) -> int:
        return int(self.conditions.max(initial=0))

    def _small_moduli(self) -> Iterator[tuple[int, ...]]:
        found: list[int] = []
        p = max(self._most + 1, 17)
        while len(found) < 2 * MOST_PACKED:
            p = next_prime(p)
            while math.gcd(p, math.prod(found)) > 1:
                p = next_prime(p + 1)
            q = max(self.votes, 3) | 1
            while math.gcd(q, p * math.prod(found)) > 1:
                q += 2
            found += [p, q]
            yield tuple(found)

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

    def _factors(self, p: Int, q: Int) -> tuple[Int, Int]:
        """Return the fresh r (not zero) of each entry, modulo p, and r' of each condition and value, modulo q."""
        _, owner, _ = self._conditions
        first, more = np.empty(self.leaves, dtype=np.int64), np.empty((len(owner), self.width - 1), dtype=np.int64)
        for modulus in np.unique(p):
            here = p == modulus
            first[here] = randomness.nonzero_below(int(modulus), int(here.sum()))
        each = q[owner]
        for modulus in np.unique(each):
            here = each == modulus
            more[here] = randomness.below(int(modulus), int(here.sum()))
        return first, more

    def forms(self, moduli: tuple[int, ...]) -> Forms:
        """Return one answer's masked costs and values; form i lies in component i mod k of coefficient i div k."""
        places, k, t = self._places(), len(moduli), math.prod(moduli)
        number = places[:, None] * self.width + np.arange(self.width)
        modulus, idempotent = np.array(moduli)[number % k], np.array([_idempotent(p, t) for p in moduli])[number % k]
        first, more = self._factors(modulus[:, 0], modulus[:, 1:])
        condition, owner, base = self._conditions
        constant = np.zeros((self.leaves, self.width), dtype=np.int64)
        constant[:, 0] = first * self.offset
        np.add.at(constant[:, 1:], owner, more * base[:, None])
        constant[:, 1:] += self.values
        if not self.votes:
            constant[:, 1:] += self._tree_masks(moduli[-1])[self.tree]
        value = np.concatenate([first[self.leaf][:, None], more[condition]], axis=1) * self.sign[:, None]
        two = np.flatnonzero(self.fork >= 0)
        rows = np.concatenate([number[self.leaf].ravel(), number[two, 1:].ravel()])
        columns = np.concatenate([np.repeat(self.slot, self.width), np.repeat(self.fork[two], self.width - 1)])
        values = np.concatenate([
            _lifted(value, modulus[self.leaf], idempotent[self.leaf], t),
            _lifted(self.step[two], modulus[two, 1:], idempotent[two, 1:], t),
        ])  # fmt: skip
        outputs = -(-self.outputs // k)
        table = sparse.coo_array((values, (rows // k, columns)), shape=(outputs, self.bits)).tocsr()  # adds up doubles
        constants = np.zeros(outputs, dtype=np.int64)
        np.add.at(constants, number.ravel() // k, _lifted(constant, modulus, idempotent, t))
        table = table.tocoo()
        return Forms(
            table.row.astype(np.intp), table.col.astype(np.intp), centred(table.data, t), centred(constants, t)
        )

    def bounds(self, layout: Layout, moduli: tuple[int, ...]) -> FormBounds:
        """Bound the coefficients: at most t/2 in absolute value, and any order of the entries may come."""
        k, half = len(moduli), math.prod(moduli) / 2
        touched = (k + self.width - 2) // self.width + 1 if k > 1 else 1  # entries with a form in one coefficient
        counts, longest = self._counts
        most = float(counts[min(layout.per_product * k, len(counts)) - 1])
        return FormBounds(half * touched * longest, half * math.sqrt(most), half * most)

    @cached_property
    def _counts(self) -> tuple[npt.NDArray[np.float64], int]:
        """Return how many coefficients the forms have together, the longest first; and those of the longest."""
        each = np.repeat(np.bincount(self.leaf, minlength=self.leaves) + (self.fork >= 0), self.width)
        return np.cumsum(np.sort(each)[::-1], dtype=np.float64), int(each.max(initial=0)) + 1

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


def _lifted(values: Int, modulus: Int, idempotent: Int, t: int) -> Int:
    """Return the residues modulo t of values in their components, as a row."""
    lifted: Int = (np.mod(values, modulus) * idempotent % t).ravel()
    return lifted


def centred(values: Int, t: int) -> Int:
    """Return representatives modulo t in (-t/2, t/2]."""
    values = np.mod(values, t)
    return np.where(values > t // 2, values - t, values)
