"""Powers of two: one party looks up the octaves of a table of the other's, and multiplies by what is left of its own.

y + 48 = y₀ + y₁ modulo 64, which is between 4 and 64. Either y_i is 4 h_i + l_i with h_i whole and 0 <= l_i < 4, and

    2^y 2^46  =  2^(l₀ + 4 ((h₀ + h₁) mod 16) - 24) · 2^(l₁ + 22)

for 4 ((h₀ + h₁) mod 16) + l₀ + l₁ is y + 48 modulo 64 and below 68, so it is y + 48 itself. Party 0 has the sixteen
values of the first factor, of which party 1 takes the one at h₁ by a 1-of-16 transfer, under a mask that stays as
party 0's share r:

    party 1 opens d = h₁ - c,  party 0 sends  table[j] - r + pad[j - d]        r = table[0] + pad[-d]: zero for j = 0

The second factor is party 1's alone, and its bits are multiplied with r as in `product`.

The first factor is rounded to a half, and the second is below 2^26: together 2^-21 of what the result is counted in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tacit.protocols.two_party import kernels
from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.product import Cross, crossed
from tacit.protocols.two_party.transfers import Choice

if TYPE_CHECKING:
    from tacit.protocols.two_party.transfers import Transfers
    from tacit.session.session import Session

__all__ = ["powers_of_two"]

OFFSET, PERIOD, COARSE = 48, 64, 4
LEFT, RIGHT = 24, 22
DIGITS = PERIOD // COARSE
WORD = 32
"""Tables of two bits side by side that make a ring element."""

RIGHT_BITS = RIGHT + COARSE + 1


def powers_of_two(session: Session, transfers: Transfers, parts: Sequence[Tensor], frac_bits: int) -> list[Tensor]:
    """Shares of 2^y at 46 fractional bits, from contiguous shares of y [n]. Three hops."""
    count = parts[0].numel()
    here = dict(zip(session.party_indices, parts, strict=True))
    dealt = dict(zip(session.party_indices, transfers.digits(0, count, WORD), strict=True))
    octaves, own, opened = {}, None, None
    for index, y in here.items():
        inside = y + (OFFSET << frac_bits) * (index == 0) & (PERIOD << frac_bits) - 1
        rest = (inside & (COARSE << frac_bits) - 1).to(torch.float64) * 2.0**-frac_bits
        octaves[index] = (inside >> frac_bits + 2, rest)
    if 1 in here:
        h, rest = octaves[1]
        opened = _in_pairs((h - dealt[1][0] & DIGITS - 1).to(torch.uint8))
        own = (rest + RIGHT).exp2().round().to(torch.int64)
    (pairs,) = hop(session, [Note(1, ((count + 1) // 2,), torch.uint8, opened)])
    message = None
    shares: dict[int, Tensor] = {}
    if 0 in here:
        assert pairs is not None
        d = torch.stack([pairs & DIGITS - 1, pairs >> 4], dim=1).view(-1)[:count]
        h, rest = octaves[0]
        pads = kernels.on(h).joined_pads(dealt[0][0])
        j = torch.arange(DIGITS).view(-1, 1)
        table = (rest + (COARSE * (j + h & DIGITS - 1) - LEFT)).exp2().round().to(torch.int64)
        masked = table + pads.gather(0, j - d & DIGITS - 1)
        shares[0] = masked[0]
        message = masked[1:] - masked[:1]
    (rows,) = hop(session, [Note(0, (DIGITS - 1, count), torch.int64, message)])
    if 1 in here:
        assert rows is not None
        assert own is not None
        mine = dealt[1]
        assert isinstance(mine, Choice)
        h, _ = octaves[1]
        found = torch.cat([torch.zeros(1, count, dtype=torch.int64), rows]).gather(0, h.unsqueeze(0))[0]
        shares[1] = (found - kernels.on(h).joined_pad(mine.pad)) * own
    cross = Cross(0, count, own, shares.get(0), RIGHT_BITS)
    (products,) = crossed(session, transfers, [cross])
    return [p + shares[1] if index == 1 else p for index, p in zip(here, products, strict=True)]


def _in_pairs(digits: Tensor) -> Tensor:
    """Digits of four bits, two to a byte."""
    low, high = digits[::2], digits[1::2]
    return low | torch.cat([high, high.new_zeros(low.numel() - high.numel())]) << 4
