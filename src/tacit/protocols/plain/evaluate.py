"""The primitives' functions on plain ring elements: exact up to one rounding of the result."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from tacit.protocols.series import FULL, POWER_OF_TWO_BITS, Harmonics, Polynomial

__all__ = ["harmonics", "polynomial", "power_of_two", "scaled", "truncated"]

HALF = 31
"""Bits of the lower half of a factor of 62: products of halves, and sums of two of them, fit."""

OCTAVES = 64
"""Exponents of two count modulo this, so that those outside of the window are wrong, and finite."""


def truncated(x: Tensor, bits: int) -> Tensor:
    """x / 2^bits rounded to the nearest, a half upwards: one of floor(x / 2^bits) and that plus one."""
    return ((x >> bits - 1) + 1) >> 1


def scaled(x: Tensor, factor: float) -> Tensor:
    """x times 2^-62 <= factor < 1 to the nearest, for |x| < 2^62, in exact integers.

    With m = round(factor 2^62), and both numbers in halves, x = x₁ 2^31 + x₀ and m = m₁ 2^31 + m₀,

        x m / 2^62  =  x₁ m₁ + (x₁ m₀ + x₀ m₁ + x₀ m₀ / 2^31) / 2^31
    """
    m = round(2 ** (2 * HALF) * Fraction(factor))
    high, low = x >> HALF, x & (1 << HALF) - 1
    m_high, m_low = m >> HALF, m & (1 << HALF) - 1
    middle: Tensor = truncated(high * m_low + low * m_high + (low * m_low >> HALF), HALF)
    total: Tensor = high * m_high + middle
    return total


def harmonics(x: Tensor, frac_bits: int, series: Harmonics) -> Tensor:
    """A trigonometric polynomial at its own scale. The angle is reduced in integers, so no large number loses bits."""
    period = 1 << series.period_bits(frac_bits)
    inside = x & period - 1 if period < 1 << 63 else x
    angle = inside.to(torch.float64) * (2 * math.pi * series.turns / period)
    total = torch.full_like(angle, series.constant)
    for m, (p, q) in zip(series.multiples, series.amplitudes, strict=True):
        total += p * (m * angle).sin() + q * (m * angle).cos()
    return _encoded(total, series.frac_bits)


def polynomial(x: Tensor, frac_bits: int, p: Polynomial) -> Tensor:
    """A polynomial at its own scale. What lies outside of its window is taken back into it, and so is wrong."""
    span = 2 * p.window << frac_bits
    inside = ((x + (span >> 1)) & span - 1) - (span >> 1)
    t = inside.to(torch.float64) * (2.0 / span)
    total = torch.zeros_like(t)
    for c in reversed(p.coefficients):
        total = total * t + c
    return _encoded(total, p.frac_bits)


def power_of_two(y: Tensor, frac_bits: int) -> Tensor:
    """2^y at `POWER_OF_TWO_BITS`. What lies outside of the window is taken back into it, and so is wrong."""
    octaves = OCTAVES << frac_bits
    exponent = ((y - (FULL.lowest << frac_bits)) & octaves - 1).to(torch.float64) * 2.0**-frac_bits + FULL.lowest
    return _encoded(exponent.clamp(max=math.nextafter(FULL.highest, FULL.lowest)).exp2(), POWER_OF_TWO_BITS)


def _encoded(x: Tensor, bits: int) -> Tensor:
    return (x * 2.0**bits).round().to(torch.int64)
