"""Comparisons [RRKCGRS20], on the parties' own shares: digits by 1-of-16 transfers, then a tree of two-bit products.

x = x_S + x_R, and [x < t] is the sign of (x_S - t) + x_R: the top bits of both, and the carry of what is below,

    [(x_S - t) mod 2^63 + x_R mod 2^63 >= 2^63]  =  [x_R mod 2^63 > y]        y = ~(x_S - t) mod 2^63

which compares a number that S knows with one that R knows. In digits of four bits, S has a table of [j > v] and [j = v]
for all digits j and its own v, and R takes the entry of its own digit u, under masks that are its share of both:

    R has a random digit c and pad_c, S has all pads:      R opens d = u - c mod 16,  S sends  table[j] ^ r ^ pad[j - d]

r is S's share; it takes r = table[0] ^ pad[-d], so that no randomness is needed for it, and the entry of 0 is zero. Two
neighbouring digits are one by  (l, e) = (l₁ ^ e₁ l₀, e₁ e₀).

*Privacy.* c is uniform, so d is; R knows one pad only, of the entry it may read, and every other entry that S sends is
masked by a pad of its own (the entry of zero, if R does not read it, by pad[-d] in all others).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tacit.protocols.two_party import bits, kernels
from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.ole import split
from tacit.protocols.two_party.transfers import Choice, Digits

if TYPE_CHECKING:
    from tacit.protocols.two_party.transfers import Transfers
    from tacit.session.session import Session

__all__ = ["less"]

DIGITS = 16
"""Of four bits, the last one of three: 63 bits are compared."""

MOST = 1 << 22
"""Comparisons at once, of 64 bytes of tables at either end. More: fewer hops for many; fewer: less memory."""


def less(session: Session, transfers: Transfers, parts: Sequence[Tensor], thresholds: Sequence[int]) -> list[Tensor]:
    """Shares of [x < t], uint8 [thresholds, n], from contiguous shares of x [n]: six hops.

    The elements are split: of one half, either party sends the tables.
    """
    count = parts[0].numel()
    if not count or not thresholds:
        return [torch.empty(len(thresholds), count, dtype=torch.uint8) for _ in parts]
    most = max(MOST // len(thresholds), 1)
    if count > most:
        found = [
            less(session, transfers, some, thresholds) for some in zip(*(t.split(most) for t in parts), strict=True)
        ]
        return [torch.cat(row, dim=1) for row in zip(*found, strict=True)]
    here = dict(zip(session.party_indices, parts, strict=True))
    pieces = [
        _Piece(transfers, s, {i: x[at] for i, x in here.items()}, at, thresholds) for s, at in split(session, count)
    ]
    transfers.make([piece.order for piece in pieces])
    opened = hop(session, [piece.open() for piece in pieces])
    tables = hop(session, [piece.send(d) for piece, d in zip(pieces, opened, strict=True)])
    for piece, table in zip(pieces, tables, strict=True):
        piece.read(table)
    planes = [torch.cat([piece.planes[i] for piece in pieces], dim=-1) for i in here]
    out = []
    for i, carry in zip(here, _carry(session, transfers, planes), strict=True):
        columns = carry.split([piece.size // 8 for piece in pieces], dim=1)
        rows = [piece.signs(i, plane.contiguous()) for piece, plane in zip(pieces, columns, strict=True)]
        out.append(rows[0] if len(rows) == 1 else torch.cat(rows, dim=1))
    return out


class _Piece:
    """Elements of which one party, the sender, has the tables."""

    def __init__(
        self, transfers: Transfers, sender: int, parts: dict[int, Tensor], at: slice, thresholds: Sequence[int]
    ) -> None:
        self.sender = sender
        self.count = at.stop - at.start
        self.size = (self.count + 7) // 8 * 8
        """Elements, with zeros at the end that fill the last byte of a plane."""
        self.planes: dict[int, Tensor] = {}
        """Shares of (l, e) of each party here: [2, digits, thresholds, size / 8]."""
        self._parts = parts
        self._thresholds = thresholds
        self.order = transfers.order_digits(sender, DIGITS * self.size, len(thresholds))
        """The transfers, to be made before anything is opened."""
        self._digits: Tensor | None = None

    def _dealt(self, index: int) -> Digits:
        return self.order.entries[list(self._parts).index(index)]

    def open(self) -> Note:
        """What the receiver opens of its digits."""
        opened = None
        if 1 - self.sender in self._parts:
            x = self._padded(1 - self.sender)
            self._digits, opened = kernels.on(x).open_digits(x, self._dealt(1 - self.sender)[0])
        return Note(1 - self.sender, (DIGITS * self.size // 2,), torch.uint8, opened)

    def send(self, opened: Tensor | None) -> Note:
        """The sender's tables, which leave it its shares."""
        message = None
        if opened is not None:
            x = self._padded(self.sender)
            pads = self._dealt(self.sender)[0]
            message, self.planes[self.sender] = kernels.on(x).send_tables(x, self._thresholds, opened, pads)
        return Note(self.sender, (len(self._thresholds), DIGITS * self.size), torch.int32, message)

    def read(self, table: Tensor | None) -> None:
        """The receiver's shares."""
        if table is not None:
            assert self._digits is not None
            receiver = self._dealt(1 - self.sender)
            assert isinstance(receiver, Choice)
            self.planes[1 - self.sender] = kernels.on(table).read_tables(table, self._digits, receiver.pad)

    def signs(self, index: int, carry: Tensor) -> Tensor:
        """A party's shares of [x < t], from those of the carries: [thresholds, size / 8] -> uint8 [thresholds, n]."""
        rows = kernels.on(carry).unpack_bits(carry, carry.numel() * 8).view(-1, self.size)[:, : self.count]
        x = self._parts[index]
        own = [(x - t if index == self.sender else x) < 0 for t in self._thresholds]
        return rows ^ torch.stack(own).to(torch.uint8)

    def _padded(self, index: int) -> Tensor:
        x = self._parts[index]
        return x.contiguous() if self.size == self.count else torch.cat([x, x.new_zeros(self.size - self.count)])


def _carry(session: Session, transfers: Transfers, planes: Sequence[Tensor]) -> list[Tensor]:
    """The first of (l, e) of all digits together: [2, digits, thresholds, bytes] -> [thresholds, bytes]."""
    planes = list(planes)
    while planes[0].shape[1] > 1:
        top = planes[0].shape[1] == 2
        shape = planes[0][0, ::2].shape
        choices = [p[1, 1::2].reshape(-1) for p in planes]
        values = [p[: 1 if top else 2, ::2].reshape(1 if top else 2, -1) for p in planes]
        products = bits.both(session, transfers, choices, values)
        merged = []
        for p, z in zip(planes, products, strict=True):
            z = z.view(z.shape[0], *shape)
            z[0] ^= p[0, 1::2]
            merged.append(z)
        planes = merged
    return [p[0, 0] for p in planes]
