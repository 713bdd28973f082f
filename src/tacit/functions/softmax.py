"""Softmax, and the parts of it that log-softmax and its gradient use as well."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tacit.functions.exponential import COARSE_BITS, FINEST_COARSE, exp_chosen, exp_down, exp_nonpositive
from tacit.functions.inverses import INVERSES
from tacit.functions.logarithm import log
from tacit.functions.maximum import Maximum, extra_of_near, levels
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.step import Steps
from tacit.protocols.number import Number
from tacit.protocols.scale import SLACK_BITS
from tacit.protocols.series import CHOSEN_BITS

__all__ = ["Softmax", "open_difference"]

REACH, DEEPEST = 40.0, 3
"""How far below the largest an exponential is looked up, in e-folds, and the levels of a maximum that share this. More
levels: each drops smaller differences, for three those of 13.3, whose exponential is 1.6e-6."""

FACTOR_BITS = 20
"""Fractional bits of e and 1/S where these meet what need not be below 1. More: smaller errors, beside those of the
series, which are some 2^-18; fewer: larger numbers that they may meet."""

CHOSEN_FINEST = 20
"""Fractional bits of a session up to which exponentials of few elements are chosen, to 2^-19, and not looked up, to
2^-21, and selected. More: a round less in finer sessions, whose logarithms are then off by 2^-19 as well."""

TIER = 16
"""Sums of more columns than any series is for are scaled below this, in four rounds, by powers of it."""


@dataclass(slots=True, eq=False)
class Softmax:
    """x - max x and exp(x - max x), each computed once, and what follows from them."""

    difference: Number
    power: Number
    dim: int
    _parts: tuple[Number, Number] | None = None

    @classmethod
    def of(cls, x: Number, dim: int, *, weighted: bool = False) -> Softmax:
        """Find the maximum, subtract it, and exponentiate: 4 rounds, 2 if few bytes tell what counts as zero.

        1 then of few elements, but not if the exponential is to be multiplied as it is, by `weighted`, first of all,
        and not with more than 20 fractional bits, where it is to be more precise.
        """
        count, protocol = x.shape[dim], x.protocol
        rows = x.numel // max(count, 1)
        deep = levels(count, rows, protocol.prices)
        extra = extra_of_near(count, rows, protocol.prices)
        gap = REACH / deep if 0 < deep <= DEEPEST and extra <= 2 * protocol.prices.round else None
        found = Maximum(x.move(lambda t: t.movedim(dim, 0), view=False), gap=gap, value=True)
        near = None if gap is None else found.near.move(lambda t: t.movedim(0, dim), view=False)
        largest = found.values

        def spread(t: Tensor) -> Tensor:
            t = t.unsqueeze(dim)
            return t.expand(*t.shape[:dim], count, *t.shape[dim + 1 :])

        level = x.settle(largest.frac_bits) if x.frac_bits > largest.frac_bits else x
        difference = level - largest.move(spread, view=False)
        if near is None:
            if protocol.frac_bits <= COARSE_BITS and level is not x and x.frac_bits <= FINEST_COARSE:
                return cls(difference, exp_nonpositive(open_difference(x, largest.move(spread, view=False))), dim)
            return cls(difference, exp_nonpositive(difference, found.most), dim)
        protocol.together(difference, near)
        if weighted or count > max(INVERSES) or protocol.frac_bits > CHOSEN_FINEST:
            (power,) = protocol.select([(near, exp_down(difference))])
        else:
            power = exp_chosen(near, difference)
        return cls(difference, power, dim)

    def value(self) -> Number:
        """Return e / S with e = exp(x - max x) and S = Σ e in [1, n], by a series for 1/S.

        Shape: any.   Domain: differences below 2^45.
        Error: <= (n + 2) 2^-f, 2^-17 where that is more; √n 2^-f as a rule for f <= 16.
        Cost: 2 rounds for n <= 128, else 6, in 4 of which S is scaled; the result is not truncated.   Reveals: nothing.
        """
        power, y = self._factors()
        return power.protocol.multiply(power.settle(WORKING_BITS), y.settle(WORKING_BITS))

    def times(self, v: Number) -> Number:
        """Return v e / S for a v that is the same along the dimension, as the gradient of a logarithm asks for.

        While 1/S is masked, so is v e: a round less than to multiply e / S, truncated, by v.

        Shape: v that of S.   Domain: that of `value`, and |v| < 2^26 at 16 fractional bits, 2^18 at 24.
        Error: <= (n + 2) 2^-f |v| + 2^-f for f <= 16, where a v with headroom has as many bits more.
        Cost: 2 rounds for n <= 128, else 7; not truncated.   Reveals: nothing.
        """
        protocol = v.protocol
        if self.power.shape[self.dim] > max(INVERSES):
            found = self.value()
            protocol.together(found, v)
            return protocol.multiply(found.settle(), v.settle())
        power, y = self._factors(v)
        scaled = protocol.multiply(power.settle(FACTOR_BITS), v.settle())
        protocol.together(scaled, y)
        return protocol.multiply(scaled.settle(), y.settle(FACTOR_BITS))

    def scaled(self, c: float) -> Number:
        """Return c e / S for a public c, by which 1/S is multiplied as it is truncated; with headroom for c below 1.

        Domain: that of `value`, and 2^-20 < |c| < 2^20.   Error: <= (n + 2) 2^-f |c| + 2^-(20 + h) for a headroom of h.
        Cost: 2 rounds for n <= 128, else 6; not truncated.   Reveals: nothing.
        """
        power, y = self._factors()
        mantissa, exponent = math.frexp(abs(c))
        headroom = min(max((mantissa == 0.5) - exponent, 0), SLACK_BITS)
        factor = y.protocol.scale(y, abs(c), FACTOR_BITS + headroom)
        assert factor is not None
        out = y.protocol.multiply(power.settle(FACTOR_BITS), factor)
        return (out if c > 0 else -out).declare(headroom=headroom)

    def weighted(self, v: Number, op: Callable[[Tensor, Tensor], Tensor]) -> Number:
        """Return op(e / S, v) = op(e, v) / S for sums op over the last dimension of e: no weight is opened for them.

        For n > 128, 1/S = t y of a scaled S t, and t meets y, of which a row has one, not e, of which it has n.

        Shape: e [.., k, n], v [.., n, m] -> [.., k, m].
        Domain: that of `value`; Σ e |v| < 2^30 and |result| < 2^22.
        Error: <= (n + 2) 2^-f |v| + 2^-f.   Cost: 2 rounds for n <= 128, else 7; not truncated.   Reveals: nothing.
        """
        protocol, v = v.protocol, v.settle()
        tiered = self.power.shape[self.dim] > max(INVERSES)
        if tiered:
            power = self.power
            y, scale = self._tiered(power, v)
        else:
            power, y = self._factors(v)
        if power.frac_bits == CHOSEN_BITS:
            power = power.settle()
        total = protocol.bilinear(power, v, op)
        protocol.together(total, y)
        if tiered:
            y = protocol.multiply(y.settle(WORKING_BITS), scale)
            protocol.together(y)
        return protocol.multiply(total.settle(), y.settle(WORKING_BITS))

    def _total(self) -> Number:
        return self.power.sum([self.dim], keepdim=True)

    def _factors(self, *beside: Number) -> tuple[Number, Number]:
        """e, or that scaled like S, which are masked, others beside them, and 1/S, which is not. Found once."""
        if self._parts is None:
            self._parts = self._divided(*beside)
        return self._parts

    def _divided(self, *beside: Number) -> tuple[Number, Number]:
        power, total = self.power, self._total()
        protocol, count = total.protocol, power.shape[self.dim]
        series = next((s for most, s in INVERSES.items() if count <= most), None)
        if series is not None:
            protocol.together(total, power, *beside)
            return power, protocol.harmonics(total, series)
        y, scale = self._tiered(power, *beside)
        power = protocol.multiply(power, scale)
        protocol.together(power, y)
        return power, y

    def _tiered(self, *beside: Number) -> tuple[Number, Number]:
        """1/(S t), and t = 16^(1-j) for S of [16^(j-1), 16^j), which is masked, as are others beside it. 5 rounds."""
        total, count = self._total(), self.power.shape[self.dim]
        steps = math.ceil(math.log(count, TIER))
        tiers = Steps(total, [TIER**j << total.frac_bits for j in range(1, steps)])
        scales = [float(TIER) ** -j for j in range(steps)]
        bits = (steps - 1) * int(math.log2(TIER))
        total = tiers.times(total, scales, bits)
        scale = tiers.function(scales, bits)
        total.protocol.together(total, scale, *beside)
        return total.protocol.harmonics(total, INVERSES[TIER]), scale

    def log_value(self) -> Number:
        """Return x - max x - log Σ exp(x - max x).

        Error: <= (n + 2) 2^-f, and 2^-20 more for f > 20; √n 2^-f as a rule for f <= 20.
        Cost: 7 rounds, 2 for n <= 3.   Reveals: nothing.
        """
        logarithm = log(self._total(), 1, self.power.shape[self.dim])
        shape = self.difference.shape
        return self.difference - logarithm.move(lambda t: t.expand(shape), view=False)


def open_difference(x: Number, largest: Number) -> Number:
    """x - max x of a product x that is open, for it was compared: only the largest is opened, of which a row has one.

    As fine as the product, and above zero by three of the session's units at most.
    """
    top = largest.lifted(x.frac_bits)
    x.protocol.together(x, top)
    difference = x - top
    x.protocol.note_open(difference, x, top)
    return difference
