"""What primitives evaluate: Fourier series, polynomials and powers of two, with the room that their results have.

These are part of what a protocol promises, whatever its scheme: how fine a result is, and where it stops being right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from tacit.ring.ring import RING

__all__ = [
    "CHOSEN_BITS",
    "CHOSEN_LOWEST",
    "COARSE",
    "FULL",
    "LARGEST",
    "POWER_OF_TWO_BITS",
    "ROOM",
    "Exponents",
    "Harmonics",
    "Polynomial",
    "common_window",
]

ROOM = 14
"""Bits of room for multiples and sums of a series. More: larger ones; fewer: finer results."""

POWER_OF_TWO_BITS = 46
"""Fractional bits of a power of two, so that 2^16 stays below 2^62."""


class Exponents(NamedTuple):
    """A window of exponents y of a power 2^(y quarters / 4), lowest <= y < highest, and what arithmetic may add to it.

    A scheme may do better.
    """

    lowest: int
    highest: int
    rounding: float
    quarters: int = 4
    """Of an octave, that a step of y is."""

    def of_base(self, base: float) -> float:
        """What x is multiplied by to be the exponent of base^x."""
        return math.log2(base) * 4 / self.quarters


FULL = Exponents(-44, 16, 2.0**-21)
"""All exponents of use: below, a power is less than any unit; above, it would not fit. Of large ones the error is
relative."""

COARSE = Exponents(-31, 1, 2.0**-18, quarters=3)
"""Those of powers that are at most 1 and are truncated to 16 bits, or fewer: 23 octaves, for an eighth of the bytes.

Steps of 3/4 octaves, for a table of two digits of 32 steps takes 64 bits an entry so; of 32 octaves it would take 72.
"""

CHOSEN_LOWEST, CHOSEN_BITS = -59, 42
"""The window of the exponents of a chosen power of two begins here and ends below 1; and its fractional bits, with
which sums of thousands of them fit, and logarithms of these."""

LARGEST = 2.0**30
"""How large a polynomial may get on its window. More: coarser results and, in a scheme that deals powers, coarser
powers; 30 leaves these 31 bits of a ring element's 61."""

SAMPLES = 1024


@dataclass(frozen=True, slots=True)
class Harmonics:
    """A trigonometric polynomial, with θ = 2π turns / period and m = 1, 2, 3, … or, if it is `odd`, 1, 3, 5, …,

    constant + Σ_k (sine[k] sin(m_k θx) + cosine[k] cos(m_k θx))
    """

    period: int
    """A power of two."""
    sine: tuple[float, ...] = ()
    cosine: tuple[float, ...] = ()
    constant: float = 0.0
    turns: int = 1
    odd: bool = False
    rounding: float = 2.0**-20
    """What the arithmetic may add to the error. Less: more bytes."""
    room: int = 0
    """Whatever becomes of a sum before it is truncated stays below 2^room, too: `ROOM` if that is up to a user."""

    @property
    def amplitudes(self) -> list[tuple[float, float]]:
        """The coefficients of sine and cosine of each term."""
        count = max(len(self.sine), len(self.cosine))
        p, q = ((*c, *[0.0] * (count - len(c))) for c in (self.sine, self.cosine))
        return list(zip(p, q, strict=True))

    @property
    def multiples(self) -> list[int]:
        """m_k of each term."""
        return [2 * k + 1 if self.odd else k + 1 for k in range(len(self.amplitudes))]

    def period_bits(self, frac_bits: int) -> int:
        """The ring elements of a period of x, as a power of two. Raises ValueError if it does not divide the ring."""
        length = self.period << frac_bits
        bits = length.bit_length() - 1
        if length != 1 << bits or bits > RING.bits:
            raise ValueError(
                f"a period of {self.period} is none of a number of {frac_bits} fractional bits modulo 2^{RING.bits}"
            )
        return bits

    @property
    def frac_bits(self) -> int:
        """The fractional bits of a sum, 62 - m: with all roundings, and what it has room for, it stays below 2^m."""
        return _harmonics_bits(self)


@lru_cache(maxsize=256)
def _harmonics_bits(series: Harmonics) -> int:
    bound = abs(series.constant) + sum(math.hypot(p, q) for p, q in series.amplitudes) + series.rounding
    return RING.value_bits - max(math.frexp(bound)[1], series.room)


@dataclass(frozen=True, slots=True)
class Polynomial:
    """Σ_k coefficients[k] (x / window)^k, for -window <= x < window; the window is a power of two."""

    window: int
    coefficients: tuple[float, ...]

    @property
    def frac_bits(self) -> int:
        """The fractional bits that leave it room on its window, judged by 1,025 of its values.

        Raises ValueError for one that gets too large.
        """
        return _polynomial_bits(self.coefficients)


def common_window(polynomials: Sequence[Polynomial]) -> int:
    """The window of polynomials that are evaluated together. Raises ValueError if they have several."""
    window = polynomials[0].window
    if any(p.window != window for p in polynomials):
        raise ValueError("polynomials that are evaluated together have the same window")
    return window


@lru_cache(maxsize=256)
def _polynomial_bits(coefficients: tuple[float, ...]) -> int:
    points = (2 * k / SAMPLES - 1 for k in range(SAMPLES + 1))
    most = max(abs(_value(coefficients, t)) for t in points)
    if not most <= LARGEST:
        raise ValueError(
            f"a polynomial of a secret may reach {LARGEST:.3g} on its window, and this one reaches {most:.3g}"
        )
    return 61 - max(math.frexp(most)[1], 0)


def _value(coefficients: tuple[float, ...], t: float) -> float:
    total = 0.0
    for c in reversed(coefficients):
        total = total * t + c
    return total
