"""Sums of squares, and their roots, of numbers whose squares would not fit the ring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch

from tacit.functions.linear import fractional, times_public
from tacit.functions.reciprocal import RESULT_BITS, WORKING_BITS
from tacit.functions.roots import ROOT
from tacit.functions.step import Steps
from tacit.protocols.number import Number
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS

__all__ = ["EXTRA_BITS", "Squares"]

Numbers = TypeVar("Numbers", Number, Bits)

EXTRA_BITS = 6
"""Fractional bits beyond the session's of numbers that are squared. More: smaller ones are squared rightly; but their
sum must fit below where the coarse one is close enough: at 2^8, the root of the latter is off by 2^-17 of it."""


FINEST_FACTOR = 28
"""Fractional bits of numbers that are squared, at most. More: smaller ones; but the fine sum must fit below 2^4,
where it and the coarse one meet."""


class Squares(NamedTuple):
    """Σ x² twice: of x with b fractional bits, which is right while it is below 2^(62 - 2b), and with c, half the
    session's, which is right always: it may be 2^46 at 16. Both come from one opening of x.
    """

    fine: Number
    coarse: Number

    @classmethod
    def of(cls, x: Number, dims: Sequence[int], *, keepdim: bool = False, bits: int | None = None) -> Squares:
        """The sums over dimensions. 1 round.

        Producer: 9 bytes an element more than for the fine one alone.
        """
        protocol = x.protocol
        x = fractional(x)
        protocol.together(x)
        sums = []
        most = min(bits or protocol.frac_bits + EXTRA_BITS, FINEST_FACTOR)
        for b in (min(x.frac_bits, most), protocol.frac_bits // 2):
            factor = x.settle(b)
            sums.append(protocol.multiply(factor, factor).linear(lambda t: t.sum(tuple(dims), keepdim=keepdim)))
        return cls(*sums)

    @classmethod
    def joined(cls, each: Sequence[Squares]) -> Squares:
        """Sums of one element each, one after the other, whose numbers had the same fractional bits."""
        return cls(*(Number.end_to_end(column) for column in zip(*each, strict=True)))

    def total(self, factor: float) -> Number:
        """Return Σ x² times a public factor.

        Domain: a sum below 2^(62 - f).   Error: <= 2^(1 - f) + 2^-17 of it.
        Cost: 5 rounds.   Reveals: nothing.
        """
        both = self._side_by_side()
        (below,) = both.protocol.less(both, [self._edge])
        small = _half(below, 1, self.fine)
        halves = zip(self._halves(both), self, strict=True)
        fine, coarse = (_undivided(half.rescaled(own.frac_bits)) for half, own in halves)
        parts = both.protocol.select([(small, fine), (small.invert(), coarse)])
        for part in parts:
            part.declare(precise=False)
        both.protocol.together(*parts)
        first, second = (_times(p, factor, both.protocol.frac_bits) for p in parts)
        return first + second

    def root(self, factor: float = 1.0) -> Number:
        """Return √(Σ x²) times a public factor, and zero where the sum is.

        Where the coarse sum is small, the fine one is scaled into [1/4, 1), else the coarse one, as in `roots`; what is
        scaled back the other way is zero.

        Domain: a sum below 2^(62 - f).   Error: <= 2^-24 + 2^-17 of it.   Cost: 8 rounds.   Reveals: nothing.
        """
        both = self._side_by_side()
        protocol = both.protocol
        steps = Steps(both, [4**k for k in range(VALUE_BITS // 2)])
        first = self._edge.bit_length() // 2  # from 4^first on, the coarse one counts
        octaves = range(VALUE_BITS // 2)
        inverse = [0.0] + [2.0 ** -(2 * k + 2) for k in octaves]
        b, c = self.fine.frac_bits // 2, self.coarse.frac_bits // 2
        back = [0.0] + [2.0 ** (k + 1) for k in octaves]

        def part(values: list[float], frac_bits: int, half: int) -> Number:
            return _half(steps.function(values, frac_bits), half, self.fine)

        far = [0.0] * (first + 1)
        small = _half(steps.bits, 1, self.fine, first)
        scales = [part(inverse, VALUE_BITS, 0), part(far + inverse[first + 1 :], VALUE_BITS, 1)]
        unscale = [part([v * 2.0**-b for v in back], b, 0), part(far + [v * 2.0**-c for v in back[first + 1 :]], 0, 1)]
        fine, coarse = self._halves(both)
        (near,) = protocol.select([(small, _undivided(fine))])
        near.declare(precise=False)
        protocol.together(near, *scales, *unscale)
        z = protocol.multiply(near, scales[0]).added(protocol.multiply(coarse, scales[1]))
        (unscale[0],) = protocol.select([(small, _undivided(unscale[0]))])
        unscale[0].declare(precise=False)
        protocol.together(z, unscale[0])
        y = protocol.harmonics(z, ROOT).settle(WORKING_BITS)
        products = [protocol.multiply(y, u) for u in unscale]
        protocol.together(*products)
        one, other = (_times(p, factor, RESULT_BITS) for p in products)
        out = one.added(other.lifted(RESULT_BITS))
        out.declare(positive=True, wide=True)
        return out

    @property
    def _edge(self) -> int:
        """Where the coarse sum begins to count, as a ring element: a quarter of what the fine one may be."""
        return 1 << (VALUE_BITS - 2 - self.fine.frac_bits + self.coarse.frac_bits)

    def _side_by_side(self) -> Number:
        """Both as integers, to be compared with the same thresholds in the same rounds."""
        return Number.end_to_end([s.rescaled(0) for s in self])

    def _halves(self, both: Number) -> tuple[Number, Number]:
        """Either of them again, as integers, with what has become known of both."""
        return _half(both, 0, self.fine), _half(both, 1, self.fine)


def _half(x: Numbers, half: int, like: Number, row: int | None = None) -> Numbers:
    """The first or second half of the last dimension, in the shape of a sum."""
    count, shape = like.numel, like.shape

    def op(t: torch.Tensor) -> torch.Tensor:
        return (t if row is None else t[row])[half * count : (half + 1) * count].reshape(shape)

    return x.move(op, view=False)


def _undivided(x: Number) -> Number:
    """x, not to be truncated by a selection."""
    x.declare(precise=True)
    return x


def _times(x: Number, factor: float, frac_bits: int) -> Number:
    """x times a factor, with so many fractional bits."""
    if factor == 1:
        return x.settle(frac_bits)
    out = x.protocol.scale(x.lifted(max(x.frac_bits, frac_bits)), factor, frac_bits)
    return times_public(x, torch.tensor(factor)).settle(frac_bits) if out is None else out
