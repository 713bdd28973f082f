"""What a server computes: linear forms of the client's integers, fixed ones or ones drawn anew for each answer.

A program knows its forms, how large they get (`bounds`, which the parameters are chosen by) and the same arithmetic
in clear (`simulate`). Forms are modulo the plaintext modulus t.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tacit.fhe import randomness
from tacit.fhe.layout import Index, Int, Layout
from tacit.fhe.noise import FormBounds


@dataclass(frozen=True)
class Forms:
    """Linear forms: entry (row, column) is value, and each row has a constant."""

    row: Index
    column: Index
    value: Int
    constant: Int


class Program(ABC):
    """What a server computes on an encoded row of data."""

    fresh: ClassVar[bool]
    """Whether forms are drawn anew for each answer."""
    prime: ClassVar[bool]
    """Whether the plaintext modulus must be a prime."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Encoded inputs."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Linear forms."""

    @abstractmethod
    def forms(self, t: int) -> Forms:
        """Return the forms of one answer, values and constants in (-t/2, t/2]."""

    @abstractmethod
    def bounds(self, layout: Layout, t: int) -> FormBounds:
        """Bound the forms when they are laid out so."""

    @abstractmethod
    def simulate(self, z: Int) -> Int:
        """Return, for encoded rows z, the integers that the client will read, computed in clear."""


def _l2_of_products(squares: npt.NDArray[np.float64], per_product: int) -> float:
    """Return the largest norm of one product, from the squared norms of its rows in order."""
    padded = np.append(squares, np.zeros(-len(squares) % per_product))
    return float(np.sqrt(padded.reshape(-1, per_product).sum(axis=1).max()))


@final
@dataclass(frozen=True)
class LinearProgram(Program):
    """The scores W z + b of a linear model. The client learns the scores, and so after `length` + 1 queries the
    model."""

    weights: Int
    bias: Int
    limits: Int
    """No input |z_j| exceeds limits[j]."""

    fresh: ClassVar[bool] = False
    prime: ClassVar[bool] = False

    @property
    def length(self) -> int:
        """Encoded inputs."""
        return int(self.weights.shape[1])

    @property
    def outputs(self) -> int:
        """Linear forms."""
        return int(self.weights.shape[0])

    def forms(self, t: int) -> Forms:
        """Return the rows of W."""
        row, column = np.nonzero(self.weights)
        return Forms(row, column, self.weights[row, column], self.bias)

    @cached_property
    def _sizes(self) -> tuple[int, float, npt.NDArray[np.float64]]:
        """Return the largest |score|, the largest sum of a row's |w|, and the squared norms of the rows."""
        size = np.abs(self.weights).astype(np.float64)
        rough = (size @ self.limits.astype(np.float64)).max() + np.abs(self.bias.astype(np.float64)).max()
        exact = np.int64 if rough < 1 << 60 else object  # sums may leave 64 bits before they are refused
        reach = np.abs(self.weights).astype(exact) @ self.limits.astype(exact) + np.abs(self.bias).astype(exact)
        return int(reach.max()), float(size.sum(axis=1).max()), (size**2).sum(axis=1)

    def bounds(self, layout: Layout, t: int) -> FormBounds:
        """Bound the scores by sum |w_j| limit_j + |b|."""
        output, l1, squares = self._sizes
        return FormBounds(output, l1, _l2_of_products(squares, layout.per_product))

    def simulate(self, z: Int) -> Int:
        """Return W z + b."""
        return z @ self.weights.T + self.bias


def ascending(pairs: Int) -> Int:
    """Return rows of (distance, label) pairs in ascending order: the order in which they came was random."""
    table = pairs.reshape(len(pairs), -1, 2)
    order = np.lexsort((table[:, :, 1], table[:, :, 0]), axis=1)
    return np.take_along_axis(table, order[:, :, None], axis=1).reshape(len(pairs), -1)


