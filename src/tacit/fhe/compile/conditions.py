"""The bits that a forest's conditions are made of, and the entries of a tree in terms of them.

A node that asks x_f <= threshold becomes the bit [x_f > threshold] = 0 on its left and 1 on its right. Where values may
be missing there are two such bits, one that a missing value sets and one that it does not; a node that asks whether a
category is in a set becomes the indicators of its categories, of which one is 1 or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tacit.errors import DataError
from tacit.fhe.encode import CATEGORY, CUT_CATEGORY, MISSING, Float
from tacit.fhe.layout import Index


@dataclass(frozen=True)
class Categories:
    """What a node asks of a category: is it one of `values` (or, with `missing`, missing)? If so, it goes right."""

    values: tuple[float, ...]
    missing: bool = False
    whole: bool = False
    """Whether the library cuts a category to a whole number before it looks it up."""


@dataclass(frozen=True)
class Tree:
    """A binary tree in arrays, node 0 the root: left if x[feature] <= threshold; feature < 0 marks a leaf."""

    feature: npt.NDArray[np.int64]
    threshold: Float
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: Float
    channel: int = 0
    missing_left: npt.NDArray[np.bool_] | None = None
    """Where a missing value goes; without it all to the left."""
    sets: dict[int, Categories] = field(default_factory=dict)
    """The nodes that ask for a category."""

    def leaf_of(self, x: Float) -> Index:
        """Return the leaf that each row reaches."""
        node = np.zeros(len(x), dtype=np.intp)
        rows = np.arange(len(x))
        while (inner := self.feature[node] >= 0).any():
            seen = x[rows, np.maximum(self.feature[node], 0)]
            goes_left = seen <= self.threshold[node]
            if np.isnan(seen).any():
                goes_left |= np.isnan(seen) & (True if self.missing_left is None else self.missing_left[node])
            for at in set(node[inner].tolist()) & self.sets.keys():
                asked = self.sets[at]
                found = np.isin(np.trunc(seen) if asked.whole else seen, asked.values)
                goes_left = np.where(node == at, ~(found | (np.isnan(seen) & asked.missing)), goes_left)
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
        return node


@dataclass(frozen=True)
class Table:
    """The bits. Thresholds come first: those of line v are `threshold[start[v] : start[v + 1]]`, ascending.

    Line 2 f has thresholds of column f whose bit a missing value leaves 0, line 2 f + 1 those that it sets.
    """

    start: Index
    threshold: Float
    categories: tuple[tuple[int, int, float], ...] = ()
    """(column, kind, value) of each indicator, after the thresholds."""

    @property
    def line(self) -> Index:
        """Return the line of each threshold."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))

    def slot(self, line: int, threshold: float) -> int:
        """Return the entry of this line that is nearest to a threshold."""
        own = self.threshold[self.start[line] : self.start[line + 1]]
        right = int(np.searchsorted(own, threshold))
        exact = right < len(own) and own[right] == threshold  # infinite where a node asks for missing values only
        if right == len(own) or (right and not exact and threshold - own[right - 1] <= own[right] - threshold):
            right -= 1
        return int(self.start[line]) + right

    def indicators(self, feature: int, asked: Categories) -> tuple[int, ...]:
        """Return the bits of which one is 1 if a row goes right."""
        places = {key: len(self.threshold) + i for i, key in enumerate(self.categories)}
        return tuple(places[key] for key in _indicators(feature, asked))

    def __len__(self) -> int:
        return len(self.threshold) + len(self.categories)


def _indicators(feature: int, asked: Categories) -> list[tuple[int, int, float]]:
    kind = CUT_CATEGORY if asked.whole else CATEGORY
    return [(feature, kind, v) for v in asked.values] + [(feature, MISSING, 0.0)] * asked.missing


def line_of(tree: Tree, node: int) -> int:
    """Return the line of a node's threshold."""
    left = tree.missing_left is None or bool(tree.missing_left[node])
    return 2 * int(tree.feature[node]) + (not left)


def always_left(tree: Tree, node: int) -> bool:
    """Return whether a node sends even the largest numbers left, and missing values as well if there are any."""
    return node not in tree.sets and bool(tree.threshold[node] == np.inf) and line_of(tree, node) % 2 == 0


