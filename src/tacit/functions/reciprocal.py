"""Division by a secret."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tacit.functions.linear import apply_public, argument, fractional
from tacit.functions.step import Octaves
from tacit.protocols.number import Number
from tacit.protocols.series import Harmonics
from tacit.ring.fixed_point import VALUE_BITS, encode
from tacit.ring.shapes import broadcast

__all__ = ["WORKING_BITS", "quotient", "reciprocal"]

WORKING_BITS = 24
"""Fractional bits of numbers below 4, whose products have 48 and fit below 2^62 with room."""

INVERSE = Harmonics(
    2,
    sine=(
        -4.525742116105, -1.530160550432, -3.610444731562, -9.684343665893, -6.481051571734, 0.4841514198651,
        1.974700503651, 0.5751052262577, -0.03156852770788, -0.02662870660421, -0.001488768454524,
    ),
    cosine=(
        8.820323570221, 5.296155744831, 8.212015582897, 3.345431799427, -4.849425842458, -4.757865716914,
        -0.861892993834, 0.449459660974, 0.1745636216445, 0.00816755793583, -0.001539564383101,
    ),
    constant=8.152695318935,
    rounding=2.0**-23,
)  # fmt: skip
"""Closest to 1/z on [1/4, 1) in relative error, 1.3e-8 (Lawson, with coefficients held small, for they multiply the
rounding). z is open already, so it needs no round, where a Newton step from a shorter series needs two."""

AT_ZERO = INVERSE.constant + math.fsum(INVERSE.cosine)
"""What the series makes of zero."""

LARGEST = 20
"""No reciprocal is larger than 2^20. Larger: smaller denominators; but those of large ones lose a bit each."""

BANDS = ((0, 28), (12, 20), (24, 8), (36, -4))
"""(j, b): denominators below 2^j, from the end of the band before, meet numerators of b fractional bits, with 2^-e of j
bits; those beyond the last one likewise. All products have 28 or 32 fractional bits, so the quotient may reach 2^30.
What b drops, times 2^-e, is below 2^-22; 2^-20 for |x| >= 2^24; 2^-18 where a session of 12 bits has more than 2^36."""

SUM_BITS = 32

FACTOR_BITS, SHORT_BITS = 8, 16
"""Fractional bits of the first part of 1/z. The numerator's 24, times these, leave a quotient 2^30; and its first 16,
times the rest, which is below 2^-8 and has 24, leave as much."""

RESULT_BITS = 28
"""Fractional bits of a quotient. More: smaller ones, which clipped gradients are multiplied by, keep their digits; but
as many as a factor may have."""

SMALL, LARGE, PRECISE_BITS = 2.0**-20, 2.0**13, 20
"""What a precise numerator is divided by lies between the first two, or a factor of 2 beyond, and the numerator keeps
20 fractional bits more than the session's, but 36 at most: optimizers clip what they square, so that their quotients
have a range."""


def reciprocal(x: Number) -> Number:
    """Return 1/x = s y, with a series for y = 1/z, after scaling x to z = x s in [1/4, 1).

    Shape: any.   Domain: 2^-f <= |x| < 2^(62 - f), where f, at most 42, is the number of fractional bits that x has;
    and |1/x| <= 2^20.   Error: <= 2^-22 |y| + 2^(f - 36), where f counts up to 20. Of zero it is 2^f, at most 2^20.
    Cost: 7 rounds; the result is not truncated.   Reveals: nothing.   Ref: [CS10].
    """
    x = argument(x)
    protocol = x.protocol
    octaves = Octaves(x, signed=not x.scale.positive)
    most = min(x.frac_bits, LARGEST)
    scale = octaves.scale()
    inverse = octaves.function(lambda e: min(2.0**-e, 2.0 ** (most - 2)), 61 - WORKING_BITS - most, 2.0**most / AT_ZERO)
    protocol.together(inverse, scale)
    y = protocol.harmonics(octaves.scaled(scale), INVERSE).settle(WORKING_BITS)
    out = protocol.multiply(y, inverse)
    out.declare(positive=x.scale.positive)
    return out


def quotient(numerator: Number | Tensor, x: Number) -> Number:
    """Return n / x = (n s) y, as `reciprocal`; the scale meets the numerator first, so small quotients keep their bits.

    A numerator keeps up to 28 fractional bits, and 36 if it is precise; for that 2^-20 <= |x| < 2^14 and
    |n / x| < 2^10. Over zero a secret n is zero, and a public one some 2^f n.

    Shape: any, with broadcasting.   Domain: that of `reciprocal`, and |n / x| < 2^30.   Error: <= 2^-21 |y| + 2^-20.
    Cost: 8 rounds; 7, and not truncated, if n is precise.   Reveals: nothing.   Ref: [CS10].
    """
    x = argument(x)
    if isinstance(numerator, Number) and numerator.scale.precise:
        return _precise_quotient(numerator, x)
    protocol = x.protocol
    octaves = Octaves(x, signed=not x.scale.positive)
    scale = octaves.scale()
    if isinstance(numerator, Tensor):
        numerator, up = _raised(numerator, protocol.frac_bits)
        above = bool((numerator >= 0).all())
        zero = 2.0 ** min(x.frac_bits, LARGEST) / AT_ZERO
        parts = [_times_ring(s, numerator, bits) for bits, s in _bands(octaves, zero)]
        total = _sum(parts)
        protocol.together(total, scale)
    else:
        up, n, above = 0, fractional(numerator), numerator.scale.positive
        bands = _bands(octaves, 0.0)
        protocol.together(n, scale, *(s for _, s in bands))
        total = _sum([protocol.multiply(n.settle(bits), s) for bits, s in bands])
    z = octaves.scaled(scale)
    protocol.together(total, z)
    out = _long_product(total, protocol.harmonics(z, INVERSE))
    out = out.rescaled(out.frac_bits + up) if up else out
    out.declare(wide=True, positive=above and x.scale.positive)
    return out


def _precise_quotient(n: Number, x: Number) -> Number:
    protocol = x.protocol
    octaves = Octaves(x, signed=not x.scale.positive, least=SMALL, most=LARGE)
    scale = octaves.scale()
    n = n.settle(min(protocol.frac_bits, 16) + PRECISE_BITS)
    protocol.together(n, scale)
    scaled, z = protocol.multiply(n, scale), octaves.scaled(scale)
    protocol.together(scaled, z)
    y = protocol.harmonics(z, INVERSE).settle(WORKING_BITS)
    return protocol.multiply(scaled.settle(WORKING_BITS), y)


def _bands(octaves: Octaves, zero: float) -> list[tuple[int, Number]]:
    """2^-e in each of the `BANDS` that x may lie in, and zero elsewhere; with the numerator's bits there."""
    out: list[tuple[int, Number]] = []
    last = octaves.exponents[0] - 1
    for top, bits in (*BANDS, (octaves.exponents[-1], SUM_BITS - octaves.exponents[-1])):
        if last < octaves.exponents[-1] and last < top:
            part = octaves.function(lambda e, low=last, top=top: 2.0**-e if low < e <= top else 0.0, top, zero)  # type: ignore[misc]
            out.append((bits, part))
            zero, last = 0.0, top
    return out


