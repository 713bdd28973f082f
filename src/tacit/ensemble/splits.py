"""The best split of every node, of all trees at once, from the sums of gradients that go left of each edge.

With G and H the sums of gradients g and of curvatures h, a split gains [CG16]

    G_L² / (H_L + λ)  +  G_R² / (H_R + λ)        less the same of the whole node, which is "no split": the edge
                                                 below which everything is, the first of all candidates

Both sides are one tensor. A sum s = H + λ lies in one of few pairs of octaves, 4^(j-1) <= s < 4^j, for its range is
public; with e = 2j it is z = s 2^-e in [1/4, 1) whose inverse is a series (`functions.reciprocal`), and

    G² / s  =  (G 2^(-e/2))² / z        -G / s  =  -(G 2^-e) / z

where the powers of two are chosen by the comparisons that tell e. So nothing large is ever multiplied.
Rounds: open the sums · compare, 2 · choose · open z and G 2^(-e/2) · open 1/z and the square · and then the argmax.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from tacit.functions.maximum import Maximum, even_plan
from tacit.functions.reciprocal import INVERSE
from tacit.protocols.number import Number
from tacit.protocols.values import Bits

__all__ = ["Best", "Scoring", "best_splits"]

LARGEST = 6
"""Gains of up to 2^6 n, for n rows, are compared rightly. The gain of a logistic loss is at most the sum of e^-margin,
n at first, and that of a squared one at most the sum of squares, which never grows. More: outliers that are worse;
fewer: finer gains."""

GAIN_BITS = 58
"""Bits of the largest gain in the ring. What no split may be is 2^59 less, up to three times, so that differences stay
below 2^62."""

TIE, TIES = 2.0**-16, 2.0**-7
"""What a candidate's gain is lowered by for each one before it, and at most by in all: so of two that part the rows
of a node alike, the first wins, as in XGBoost, whatever the roundings. More: also where gains are large, whose rounding
is some 2^-20 of them; fewer: splits that are better by less than this do not lose to earlier ones."""

INVERSE_BITS, FINE = 20, 24
"""Fractional bits of 1/z, which is at most 4, and at most of a scaled gradient."""


class Scoring(NamedTuple):
    """What is public of the sums, and in which bits they are kept."""

    rows_bits: int
    """n < 2^this, weights counted."""
    curvature_bits: int
    """Fractional bits of H; G has the session's."""
    exponents: range
    """Of the octaves that H + λ may lie in, ascending."""
    reg_lambda: float
    min_child_weight: float
    learning_rate: float
    lightest: bool
    """Whether a leaf that weighs less than `min_child_weight` has the value 0, as in XGBoost: that of a root only."""

    @classmethod
    def of(
        cls,
        weight: float,
        curvature: float,
        curvature_bits: int,
        *,
        reg_lambda: float,
        min_child_weight: float,
        learning_rate: float,
        least: float | None = None,
        lightest: bool = False,
    ) -> Self:
        """For rows whose weights add up to `weight`, of no more curvature each; `least` is H of one row, if that has
        a bound."""
        low = max(reg_lambda, least or 0.0)
        first = 2 * math.floor(math.log2(low) / 2) + 2
        last = 2 * math.floor(math.log2(weight * curvature + reg_lambda + 1) / 2) + 2
        exponents = range(first, max(last, first + 2) + 1, 2)
        bits = max(1, math.ceil(math.log2(weight + 1)))
        return cls(bits, curvature_bits, exponents, reg_lambda, min_child_weight, learning_rate, lightest)

    @property
    def root_bits(self) -> int:
        """Fractional bits of G 2^(-e/2): its square, below 2^(LARGEST + 1) n, must fit."""
        return min(FINE, (60 - LARGEST - self.rows_bits) // 2)

    @property
    def inverse_bits(self) -> int:
        """Fractional bits of 1/z in a gain."""
        return min(INVERSE_BITS, (GAIN_BITS - LARGEST - self.rows_bits + 4) // 2)

    @property
    def square_bits(self) -> int:
        """Fractional bits of the square in a gain."""
        return GAIN_BITS - LARGEST - self.rows_bits - self.inverse_bits

    @property
    def slope_bits(self) -> int:
        """Fractional bits of G 2^-e in a leaf's value, which is at most 2^LARGEST n."""
        return min(FINE, 60 - LARGEST - self.rows_bits - self.inverse_bits)


class Best(NamedTuple):
    """What is known, secretly, of the best splits of some nodes: a first dimension of candidates is gone or one-hot."""

    winner: Bits
    """[candidates, trees, nodes], with a one for each node."""
    gain: Number
    """[trees, nodes]: by how much the split lowers the loss, twice."""
    leaves: Number | None
    """[2, trees, outputs, nodes]: the values of what goes left and right, if asked for."""
    odd: Number
    """`winner` as `Protocol.odd` has it, open already."""


def best_splits(sides: Number, scoring: Scoring, barred: Tensor | None = None, *, leaves: bool = False) -> Best:
    """Find them, from the sums of [sides, candidates, trees, outputs and H, nodes].

    `barred` [candidates, trees, nodes or 1] says which candidates are none.
    """
    protocol = sides.protocol
    protocol.together(sides)
    outputs = sides.shape[3] - 1
    g = sides.move(lambda t: t[:, :, :, :outputs], view=False)
    h = sides.move(lambda t: t[:, :, :, outputs:], view=False)
    s = h.plus(torch.tensor(round(scoring.reg_lambda * 2.0**scoring.curvature_bits)))
    reduced = _Reduced(s, g, scoring)
    top = max(scoring.exponents[-1], 0)
    z = reduced.scaled(s, [top - e for e in scoring.exponents], scoring.curvature_bits + top)
    root = reduced.scaled(g, [(top - e) // 2 for e in scoring.exponents], protocol.frac_bits + top // 2)
    slope = reduced.scaled(g, [top - e for e in scoring.exponents], protocol.frac_bits + top) if leaves else None
    protocol.together(z, root, *([slope] if slope is not None else []))
    inverse = protocol.harmonics(z, INVERSE)
    root = root.settle(scoring.root_bits)
    square = protocol.multiply(root, root)
    protocol.together(inverse, square)
    inverse = inverse.settle(scoring.inverse_bits)
    gain = protocol.multiply(square.settle(scoring.square_bits), inverse)
    gain = gain.linear(lambda t: t.sum((0, 3)), onto=True)
    gain = _without(gain, reduced.light, barred)
    values = None if slope is None else protocol.multiply(slope.settle(scoring.slope_bits), inverse)
    return _choose(gain, values, scoring, reduced.light if scoring.lightest else None)


class _Reduced:
    """The comparisons that tell the octave of s, and what of it and of g they choose."""

    def __init__(self, s: Number, g: Number, scoring: Scoring) -> None:
        protocol = s.protocol
        bits, edges = scoring.curvature_bits, [e + scoring.curvature_bits for e in scoring.exponents[:-1]]
        light = round((scoring.min_child_weight + scoring.reg_lambda) * 2.0**bits)
        thresholds = [1 << edge for edge in edges] + ([light] if scoring.min_child_weight > 0 else [])
        compared = Bits.stack(protocol.less(s, thresholds))
        protocol.together(compared)
        count = len(edges)
        below = compared.move(lambda t: t[:count], view=False)
        self.light = compared.move(lambda t: t[count], view=False) if len(thresholds) > count else None
        """[a side weighs too little]."""
        outputs = g.shape[3]
        many = below.move(lambda t: t.expand(-1, -1, -1, -1, outputs, -1), view=False)
        pairs = [(b, x.move(lambda t: t.expand(count, *t.shape), view=False)) for b, x in ((below, s), (many, g))]
        self._chosen = dict(zip((id(s), id(g)), protocol.select(pairs), strict=True))

    def scaled(self, x: Number, powers: Sequence[int], frac_bits: int) -> Number:
        """x 2^p_j of its octave j:  x 2^p_m + Σ_j [s < t_j] x (2^p_{j-1} - 2^p_j)."""
        ring = [1 << p for p in powers]
        jumps = torch.tensor([a - b for a, b in pairwise(ring)]).view(-1, *[1] * len(x.shape))
        chosen = self._chosen[id(x)].linear(lambda t: (t * jumps.to(t.device)).sum(0))
        return chosen.added(x.times_integer(ring[-1])).declare(frac_bits=frac_bits)


def _without(gain: Number, light: Bits | None, barred: Tensor | None) -> Number:
    """Gains of which those of no splits are far below zero, but that of the first, which is what no split gains.

    Those of later candidates are a little lower.
    """
    candidates = gain.shape[0]
    bar = 1 << GAIN_BITS + 1
    others = torch.full((candidates, 1, 1), bar)
    others[0] = 0
    if light is not None:
        heavy = light.arithmetic().linear(lambda t: t.sum((0, 3)) * -others.to(t.device))
        gain = gain.added(heavy.declare(frac_bits=gain.frac_bits, positive=False))
    public = torch.zeros(gain.shape, dtype=torch.int64)
    public[0] = 4 << max(gain.frac_bits - 16, 0)  # what roundings may make of nothing
    step = round(min(TIE, TIES / candidates) * 2.0**gain.frac_bits)
    public[1:] -= (torch.arange(candidates - 1) * step).view(-1, 1, 1)
    if barred is not None:
        public -= torch.where(barred, others, 0)
    return gain.plus(public)


def _choose(gain: Number, values: Number | None, scoring: Scoring, light: Bits | None) -> Best:
    """The largest of all candidates, and what belongs to it.

    Where a node is light all splits are, so no split wins, and its bit is flipped for the values: none is chosen.
    """
    protocol = gain.protocol
    candidates, trees, nodes = gain.shape
    players, plan = even_plan(candidates, trees * nodes, protocol.prices)
    flat = gain.move(lambda t: t.reshape(candidates, -1), view=False)
    if players > candidates:
        flat = flat.linear(lambda t: pad(t, (0, 0, 0, players - candidates)))
        flat = flat.plus(_last(players, players - candidates) * -(1 << GAIN_BITS + 2))
    protocol.together(flat, *([values] if values is not None else []))
    winner = Maximum(flat, plan=plan).winner.move(lambda t: t[:candidates], view=False)
    coarse = flat.settle().move(lambda t: t[:candidates], view=False)
    odd = protocol.odd(winner)
    hot = winner.move(lambda t: t.view(candidates, trees, nodes), view=False)
    with_value = hot
    if values is not None and light is not None:
        none = light.move(lambda t: t[0, :1, :, 0], view=False)
        first, others = (hot.move(lambda t, a=a, b=b: t[a:b], view=False) for a, b in ((0, 1), (1, candidates)))  # type: ignore[misc]
        with_value = (first ^ none).joined(others)
    protocol.together(winner, odd, with_value)
    pairs = [(winner, coarse)]
    if values is not None:
        leaf = protocol.scale(values, scoring.learning_rate, protocol.frac_bits)
        assert leaf is not None
        shape = leaf.shape
        pairs.append((with_value.move(lambda t: t.view(candidates, trees, 1, nodes).expand(shape), view=False), leaf))
    chosen = protocol.select(pairs)
    best = chosen[0].sum([0]) - coarse.move(lambda t: t[0], view=False)
    leaves = None if values is None else -chosen[1].sum([1])
    return Best(hot, best.move(lambda t: t.view(trees, nodes), view=False), leaves, odd)


def _last(count: int, some: int) -> Tensor:
    """A column of zeros that ends in so many ones."""
    return (torch.arange(count) >= count - some).to(torch.int64).view(-1, 1)
