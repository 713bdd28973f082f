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
from tacit.protocols.number import Number
from tacit.protocols.values import Bits
from tacit.ring.kernels import matmul

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
    weights = sums.move(lambda t: t.unsqueeze(-1), view=False)
    level: Number | None = None
    paths: Bits | None = None
    levels: list[Best] = []
    for k in range(depth):
        left = _histogram(columns, weights)
        level = left if level is None else children(left, level - left)
        sides = level.combined(lambda t: torch.stack([t, t[:1] - t]))
        none = None if barred is None else barred(1 << k)
        levels.append(best_splits(sides, scoring, none, leaves=k == depth - 1))
        if k == depth - 1 and not update:
            break
        go = _routed(columns, levels[-1].odd, levels[-1].winner.shape[1:])
        lefts = go if paths is None else paths & go
        rights = go.invert() if paths is None else paths ^ lefts
        paths = children(lefts, rights)
        if k < depth - 1:
            weights = _weighted(lefts, sums)
    leaves = levels[-1].leaves
    assert leaves is not None
    leaves = leaves.linear(lambda t: t.movedim(0, -1).flatten(-2))
    splits = levels[0].winner.combined(lambda *t: torch.cat(t, -1), *(b.winner for b in levels[1:]))
    gains = levels[0].gain.combined(lambda *t: torch.cat(t, -1), *(b.gain for b in levels[1:]))
    return Grown(splits, gains, leaves, leaf_values(paths, leaves) if update and paths is not None else None)


def _histogram(columns: Sequence[Columns], weights: Number) -> Number:
    """The sums of what goes left of each edge, [candidates, trees, outputs and H, nodes]. One round at most."""
    protocol = weights.protocol
    shape = weights.shape[1:]
    flat = weights.move(lambda t: t.flatten(1), view=False)
    protocol.together(flat, *(c.below for c in columns))
    rows = [protocol.bilinear(c.below, flat, matmul) for c in columns]
    joined = rows[0] if len(rows) == 1 else rows[0].combined(lambda *t: torch.cat(t), *rows[1:])
    return joined.declare(frac_bits=weights.frac_bits).move(lambda t: t.view(-1, *shape), view=False)


def _routed(columns: Sequence[Columns], odd: Number, shape: torch.Size) -> Bits:
    """[the row goes left at the node], [rows, trees, nodes], for all rows at all nodes. No round."""
    protocol = odd.protocol
    go: Bits | None = None
    start = 0
    for c in columns:
        stop = start + c.below.shape[0]
        split = odd.move(lambda t, start=start, stop=stop: t[start:stop], view=False)  # type: ignore[misc]
        mine = protocol.parity_of_product(c.rows, split)
        go, start = (mine if go is None else go ^ mine), stop
    assert go is not None
    return go.move(lambda t: t.view(-1, *shape), view=False)


def _weighted(lefts: Bits, sums: Number) -> Number:
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
