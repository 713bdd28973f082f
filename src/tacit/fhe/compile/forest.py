"""Trees of any origin to a `ForestProgram`: conditions over a table of (column, threshold) bits, values as integers.

A node that asks x_f <= threshold becomes the bit [x_f > threshold] = 0 on its left and 1 on its right. On a path only
the tightest condition from either side matters for each column, so a leaf is a box, with at most two conditions a
column.

`n_bits` bounds the table: 2^n_bits - 1 thresholds a column. A column with fewer keeps its own, exactly; one with more
has its thresholds moved to that many of them, evenly over their uses. With `hide_thresholds` all columns use the
quantiles of the representative rows instead: the client then does not learn which thresholds the model uses, at the
price of larger messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.errors import DataError, FheError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.encode import Affine, Float, Thermometer
from tacit.fhe.layout import Index, Int
from tacit.fhe.program import ForestProgram
from tacit.fhe.read import ForestReader, Head

VALUE_BITS = 15
"""Bits of a channel's sum. They fix the plaintext modulus (the next prime), and each bit more costs two bits of
flooding: the secret factors grow with the modulus and its room shrinks. The rounding of 100 trees then adds up to
2e-4 of the largest possible sum (rms); 17 bits would push forests of a few hundred leaves into a ring of degree 8192,
twice the time and the bytes."""


@dataclass(frozen=True)
class Tree:
    """A binary tree in arrays, node 0 the root: left if x[feature] <= threshold; feature < 0 marks a leaf."""

    feature: npt.NDArray[np.int64]
    threshold: Float
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: Float
    channel: int = 0

    def leaf_of(self, x: Float) -> Index:
        """Return the leaf that each row reaches."""
        node = np.zeros(len(x), dtype=np.intp)
        rows = np.arange(len(x))
        while (inner := self.feature[node] >= 0).any():
            goes_left = x[rows, np.maximum(self.feature[node], 0)] <= self.threshold[node]
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
        return node


@dataclass(frozen=True)
class Table:
    """The thresholds that are compared: those of column f are `threshold[start[f] : start[f + 1]]`, ascending."""

    start: Index
    threshold: Float

    @property
    def feature(self) -> Index:
        """Return the column of each threshold."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def slot(self, feature: int, threshold: float) -> int:
        """Return the entry of this column that is nearest to a threshold."""
        own = self.threshold[self.start[feature] : self.start[feature + 1]]
        right = int(np.searchsorted(own, threshold))
        if right == len(own) or (right and threshold - own[right - 1] <= own[right] - threshold):
            right -= 1
        return int(self.start[feature]) + right


def thresholds(trees: Sequence[Tree], columns: int, n_bits: int, grid: Float | None) -> Table:
    """Return the table of thresholds: the model's own, or (given representative rows) the quantiles of each column."""
    feature = np.concatenate([t.feature for t in trees])
    value = np.concatenate([t.threshold for t in trees])
    parts = []
    for column in range(columns):
        used = value[feature == column]
        if grid is not None:
            used = _midpoints(grid[:, column])
        parts.append(_thinned(np.sort(used), (1 << n_bits) - 1))
    return Table(np.cumsum([0, *map(len, parts)]), np.concatenate(parts))


def _midpoints(column: Float) -> Float:
    """Return what lies between neighbouring rows, or the one value of a constant column."""
    ordered = np.sort(column)
    middle = (ordered[1:] + ordered[:-1]) / 2
    return middle[ordered[1:] > ordered[:-1]] if ordered[-1] > ordered[0] else ordered[:1]


def _thinned(ordered: Float, most: int) -> Float:
    """Return at most `most` of the distinct values, evenly over their occurrences."""
    distinct = np.unique(ordered)
    if len(distinct) <= most:
        return distinct
    picks = (np.arange(most) + 0.5) / most * len(ordered)
    return np.unique(ordered[picks.astype(np.intp)])


def _boxes(tree: Tree, table: Table) -> Iterator[tuple[int, dict[int, tuple[int, int]]]]:
    """Yield each reachable leaf with, for each column, the bit that must be 1 and the one that must be 0 (-1: none)."""
    stack: list[tuple[int, dict[int, tuple[int, int]]]] = [(0, {})]
    while stack:
        node, box = stack.pop()
        feature = int(tree.feature[node])
        if feature < 0:
            yield node, box
            continue
        slot = table.slot(feature, float(tree.threshold[node]))
        above, below = box.get(feature, (-1, -1))
        if above < slot:  # otherwise x_f > a larger threshold already: left is impossible
            stack.append((int(tree.left[node]), {**box, feature: (above, slot if below < 0 else min(below, slot))}))
        if below < 0 or slot < below:
            stack.append((int(tree.right[node]), {**box, feature: (max(above, slot), below)}))