def table_of(trees: Sequence[Tree], columns: int, n_bits: int, grid: Float | None) -> Table:
    """Return the table of bits: the model's own thresholds, or (given representative rows) the quantiles of each
    column."""
    used: list[list[float]] = [[] for _ in range(2 * columns)]
    found: dict[tuple[int, int, float], None] = {}
    for tree in trees:
        for node in np.flatnonzero(tree.feature >= 0).tolist():
            if node in tree.sets:
                found.update(dict.fromkeys(_indicators(int(tree.feature[node]), tree.sets[node])))
            elif not always_left(tree, node):
                used[line_of(tree, node)].append(float(tree.threshold[node]))
    parts = []
    for line, own in enumerate(used):
        values, ends = np.sort(np.array(own, dtype=np.float64)), {v for v in own if np.isinf(v)}
        if grid is not None and (line % 2 == 0 or own):
            values = _midpoints(grid[:, line // 2])
            ends |= {np.inf} if line % 2 else set()
            if not len(values) and not ends.issuperset(own):
                raise DataError(
                    f"column {line // 2} is missing in all rows given to compile, which hide_thresholds=True takes its "
                    "thresholds from: give rows that have some"
                )
        kept = _thinned(values[np.isfinite(values)], (1 << n_bits) - 1 - len(ends))  # nothing is near an infinite one
        parts.append(np.sort(np.append(kept, [*ends])))
    return Table(np.cumsum([0, *map(len, parts)]), np.concatenate(parts), tuple(sorted(found)))


def _midpoints(column: Float) -> Float:
    """Return what lies between neighbouring rows, or the one value of a constant column."""
    ordered = np.sort(column[~np.isnan(column)])
    middle = (ordered[1:] + ordered[:-1]) / 2
    return middle[ordered[1:] > ordered[:-1]] if len(ordered) and ordered[-1] > ordered[0] else ordered[:1]


def _thinned(ordered: Float, most: int) -> Float:
    """Return at most `most` of the distinct values, evenly over their occurrences."""
    distinct = np.unique(ordered)
    if len(distinct) <= most:
        return distinct
    picks = (np.arange(most) + 0.5) / most * len(ordered)
    return np.unique(ordered[picks.astype(np.intp)])


@dataclass(frozen=True)
class Entry:
    """A leaf, or a node with two leaves below it, that some row can reach.

    `box` has, for each line, the bit that must be 1 and the one that must be 0 (-1: none); `sets` has bits of which
    one must be 1 (True) or none. `fork` is the bit that leads to `right` in place of `left`, -1 where there is one
    leaf.
    """

    box: dict[int, tuple[int, int]]
    sets: tuple[tuple[tuple[int, ...], bool], ...]
    left: int
    right: int
    fork: int

    def conditions(self) -> Iterator[tuple[tuple[int, ...], int]]:
        """Yield the bits and the sign of each condition, as a `ForestProgram` has them."""
        for above, below in self.box.values():
            if above >= 0:
                yield (above,), -1
            if below >= 0:
                yield (below,), 1
        for bits, inside in self.sets:
            yield bits, -1 if inside else 1


def entries(tree: Tree, table: Table) -> Iterator[Entry]:
    """Yield the entries of a tree. Two leaves under one node share the conditions of that node: one entry."""
    stack: list[tuple[int, dict[int, tuple[int, int]], tuple[tuple[tuple[int, ...], bool], ...]]] = [(0, {}, ())]
    while stack:
        node, box, sets = stack.pop()
        feature = int(tree.feature[node])
        if feature < 0:
            yield Entry(box, sets, node, node, -1)
            continue
        left, right = int(tree.left[node]), int(tree.right[node])
        if node in tree.sets:
            bits = table.indicators(feature, tree.sets[node])
            stack.append((left, box, (*sets, (bits, False)) if bits else sets))
            if bits:
                stack.append((right, box, (*sets, (bits, True))))
            continue
        if always_left(tree, node):
            stack.append((left, box, sets))
            continue
        line = line_of(tree, node)
        slot = table.slot(line, float(tree.threshold[node]))
        above, below = box.get(line, (-1, -1))
        to_left = above < slot  # otherwise x_f > a larger threshold already: left is impossible
        to_right = below < 0 or slot < below
        if to_left and to_right and max(tree.feature[left], tree.feature[right]) < 0:
            yield Entry(box, sets, left, right, slot)
            continue
        if to_left:
            stack.append((left, {**box, line: (above, slot if below < 0 else min(below, slot))}, sets))
        if to_right:
            stack.append((right, {**box, line: (max(above, slot), below)}, sets))
