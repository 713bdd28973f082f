"""Powers of two with a secret exponent, from one opening: 2^(E + a) = 2^E 2^a, but for the wrap-around.

For y = E + a with S fractional bits, only y mod 64 matters, as long as y lies in a window of 60 octaves. Split both E
and a (each mod 64) into a high digit, a multiple of 4, and the rest in [0, 4). The exponents add up as real numbers,

    y + 48  =  E_low + a_low + 4 ((E_high + a_high) mod 16)        for 4 <= y + 48 < 64,

whatever carries between the digits. So the producer deals the table j -> 2^(a_low + 4 ((j + a_high) mod 16) - 48), the
parties look the public E_high up, and multiply by the public 2^E_low. No comparison, no rounds of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.additive.masks import Mask
from tacit.protocols.additive.source.base import Source
from tacit.protocols.series import HIGHEST, LOWEST, POWER_OF_TWO_BITS
from tacit.ring.ring import RING

__all__ = ["ENTRIES", "PERIOD", "of_mask", "powers_of_two"]

DIGIT = 4
"""Octaves in the low part. More: a shorter table (64 / DIGIT entries of 8 bytes from the producer), but the window
narrows by DIGIT octaves, and the table's rounding error grows by 2^DIGIT."""

PERIOD = 64
ENTRIES = PERIOD // DIGIT
OFFSET = 48
assert (DIGIT - OFFSET, PERIOD - OFFSET) == (LOWEST, HIGHEST)

TABLE_BITS, FACTOR_BITS = 24, 22
"""The table has more fractional bits than the factor: its error is multiplied by up to 2^4."""
assert TABLE_BITS + FACTOR_BITS == POWER_OF_TWO_BITS


def powers_of_two(source: Source, y: Mask, frac_bits: int, indices: Sequence[int]) -> list[Tensor]:
    """Shares of 2^y at scale `POWER_OF_TWO_BITS`, for -44 <= y < 16.   Error: <= 2^-21 + 2^-21 2^y.

    Producer: 128 bytes an element.
    """
    tables = source.octaves(y.secret, frac_bits, y.shape)
    if y.opened is None:
        return []
    high, low = _digits(y.opened + (OFFSET << frac_bits), frac_bits)
    factor = (_exp2(low) * float(1 << FACTOR_BITS)).round_().to(RING.dtype)
    return [factor * part.gather(0, high.unsqueeze(0)).squeeze(0) for part in tables]


def of_mask(a: Tensor, frac_bits: int) -> Tensor:
    """The table of a: 2^(a_low + 4 ((j + a_high) mod 16) - 48) for j = 0 … 15, with `TABLE_BITS` fractional bits."""
    high, low = _digits(a, frac_bits)
    base = torch.exp2(low + (TABLE_BITS - OFFSET))
    octaves = torch.exp2(torch.arange(ENTRIES, dtype=torch.float64, device=a.device) * DIGIT)
    places = torch.arange(ENTRIES, device=a.device).view(-1, *[1] * a.dim())
    return (base * octaves[(places + high) % ENTRIES]).round_().to(RING.dtype)


def _digits(v: Tensor, frac_bits: int) -> tuple[Tensor, Tensor]:
    """The high digit, 0..15, and the rest in [0, 4), of v 2^-S mod 64."""
    step = DIGIT << frac_bits
    v = v & (PERIOD << frac_bits) - 1
    high = v >> int(math.log2(step))
    return high, (v & (step - 1)).to(torch.float64) * 2.0**-frac_bits


def _exp2(x: Tensor) -> Tensor:
    """2^x for 0 <= x < 4, from single additions and products only, so that all parties get the same bits.

    See `harmonics`: library functions differ between machines in the last bit. Error: < 1e-14 relative.
    """
    whole = torch.floor(x)
    rest = (x - whole) * math.log(2)
    total = torch.full_like(rest, 1 / math.factorial(16))
    for k in range(15, -1, -1):
        total = total * rest
        total = total + 1 / math.factorial(k)
    powers = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], dtype=torch.float64, device=x.device)
    return total * powers[whole.to(torch.int64)]
