"""Fourier series: each party computes sines and cosines of its own share, and an inner product joins them.

With a_i = m θ x_i, which is right for any share of x if the period divides the ring,

    p sin(a₀ + a₁) + q cos(a₀ + a₁)  =  sin a₀ (p cos a₁ - q sin a₁) + cos a₀ (p sin a₁ + q cos a₁)

so a series of K terms is an inner product of 2 K numbers that party 0 knows with 2 K that party 1 knows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tacit.protocols.series import Harmonics
from tacit.protocols.two_party.factors import Factors

__all__ = ["Precision", "alone", "left", "right"]


class Precision(Factors):
    """How finely the factors of a series are rounded; a right one is at most the largest hypot(p, q)."""

    def __init__(self, series: Harmonics) -> None:
        total = sum(math.hypot(p, q) for p, q in series.amplitudes)
        terms = max(len(series.amplitudes), 1)
        self.reach = max(math.ceil(math.log2(max(math.hypot(p, q) for p, q in series.amplitudes))), 0)
        self.left, self.right = _fractions(total, terms, series.rounding, series.frac_bits)
        off = math.sqrt(2) * (total * 2.0 ** -(self.left + 1) + terms * 2.0 ** -(self.right + 1))
        self.bound = math.ceil((total + off) * 2.0**self.frac_bits) + 2 * terms
        """A sum of exact products is no larger than the series."""


def _fractions(total: float, terms: int, rounding: float, most: int) -> tuple[int, int]:
    """The fewest fractional bits l of left factors and r of right ones by which a sum is off by `rounding` at most.

    A left factor is off by 2^-(l + 1), and |p cos a - q sin a| + |p sin a + q cos a| is up to √2 hypot(p, q); a right
    one by 2^-(r + 1), and |sin a| + |cos a| is up to √2.
    """
    found: tuple[int, int] | None = None
    for left in range(8, most - 7):
        rest = rounding - math.sqrt(2) * total * 2.0 ** -(left + 1)
        if rest <= 0:
            continue
        each = math.sqrt(2) * terms + terms * 2.0**-left
        right = max(math.ceil(math.log2(each / rest)) - 1, 8)
        if left + right <= most and (found is None or left + right < sum(found)):
            found = left, right
    return found or (most // 2, most // 2)


def _angles(x: Tensor, frac_bits: int, series: Harmonics) -> Tensor:
    """m θ x for all m, [K, n], from ring elements: reduced in integers, so that no large number loses bits."""
    bits = series.period_bits(frac_bits)
    turns = torch.tensor([m * series.turns for m in series.multiples]).view(-1, 1)
    inside = x.reshape(1, -1) * turns
    if bits < 63:
        inside = inside & (1 << bits) - 1
        inside = inside - ((inside >> bits - 1) << bits)
    return inside.to(torch.float64) * (2 * math.pi / (1 << bits))


def left(frac_bits: int, series: Harmonics, precision: Precision, x: Tensor) -> Tensor:
    """The factors of party 0: [n] -> [2 K, n]."""
    angles = _angles(x, frac_bits, series)
    return torch.cat([angles.sin(), angles.cos()]).mul_(1 << precision.left).round_().to(torch.int64)


def right(frac_bits: int, series: Harmonics, precision: Precision, x: Tensor) -> Tensor:
    """The factors of party 1: [n] -> [2 K, n]."""
    angles = _angles(x, frac_bits, series)
    s, c = angles.sin(), angles.cos()
    p, q = (torch.tensor(column, dtype=torch.float64).view(-1, 1) for column in zip(*series.amplitudes, strict=True))
    return torch.cat([p * c - q * s, p * s + q * c]).mul_(1 << precision.right).round_().to(torch.int64)


def alone(frac_bits: int, series: Harmonics, precision: Precision, x: Tensor) -> Tensor:
    """The inner product itself, of what one party knows: [n] -> [n]."""
    nothing = torch.zeros_like(x)
    return (left(frac_bits, series, precision, x) * right(frac_bits, series, precision, nothing)).sum(0)