@dataclass(frozen=True)
class Units:
    """What an integer stands for: tree T's value v is (v - centre_T) / scale of its channel and output.

    The centre is the middle of a tree's values, so that what they have in common (the mean of a target far from zero)
    takes none of the bits. Each output has a scale of its own. The centres' sum is public, in the head.
    """

    centre: Float
    scale: Float
    shift: Float

    @classmethod
    def of(cls, trees: Sequence[Tree]) -> Units:
        """Return the units in which the sum over the trees just fits into `VALUE_BITS`."""
        limit = (1 << (VALUE_BITS - 1)) - len(trees) - 1  # each tree's rounding adds at most half a unit
        if limit < 1 << (VALUE_BITS - 2):
            raise FheError(f"{len(trees)} trees are too many: their rounding would drown the sum of their values")
        channel = np.array([tree.channel for tree in trees])
        ends = [(leaves.min(axis=0), leaves.max(axis=0)) for leaves in (t.value[t.feature < 0] for t in trees)]
        centre = np.stack([(low + high) / 2 for low, high in ends])
        reach = np.zeros((int(channel.max()) + 1, centre.shape[1]))
        shift = np.zeros_like(reach)
        np.add.at(reach, channel, np.stack([(high - low) / 2 for low, high in ends]))
        np.add.at(shift, channel, centre)
        return cls(centre, np.where(reach > 0, reach / limit, 1.0), shift)


def forest_program(trees: Sequence[Tree], table: Table, units: Units) -> ForestProgram:
    """Return the program of trees whose values are rounded in these units."""
    leaf: list[int] = []
    slot: list[int] = []
    sign: list[int] = []
    offset: list[int] = []
    owner: list[int] = []
    channel: list[int] = []
    values: list[Float] = []
    for number, tree in enumerate(trees):
        for node, box in _boxes(tree, table):
            here, needed = len(offset), 0
            for above, below in box.values():
                for bit, weight in ((above, -1), (below, 1)):
                    if bit >= 0:
                        leaf.append(here)
                        slot.append(bit)
                        sign.append(weight)
                        needed += weight < 0
            offset.append(needed)
            owner.append(number)
            channel.append(tree.channel)
            values.append(np.rint((tree.value[node] - units.centre[number]) / units.scale[tree.channel]))
    return ForestProgram(
        bits=max(len(table.threshold), 1),
        leaf=_indices(leaf), slot=_indices(slot), sign=_integers(sign), offset=_integers(offset),
        tree=_indices(owner), channel=_indices(channel), values=np.stack(values).astype(np.int64),
    )  # fmt: skip


def _indices(values: list[int]) -> Index:
    return np.array(values, dtype=np.intp)


def _integers(values: list[int]) -> Int:
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True)
class Forest:
    """Trees with what surrounds them: how they compare and what the sum of a channel means."""

    trees: Sequence[Tree]
    single: bool
    head: Callable[[Float, Float], Head]
    """Makes the head from the scales of the integer sums and what is to be added to them."""


def compile_forest(forest: Forest, x: Float, n_bits: int, hide: bool, before: Affine | None = None) -> Compiled:
    """Return the program, encoder, reader and head of a forest over the columns of x, behind `before`."""
    seen = before(x) if before is not None else x
    table = thresholds(forest.trees, seen.shape[1], n_bits, seen if hide else None)
    units = Units.of(forest.trees)
    channels = len(units.scale)
    program = forest_program(forest.trees, table, units)
    reader = ForestReader(
        tuple(np.bincount(program.channel, minlength=channels).tolist()),
        tuple(sum(tree.channel == c for tree in forest.trees) for c in range(channels)),
        program.values.shape[1],
    )
    encoder = Thermometer(x.shape[1], table.feature, table.threshold, forest.single, before)
    return Compiled(program, encoder, reader, forest.head(units.scale.ravel(), units.shift.ravel()))


def constant_term(trees: Sequence[Tree], x: Float, margins: Float) -> Float:
    """Return what a boosted model adds to the sum of its trees: margins less that sum, the same in all rows."""
    sums = np.zeros((len(x), 1 + max(tree.channel for tree in trees)))
    for tree in trees:
        sums[:, tree.channel] += tree.value[tree.leaf_of(x), 0]
    rest = margins.reshape(len(x), -1) - sums
    middle: Float = np.median(rest, axis=0)
    spread = np.abs(rest - middle).max()
    if spread > 1e-4 * (1 + np.abs(margins).max()):
        raise FheError(
            "this boosted model does not start from a constant (init=estimator?), or compares in an unknown way"
        )
    return middle


def numeric_only(condition: bool, what: str) -> None:
    """Refuse a kind of split that a threshold bit cannot express."""
    if not condition:
        raise DataError(
            f"{what} cannot be predicted on ciphertexts: encode categories and missing values as numbers first"
        )