@final
@dataclass(frozen=True)
class NeighborProgram(Program):
    """Squared distances to all training points, less |z|^2 which the client adds, in a fresh secret order.

    |z - p|^2 = |z|^2 - 2 <z, p> + |p|^2: one linear form and one constant (the label) for each point. The client
    learns the multiset of (distance, label).
    """

    points: Int
    labels: Int
    limit: int

    fresh: ClassVar[bool] = True
    prime: ClassVar[bool] = False

    @property
    def length(self) -> int:
        """Encoded inputs."""
        return int(self.points.shape[1])

    @property
    def outputs(self) -> int:
        """Two forms a point: its distance, its label."""
        return 2 * len(self.points)

    def forms(self, t: int) -> Forms:
        """Return the distances and labels in a fresh order."""
        order = randomness.permutation(len(self.points))
        points = self.points[order]
        row, column = np.nonzero(points)
        constant = np.stack([(points**2).sum(axis=1), self.labels[order]], axis=1).ravel()
        return Forms(2 * row, column, -2 * points[row, column], constant)

    @cached_property
    def _sizes(self) -> tuple[int, float, npt.NDArray[np.float64]]:
        """Return the largest output, the largest sum of a form's |w|, and the forms' squared norms added up, largest
        first."""
        size = np.abs(self.points)
        output = max(int((2 * self.limit * size + size**2).sum(axis=1).max()), int(np.abs(self.labels).max()))
        squares = np.sort((4.0 * size**2).sum(axis=1))[::-1]
        return output, float(2 * size.sum(axis=1).max()), np.cumsum(squares)

    def bounds(self, layout: Layout, t: int) -> FormBounds:
        """Bound |2 <z, p>| + |p|^2 and the labels; any order of the points may come."""
        output, l1, sums = self._sizes
        half = -(-layout.per_product // 2)
        return FormBounds(output, l1, float(np.sqrt(sums[min(half, len(sums)) - 1])))

    def simulate(self, z: Int) -> Int:
        """Return (distance, label) of all points, in ascending order."""
        distance = -2 * z @ self.points.T + (self.points**2).sum(axis=1)
        pairs = np.stack([distance, np.broadcast_to(self.labels, distance.shape)], axis=2)
        return ascending(pairs.reshape(len(z), -1))


@final
@dataclass(frozen=True)
class ForestProgram(Program):
    """Trees without a comparison [TMZC17]: the client sends the bits z_i = [x_f > threshold], a path is a linear form
    of them.

    Leaf l asks some bits to be 1 (sign -1) and some to be 0 (sign +1); with offset_l the number of the former,

        cost_l(z) = offset_l + sum_i sign_li z_i = number of conditions that z violates,    l is reached iff cost_l = 0.

    For each leaf the client gets, in a fresh secret order within its channel, modulo the prime t > max cost,

        (r cost_l,  r'_v cost_l + value_lv + m_tree(l),v for each v),      r != 0, r' uniform, all fresh.

    Not reached: r cost_l is uniform among non-zero residues, and the others are uniform: nothing. Reached: (0, value
    + m). The masks m of the trees of a channel are uniform with sum zero, so the values of the reached leaves are
    uniform but for their sum. The client learns the sum of each channel, and no more: neither which leaves, nor what
    each tree said.
    """

    bits: int
    leaf: Index
    slot: Index
    sign: Int
    offset: Int
    tree: Index
    channel: Index
    values: Int

    fresh: ClassVar[bool] = True
    prime: ClassVar[bool] = True

    @property
    def length(self) -> int:
        """Encoded inputs."""
        return self.bits

    @property
    def leaves(self) -> int:
        """Leaves of all trees."""
        return len(self.offset)

    @property
    def width(self) -> int:
        """Forms for a leaf: its cost and its values."""
        return 1 + int(self.values.shape[1])

    @property
    def outputs(self) -> int:
        """Linear forms."""
        return self.leaves * self.width

    @cached_property
    def conditions(self) -> Int:
        """Conditions on the way to each leaf."""
        return np.bincount(self.leaf, minlength=self.leaves).astype(np.int64)

    @cached_property
    def score_bound(self) -> int:
        """No channel's sum exceeds this in absolute value."""
        trees = int(self.tree.max()) + 1
        largest = np.zeros(trees, dtype=np.int64)
        np.maximum.at(largest, self.tree, np.abs(self.values).max(axis=1, initial=0))
        owner = np.zeros(trees, dtype=np.intp)
        owner[self.tree] = self.channel
        return int(np.bincount(owner, weights=largest).max())

    def _places(self) -> Index:
        """Return a fresh place for each leaf: a secret order within each channel, channels one after the other."""
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

    def forms(self, t: int) -> Forms:
        """Return one answer's masked costs and values."""
        factors = np.empty((self.leaves, self.width), dtype=np.int64)
        factors[:, 0] = randomness.nonzero_below(t, self.leaves)
        factors[:, 1:] = randomness.below(t, factors[:, 1:].size).reshape(self.leaves, -1)
        constant = factors * self.offset[:, None]
        constant[:, 1:] += self.values + self._tree_masks(t)[self.tree]
        places = self._places()
        shuffled = np.empty_like(constant)
        shuffled[places] = constant
        row = places[self.leaf, None] * self.width + np.arange(self.width)
        value = factors[self.leaf] * self.sign[:, None]
        column = np.repeat(self.slot, self.width)
        return Forms(row.ravel(), column, _centred(value.ravel(), t), _centred(shuffled.ravel(), t))

    def bounds(self, layout: Layout, t: int) -> FormBounds:
        """Bound sums and costs; factors are at most t/2 in absolute value, and any order of the leaves may come."""
        counts = np.sort(np.repeat(self.conditions, self.width))[::-1]
        l2 = t / 2 * float(np.sqrt(counts[: layout.per_product].sum()))
        most = int(counts[0])
        return FormBounds(max(self.score_bound, most), most * t / 2, l2)

    @cached_property
    def _matrix(self) -> sparse.csr_array:
        return sparse.csr_array((self.sign, (self.leaf, self.slot)), shape=(self.leaves, self.bits))

    def simulate(self, z: Int) -> Int:
        """Return the sums (rows, channels x values) over the leaves of cost 0."""
        reached = ((self._matrix @ z.T).T + self.offset) == 0
        channels = int(self.channel.max()) + 1
        sums = [
            reached[:, self.channel == c].astype(np.int64) @ self.values[self.channel == c] for c in range(channels)
        ]
        return np.concatenate(sums, axis=1)


def _centred(values: Int, t: int) -> Int:
    values = np.mod(values, t)
    return np.where(values > t // 2, values - t, values)
