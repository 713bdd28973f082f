"""Which rows several keys bring together, tried one after the other, where nobody may know which rows are taken.

The programmer gives a label to each of its rows and to each bin of a key, a uniform permutation of all m + B of them.
In each bin the holder is told one: that of the row which has its key, or that of the bin itself where no row has. To it
these are B different labels, uniform whatever the keys are. By the labels something that is secret can go from rows of
the one to rows of the other, through a network of switches of each. So the two keep a secret u for each label, 1 if its
row is taken or it is of a bin; and for each key, one after the other, with t what is taken of the holder's rows,

    a    =  u, in the order of the holder's rows                       holder's network, of the labels of this key
    new  =  ¬a ∧ ¬t        t  =  t + new
    u    =  u + new, in the order of labels of the next key            holder's network back, then the programmer's

*Privacy.* Beside labels, what is told is a look-up's, an operation's or a network's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.errors import DivergenceError
from tacit.protocols.matching import permutation
from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.lookup import Lookup, Shares
from tacit.protocols.two_party.oblivious import Switches
from tacit.protocols.two_party.protocol import TwoParty
from tacit.protocols.values import Bits
from tacit.ring.prg import Stream

__all__ = ["Taken", "is_zero"]


class Taken:
    """Of each key, which of the holder's rows it brings together with one of the other's."""

    def __init__(
        self,
        protocol: TwoParty,
        switches: Switches,
        lookups: Sequence[Lookup],
        fronts: Sequence[Tensor | None],
        rows: tuple[int, int],
        holder: int,
    ) -> None:
        """`fronts` are the holder's orders of bins, its rows at the front; `rows` how many it and the other have."""
        self._protocol, self._switches, self.session = protocol, switches, protocol.session
        self._holder, self._programmer = holder, 1 - holder
        self._count, self._others = rows
        self._bins = lookups[0].count
        self._all = self._others + self._bins
        labels = [self._labels() for _ in lookups]
        ways = [self._way(*each) for each in zip(lookups, labels, fronts, strict=True)]
        self.by = self._tried(labels, ways)
        """For each key, [it brings this row together with one of the other's], [rows, 1]."""

    def _labels(self) -> Tensor | None:
        """At the programmer: labels of its rows, then of bins."""
        here = self._programmer in self.session.party_indices
        return permutation(Stream(os.urandom(16)), self._all) if here else None

    def _way(self, lookup: Lookup, labels: Tensor | None, front: Tensor | None) -> Tensor | None:
        """At the holder: the labels of its rows, then all others, in any order. One hop, beside a look-up and a choice.

        c λ(y) + (1 - c) λ(b), with c = [the bin's key is that of a row y].
        """
        holder, protocol, shape = self._holder, self._protocol, (self._bins, 1)
        c = is_zero(protocol, lookup.differences(), shape)
        of_rows, of_bins = (None, None) if labels is None else (labels[: self._others], labels[self._others :])
        step = lookup.found(None if of_rows is None else of_rows[:, None], 1)
        if of_bins is not None:
            step[self._programmer] = step[self._programmer] - of_bins[:, None]
        (chosen,) = protocol.select([(c, protocol.adopt(self._parts(step), shape, 0, precise=True))])
        shares = dict(zip(self.session.party_indices, chosen.content.parts(), strict=True))
        if of_bins is not None:
            shares[self._programmer] = shares[self._programmer] + of_bins[:, None]
        (arrived,) = hop(self.session, [Note(self._programmer, shape, torch.int64, shares.get(self._programmer))])
        if arrived is None:
            return None
        assert front is not None
        found = (shares[holder] + arrived).squeeze(1)
        rest = torch.ones(self._all, dtype=torch.bool)
        if bool(((found >= 0) & (found < self._all)).all()):
            rest[found] = False
        if int(rest.sum()) != self._all - self._bins:
            raise DivergenceError(f"{self.session.parties[self._programmer]} gives labels that are none")
        return torch.cat([found[front], rest.nonzero().squeeze(1)])

    def _tried(self, labels: Sequence[Tensor | None], ways: Sequence[Tensor | None]) -> list[Bits]:
        """The keys, one after the other: for each but the last three networks, and for that one."""
        shape, wires = (self._count, 1), self._all
        u: Shares = {i: torch.zeros(wires, 1, dtype=torch.int64) for i in self.session.party_indices}
        if labels[0] is not None:
            u[self._programmer][labels[0][self._others :]] = 1
        by: list[Bits] = []
        free: Bits | None = None
        for place, way in enumerate(ways):
            a = self._switches.move(self._holder, way, u, wires)
            parts = [t[: self._count].contiguous() for t in self._parts(a)]
            new = self._protocol.parity(self._protocol.adopt(parts, shape, 0)).invert()
            if free is not None:
                new = self._protocol.conjunction(new, free)
            by.append(new)
            free = new.invert() if free is None else free ^ new
            if place + 1 < len(ways):
                u = self._onward(u, new, way, labels[place], labels[place + 1])
        return by

    def _onward(self, u: Shares, new: Bits, way: Tensor | None, now: Tensor | None, then: Tensor | None) -> Shares:
        """u with what is taken newly, in the order of the next key's labels."""
        holder, wires = self._holder, self._all
        added = self._protocol.to_arithmetic(new).content.parts()
        rows = {
            i: torch.cat([t, torch.zeros(wires - self._count, 1, dtype=torch.int64)])
            for i, t in zip(self.session.party_indices, added, strict=True)
        }
        back = self._switches.move(holder, None if way is None else way.argsort(), rows, wires)
        u = {i: u[i] + t for i, t in back.items()}
        order = None
        if now is not None and then is not None:
            order = torch.empty_like(now)
            order[then] = now
        return self._switches.move(self._programmer, order, u, wires)

    def _parts(self, shares: Shares) -> list[Tensor]:
        return [shares[i] for i in self.session.party_indices]


def is_zero(protocol: TwoParty, differences: Shares, shape: tuple[int, int]) -> Bits:
    """Whether differences are zero: [x < 1] ^ [x < 0]; wrong for -2^63, which one in 2^64 is."""
    x = protocol.adopt([differences[i] for i in protocol.session.party_indices], shape, 0)
    below, negative = protocol.less(x, [1, 0])
    return below ^ negative
