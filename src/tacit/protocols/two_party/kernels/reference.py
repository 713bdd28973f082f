"""The portable kernels of the two-party scheme, in PyTorch alone, and what its native ones are tested against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.ring.kernels import Reference as Ring
from tacit.ring.kernels.reference import packed
from tacit.ring.ring import RING

__all__ = ["Reference", "logical_right"]

DIGITS = 16
"""Of the 63 bits that are compared, four in each and three in the last."""

LOW = (1 << RING.bits - 1) - 1


def logical_right(x: Tensor, bits: int) -> Tensor:
    """x / 2^bits of unsigned ring elements, for 0 < bits < 64."""
    return (x >> bits) & ((1 << RING.bits - bits) - 1)


class Reference(Ring):
    """What the primitives pass over elements for."""

    # --- a bit times a number; the letters are those of tacit.protocols.two_party.ole ------------------------------

    def masked_numbers(self, v: Tensor, zero: Tensor, one: Tensor, width: int) -> Tensor:
        """The top bytes of e = v - 2^(64 - 8 w) (r₁ - r₀): [n] -> uint8 [w n]."""
        up = RING.bits - 8 * width
        e = v - ((one - zero) << up)
        out = torch.empty(width * v.numel(), dtype=torch.uint8)
        self.narrow(e, width, out)
        return out

    def sender_share(self, d: Tensor, v: Tensor, zero: Tensor, width: int) -> Tensor:
        """d v - (1 - 2d) 2^(64 - 8 w) r₀."""
        up = RING.bits - 8 * width
        flips = d.to(RING.dtype)
        return flips * v - ((1 - 2 * flips) * zero << up)

    def receiver_share(self, d: Tensor, beta: Tensor, pad: Tensor, e: Tensor, width: int) -> Tensor:
        """(1 - 2d) (β e + 2^(64 - 8 w) r_β), e from its top bytes."""
        up = RING.bits - 8 * width
        opened = self.widen(e, width)
        return (1 - 2 * d.to(RING.dtype)) * (beta * opened + (pad << up))

    # --- truncation ------------------------------------------------------------------------------------------------

    def top_clear(self, x: Tensor) -> Tensor:
        """[x < 2^63] of unsigned elements, uint8."""
        return (x >= 0).to(torch.uint8)

    def quotient(self, x: Tensor, m: int, wrap: Tensor | None, constant: int, *, up: bool) -> Tensor:
        """x m / 2^64, rounded `up` or down, + wrap + constant; x unsigned, 0 < m < 2^64, and no wrap is zero."""
        high = self.high_product(x, m)
        if up:
            high = high + (x * RING.signed(m) != 0)
        return high + constant if wrap is None else high + wrap + constant

    def high_product(self, x: Tensor, m: int) -> Tensor:
        """floor(x m / 2^64), x unsigned and 0 < m < 2^64: the upper half of a product of 128 bits, by halves of 32."""
        if m & (m - 1) == 0:
            return logical_right(x, RING.bits + 1 - m.bit_length())
        half = RING.bits // 2
        mask = (1 << half) - 1
        high, low, m_high, m_low = logical_right(x, half), x & mask, m >> half, m & mask
        first, second = high * m_low, low * m_high
        carry = (logical_right(low * m_low, half) + (first & mask) + (second & mask)) >> half
        return high * m_high + logical_right(first, half) + logical_right(second, half) + carry

    # --- comparisons; the letters are those of tacit.protocols.two_party.comparison --------------------------------

    def open_digits(self, x: Tensor, choice: Tensor) -> tuple[Tensor, Tensor]:
        """R's digits u of the low 63 bits of [n], uint8 [16 n] with all first digits first, and d, two to a byte."""
        low = x & LOW
        u = torch.stack([(low >> 4 * k & 15).to(torch.uint8) for k in range(DIGITS)]).view(-1)
        d = (u - choice) & 15
        return u, d[::2] | d[1::2] << 4

    def send_tables(self, x: Tensor, thresholds: Sequence[int], d: Tensor, pads: Tensor) -> tuple[Tensor, Tensor]:
        """S's message, int32 [thresholds, 16 n], and its shares of (l, e), planes [2, 16, thresholds, n / 8]."""
        offsets = torch.stack([d & 15, d >> 4], dim=1).view(-1).to(torch.int64)
        messages, shares = [], []
        for k, t in enumerate(thresholds):
            low = ~(x - t) & LOW
            v = torch.stack([low >> 4 * j & 15 for j in range(DIGITS)]).view(-1)
            above = 0x5555555555555555 << 2 * v + 2 & 0xFFFFFFFF
            table = above | 1 << 2 * v + 1
            pad = pads[k].to(torch.int64) & 0xFFFFFFFF
            turned = (pad << 2 * offsets | pad >> 32 - 2 * offsets) & 0xFFFFFFFF
            message = table ^ turned
            r = message & 3
            messages.append((message ^ r * 0x55555555).to(torch.int32))
            shares.append(torch.stack([r & 1, r >> 1]).to(torch.uint8).view(2, DIGITS, -1))
        return torch.stack(messages), packed(torch.stack(shares, dim=2))

    def read_tables(self, message: Tensor, u: Tensor, pad: Tensor) -> Tensor:
        """R's shares of (l, e), planes [2, 16, thresholds, n / 8]."""
        entry = (message >> 2 * u.to(torch.int32) & 3).to(torch.uint8) ^ pad
        bits = torch.stack([entry & 1, entry >> 1]).view(2, message.shape[0], DIGITS, -1)
        return packed(bits.transpose(1, 2).contiguous())

    # --- words from messages of two bits ---------------------------------------------------------------------------

    def joined_pad(self, pad: Tensor) -> Tensor:
        """Two bits of each of 32 tables, as a ring element: uint8 [32, n] -> [n]."""
        out = torch.zeros(pad.shape[1], dtype=RING.dtype)
        for k, row in enumerate(pad):
            out |= row.to(RING.dtype) << 2 * k
        return out

    def joined_pads(self, pads: Tensor) -> Tensor:
        """The same for each of 16 entries: int32 [32, n] -> [16, n]."""
        return torch.stack([self.joined_pad((pads >> 2 * j & 3).to(torch.uint8)) for j in range(16)])
