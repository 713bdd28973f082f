"""Trees grown on secrets, a level at a time and all trees of a batch at once: nobody learns a split, a leaf, a path.

A level takes, for all its nodes together,

    the sums   C [g; h] M     of gradients and curvatures that go left of each edge, C known to the columns' owners; one
                              product an owner, for the left child of each node: the right one's are what is left
    the best   split of each node, as a one-hot s over the edges of all owners: `splits`
    the paths  go = C^T s, of bits, and M_left = M and go, M_right = M xor M_left

Every tree has its full depth, and a node without a split that pays sends all its rows left: how far a tree grew would
tell of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from tacit.ensemble.columns import Columns
from tacit.ensemble.splits import Best, Scoring, best_splits
from tacit.protocols.binned import Binned
from tacit.protocols.number import Number
from tacit.protocols.values import Bits

__all__ = ["Barred", "Grown", "children", "grow", "leaf_values"]

T = TypeVar("T", Number, Bits)


Barred = Callable[[int], Tensor]


class Grown(NamedTuple):
    """A batch of trees; nodes in the order of levels, the children of node i of a level are 2 i and 2 i + 1."""

    splits: Bits
    """[candidates, trees, inner nodes]: one-hot over the edges of all owners, the first of which is no split."""
    gains: Number
    """[trees, inner nodes]."""
    leaves: Number
    """[trees, outputs, leaves], with the learning rate."""
    update: Number | None
    """[rows, trees, outputs]: the value of each row's leaf, if asked for."""


def grow(
    columns: Sequence[Columns],
    sums: Number,
    depth: int,
    scoring: Scoring,
    barred: Barred | None = None,
    *,
    update: bool = True,
) -> Grown:
    """Grow trees of a depth for gradients and curvatures [rows, trees, outputs and 1].

    `sums` has the session's fractional bits by name; the curvatures, its last output, have those of `scoring`.
    `barred` says for a number of nodes which candidates are none, [candidates, trees, nodes or 1].
    """
    blocks = _blocks(columns, sums)
    level: Number | None = None
    levels: list[Best] = []
    for k in range(depth):
        left = _total([block.histogram() for block in blocks])
        level = left if level is None else children(left, level - left)
        sides = level.combined(lambda t: torch.stack([t, t[:1] - t]))
        none = None if barred is None else barred(1 << k)
        levels.append(best_splits(sides, scoring, none, leaves=k == depth - 1))
        if k < depth - 1 or update:
            for block in blocks:
                block.part(levels[-1], last=k == depth - 1)
    leaves = levels[-1].leaves
    assert leaves is not None
    leaves = leaves.linear(lambda t: t.movedim(0, -1).flatten(-2))
    splits = levels[0].winner.combined(lambda *t: torch.cat(t, -1), *(b.winner for b in levels[1:]))
    gains = levels[0].gain.combined(lambda *t: torch.cat(t, -1), *(b.gain for b in levels[1:]))
    values = [leaf_values(block.paths, leaves) for block in blocks if update and block.paths is not None]
    return Grown(splits, gains, leaves, values[0].combined(lambda *t: torch.cat(t), *values[1:]) if values else None)


def _blocks(columns: Sequence[Columns], sums: Number) -> list[_Rows]:
    """The rows in the blocks that they are binned in."""
    out, start = [], 0
    for tables in zip(*(c.blocks for c in columns), strict=True):
        stop = start + tables[0].rows
        whole = stop - start == sums.shape[0]
        part = sums if whole else sums.move(lambda t, a=start, b=stop: t[a:b], view=False)  # type: ignore[misc]
        out.append(_Rows(list(tables), part))
        start = stop
    return out


def _total(parts: Sequence[Number]) -> Number:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


class _Rows:
    """Some neighbouring rows on their way through trees."""

    def __init__(self, tables: list[Binned], sums: Number) -> None:
        self.tables, self.sums = tables, sums
        self.weights = sums.move(lambda t: t.unsqueeze(-1), view=False)
        """Those of the rows that are at each left child, and zeros: [rows, trees, outputs and 1, nodes]."""
        self.paths: Bits | None = None
        """[the row is at the node], of the level that comes next: [rows, trees, nodes]."""

    def histogram(self) -> Number:
        """The sums of what goes left of each edge, [candidates, trees, outputs and H, nodes]. One round at most.

        The first candidate is no split, for which everything does.
        """
        protocol = self.weights.protocol
        shape = self.weights.shape[1:]
        flat = self.weights.move(lambda t: t.flatten(1), view=False)
        left = protocol.sums_below(self.tables, flat)
        joined = flat.sum([0]).move(lambda t: t.unsqueeze(0), view=False).combined(lambda *t: torch.cat(t), *left)
        return joined.declare(frac_bits=self.weights.frac_bits).move(lambda t: t.view(-1, *shape), view=False)

    def part(self, best: Best, *, last: bool) -> None:
        """Send every row left or right at its node. Two rounds; the last level takes one."""
        go = self._goes_left(best)
        lefts = go if self.paths is None else self.paths & go
        rights = go.invert() if self.paths is None else self.paths ^ lefts
        self.paths = children(lefts, rights)
        if not last:
            self.weights = _chosen(lefts, self.sums)

    def _goes_left(self, best: Best) -> Bits:
        """[the row goes left at the node], [rows, trees, nodes], for all rows at all nodes. No round."""
        protocol = best.odd.protocol
        _, trees, nodes = best.winner.shape
        go = best.winner.move(lambda t: t[:1], view=False)  # where nothing is split
        start = 1
        for table in self.tables:
            stop = start + table.edges
            split = best.odd.move(lambda t, start=start, stop=stop: t[start:stop], view=False)  # type: ignore[misc]
            mine = protocol.rows_below(table, split)
            go, start = go ^ mine.move(lambda t: t.view(-1, trees, nodes), view=False), stop
        return go


def _chosen(lefts: Bits, sums: Number) -> Number:
    """Gradients and curvatures of the rows that are at each node, and zeros, [rows, trees, outputs and 1, nodes]."""
    rows, trees, nodes = lefts.shape
    shape = (rows, trees, sums.shape[2], nodes)
    here = lefts.move(lambda t: t.unsqueeze(2).expand(shape), view=False)
    (chosen,) = sums.protocol.select([(here, sums.move(lambda t: t.unsqueeze(-1).expand(shape), view=False))])
    return chosen


def leaf_values(paths: Bits, leaves: Number) -> Number:
    """The value of the leaf that each row is in, [rows, trees, outputs]. One round."""
    rows, trees, count = paths.shape
    shape = (rows, trees, leaves.shape[1], count)
    here = paths.move(lambda t: t.unsqueeze(2).expand(shape), view=False)
    (chosen,) = leaves.protocol.select([(here, leaves.move(lambda t: t.unsqueeze(0).expand(shape), view=False))])
    return chosen.linear(lambda t: t.sum(-1))


def children(left: T, right: T) -> T:
    """What belongs to the children of the nodes of a level, in the last dimension."""
    return left.combined(lambda *pair: torch.stack(pair, -1).flatten(-2), right)
