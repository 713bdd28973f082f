"""Matches that neither of the two parties sees, and rows that are picked without anybody knowing which.

One of them, the holder, puts each of its keys into one of three bins of it; the other, the programmer, knows that any
key y of its own can be in three bins. With `Programs` the holder finds at its key x, in its bin b, what the programmer
has for x there: a tag that it has drawn for b, if it has x at all, and else a uniform word. Tag less tag is zero where
keys are the same. Columns of the programmer come the same way, less a uniform word for the bin, which is its share.

Then the rows change their order twice: the holder brings those of its bins that have a key to the front, in an order
that it draws, and the other draws an order of these; see `switches`. Nobody knows both. So the holder may see which
differences are zero, in this order, where the number of matches becomes known: what is not zero is masked by a tag that
it has not got. Where it does not, the comparison with zero remains a secret bit, by which the columns are multiplied.

Ref: [PSTY19] for the bins and tags; the rest in docs/protocols.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import DivergenceError
from tacit.protocols.matching import Match, permutation
from tacit.protocols.number import Number
from tacit.protocols.two_party import kernels
from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.oblivious import Bins, Functions, Programs, Switches
from tacit.protocols.two_party.oblivious.kernels import CHOICES
from tacit.protocols.two_party.oblivious.tables import KEY_BYTES
from tacit.protocols.two_party.protocol import TwoParty
from tacit.protocols.values import Bits
from tacit.ring.prg import Stream

__all__ = ["Unseen"]

MOST = 1 << 22
"""Words of bins that are moved at once. More: fewer hops; fewer: less memory."""


class Unseen(Match):
    """Rows of two owners, in an order that neither knows.

    Inner, they are those that match if their number is told, and else as many as the holder has. With `left`, the
    holder's.
    """

    def __init__(
        self,
        protocol: TwoParty,
        functions: Functions,
        sizes: Mapping[int, int],
        digests: Mapping[int, Tensor],
        holder: int,
        *,
        left: bool,
        told: bool,
    ) -> None:
        self._protocol, self.session = protocol, protocol.session
        self._holder, self._programmer = holder, 1 - holder
        self._sizes, self._left = sizes, left
        self._bins = Bins.of(sizes[holder])
        self._switches = Switches(self.session, protocol.transfers)
        self._choose(digests)
        self._evaluate(functions, digests)
        self._draw_orders()
        self.rows = sizes[holder]
        self.common: int | None = self.rows if left else None
        self._kept: Tensor | None = None
        self._same: Bits | None = None
        differences = self._differences()
        if left or not told:
            self._same = self._zero(differences)
        else:
            self._kept = self._matches(differences)
            self.rows = self.common = int(self._kept.sum())

    # --- before ------------------------------------------------------------------------------------------------------

    def _choose(self, digests: Mapping[int, Tensor]) -> None:
        """The holder fills bins, and tells the other by which cipher: at the holder the bin of each of its keys, at the
        other the three bins of each, one table after the other."""
        holder, key, choice = self._holder, None, None
        if holder in digests:
            drawn, choice = self._bins.filled(digests[holder])
            key = torch.frombuffer(bytearray(drawn), dtype=torch.uint8)
        (arrived,) = hop(self.session, [Note(holder, (KEY_BYTES,), torch.uint8, key)])
        self._at: dict[int, Tensor] = {}
        self._numbers: Tensor | None = None
        if choice is not None and key is not None:
            self._numbers = choice.long()
            places = self._bins.places(digests[holder], bytes(key.tolist()))
            self._at[holder] = places.gather(1, self._numbers[:, None]).squeeze(1)
        if arrived is not None:
            places = self._bins.places(digests[self._programmer], bytes(arrived.tolist()))
            self._at[self._programmer] = places.T.reshape(-1)

    def _evaluate(self, functions: Functions, digests: Mapping[int, Tensor]) -> None:
        """A function at each key beside the number of its bin: one of the holder's, three of the other's."""
        beside: dict[int, Tensor] = {}
        if self._numbers is not None:
            beside[self._holder] = _numbered(digests[self._holder], self._numbers)
        if self._programmer in digests:
            mine = digests[self._programmer]
            beside[self._programmer] = torch.cat([_numbered(mine, torch.tensor(j)) for j in range(CHOICES)])
        found = functions.evaluate(self._holder, self._sizes[self._holder], beside)
        count = CHOICES * self._sizes[self._programmer]
        self._programs = Programs(self.session, self._programmer, count, beside, found)

    def _draw_orders(self) -> None:
        """The holder's order of bins, of which those without a key come last, and the other's of rows."""
        count = self._sizes[self._holder]
        self._own_order: Tensor | None = None
        self._orders: dict[int, Tensor] = {}
        if self._holder in self._at:
            self._own_order = permutation(Stream(os.urandom(16)), count)
            bins = self._at[self._holder]
            rest = torch.ones(self._bins.count, dtype=torch.bool)
            rest[bins] = False
            self._orders[self._holder] = torch.cat([bins[self._own_order], rest.nonzero().squeeze(1)])
        if self._programmer in self._at:
            self._orders[self._programmer] = permutation(Stream(os.urandom(16)), count)

    # --- what matches ------------------------------------------------------------------------------------------------

    def _differences(self) -> dict[int, Tensor]:
        """Shares of tag less tag, [rows, 1]."""
        tags, values = None, None
        if self._programmer in self._at:
            tags = _drawn(self._bins.count, 1)
            values = tags[self._at[self._programmer]]
        return self._moved(self._programs.send(values, 1), None if tags is None else -tags, 1)

    def _moved(self, found: Tensor | None, rest: Tensor | None, width: int) -> dict[int, Tensor]:
        """Rows of what the holder has found at its keys and of the other's share for each bin, both orders applied."""
        shares = {}
        if found is not None:
            shares[self._holder] = torch.zeros(self._bins.count, width, dtype=torch.int64)
            shares[self._holder][self._at[self._holder]] = found
        if rest is not None:
            shares[self._programmer] = rest
        moved = self._switches.move(self._holder, self._orders.get(self._holder), shares, self._bins.count)
        count = self._sizes[self._holder]
        return self._turned({index: t[:count] for index, t in moved.items()})

    def _turned(self, shares: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Rows in the holder's order, brought to the other's."""
        order = self._orders.get(self._programmer)
        return self._switches.move(self._programmer, order, shares, self._sizes[self._holder])

    def _matches(self, differences: Mapping[int, Tensor]) -> Tensor:
        """Which rows match, bool [rows]: the holder sees it, and tells the other. Two hops."""
        session, holder, count = self.session, self._holder, self._sizes[self._holder]
        (arrived,) = hop(session, [Note(self._programmer, (count, 1), torch.int64, differences.get(self._programmer))])
        bits, kept = None, None
        if arrived is not None:
            kept = (differences[holder] + arrived == 0).squeeze(1)
            bits = kernels.on(kept).pack_bits(kept.to(torch.uint8))
        (arrived,) = hop(session, [Note(holder, ((count + 7) // 8,), torch.uint8, bits)])
        if arrived is not None:
            kept = kernels.on(arrived).unpack_bits(arrived, count).bool()
            if int(kept.sum()) > min(self._sizes.values()):
                raise DivergenceError(f"{session.parties[holder]} has more rows in common than there are")
        assert kept is not None
        return kept

    def _zero(self, differences: Mapping[int, Tensor]) -> Bits:
        """Whether differences are zero: [x < 1] ^ [x < 0]; wrong for -2^63, which one in 2^64 is."""
        x = self._protocol.adopt([differences[i] for i in self.session.party_indices], (self.rows, 1), 0)
        below, negative = self._protocol.less(x, [1, 0])
        return below ^ negative

    # --- rows --------------------------------------------------------------------------------------------------------

    @override
    def told(self) -> dict[str, Tensor]:
        raise TypeError("rows that nobody knows are picked, not told")

    @override
    def picked(self, owner: str, x: Tensor | None, width: int, frac_bits: int) -> Number:
        """Words of an owner's rows: 8 bytes a switch and word, and of the programmer's rows 24 · 1.23 more each."""
        index = self.session.parties.index(owner)
        step = max(MOST // self._bins.count, 1)
        parts = [
            self._columns(index, None if x is None else x[:, at : at + step], min(step, width - at))
            for at in range(0, width, step)
        ]
        shares = [torch.cat([part[i] for part in parts], dim=1) for i in self.session.party_indices]
        name = f"rows of {owner}"
        out = self._protocol.adopt(shares, (self.rows, width), frac_bits, lasting=True, name=name)
        if self._same is None or (self._left and index == self._holder):
            return out
        bits = self._same.move(lambda t: t.expand(self.rows, width).contiguous(), view=False)
        (out,) = self._protocol.select([(bits, out)])
        out.storage.lasting = True
        return out

    def _columns(self, index: int, x: Tensor | None, width: int) -> dict[int, Tensor]:
        """Shares of some columns of one party, where rows that do not match are anything."""
        here = self.session.party_indices
        if index == self._holder:
            shares = {i: torch.zeros(self._sizes[index], width, dtype=torch.int64) for i in here}
            if x is not None:
                assert self._own_order is not None
                shares[index] = x[self._own_order].contiguous()
            moved = self._turned(shares)
        else:
            masks, values = None, None
            if x is not None:
                masks = _drawn(self._bins.count, width)
                values = x.repeat(CHOICES, 1) - masks[self._at[index]]
            moved = self._moved(self._programs.send(values, width), masks, width)
        return moved if self._kept is None else {i: t[self._kept] for i, t in moved.items()}

    @override
    def weight(self, frac_bits: int) -> Number | None:
        """The bits of rows that match. One hop."""
        return self._matched(frac_bits) if self.common is None else None

    @override
    def presence(self, owner: str, frac_bits: int) -> Number | None:
        """As `weight`; with `left` of the other owner. None where all rows are there."""
        mine = self._left and self.session.parties.index(owner) == self._holder
        return None if self._same is None or mine else self._matched(frac_bits)

    def _matched(self, frac_bits: int) -> Number:
        assert self._same is not None
        out = self._protocol.to_arithmetic(self._same).lifted(frac_bits)
        out.storage.lasting = True
        return out


def _numbered(digests: Tensor, numbers: Tensor) -> Tensor:
    """Other digests for each number below four: int64 [n, 2] and [n]."""
    return torch.stack([digests[:, 0], digests[:, 1] ^ numbers << 62], dim=1)


def _drawn(count: int, width: int) -> Tensor:
    return Stream(os.urandom(16)).ring((count, width))
