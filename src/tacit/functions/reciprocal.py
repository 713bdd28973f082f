"""Division by a secret."""

from __future__ import annotations

import torch

from tacit.functions.step import Steps
from tacit.protocols.share import Arithmetic

__all__ = ["HIGH", "LOW", "WORKING_BITS", "reciprocal"]

WORKING_BITS = 24
"""Fractional bits inside of an iteration, on numbers below 4: products have 48 and fit below 2^62 with room."""

LOW, HIGH = -12, 14
"""Octaves told apart. Wider: a larger domain; each octave costs two comparisons of 34 bits, online and a party."""

START = (2.82349565299, -1.88232994242)
"""The line closest to 1/z on [1/2, 1) in relative error, 0.0589 (Remez)."""

ITERATIONS = 3
"""The relative error squares each time: 0.0589, 3.5e-3, 1.2e-5, 1.4e-10; the third is below 2^-24 rounding."""


def reciprocal(x: Arithmetic) -> Arithmetic:
    """Return 1/x by Newton's iteration, y <- y (2 - z y), after scaling x to z in [1/2, 1).

    Shape: any.   Domain: 2^-12 <= |x| < 2^14.   Error: <= 2^-14 + 2^-15 |1/x| at 16 fractional bits, relative to 1/x
    of the encoded x. Below the domain the result is bounded by 2^13 in magnitude, so 0 times it is 0.
    Cost: 12 rounds.   Reveals: nothing.   Ref: [CS10].
    """
    unit = 1 << x.frac_bits
    up = [int(unit * 2.0**j) for j in range(LOW + 1, HIGH)]
    steps = Steps(x, [-t for t in reversed(up)] + [0] + up)
    scales = [2.0**-j for j in range(LOW + 1, HIGH + 1)]  # for |x| in [2^(j-1), 2^j)
    scale = steps.function([-s for s in reversed(scales)] + scales, frac_bits=HIGH)
    protocol = x.protocol
    z = protocol.multiply(x, scale).settle(WORKING_BITS)
    y = _affine(z, *START)
    for _ in range(ITERATIONS):
        t = protocol.multiply(z, y).settle(WORKING_BITS)
        y = protocol.multiply(y, _affine(t, 2.0, -1)).settle(WORKING_BITS)
    return protocol.multiply(y, scale)


def _affine(x: Arithmetic, constant: float, factor: float) -> Arithmetic:
    """constant + factor x, at the scale of x, with the factor in 12 fractional bits."""
    ring = round(constant * 2**x.frac_bits)
    if factor == int(factor):
        return x.times_integer(int(factor)).plus(torch.tensor(ring))
    out = x.times_integer(round(factor * 4096)).rescaled(x.frac_bits + 12)
    return out.plus(torch.tensor(ring << 12)).settle(x.frac_bits)
