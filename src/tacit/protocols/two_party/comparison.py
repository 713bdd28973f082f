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

Of pairs (x, k) that are compared by k where x is zero, |k| < 2^m, the first comes before zero if

    x - 1 + [k >= 0] < 0        [k >= 0] = ¬(k_S ^ k_R) at bit m, ^ the carry of the bits below it

so x is compared with 1, and [k >= 0] is one more carry that comes into it, e [k >= 0] from below all its digits.
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

__all__ = ["before", "less"]

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
    _looked_up(session, transfers, pieces)
    planes = [torch.cat([piece.planes[i] for piece in pieces], dim=-1) for i in here]
    out = []
    for i, carry in zip(here, _carry(session, transfers, planes), strict=True):
        columns = carry.split([piece.size // 8 for piece in pieces], dim=1)
        rows = [piece.signs(i, plane.contiguous()) for piece, plane in zip(pieces, columns, strict=True)]
        out.append(rows[0] if len(rows) == 1 else torch.cat(rows, dim=1))
    return out


def before(
    session: Session, transfers: Transfers, parts: Sequence[Tensor], keys: Sequence[Tensor], width: int
) -> list[Tensor]:
    """Shares of [x < 0 or x = 0 and k < 0], uint8 [n], from contiguous shares of x and k, [n] each: nine hops at most.

    Domain: -2^63 < x < 2^63, |k| < 2^(4 width), width <= 15; floor(15 / width) keys take the digits of one number.
    """
    count = parts[0].numel()
    if not count:
        return [torch.empty(0, dtype=torch.uint8) for _ in parts]
    if count > MOST:
        cut = [list(zip(*(t.split(MOST) for t in some), strict=True)) for some in (parts, keys)]
        found = [before(session, transfers, x, k, width) for x, k in zip(*cut, strict=True)]
        return [torch.cat(row) for row in zip(*found, strict=True)]
    here = session.party_indices
    pieces, tied = [], []
    for sender, at in split(session, count):
        first = {i: x[at] for i, x in zip(here, parts, strict=True)}
        second = {i: _side_by_side(k[at], width) for i, k in zip(here, keys, strict=True)}
        pieces.append(_Piece(transfers, sender, first, at, [1]))
        tied.append(_Piece(transfers, sender, second, slice(0, len(next(iter(second.values())))), [0]))
    _looked_up(session, transfers, [*pieces, *tied])
    groups = [
        _Tree([torch.cat([piece.planes[i] for piece in pieces], dim=-1) for i in here]),
        _Tree(
            [
                torch.cat([_apart(k.planes[i], width, x.size) for x, k in zip(pieces, tied, strict=True)], -1)
                for i in here
            ]
        ),
    ]
    while any(group.digits > 1 for group in groups):
        _fold(session, transfers, [group for group in groups if group.digits > 1])
    return _with_ties(session, transfers, pieces, keys, width, groups)


def _side_by_side(k: Tensor, width: int) -> Tensor:
    """Low digits of shares, those of several keys in one word, apart from each other: [n] -> fewer, in whole bytes."""
    bits, each = 4 * width, (DIGITS - 1) // width
    rows = _words(len(k), each)
    low = k & ((1 << bits) - 1)
    low = torch.cat([low, low.new_zeros(rows * each - len(k))]).view(each, rows)
    out = low[0].clone()
    for place in range(1, each):
        out |= low[place] << bits * place
    return out


def _words(count: int, each: int) -> int:
    """Words for so many keys, of which there are so many in each; eight to a byte of a plane."""
    return -(-count // (8 * each)) * 8


def _apart(planes: Tensor, width: int, count: int) -> Tensor:
    """Planes of keys from those of the words that they were in: [2, 16, 1, bytes] -> [2, width, 1, count / 8]."""
    each = (DIGITS - 1) // width
    rows = [planes[:, width * place : width * (place + 1)] for place in range(each)]
    return torch.cat(rows, dim=-1)[..., : count // 8]


def _with_ties(
    session: Session,
    transfers: Transfers,
    pieces: Sequence[_Piece],
    keys: Sequence[Tensor],
    width: int,
    groups: Sequence[_Tree],
) -> list[Tensor]:
    """The signs of x - 1 + [k >= 0], from (l, e) of x and l of k."""
    of_x, of_k = groups
    here, columns = session.party_indices, [piece.size // 8 for piece in pieces]
    carries = []
    for place, i in enumerate(here):
        rows = []
        for piece, carry in zip(pieces, of_k.planes[place][0].view(-1).split(columns), strict=True):
            top = (keys[place][piece.at] >> 4 * width & 1).to(torch.uint8)
            top = torch.cat([top, top.new_zeros(piece.size - piece.count)])
            own = kernels.on(top).pack_bits(top) ^ carry
            rows.append(~own if i == piece.sender else own)
        carries.append(torch.cat(rows))
    ends = [planes[:, 0, 0] for planes in of_x.planes]
    added = bits.both(session, transfers, [end[1].contiguous() for end in ends], [c.unsqueeze(0) for c in carries])
    out = []
    for place, i in enumerate(here):
        carry = (ends[place][0] ^ added[place].view(-1)).split(columns)
        out.append(
            torch.cat(
                [piece.signs(i, c.view(1, -1).contiguous()).view(-1) for piece, c in zip(pieces, carry, strict=True)]
            )
        )
    return out


def _looked_up(session: Session, transfers: Transfers, pieces: Sequence[_Piece]) -> None:
    """Leave shares of (l, e) of each digit at the pieces. Two hops."""
    transfers.make([piece.order for piece in pieces])
    opened = hop(session, [piece.open() for piece in pieces])
    tables = hop(session, [piece.send(d) for piece, d in zip(pieces, opened, strict=True)])
    for piece, table in zip(pieces, tables, strict=True):
        piece.read(table)


class _Piece:
    """Elements of which one party, the sender, has the tables."""

    def __init__(
        self, transfers: Transfers, sender: int, parts: dict[int, Tensor], at: slice, thresholds: Sequence[int]
    ) -> None:
        self.sender = sender
        self.at = at
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


class _Tree:
    """Planes of (l, e) of digits, lowest first, that become one: [2, digits, 1, bytes] for each party here."""

    def __init__(self, planes: list[Tensor]) -> None:
        self.planes = planes

    @property
    def digits(self) -> int:
        """How many there still are."""
        return self.planes[0].shape[1]

    def halved(self, products: Sequence[Tensor]) -> None:
        """Pairs of neighbours become one by e₁ (l₀, e₀), [2, pairs, 1, bytes]; the highest of an odd number stays."""
        merged = []
        for p, z in zip(self.planes, products, strict=True):
            z = z.clone()
            z[0] ^= p[0, 1::2]
            merged.append(torch.cat([z, p[:, 2 * z.shape[1] :]], dim=1))
        self.planes = merged


def _fold(session: Session, transfers: Transfers, trees: Sequence[_Tree]) -> None:
    """Halve the digits of several trees. One hop."""
    choices: list[list[Tensor]] = [[] for _ in session.party_indices]
    values: list[list[Tensor]] = [[] for _ in session.party_indices]
    for tree in trees:
        pairs = tree.digits // 2
        for place, p in enumerate(tree.planes):
            choices[place].append(p[1, 1 : 2 * pairs : 2].reshape(-1))
            values[place].append(p[:, 0 : 2 * pairs : 2].reshape(2, -1))
    products = bits.both(session, transfers, [torch.cat(c) for c in choices], [torch.cat(v, dim=1) for v in values])
    sizes = [tree.planes[0][0, 1::2].numel() for tree in trees]
    for place, tree in enumerate(trees):
        rows = [z.split(sizes, dim=1)[place] for z in products]
        tree.halved([z.view(2, tree.digits // 2, *tree.planes[0].shape[2:]) for z in rows])
