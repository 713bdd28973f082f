"""Polynomials: each party computes powers of its own share, and an inner product joins them.

For |x| <= W and m = 4 W, x + W is below m / 2, so of the shares x₀ + W and x₁ modulo m, in turns u₀ and u₁ of m, the
sum wraps around unless both are below a half: x / W = 4 (u₀ + u₁ - w) - 1 with w = e | β, their top bits. Party 0 knows
e, which leaves party 1 two cases, whose w it knows: 1 if e, else β. With a = 4 u₀ - 1 - 2 e, between -1 and 1,

    x / W  =  a + s        s = 4 u₁ - 2 if e, else 4 u₁ - 4 β        between -2 and 2

    p(a + s)  =  Σ_j a^j C_j(s)        C_j(s) = Σ_k c_k binom(k, j) s^(k - j)

So a polynomial of degree d is an inner product of 2 (d + 1) numbers, of which party 0 leaves d + 1 zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.series import Polynomial, common_window
from tacit.protocols.two_party.factors import Factors
from tacit.ring.ring import RING

__all__ = ["Expansion"]

PROMISED = 9
"""The highest degree that `functions.powers` states an error for."""


class Expansion(Factors):
    """Polynomials of one window, of numbers with so many fractional bits, and how finely their factors are rounded.

    Sums have no bound of their own: beyond the window they are large.
    """

    def __init__(self, polynomials: Sequence[Polynomial], frac_bits: int) -> None:
        whole = common_window(polynomials).bit_length() - 1 + frac_bits
        self._bits = min(whole, RING.value_bits)  # no number is larger
        self.degree = max(max(len(p.coefficients) for p in polynomials) - 1, 0)
        self._coefficients = torch.zeros(len(polynomials), self.degree + 1, dtype=torch.float64)
        for row, p in zip(self._coefficients, polynomials, strict=True):
            for k, c in enumerate(p.coefficients):
                row[k] = c * 2.0 ** (k * (self._bits - whole))
        self.scales = [p.frac_bits for p in polynomials]
        """The fractional bits of each result."""
        most = self._expanded(torch.tensor([2.0], dtype=torch.float64), absolute=True)
        total, count = float(most.sum(1).max()), self.degree + 1
        # a left factor is off by 2^-(l + 1) beside right ones, a right one by 2^-(r + 1) beside 1
        room = min(self.scales)
        finer = round(math.log2(max(total, 1) / count) / 2)
        self.left = min(max(room // 2 + finer, 8), room - 8)
        self.right = room - self.left
        self.error = total * 2.0 ** -(self.left + 1) + count * 2.0 ** -(self.right + 1)
        """What roundings may add to a result."""
        self.reach = max(math.ceil(math.log2(max(float(most.max()), 1))), 0)

    @property
    def fine(self) -> bool:
        """Whether results are as fine as is promised: of a high degree, or large coefficients, they may not be."""
        if self.right_bits > RING.bits:
            return False
        size = max(2.0 ** (60 - min(self.scales)), 1.0)
        each: list[float] = self._coefficients.abs().amax(0).tolist()
        tree = self.degree**2 * 2.0**-30 * sum(each)
        powers = size * 2.0 ** (self.degree - 29) + 2.0**-32 * sum(c * 2.0**k for k, c in enumerate(each))
        return self.error <= max(tree, powers if self.degree <= PROMISED else 0.0)

    def left_factors(self, x: Tensor) -> Tensor:
        """The factors of party 0, for all polynomials: [n] -> [2 (d + 1), polynomials, n]."""
        shifted = x + (1 << self._bits)
        upper = (shifted >> self._bits + 1 & 1).bool()
        a = self._turns(shifted, self._bits + 1) * 2 - 1
        powers = a.expand(self.degree + 1, -1).clone()
        powers[0] = 1
        powers = powers.cumprod(0)
        rows = torch.cat([powers * ~upper, powers * upper]).mul_(2.0**self.left).round_().to(torch.int64)
        return rows.unsqueeze(1).expand(-1, len(self.scales), -1)

    def right_factors(self, x: Tensor) -> Tensor:
        """The factors of party 1: [n] -> [2 (d + 1), polynomials, n]."""
        u = self._turns(x, self._bits + 2) * 4
        rows = [self._expanded(s, absolute=False) for s in (torch.where(u < 2, u, u - 4), u - 2)]
        every = torch.cat([row.transpose(0, 1) for row in rows])
        return every.mul_(2.0**self.right).round_().to(torch.int64)

    def alone(self, x: Tensor) -> Tensor:
        """The values, of what one party knows: [n] -> [polynomials, n], as the inner product has them."""
        t = (x.to(torch.float64) * 2.0**-self._bits).clamp(-1, 1)
        total = torch.zeros(len(self.scales), x.numel(), dtype=torch.float64)
        for c in self._coefficients.flip(1).T:
            total = total * t + c.unsqueeze(1)
        return total.mul_(2.0**self.frac_bits).round_().to(torch.int64)

    def _turns(self, x: Tensor, bits: int) -> Tensor:
        """The low bits of ring elements, as a part of all that so many have."""
        low = x & (1 << bits) - 1 if bits < RING.bits - 1 else x  # what is negative is completed below
        turns = low.to(torch.float64) * 2.0**-bits
        return turns + (turns < 0)

    def _expanded(self, s: Tensor, *, absolute: bool) -> Tensor:
        """C_j(s), or the sums of magnitudes: [polynomials, d + 1, n]."""
        rows = []
        coefficients = self._coefficients.abs() if absolute else self._coefficients
        for j in range(self.degree + 1):
            total = torch.zeros(len(coefficients), s.numel(), dtype=torch.float64)
            for k in range(self.degree, j - 1, -1):
                total = total * s + (coefficients[:, k] * math.comb(k, j)).unsqueeze(1)
            rows.append(total)
        return torch.stack(rows, 1)
