"""Powers of two with a secret exponent, from one opening: 2^(E + a) = 2^E 2^a, but for the wrap-around.

For y = E + a with S fractional bits, only y mod N D matters, as long as y lies in a window of (N - 1) D octaves. Split
both E + O and a (each mod N D) into a high digit, a multiple of D, and the rest in [0, D). The exponents add up as real
numbers,

    y + O  =  E_low + a_low + D ((E_high + a_high) mod N)        for D <= y + O < N D,

whatever carries between the digits. So the producer deals the table j -> 2^(a_low + D ((j + a_high) mod N) - O), the
parties look the public E_high up, and multiply by the public 2^E_low. No comparison, no rounds of its own.

For all exponents of use N = 16 and D = 4, in words of the ring. What is at most 1 and truncated to few bits does with
N = 2 and D = 32 steps of 3/4 octaves: there 2^E_low 2^-D is below 1, and the table 2^D times as large.

A bit b = c ^ β that is masked as well chooses between two tables: that times β, if c = 0, and times 1 - β, if c = 1. So
b 2^y takes no further round. Where b is not set the whole table is zero, so y may lie anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from tacit.protocols.additive import kernels
from tacit.protocols.additive.kernels.octaves import Octaves
from tacit.protocols.additive.masks import BitMask, Mask
from tacit.protocols.additive.source.base import Source
from tacit.protocols.series import CHOSEN_BITS, CHOSEN_LOWEST, FULL, POWER_OF_TWO_BITS, Exponents
from tacit.ring.ring import RING

__all__ = ["CHOSEN", "chosen", "few", "octaves", "of_masks", "powers_of_two"]

DIGIT = 4
"""Octaves in the low part of all exponents. More: a shorter table (64 / DIGIT entries of 8 bytes from the producer),
but the window narrows by DIGIT octaves, and the factor's rounding error grows by 2^DIGIT."""

TABLE_BITS, FACTOR_BITS = 24, 22
"""The table has more fractional bits than the factor 2^E_low: its error is multiplied by up to 2^4."""

WHOLE = Octaves(16, DIGIT, DIGIT - FULL.lowest, FACTOR_BITS + DIGIT, TABLE_BITS - DIGIT, RING.bytes)
"""The table for all exponents, whose error is 2^-21 + 2^-21 2^y."""
assert WHOLE.period - WHOLE.offset == FULL.highest
assert WHOLE.frac_bits == POWER_OF_TWO_BITS

DIGITS = (4, 8, 16, 32)
"""Of tables for other windows. A longer one halves the entries and makes each a byte or two longer."""

CHOSEN_TABLE_BITS, CHOSEN_FACTOR_BITS = 23, 19
"""Of what is below 2: 2^4 units of the table's rounding are as much as one of the factor's."""

CHOSEN = Octaves(16, DIGIT, DIGIT - CHOSEN_LOWEST, CHOSEN_FACTOR_BITS + DIGIT, CHOSEN_TABLE_BITS - DIGIT, RING.bytes)
"""The table for what a bit chooses."""
assert CHOSEN.frac_bits == CHOSEN_BITS

MORE = 80
"""Bytes by which two tables are more than one, and the opening of its result for a selection, of all roles together."""


def few(count: int, worth: int) -> bool:
    """Whether a round, worth so many bytes, is worth more than those by which it can be saved."""
    return 0 < count * MORE <= worth


@lru_cache(maxsize=64)
def octaves(window: Exponents) -> Octaves:
    """The table for a window that takes the fewest bytes."""
    if window == FULL:
        return WHOLE
    tables = [table for digit in DIGITS if (table := Octaves.of(*window, digit)).fits]
    if not tables:
        raise ValueError(f"powers of two of an error of {window.rounding:.3g} have no room in the ring")
    return min(tables, key=lambda t: t.bytes)


def powers_of_two(source: Source, y: Mask, frac_bits: int, table: Octaves, indices: Sequence[int]) -> list[Tensor]:
    """Shares of 2^y, at the table's scale.   Error: <= 2^-21 + 2^-21 2^y of all exponents, else that of the window.

    Producer: 128 bytes an element, or those of the table.
    """
    tables = source.octaves(y.secret, frac_bits, table, y.shape)
    if y.opened is None:
        return []
    on = kernels.on(y.opened)
    return [on.octave_share(table, y.opened, frac_bits, part) for part in tables]


def chosen(source: Source, bit: BitMask, y: Mask, frac_bits: int, indices: Sequence[int]) -> list[Tensor]:
    """Shares of b 2^y at scale `CHOSEN_BITS`, for -59 <= y < 1.   Error: <= 2^-20 + 2^-20 2^y, and none of zero.

    Producer: 256 bytes an element.
    """
    tables = source.chosen_octaves(y.secret, bit.beta, frac_bits, y.shape)
    if y.opened is None or bit.opened is None:
        return []
    high, low = CHOSEN.digits(y.opened + (CHOSEN.offset << frac_bits), frac_bits)
    at = (high + CHOSEN.entries * bit.opened.to(high.dtype)).unsqueeze(0)
    factor = CHOSEN.factor(low)
    return [factor * part.gather(0, at).squeeze(0) for part in tables]


def of_masks(a: Tensor, beta: Tensor, frac_bits: int) -> Tensor:
    """The tables of a for y < 1, times β and times 1 - β, one after the other."""
    table = kernels.on(a).octave_table(CHOSEN, a, frac_bits)
    part = table * beta
    return torch.cat([part, table - part])
