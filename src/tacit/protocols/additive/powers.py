"""Powers of a masked secret, and with them any polynomial of it: for x = E + a, from shares of the powers of a,

    p(ε + β)  =  Σ_j (p^(j)(ε) / j!) [β^j]

The whole ring has no room for a ninth power of 16 fractional bits: it would take 9 · 16 + 27 bits. But where x is known
to lie in a window [-W, W), its low bits tell it, and both summands are small. Let e = (E + W) mod 4W and α = a mod 4W.
Then x + W = e + α - 4W w, and since the top bit of x + W is zero, w = msb(e) or msb(α), as in a truncation. So

    x  =  (e - W) + (α - 4W msb(α))         if msb(e) = 0
    x  =  (e - 3W) + (α - 2W)               if msb(e) = 1

with a first summand ε in [-W, W) and a second β in [-2W, 2W), as real numbers. The producer deals the powers of both β,
in fixed point of their own; which row counts is public. In this way the scale of x does not multiply.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.protocols.additive.masks import Mask
from tacit.protocols.additive.source.base import Source
from tacit.protocols.series import Polynomial
from tacit.ring.ring import RING

__all__ = ["POWER_BITS", "Powers", "evaluated", "of_mask", "powers"]

POWER_BITS = 31
"""Fractional bits of the dealt powers of β / W. More: smaller error from them, Σ_j |p^(j) / j!| 2^-32; fewer: more bits
for the public factors, whose error is 2^(d + 1) times a unit of theirs. At 31, a sigmoid of degree 9 has both alike."""

BLOCK = 1 << 15
"""Elements that are worked on at once: their factors, 256 KB each, stay in the cache. This halves the time."""


class Powers(NamedTuple):
    """x / W = ε + β."""

    degree: int
    epsilon: Tensor | None
    """ε, public, in [-1, 1); None where no computing party is hosted."""
    beta: list[Tensor]
    """Each hosted party's shares of β, β², … at scale `POWER_BITS`, along a first dimension."""


def powers(source: Source, x: Mask, frac_bits: int, window: int, degree: int) -> Powers:
    """The powers of x / window up to a degree, for -window <= x < window. Producer: 16 bytes an element and degree."""
    dealt = source.powers(x.secret, frac_bits, window, degree, x.shape)
    if x.opened is None:
        return Powers(degree, None, [])
    e = _low(x.opened + (window << frac_bits), frac_bits, window)
    high = e >= 2.0
    return Powers(degree, e - 1.0 - 2.0 * high, [torch.where(high, part[1], part[0]) for part in dealt])


def of_mask(a: Tensor, frac_bits: int, window: int, degree: int) -> Tensor:
    """The powers of both β of a at scale `POWER_BITS`."""
    alpha = _low(a, frac_bits, window)
    rows = [alpha - 4.0 * (alpha >= 2.0), alpha - 2.0]
    return torch.stack([_raised(beta, degree) for beta in rows])


def evaluated(x: Powers, polynomial: Polynomial, indices: Sequence[int]) -> list[Tensor]:
    """Shares of Σ_k c_k t^k, t = x / W, at its scale. Local."""
    if x.epsilon is None:
        return []
    scale, coefficients = polynomial.frac_bits, polynomial.coefficients
    taylor = [[math.comb(k, j) * c for k, c in enumerate(coefficients) if k >= j] for j in range(len(coefficients))]
    epsilon = x.epsilon.reshape(-1)
    betas = [beta.view(beta.shape[0], -1) for beta in x.beta]
    out = [torch.zeros(epsilon.shape, dtype=RING.dtype, device=epsilon.device) for _ in betas]
    for start in range(0, epsilon.numel(), BLOCK):
        block = slice(start, start + BLOCK)
        t = epsilon[block]
        for j, row in enumerate(taylor):
            factor = _encoded(_horner(t, row), scale - POWER_BITS if j else scale)
            for index, beta, total in zip(indices, betas, out, strict=True):
                if j:
                    total[block] += factor * beta[j - 1, block]
                elif index == 0:
                    total[block] += factor
    return [total.view(x.epsilon.shape) for total in out]


def _low(v: Tensor, frac_bits: int, window: int) -> Tensor:
    """(v mod 4 W) / W, in [0, 4)."""
    period = 4 * window << frac_bits
    return (v & period - 1).to(torch.float64) * (4.0 / period)


def _raised(beta: Tensor, degree: int) -> Tensor:
    power, rows = beta, []
    for _ in range(degree):
        rows.append(_encoded(power, POWER_BITS))
        power = power * beta
    return torch.stack(rows)


def _horner(t: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Σ c_k t^k from single additions and products, which all parties round alike; see `harmonics`."""
    total = torch.full_like(t, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total.mul_(t).add_(c)
    return total


def _encoded(x: Tensor, bits: int) -> Tensor:
    return (x * float(1 << bits)).round_().to(RING.dtype)
