"""Division by a secret."""

from __future__ import annotations

from torch import Tensor

from tacit.functions.linear import argument, times_public
from tacit.functions.step import Steps
from tacit.protocols.arithmetic import SLACK_BITS, Arithmetic
from tacit.protocols.base import Harmonics

__all__ = ["WORKING_BITS", "inverse", "quotient", "reciprocal"]

WORKING_BITS = 24
"""Fractional bits inside of an iteration, on numbers below 4: products have 48 and fit below 2^62 with room."""

LOW, FINE_LOW, HIGH = -12, -20, 14
"""Octaves told apart; the lower end is the finer one for a secret with at least 28 fractional bits. Wider: a larger
domain; each octave costs two comparisons of 34 bits, online and a party."""

START = Harmonics(
    2,
    sine=(-0.197125689301, -0.397846536680, -0.094431394529),
    cosine=(2.153606038162, 0.540590921911, 0.030122858793),
    constant=2.643187055338,
    rounding=2.0**-16,
)
"""Closest to 1/z on [1/2, 1) in relative error, 4.9e-5 (Lawson): one step of Newton's, which squares it, is
enough. z is open already. A line would need three steps of two rounds; the series costs the producer 32 bytes."""


def reciprocal(x: Arithmetic) -> Arithmetic:
    """Return 1/x by Newton's iteration, y <- y (2 - z y), after scaling x to z = x s in [1/2, 1); 1/x = s y.

    Shape: any.   Domain: 2^-12 <= |x| < 2^14; from 2^-20 for a secret with at least 28 fractional bits.
    Error: <= 2^-21 |y|.   Below the domain 1/2 is added to z, so that the result stays below 2^12 (2^20) in magnitude.
    Cost: 9 rounds.   Reveals: nothing.   Ref: [CS10].
    """
    y, scale = _scaled_reciprocal(x)
    return x.protocol.multiply(y, scale)


def quotient(numerator: Arithmetic | Tensor, x: Arithmetic) -> Arithmetic:
    """Return n / x = (n s) y, as `reciprocal`; the scale meets the numerator first, so small quotients keep their bits.

    A numerator keeps 12 fractional bits more than the session's, and 20 if it is precise.

    Shape: any, with broadcasting.   Domain: that of `reciprocal`, and |n / x| < 2^13 (2^10 if n is precise).
    Error: <= 2^-20 |y| + 2^-22.
    Cost: 11 rounds, 10 for a public n.   Reveals: nothing.   Ref: [CS10].
    """
    y, scale = _scaled_reciprocal(x)
    if isinstance(numerator, Tensor):
        scaled = times_public(scale, numerator)
    else:
        fine = x.protocol.frac_bits + (20 if numerator.storage.precise else SLACK_BITS)
        scaled = x.protocol.multiply(numerator.settle(fine), scale)
    return x.protocol.multiply(scaled.settle(WORKING_BITS), y)


def _scaled_reciprocal(x: Arithmetic) -> tuple[Arithmetic, Arithmetic]:
    """y = 1/(x s) and s = ±2^-j, as a step function of x."""
    x = argument(x)
    low = FINE_LOW if x.frac_bits >= WORKING_BITS + 4 else LOW
    up = [int(2.0 ** (x.frac_bits + j)) for j in range(low, HIGH)]
    steps = Steps(x, [1 - t for t in reversed(up)] + [0] + up)
    scales = [2.0 ** -(low + 1), *(2.0**-j for j in range(low + 1, HIGH + 1))]  # |x| < 2^low, < 2^(low+1), …, < 2^HIGH
    scale = steps.function([-s for s in reversed(scales)] + scales, frac_bits=HIGH)
    tiny = [0.5] + [0.0] * (len(scales) - 1)
    protocol = x.protocol
    product = protocol.multiply(x, scale)
    z = product.added(steps.function([*reversed(tiny), *tiny], product.frac_bits))
    return inverse(z.settle(WORKING_BITS)), scale


def inverse(z: Arithmetic) -> Arithmetic:
    """1/z at `WORKING_BITS`, for z in [1/2, 1) with no more fractional bits than these. 3 rounds.

    y <- 2 y - y t with t = z y: what a truncation leaves is masked already, and so are all factors here.
    """
    multiply = z.protocol.multiply
    z = z.lifted(WORKING_BITS)
    y = z.protocol.harmonics(z, START).settle(WORKING_BITS)
    t = multiply(z, y).settle(WORKING_BITS)
    return y.lifted(2 * WORKING_BITS).times_integer(2).added(-multiply(y, t)).settle(WORKING_BITS)
