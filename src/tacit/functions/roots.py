"""Square roots and their reciprocals."""

from __future__ import annotations

import torch

from tacit.functions.linear import argument
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.step import Steps
from tacit.protocols.share import SLACK_BITS, Arithmetic

__all__ = ["rsqrt", "sqrt"]

LOW, HIGH = -16, 20
"""Powers of two told apart, in steps of four. A secret with more fractional bits reaches further down, to 2^-32."""

START = (2.1327775389, -1.21876406885)
"""The line closest to 1/√z on [1/4, 1) in relative error, 0.086 (Remez)."""

FINE_BITS = 28
"""Fractional bits of the root of a secret with more than 16: from 28 on a quotient by it has the larger domain."""

ITERATIONS = 4
"""The relative error e becomes 1.5 e²: 0.086, 1.1e-2, 1.8e-4, 5e-8, below rounding."""


def rsqrt(x: Arithmetic) -> Arithmetic:
    """Return 1/√x by Newton's iteration, y <- y (3 - z y²) / 2, after scaling x to z = x s² in [1/4, 1).

    Shape: any.   Domain: 2^-16 <= x < 2^20; from 2^-32 for a secret with 32 fractional bits.
    Error: <= 2^-22 y + 2^-23.   Below the domain, zero included, the result is finite, and at most 2^12.
    Cost: 21 rounds.   Reveals: nothing.   Ref: [CS10].
    """
    x = argument(x)
    _, y, steps, scales = _scaled_rsqrt(x)
    return x.protocol.multiply(y, steps.function(scales, frac_bits=HIGH // 2)).settle(WORKING_BITS)


def sqrt(x: Arithmetic) -> Arithmetic:
    """Return √x = (z y) / s, with z and y as in `rsqrt`.

    Shape: any.   Domain: 2^-16 <= x < 2^20, and √0 = 0.   Error: <= 2^-21 y + 2^-21.
    Cost: 22 rounds.   Reveals: nothing.   Ref: [CS10].
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
    return max(-(x.frac_bits & ~1), -32) if x.frac_bits > -LOW else LOW


def _scaled_rsqrt(x: Arithmetic) -> tuple[Arithmetic, Arithmetic, Steps, list[float]]:
    """z = x s² in [1/4, 1), y = 1/√z, and s as a step function of x."""
    low = x_low(x)
    exponents = range(low + 2, HIGH + 1, 2)  # x in [2^(e-2), 2^e)
    thresholds = [int(2.0 ** (x.frac_bits + e)) for e in exponents[:-1]]
    steps = Steps(x, thresholds)
    scales = [2.0 ** (-e // 2) for e in exponents]
    protocol = x.protocol
    z = protocol.multiply(x, steps.function([s * s for s in scales], frac_bits=HIGH)).settle(WORKING_BITS)
    slope = z.times_integer(round(START[1] * 4096)).rescaled(WORKING_BITS + 12)
    y = slope.plus(torch.tensor(round(START[0] * 2 ** (WORKING_BITS + 12)))).settle(WORKING_BITS)
    for _ in range(ITERATIONS):  # y <- (3 y - y t) / 2: what a truncation leaves is masked already
        square = protocol.multiply(y, y).settle(WORKING_BITS)
        t = protocol.multiply(z, square).settle(WORKING_BITS)
        y = y.lifted(2 * WORKING_BITS).times_integer(3).added(-protocol.multiply(y, t))
        y = y.rescaled(2 * WORKING_BITS + 1).settle(WORKING_BITS)
    return z, y, steps, scales
