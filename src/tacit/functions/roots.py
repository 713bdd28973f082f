"""Square roots and their reciprocals."""

from __future__ import annotations

from tacit.functions.linear import argument
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.step import Steps
from tacit.protocols.arithmetic import SLACK_BITS, Arithmetic
from tacit.protocols.base import Harmonics

__all__ = ["rsqrt", "sqrt"]

LOW, HIGH = -16, 20
"""Powers of two told apart, in steps of four. A secret with more fractional bits reaches further down, to 2^-42."""

START = Harmonics(
    2,
    sine=(-1.211738338194, -0.923663326135, -0.132926191932, 0.020945379038),
    cosine=(1.664539825429, -0.033842757124, -0.239301673934, -0.034443069044),
    constant=2.493623461375,
    rounding=2.0**-16,
)
"""Closest to 1/√z on [1/4, 1) in relative error, 1e-4 (Lawson): one step of Newton's makes 1.5e-8 of it, which is below
rounding. z is open already. A line would need four steps, of three rounds and more bytes than the series costs."""

FINE_BITS = 28
"""Fractional bits of the root of a secret with more than 16: from 28 on a quotient by it has the larger domain."""


def rsqrt(x: Arithmetic) -> Arithmetic:
    """Return 1/√x by Newton's iteration, y <- y (3 - z y²) / 2, after scaling x to z = x s² in [1/4, 1).

    Shape: any.   Domain: 2^-16 <= x < 2^20; from 2^-f for a secret with f > 16 fractional bits, to 2^-42.
    Error: <= 2^-22 y + 2^-23.   Below the domain, zero included, the result is finite, and at most 2^12 (2^21).
    Cost: 12 rounds.   Reveals: nothing.   Ref: [CS10].
    """
    x = argument(x)
    _, y, steps, scales = _scaled_rsqrt(x)
    return x.protocol.multiply(y, steps.function(scales, frac_bits=HIGH // 2)).settle(WORKING_BITS)


def sqrt(x: Arithmetic) -> Arithmetic:
    """Return √x = (z y) / s, with z and y as in `rsqrt`.

    Shape: any.   Domain: 2^-16 <= x < 2^20, and √0 = 0.   Error: <= 2^-21 y + 2^-21.
    Cost: 13 rounds.   Reveals: nothing.   Ref: [CS10].
    """
    x = argument(x)
    z, y, steps, scales = _scaled_rsqrt(x)
    fine = min(FINE_BITS, x.protocol.frac_bits + SLACK_BITS)  # more would be truncated by the next public factor
    root = x.protocol.multiply(z, y).settle(WORKING_BITS)
    low = x_low(x)
    unscale = steps.function([1 / s for s in scales], frac_bits=-low // 2)
    return x.protocol.multiply(root, unscale).settle(WORKING_BITS if low == LOW else fine)


def x_low(x: Arithmetic) -> int:
    """The lowest power of two that the scale of x can hold, even."""
    return max(-(x.frac_bits & ~1), -42) if x.frac_bits > -LOW else LOW


def _scaled_rsqrt(x: Arithmetic) -> tuple[Arithmetic, Arithmetic, Steps, list[float]]:
    """z = x s² in [1/4, 1), y = 1/√z, and s as a step function of x."""
    low = x_low(x)
    exponents = range(low + 2, HIGH + 1, 2)  # x in [2^(e-2), 2^e)
    thresholds = [int(2.0 ** (x.frac_bits + e)) for e in exponents[:-1]]
    steps = Steps(x, thresholds)
    scales = [2.0 ** (-e // 2) for e in exponents]
    protocol = x.protocol
    z = protocol.multiply(x, steps.function([s * s for s in scales], frac_bits=HIGH)).settle(WORKING_BITS)
    y = protocol.harmonics(z, START).settle(WORKING_BITS)
    square = protocol.multiply(y, y).settle(WORKING_BITS)  # y <- (3 y - y t) / 2: what a truncation leaves is masked
    t = protocol.multiply(z, square).settle(WORKING_BITS)
    y = y.lifted(2 * WORKING_BITS).times_integer(3).added(-protocol.multiply(y, t))
    return z, y.rescaled(2 * WORKING_BITS + 1).settle(WORKING_BITS), steps, scales
