"""Powers of two with a secret exponent, from one opening: 2^(E + a) = 2^E 2^a, but for the wrap-around.

For y = E + a with S fractional bits, only y mod 64 matters, as long as y lies in a window of 60 octaves. Split both E
and a (each mod 64) into a high digit, a multiple of 4, and the rest in [0, 4). The exponents add up as real numbers,

    y + 48  =  E_low + a_low + 4 ((E_high + a_high) mod 16)        for 4 <= y + 48 < 64,

whatever carries between the digits. So the producer deals the table j -> 2^(a_low + 4 ((j + a_high) mod 16) - 48), the
parties look the public E_high up, and multiply by the public 2^E_low. No comparison, no rounds of its own.

A bit b = c ^ β that is masked as well chooses between two tables: that times β, if c = 0, and times 1 - β, if c = 1. So
b 2^y takes no further round. Where b is not set the whole table is zero, so y may lie anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.additive.masks import BitMask, Mask
from tacit.protocols.additive.source.base import Source
from tacit.protocols.protocol import ROUND
from tacit.protocols.series import CHOSEN_BITS, CHOSEN_LOWEST, HIGHEST, LOWEST, POWER_OF_TWO_BITS
from tacit.ring.ring import RING

__all__ = ["ENTRIES", "PERIOD", "chosen", "few", "of_mask", "of_masks", "powers_of_two"]

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

CHOSEN_OFFSET = DIGIT - CHOSEN_LOWEST
CHOSEN_TABLE_BITS, CHOSEN_FACTOR_BITS = 23, 19
"""Of what is below 2: 2^4 units of the table's rounding are as much as one of the factor's."""
assert CHOSEN_TABLE_BITS + CHOSEN_FACTOR_BITS == CHOSEN_BITS

MORE = 80
"""Bytes by which two tables are more than one, and the opening of its result for a selection, of all roles together."""


def few(count: int) -> bool:
    """Whether a round is worth more than the bytes by which it can be saved."""
    return 0 < count * MORE <= ROUND


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


def chosen(source: Source, bit: BitMask, y: Mask, frac_bits: int, indices: Sequence[int]) -> list[Tensor]:
    """Shares of b 2^y at scale `CHOSEN_BITS`, for -59 <= y < 1.   Error: <= 2^-20 + 2^-20 2^y, and none of zero.

    Producer: 256 bytes an element.
    """
    tables = source.chosen_octaves(y.secret, bit.beta, frac_bits, y.shape)
    if y.opened is None or bit.opened is None:
        return []
    high, low = _digits(y.opened + (CHOSEN_OFFSET << frac_bits), frac_bits)
    at = (high + ENTRIES * bit.opened.to(high.dtype)).unsqueeze(0)
    factor = (_exp2(low) * float(1 << CHOSEN_FACTOR_BITS)).round_().to(RING.dtype)
    return [factor * part.gather(0, at).squeeze(0) for part in tables]


def of_masks(a: Tensor, beta: Tensor, frac_bits: int) -> Tensor:
    """The tables of a for y < 1, times β and times 1 - β, one after the other."""
    table = of_mask(a, frac_bits, CHOSEN_TABLE_BITS, CHOSEN_OFFSET)
    part = table * beta
    return torch.cat([part, table - part])


def of_mask(a: Tensor, frac_bits: int, bits: int = TABLE_BITS, offset: int = OFFSET) -> Tensor:
    """The table of a: 2^(a_low + 4 ((j + a_high) mod 16) - offset) for j = 0 … 15, with so many fractional bits."""
    high, low = _digits(a, frac_bits)
    base = torch.exp2(low + (bits - offset))
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
