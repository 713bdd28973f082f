"""Softmax, and the parts of it that log-softmax and its gradient use as well."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from tacit.functions.exponential import exp_nonpositive
from tacit.functions.logarithm import log
from tacit.functions.maximum import Maximum
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.step import Steps
from tacit.protocols.number import Number
from tacit.protocols.series import Harmonics

__all__ = ["Softmax"]

MOST = 16
START = Harmonics(
    2 * MOST,
    sine=(
        -18.3405953163, -10.4277637095, -20.4163506632, -13.4920830581, 15.5641632211,
        13.3211791901, -1.5738015255, -2.4639941885, -0.1368225468, 0.0572846502,
    ),
    cosine=(
        11.3019358878, 3.7145603640, 1.4266059023, -23.0531275621, -17.3382124063,
        6.7224174208, 6.9538517232, 0.0327004082, -0.5443844920, -0.0299404852,
    ),
    constant=14.4756481650,
)  # fmt: skip
"""Closest to 1/S on [1, 16] in relative error, 6.8e-4 (Lawson, with coefficients held small, for they multiply the
rounding), of which a step of Newton's makes 4.6e-7. A larger interval needs more terms, 16 bytes from the producer for
each row and term; a smaller one scales S, in four rounds, more often."""


class Softmax(NamedTuple):
    """x - max x and exp(x - max x), each computed once, and what follows from them."""

    difference: Number
    power: Number
    dim: int

    @classmethod
    def of(cls, x: Number, dim: int) -> Softmax:
        """Find the maximum (4 rounds for each of log2 n levels), subtract it, and exponentiate (4 rounds)."""
        count = x.shape[dim]
        largest = Maximum(x.move(lambda t: t.movedim(dim, 0), view=False)).values

        def spread(t: Tensor) -> Tensor:
            t = t.unsqueeze(dim)
            return t.expand(*t.shape[:dim], count, *t.shape[dim + 1 :])

        level = x.settle(largest.frac_bits) if x.frac_bits > largest.frac_bits else x
        difference = level - largest.move(spread, view=False)
        return cls(difference, exp_nonpositive(difference), dim)

    def _total(self) -> Number:
        return self.power.sum([self.dim], keepdim=True)

    def value(self) -> Number:
        """Return e / S with e = exp(x - max x) and S = Σ e in [1, n], from a first y near 1/S, by a step of Newton's:

            e / S  =  u (2 - t)        u = e y, t = S y

        Shape: any.   Domain: differences below 2^45.   Error: <= (n + 2) 2^-f; √n 2^-f as a rule.
        Cost: 3 rounds for n <= 16, else 7, in 4 of which S is scaled; the result is not truncated.   Reveals: nothing.
        """
        power, total = self.power, self._total()
        protocol = total.protocol
        steps = math.ceil(math.log(max(power.shape[self.dim], 1), MOST))
        if steps > 1:  # S of [16^(j-1), 16^j) times 16^(1-j)
            tiers = Steps(total, [MOST**j << total.frac_bits for j in range(1, steps)])
            scales = [float(MOST) ** -j for j in range(steps)]
            bits = (steps - 1) * int(math.log2(MOST))
            total = tiers.times(total, scales, bits)
            scale = tiers.function(scales, bits)
            protocol.together(total, scale, power)
            power = protocol.multiply(power, scale)
        else:
            protocol.together(total, power)
        y = protocol.harmonics(total, START)
        protocol.together(y, power)
        y = y.settle(WORKING_BITS)
        u, t = protocol.multiply(power, y), protocol.multiply(total, y)
        protocol.together(u, t)
        u, t = u.settle(WORKING_BITS), t.settle(WORKING_BITS)
        return u.lifted(2 * WORKING_BITS).times_integer(2).added(-protocol.multiply(u, t))

    def log_value(self) -> Number:
        """Return x - max x - log Σ exp(x - max x).

        Error: <= (n + 2) 2^-f; √n 2^-f as a rule.   Cost: 7 rounds, 2 for n <= 3.   Reveals: nothing.
        """
        logarithm = log(self._total(), 1, self.power.shape[self.dim])
        shape = self.difference.shape
        return self.difference - logarithm.move(lambda t: t.expand(shape), view=False)
