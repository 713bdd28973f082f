"""One-hot rows of a secret place, from one opening: those of its mask, turned by what is public.

For x = E + a and any k, x mod 2^k is (E + a) mod 2^k, whatever wraps around in the ring. So with the row e of a,

    e_i  =  [a mod 2^k = i]        [x mod 2^k = j]  =  e_((j - E) mod 2^k)

of which the producer deals e, 2^k ring elements, and the turn is local. Comparing x with each place takes 3 rounds, and
one more to make integers of bits. It is the one-time truth table of [IKMOP13] for the function that is 1 at one place.

*Privacy.* E is what any other use of x opens, or has opened. The shares of e are uniform.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.protocols.additive.masks import Mask
from tacit.protocols.additive.source.base import Source

__all__ = ["rows"]

LONG = 1 << 10
"""Rows from this length on are turned one by one, by two copies each; shorter ones all at once, by their places."""


def rows(source: Source, x: Mask, count: int, shape: torch.Size) -> list[Tensor]:
    """Shares of [x = j] for j = 0 .. count - 1 along a new last dimension, for 0 <= x < count.

    Producer: 8 bytes for each of 2^k >= count places.
    """
    bits = (count - 1).bit_length()
    dealt = source.places(x.secret, bits, shape.numel())
    if x.opened is None:
        return []
    size = 1 << bits
    turn = x.opened.reshape(-1) & size - 1
    return [_turned(row, turn, size)[:, :count].reshape(*shape, count) for row in dealt]


def _turned(rows: Tensor, turn: Tensor, size: int) -> Tensor:
    """Each row moved on by so many places, around its end."""
    if size < LONG:
        return rows.gather(1, torch.arange(size, device=rows.device) - turn.unsqueeze(1) & size - 1)
    out = torch.empty_like(rows)
    for row, source, by in zip(out, rows, turn.tolist(), strict=True):
        row[by:], row[:by] = source[: size - by], source[size - by :]
    return out
