"""Sines and cosines of a masked secret: for x = E + a and any angle θ that is linear in x modulo the ring,

    sin kθ(E + a)  =  sin kθ(E) [cos kθ(a)]  +  cos kθ(E) [sin kθ(a)]

so a Fourier series of x is local once x is open and the producer has dealt the sines and cosines of its mask. A period
that is a power of two makes θ well defined modulo 2^64. The idea for one sine is [KS23]; here it is a whole series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.correlated.dealing import Dealing
from tacit.correlated.masks import Mask

__all__ = ["HALF_BITS", "waves"]

HALF_BITS = 24
"""Fractional bits of each factor, public and dealt, so 48 of the products. More: smaller rounding (already 2^-24, far
below the series' own error); fewer: a larger sum fits below 2^62 (now |sum| < 2^14)."""


def waves(
    dealing: Dealing,
    x: Mask,
    frac_bits: int,
    period: int,
    series: Sequence[tuple[Sequence[float], Sequence[float]]],
    indices: Sequence[int],
) -> list[list[Tensor]]:
    """Shares of Σ_k p[k-1] sin(kθx) + q[k-1] cos(kθx), θ = 2π / period, for each pair (p, q); scale 2 HALF_BITS.

    Producer: 16 bytes an element for each k, whatever the number of series.
    """
    secret = x.secret
    terms = max(len(c) for pair in series for c in pair)
    shape = x.shape

    def make() -> list[Tensor]:
        assert secret.plain is not None
        return [_encode(wave) for wave in _multiples(secret.plain, frac_bits, period, terms)]

    sine_a, cosine_a = dealing.ring([(terms, *shape)] * 2, make)
    if x.opened is None:
        return []
    sine_e, cosine_e = _multiples(x.opened, frac_bits, period, terms)
    out = []
    for sines, cosines in series:
        p, q = (_column(c, terms, len(shape)) for c in (sines, cosines))
        on_cosine = _encode(p * sine_e + q * cosine_e)  # sin(E + a) and cos(E + a) = cos E cos a - sin E sin a
        on_sine = _encode(p * cosine_e - q * sine_e)
        out.append([(on_cosine * cosine_a.parts[k] + on_sine * sine_a.parts[k]).sum(0) for k in range(len(indices))])
    return out


def _column(coefficients: Sequence[float], terms: int, dims: int) -> Tensor:
    column = torch.zeros(terms, dtype=torch.float64)
    column[: len(coefficients)] = torch.tensor(coefficients, dtype=torch.float64)
    return column.view(-1, *[1] * dims)


def _multiples(v: Tensor, frac_bits: int, period: int, terms: int) -> tuple[Tensor, Tensor]:
    """sin kθv and cos kθv for k = 1..terms, stacked, by the addition theorem."""
    modulus = period << frac_bits
    first = _sine_cosine((v & (modulus - 1)).to(torch.float64) / modulus)
    sine, cosine = [first[0]], [first[1]]
    for _ in range(1, terms):
        s, c = sine[-1], cosine[-1]
        sine.append(s * cosine[0] + c * sine[0])
        cosine.append(c * cosine[0] - s * sine[0])
    return torch.stack(sine), torch.stack(cosine)


def _sine_cosine(turns: Tensor) -> tuple[Tensor, Tensor]:
    """sin and cos of 2π turns, for 0 <= turns < 1, from single additions and products only.

    Every party computes the same public factors, and one different last bit would make the sum of shares garbage.
    Library sines differ between machines; IEEE additions and products do not. Error: < 1e-14.
    """
    quarter = torch.floor(turns * 4 + 0.5)
    y = (turns - quarter * 0.25) * (2 * math.pi)  # |y| <= π / 4
    square = y * y
    sine = y * _horner(square, [(-1) ** k / math.factorial(2 * k + 1) for k in range(8)])
    cosine = _horner(square, [(-1) ** k / math.factorial(2 * k) for k in range(9)])
    odd, half = (quarter % 2) == 1, (quarter % 4) >= 2
    s, c = torch.where(odd, cosine, sine), torch.where(odd, -sine, cosine)
    return torch.where(half, -s, s), torch.where(half, -c, c)


def _horner(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x
        total = total + c
    return total


def _encode(x: Tensor) -> Tensor:
    return (x * float(1 << HALF_BITS)).round_().to(torch.int64)