def _raised(n: Tensor, frac_bits: int) -> tuple[Tensor, int]:
    """A public numerator, with numbers that are all small times 2^k, and k."""
    encode(n, frac_bits, name="a public numerator")
    n = n.detach().to(torch.float64)
    largest = float(n.abs().max()) if n.numel() else 0.0
    up = min(max(-math.frexp(largest)[1], 0), LARGEST) if largest else 0
    return n * 2.0**up, up


def _times_ring(scale: Number, n: Tensor, bits: int) -> Number:
    """Where no quotient would fit the scale is zero, so there a number may be cut off; but at every party alike."""
    ring = (n * 2.0**bits).round().clamp(-(2.0**VALUE_BITS), 2.0**VALUE_BITS).to(torch.int64)
    out = apply_public(scale, ring, torch.mul, broadcast(scale.shape, ring.shape))
    return out.rescaled(out.frac_bits + bits)


def _sum(parts: list[Number]) -> Number:
    """The sum of products of which one at most is not zero."""
    total, *rest = (p.lifted(SUM_BITS) for p in parts)
    for part in rest:
        total = total.added(part)
    return total


def _long_product(x: Number, y: Number) -> Number:
    """x y for |x y| < 2^30 and y = 1/z:  x y₁ + x (y - y₁), where y₁ has the first 8 fractional bits. 2 rounds."""
    protocol = x.protocol
    protocol.together(y)
    short, long = x.settle(SHORT_BITS), x.settle(WORKING_BITS)
    first, whole = y.settle(FACTOR_BITS), y.settle(WORKING_BITS)
    product = protocol.multiply(long, first)
    fine = protocol.multiply(short, whole)
    coarse = protocol.multiply(short, first).lifted(fine.frac_bits)
    rest = fine.added(-coarse)
    protocol.together(product, rest)
    return product.settle(RESULT_BITS).added(rest.settle(RESULT_BITS))
