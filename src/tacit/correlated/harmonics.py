"""Sines and cosines of a masked secret: for x = E + a and any angle θ that is linear in x modulo the ring,

    sin kθ(E + a)  =  sin kθ(E) [cos kθ(a)]  +  cos kθ(E) [sin kθ(a)]

so a Fourier series of x is local once x is open and the producer has dealt the sines and cosines of its mask. A period
that is a power of two makes θ well defined modulo 2^64. The idea for one sine is [CO18]; here it is a whole series.
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
    dealing: Dealing, x: Mask, frac_bits: int, period: int, series: Sequence[Sequence[float]], indices: Sequence[int]
) -> list[list[Tensor]]:
    """Shares of Σ_k c[k-1] sin(2π k x / period) for each coefficient list c, with 2 HALF_BITS fractional bits.

    Producer: 16 bytes an element for each k, whatever the number of series.
    """
    secret = x.secret
    terms = max(map(len, series))
    shape = (secret.parts[0] if secret.parts else secret.plain).shape  # type: ignore[union-attr]

    def make() -> list[Tensor]:
        assert secret.plain is not None
        sine, cosine = _multiples(secret.plain, frac_bits, period, terms)
        return [_encode(sine), _encode(cosine)]

    sine_a, cosine_a = dealing.ring([(terms, *shape)] * 2, make)
    if x.opened is None:
        return []
    sine_e, cosine_e = _multiples(x.opened, frac_bits, period, terms)
    out = []
    for coefficients in series:
        c = torch.zeros(terms, dtype=torch.float64)
        c[: len(coefficients)] = torch.tensor(coefficients, dtype=torch.float64)
        c = c.view(-1, *[1] * len(shape))
        p, q = _encode(c * sine_e), _encode(c * cosine_e)
        out.append([(p * cosine_a.parts[k] + q * sine_a.parts[k]).sum(0) for k in range(len(indices))])
    return out


def _multiples(v: Tensor, frac_bits: int, period: int, terms: int) -> tuple[Tensor, Tensor]:
    """sin kθ and cos kθ for k = 1..terms, stacked, with θ = 2π (v mod period) / period, by Chebyshev's recurrence."""
    modulus = period << frac_bits
    theta = (v & (modulus - 1)).to(torch.float64) * (2 * math.pi / modulus)
    sine, cosine = [theta.sin()], [theta.cos()]
    for _ in range(1, terms):
        s, c = sine[-1], cosine[-1]
        sine.append(s * cosine[0] + c * sine[0])
        cosine.append(c * cosine[0] - s * sine[0])
    return torch.stack(sine), torch.stack(cosine)


def _encode(x: Tensor) -> Tensor:
    return (x * float(1 << HALF_BITS)).round_().to(torch.int64)
