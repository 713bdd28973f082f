"""Softmax, and the parts of it that log-softmax and its gradient use as well."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tacit.functions.exponential import exp_down, exp_nonpositive
from tacit.functions.inverses import INVERSES
from tacit.functions.logarithm import log
from tacit.functions.maximum import Maximum, extra_of_near, levels
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.step import Steps
from tacit.protocols.number import Number
from tacit.protocols.protocol import ROUND

__all__ = ["Softmax"]

REACH, DEEPEST = 40.0, 3
"""How far below the largest an exponential is looked up, in e-folds, and the levels of a maximum that share this. More
levels: each drops smaller differences, for three those of 13.3, whose exponential is 1.6e-6."""

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
    def of(cls, x: Number, dim: int) -> Softmax:
        """Find the maximum, subtract it, and exponentiate: 4 rounds, 2 if few bytes tell what counts as zero."""
        count, protocol = x.shape[dim], x.protocol
        rows = x.numel // max(count, 1)
        deep = levels(count, rows, protocol.prices)
        extra = extra_of_near(count, rows, protocol.prices)
        gap = REACH / deep if 0 < deep <= DEEPEST and extra <= 2 * ROUND else None
        found = Maximum(x.move(lambda t: t.movedim(dim, 0), view=False), gap=gap)
        near = None if gap is None else found.near.move(lambda t: t.movedim(0, dim), view=False)
        largest = found.values

        def spread(t: Tensor) -> Tensor:
            t = t.unsqueeze(dim)
            return t.expand(*t.shape[:dim], count, *t.shape[dim + 1 :])

        level = x.settle(largest.frac_bits) if x.frac_bits > largest.frac_bits else x
        difference = level - largest.move(spread, view=False)
        if near is None:
            return cls(difference, exp_nonpositive(difference), dim)
        protocol.together(difference, near)
        (power,) = protocol.select([(near, exp_down(difference))])
        return cls(difference, power, dim)

    def value(self) -> Number:
        """Return e / S with e = exp(x - max x) and S = Σ e in [1, n], by a series for 1/S.

        Shape: any.   Domain: differences below 2^45.   Error: <= (n + 2) 2^-f; √n 2^-f as a rule.
        Cost: 2 rounds for n <= 128, else 6, in 4 of which S is scaled; the result is not truncated.   Reveals: nothing.
        """
        power, y = self._factors()
        return power.protocol.multiply(power.settle(WORKING_BITS), y.settle(WORKING_BITS))

    def weighted(self, v: Number, op: Callable[[Tensor, Tensor], Tensor]) -> Number:
        """Return op(e / S, v) = op(e, v) / S for sums op over the last dimension of e: no weight is opened for them.

        Shape: e [.., k, n], v [.., n, m] -> [.., k, m].
        Domain: that of `value`; Σ e |v| < 2^30, |result| < 2^22, and |v| < 2^18 for n > 128.
        Error: <= (n + 2) 2^-f |v| + 2^-f.   Cost: 2 rounds for n <= 128, else 7; not truncated.   Reveals: nothing.
        """
        power, y = self._factors(v.settle())
        protocol = v.protocol
        total = protocol.bilinear(power, v.settle(), op)
        protocol.together(total, y)
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
        steps = math.ceil(math.log(count, TIER))  # S of [16^(j-1), 16^j) times 16^(1-j)
        tiers = Steps(total, [TIER**j << total.frac_bits for j in range(1, steps)])
        scales = [float(TIER) ** -j for j in range(steps)]
        bits = (steps - 1) * int(math.log2(TIER))
        total = tiers.times(total, scales, bits)
        scale = tiers.function(scales, bits)
        protocol.together(total, scale, power, *beside)
        power, y = protocol.multiply(power, scale), protocol.harmonics(total, INVERSES[TIER])
        protocol.together(power, y)
        return power, y

    def log_value(self) -> Number:
        """Return x - max x - log Σ exp(x - max x).

        Error: <= (n + 2) 2^-f; √n 2^-f as a rule.   Cost: 7 rounds, 2 for n <= 3.   Reveals: nothing.
        """
        logarithm = log(self._total(), 1, self.power.shape[self.dim])
        shape = self.difference.shape
        return self.difference - logarithm.move(lambda t: t.expand(shape), view=False)
