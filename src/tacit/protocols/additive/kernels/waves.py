"""Sines and cosines of multiples of an angle, and how many bits of each are needed: what the kernels are told.

The angle of a ring element v is kθv with θ = 2π turn / 2^64, for k = 1, 2, 3, … or 1, 3, 5, …. All computing parties
must get the same public factors, for one different last bit would make the sum of their shares garbage. Library sines
differ between machines; single IEEE additions and products do not, so these are all that is used here, and `cpp/
waves_impl.hpp` has the same ones in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.ring.ring import RING

__all__ = ["Term", "Waves"]

QUARTER_BITS = RING.bits - 2
"""An angle is an unsigned fraction of a turn, of as many bits as the ring: the top two tell the quarter."""

SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(7)]
COSINE = [(-1) ** k / math.factorial(2 * k) for k in range(8)]
"""Taylor series. Up to π / 4 they are off by less than 2^-45; a term more would cost a tenth of the time."""


class Term(NamedTuple):
    """One multiple of the angle: p sin kθx + q cos kθx, as F [U] + G [V] with public F = sin kθE and G = cos kθE."""

    sine: float
    """p."""
    cosine: float
    """q."""
    public_bits: int
    """Fractional bits of F and G."""
    dealt_bits: int
    """Fractional bits of U = p cos kθa - q sin kθa and V = p sin kθa + q cos kθa."""
    width: int
    """Bytes of U and V; they stand at the top of the ring."""


class Waves:
    """A trigonometric polynomial of ring elements, as the kernels see it. Immutable."""

    def __init__(self, turn: int, *, odd: bool, terms: Sequence[Term]) -> None:
        self.turn = turn % RING.size
        self.odd = odd
        self.terms = tuple(terms)

    @cached_property
    def width(self) -> int:
        """The bytes of an element's words, all together."""
        return sum(2 * term.width for term in self.terms)

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """Neighbouring terms of one width, whose words lie in one run: the width, and the words of an element."""
        return [(width, 2 * len(list(run))) for width, run in groupby(term.width for term in self.terms)]

    @cached_property
    def scaled(self) -> list[tuple[float, float, float, int]]:
        """The terms for native kernels: p and q at the scale of dealt words, the scale of public factors, the width."""
        return [(p * 2.0**dealt, q * 2.0**dealt, 2.0**public, width) for p, q, public, dealt, width in self.terms]

    def table(self, a: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """U and V of each term, as integers: int64 [n] each, from [n]."""
        for (p, q, _, _), (sine, cosine) in zip(self.scaled, self._multiples(a), strict=True):
            yield _rounded(p * cosine - q * sine), _rounded(p * sine + q * cosine)

    def factors(self, e: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """F and G of each term, as integers: int64 [n] each, from [n]."""
        for (_, _, scale, _), (sine, cosine) in zip(self.scaled, self._multiples(e), strict=True):
            yield _rounded(sine * scale), _rounded(cosine * scale)

    def _multiples(self, v: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """sin kθv and cos kθv: sin (k+1)φ = 2 cos φ sin kφ - sin (k-1)φ, and so the cosine."""
        sine, cosine = _sine_cosine(v * RING.signed(self.turn))
        if self.odd:
            sine_before, cosine_before, twice = -sine, cosine, 2.0 - 4.0 * (sine * sine)
        else:
            sine_before, cosine_before, twice = torch.zeros_like(sine), torch.ones_like(cosine), 2.0 * cosine
        for _ in self.terms:
            yield sine, cosine
            sine_before, sine = sine, twice * sine - sine_before
            cosine_before, cosine = cosine, twice * cosine - cosine_before


def _sine_cosine(turn: Tensor) -> tuple[Tensor, Tensor]:
    """sin and cos of 2π turn / 2^64, from single additions and products only."""
    quarter = (turn + (1 << QUARTER_BITS - 1)) >> QUARTER_BITS & 3  # the nearest
    rest = turn - (quarter << QUARTER_BITS) >> 10
    y = rest.to(torch.float64) * (2 * math.pi * 2.0**-54)  # |y| <= π / 4
    square = y * y
    sine, cosine = y * _horner(square, SINE), _horner(square, COSINE)
    odd, half = (quarter & 1) == 1, quarter >= 2
    s, c = torch.where(odd, cosine, sine), torch.where(odd, -sine, cosine)
    return torch.where(half, -s, s), torch.where(half, -c, c)


def _horner(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x
        total = total + c
    return total


def _rounded(x: Tensor) -> Tensor:
    return x.round().to(RING.dtype)
