"""Tables of powers of two by their octaves, and how many bits of each are needed; see `exponential.py`.

What is below is the portable kernel; `cpp/octaves_impl.hpp` has the same additions and products in the same order.

2^(E + a) = F T with a public factor F = 2^(E_low - D), in [2^-D, 1), and a dealt T = 2^(a_low + D (1 + digit) - O).
Exponents are counted in steps, of an octave or three quarters of one; read 2 as the power of two that a step is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.ring.ring import RING

__all__ = ["Octaves"]


class Octaves(NamedTuple):
    """A table for exponents of D - O <= y < N D - O steps."""

    entries: int
    """N, a power of two."""
    digit: int
    """D, the steps in the low part, a power of two from 4 on. More: a shorter table, but the window narrows by D steps,
    and the factor's rounding error grows by 2^D."""
    offset: int
    """O."""
    public_bits: int
    """Fractional bits of F."""
    dealt_bits: int
    """Fractional bits of T."""
    width: int
    """Bytes of an entry; they stand at the top of the ring."""
    quarters: int = 4
    """Of an octave, that a step is."""

    @classmethod
    def of(cls, lowest: int, highest: int, rounding: float, quarters: int, digit: int) -> Octaves:
        """The table for a window, off by at most `rounding`: F T is off by 2^(highest + D - 1 - h) + 2^(-1 - g).

        An entry has h + g bits, those above the point, and two that a truncation asks for; see `fits`.
        """
        entries = 1 << math.ceil(math.log2((highest - lowest) / digit + 1))
        fine = math.ceil(-math.log2(rounding))
        public, dealt = math.ceil((highest + digit) * quarters / 4) + fine, fine
        above = math.ceil(highest * quarters / 4)
        width = -(-(public + dealt + above + 2) // 8)
        return cls(entries, digit, entries * digit - highest, public, dealt, width, quarters)

    @property
    def fits(self) -> bool:
        """Whether an entry has room in the ring."""
        return self.width <= RING.bytes

    @property
    def step(self) -> float:
        """The octaves of a step."""
        return self.quarters / 4

    @property
    def period(self) -> int:
        """Steps after which exponents repeat."""
        return self.entries * self.digit

    @property
    def frac_bits(self) -> int:
        """Fractional bits of a result, of entries at the top of the ring."""
        return self.zeros + self.public_bits + self.dealt_bits

    @property
    def bytes(self) -> int:
        """Of all entries."""
        return self.entries * self.width

    @property
    def zeros(self) -> int:
        """Bits below an entry."""
        return RING.bits - 8 * self.width

    @property
    def apart(self) -> int:
        """Octaves from an entry to the next: a digit is of four steps at least, so they are whole."""
        return self.digit * self.quarters // 4

    @property
    def dealt_scale(self) -> float:
        """What 2^a_low is multiplied by for the first entry, T at its scale."""
        scale: float = 2.0 ** (self.dealt_bits + (self.digit - self.offset) * self.step)
        return scale

    @property
    def public_scale(self) -> float:
        """What 2^E_low is multiplied by for F at its scale."""
        scale: float = 2.0 ** (self.public_bits - self.apart)
        return scale

    def of_mask(self, a: Tensor, frac_bits: int) -> Tensor:
        """The table of a: 2^(a_low + D (1 + (j + a_high) mod N) - O) for j = 0 … N - 1, at the top of the ring."""
        high, low = self.digits(a, frac_bits)
        base = _exp2(low * self.step) * self.dealt_scale
        powers = [2.0 ** (j * self.apart) for j in range(self.entries)]
        octaves = torch.tensor(powers, dtype=torch.float64, device=a.device)
        places = torch.arange(self.entries, device=a.device).view(-1, *[1] * a.dim())
        found = (base * octaves[(places + high) % self.entries]).round_().to(RING.dtype)
        return found << self.zeros if self.zeros else found

    def share(self, e: Tensor, frac_bits: int, part: Tensor) -> Tensor:
        """F T, a share of 2^(e + a), from one of the table of a, [N, *shape of e]."""
        high, low = self.digits(e + (self.offset << frac_bits), frac_bits)
        return self.factor(low) * part.gather(0, high.unsqueeze(0)).squeeze(0)

    def factor(self, low: Tensor) -> Tensor:
        """F."""
        return (_exp2(low * self.step) * self.public_scale).round_().to(RING.dtype)

    def digits(self, v: Tensor, frac_bits: int) -> tuple[Tensor, Tensor]:
        """The high digit, 0 … N - 1, and the rest in [0, D), of v 2^-S modulo N D."""
        step = self.digit << frac_bits
        v = v & (self.period << frac_bits) - 1
        return v >> step.bit_length() - 1, (v & step - 1).to(torch.float64) * 2.0**-frac_bits


def _exp2(x: Tensor) -> Tensor:
    """2^x for 0 <= x < 32, from single additions and products only, so that all parties get the same bits.

    See `waves`: library functions differ between machines in the last bit. Error: < 1e-14 relative.
    """
    whole = torch.floor(x)
    rest = (x - whole) * math.log(2)
    total = torch.full_like(rest, 1 / math.factorial(16))
    for k in range(15, -1, -1):
        total.mul_(rest).add_(1 / math.factorial(k))
    powers = torch.tensor([2.0**k for k in range(33)], dtype=torch.float64, device=x.device)
    return total * powers[whole.to(torch.int64)]
