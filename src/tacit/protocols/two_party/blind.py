"""Matches that neither of the two parties sees, and rows that are picked without anybody knowing which.

One of them, the holder, looks its keys up at the other, the programmer: see `lookup`. What it finds are shares in bins,
of tags that are zero where keys are the same, and of columns.

Then the rows change their order twice: the holder brings those of its bins that have a key to the front, in an order
that it draws, and the other draws an order of these; see `switches`. Nobody knows both. So the holder may see which
differences are zero, in this order, where the number of matches becomes known: what is not zero is masked by a tag that
it has not got. Where it does not, the comparison with zero remains a secret bit, by which the columns are multiplied.

With several keys, tried one after the other, secret bits say between the two orders which key brings a row together
with one of the other's, if any does: see `taken`. Columns of the programmer are then looked up by each key, and
multiplied by its bits.

Ref: [PSTY19] for the bins and tags; the rest in docs/protocols.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import DivergenceError
from tacit.protocols.matching import DIGEST_WORDS, Match, permutation
from tacit.protocols.number import Number
from tacit.protocols.two_party import kernels
from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.lookup import Lookup, Shares
from tacit.protocols.two_party.oblivious import Functions, Switches
from tacit.protocols.two_party.protocol import TwoParty
from tacit.protocols.two_party.taken import Taken, is_zero
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
        alternatives: int = 1,
    ) -> None:
        """`digests` are int64 [rows, 2 k] for k alternatives."""
        self._protocol, self.session = protocol, protocol.session
        self._holder, self._programmer = holder, 1 - holder
        self._sizes, self._left = sizes, left
        self._switches = Switches(self.session, protocol.transfers)
        keys = [
            {i: t[:, DIGEST_WORDS * k : DIGEST_WORDS * (k + 1)].contiguous() for i, t in digests.items()}
            for k in range(alternatives)
        ]
        self._lookups = [Lookup(self.session, functions, sizes, key, holder) for key in keys]
        self._draw_orders()
        self.rows = sizes[holder]
        self.common: int | None = self.rows if left else None
        self._kept: Tensor | None = None
        self._same: Bits | None = None
        self._by: list[Bits] = []
        differences = self._by_one() if alternatives == 1 else self._by_several()
        if not left and told:
            self._kept = self._matches(differences)
            self.rows = self.common = int(self._kept.sum())
        elif alternatives == 1:
            self._same = is_zero(protocol, differences, (self.rows, 1))
        else:
            lacking = protocol.adopt([differences[i] for i in self.session.party_indices], (self.rows, 1), 0)
            self._same = protocol.parity(lacking).invert()

    # --- before ------------------------------------------------------------------------------------------------------

    def _draw_orders(self) -> None:
        """The holder's order of bins, of which those without a key come last, and the other's of rows."""
        count, here = self._sizes[self._holder], self.session.party_indices
        self._own_order: Tensor | None = None
        self._fronts: list[Tensor | None] = [None] * len(self._lookups)
        self._orders: dict[int, Tensor] = {}
        if self._holder in here:
            self._own_order = permutation(Stream(os.urandom(16)), count)
            for k, lookup in enumerate(self._lookups):
                front = lookup.front
                assert front is not None
                self._fronts[k] = torch.cat([front[:count][self._own_order], front[count:]])
        if self._programmer in here:
            self._orders[self._programmer] = permutation(Stream(os.urandom(16)), count)

    # --- what matches ------------------------------------------------------------------------------------------------

    def _by_one(self) -> Shares:
        """Shares of what is zero where a row matches, [rows, 1], and elsewhere masked by what the holder never sees."""
        return self._turned(self._brought(0, self._lookups[0].differences()))

    def _by_several(self) -> Shares:
        """Shares of 0 where a row matches by one of the keys, and else 1."""
        holder = self._holder
        rows = self._sizes[holder], self._sizes[self._programmer]
        self._by = Taken(self._protocol, self._switches, self._lookups, self._fronts, rows, holder).by
        free = self._by[0]
        for bits in self._by[1:]:
            free = free ^ bits
        lacking = self._protocol.to_arithmetic(free.invert()).content.parts()
        return self._turned(dict(zip(self.session.party_indices, lacking, strict=True)))

    def _brought(self, key: int, shares: Shares) -> Shares:
        """What stands in bins of a key, brought to rows in the holder's order."""
        moved = self._switches.move(self._holder, self._fronts[key], shares, self._lookups[key].count)
        return {index: t[: self._sizes[self._holder]] for index, t in moved.items()}

    def _turned(self, shares: Mapping[int, Tensor]) -> Shares:
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

    # --- rows --------------------------------------------------------------------------------------------------------

    @override
    def told(self) -> dict[str, Tensor]:
        raise TypeError("rows that nobody knows are picked, not told")

    @override
    def picked(self, owner: str, x: Tensor | None, width: int, frac_bits: int) -> Number:
        """Words of an owner's rows: 8 bytes a switch and word, and of the programmer's rows 24 · 1.23 more each."""
        index = self.session.parties.index(owner)
        step = max(MOST // self._lookups[0].count, 1)
        parts = [
            self._columns(index, None if x is None else x[:, at : at + step], min(step, width - at))
            for at in range(0, width, step)
        ]
        shares = [torch.cat([part[i] for part in parts], dim=1) for i in self.session.party_indices]
        name = f"rows of {owner}"
        out = self._protocol.adopt(shares, (self.rows, width), frac_bits, lasting=True, name=name)
        chosen = bool(self._by) and index == self._programmer  # by the bits of each key
        if self._same is None or chosen or (self._left and index == self._holder):
            return out
        bits = self._same.move(lambda t: t.expand(self.rows, width).contiguous(), view=False)
        (out,) = self._protocol.select([(bits, out)])
        out.storage.lasting = True
        return out

    def _columns(self, index: int, x: Tensor | None, width: int) -> Shares:
        """Shares of some columns of one party, where rows that do not match are anything, or zeros by several keys."""
        here = self.session.party_indices
        if index == self._holder:
            shares = {i: torch.zeros(self._sizes[index], width, dtype=torch.int64) for i in here}
            if x is not None:
                assert self._own_order is not None
                shares[index] = x[self._own_order].contiguous()
        else:
            found = [self._brought(k, lookup.found(x, width)) for k, lookup in enumerate(self._lookups)]
            shares = found[0] if len(found) == 1 else self._chosen(found, width)
        moved = self._turned(shares)
        return moved if self._kept is None else {i: t[self._kept] for i, t in moved.items()}

    def _chosen(self, found: list[Shares], width: int) -> Shares:
        """What has been found by the key that brings a row together, zeros where none does."""
        here, shape = self.session.party_indices, (self._sizes[self._holder], width)
        pairs = []
        for bits, shares in zip(self._by, found, strict=True):
            x = self._protocol.adopt([shares[i].contiguous() for i in here], shape, 0, precise=True)
            pairs.append((bits.move(lambda t: t.expand(shape).contiguous(), view=False), x))
        parts = zip(*(x.content.parts() for x in self._protocol.select(pairs)), strict=True)
        return {i: torch.stack(row).sum(0) for i, row in zip(here, parts, strict=True)}

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
