"""Matches that the two parties find alone, by an oblivious function of keys: see `oblivious`.

One of them, the receiver, has the values of a function at its own keys, the other knows it. The other, the sender,
sends the values at its keys, in an order that they are in by themselves; the receiver sees which are its own. 80 bits
of each do: of 10^6 by 10^6, two of different keys are alike with probability 2^-40. Then it puts the matches in an
order that it draws, and tells the sender which of its own they are. Ref: [RR22] section 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import ConfigError, DivergenceError
from tacit.protocols.matching import DIGEST_WORDS, Match, Matcher, ordered_at_random, paired
from tacit.protocols.number import Number
from tacit.protocols.two_party.blind import Unseen
from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.oblivious import Evaluated, Functions
from tacit.protocols.two_party.oblivious.kernels import at_hand
from tacit.protocols.two_party.protocol import TwoParty
from tacit.ring.memory import memory_bytes
from tacit.session.session import Session

__all__ = ["Alone"]

COUNT_BYTES = 8

TOLD_BYTES, UNSEEN_BYTES = 150, 900
"""Memory that a party takes for each row of both tables, where members are told and where they are not: half of what
200,000 by 200,000 rows took of a process that was both parties."""


class Alone(Matcher):
    """Has the two parties compare."""

    def __init__(self, protocol: TwoParty) -> None:
        self._protocol, self.session = protocol, protocol.session
        self._functions = Functions(protocol.session, protocol.transfers)

    @override
    def match(
        self,
        owners: Sequence[str],
        sizes: Sequence[int],
        digests: Mapping[str, Tensor],
        *,
        left: bool = False,
        reveal: str = "members",
        alternatives: int = 1,
    ) -> Match:
        """The receiver is the one with fewer rows; of a left join the second one, so that the first learns nothing.

        Where nobody is told who they are: see `blind`.
        """
        session = self.session
        session.check_open()
        _check_memory(sum(sizes) * alternatives, TOLD_BYTES if reveal == "members" else UNSEEN_BYTES)
        places = [session.parties.index(owner) for owner in owners]
        rows = dict(zip(places, sizes, strict=True))
        tables = {session.parties.index(owner): t for owner, t in digests.items()}
        if reveal != "members":
            holder = places[0] if left or sizes[0] <= sizes[1] else places[1]
            told = reveal == "size"
            return Unseen(
                self._protocol, self._functions, rows, tables, holder, left=left, told=told, alternatives=alternatives
            )
        here = {index: t.view(-1, DIGEST_WORDS) for index, t in tables.items()}
        receiver = places[1] if left or sizes[1] <= sizes[0] else places[0]
        found = self._functions.evaluate(receiver, alternatives * rows[receiver], here)
        order, at = _compared(session, receiver, rows, found, alternatives)
        table, common = None, 0
        if at is not None:
            table = ordered_at_random(_pairs(at, rows[1 - receiver], left=left))
            common = len(table)
        if not left:
            message = None if table is None else common.to_bytes(COUNT_BYTES, "little")
            common = int.from_bytes(session.announce(session.parties[receiver], message), "little")
            if common > min(sizes):
                raise DivergenceError(f"{session.parties[receiver]} has more rows in common than there are")
        return _Told(session, receiver, rows, sizes[0] if left else common, order, table)


def _check_memory(rows: int, each: int) -> None:
    """Raise `ConfigError` before anything is sent, where the match would end for lack of memory."""
    needed, there = rows * each, memory_bytes()
    if needed > there:
        raise ConfigError(
            f"matching {rows:,} keys takes some {needed / 1e9:.0f} GB of memory, and this machine has "
            f"{there / 1e9:.0f}: join smaller tables, one part of the keys after the other"
        )


def _compared(
    session: Session, receiver: int, rows: Mapping[int, int], found: Mapping[int, Evaluated], alternatives: int
) -> tuple[Tensor | None, Tensor | None]:
    """At the sender, the order in which it has sent its rows; at the receiver, where its keys are: [rows,
    alternatives].

    One hop, of ten bytes a key of the sender.
    """
    sender = 1 - receiver
    count = alternatives * rows[sender]
    order, low, high = None, None, None
    if sender in found:
        hashes = found[sender].hashes(0).view(rows[sender], alternatives, 2)
        order = torch.from_numpy(hashes[:, 0, 0].contiguous().numpy().argsort())
        hashes = hashes[order].view(-1, 2)
        low, high = _column(hashes, 0), _column(hashes, 1).to(torch.int16)
    arrived = hop(session, [Note(sender, (count,), torch.int64, low), Note(sender, (count,), torch.int16, high)])
    if receiver not in found:
        return order, None
    mine = found[receiver].hashes(0)
    their_low, their_high = arrived
    assert their_low is not None
    assert their_high is not None
    at = at_hand().matches(_column(mine, 0), _column(mine, 1).to(torch.int16), their_low, their_high)
    if at is None:
        raise DivergenceError(f"what {session.parties[sender]} has sent are no hashes of keys")
    return order, at.view(-1, alternatives)


def _column(rows: Tensor, place: int) -> Tensor:
    """A column, word after word, of a single row as well."""
    return rows[:, place].clone(memory_format=torch.contiguous_format)


def _pairs(at: Tensor, count: int, *, left: bool) -> Tensor:
    """The places that belong together, the sender's and the receiver's; with `left`, all of the sender's."""
    alternatives = at.shape[1]
    theirs = paired([torch.where(column >= 0, column // alternatives, -1) for column in at.unbind(1)], count)
    mine = torch.arange(len(at))
    if not left:
        return torch.stack([theirs, mine], dim=1)[theirs >= 0]
    out = torch.stack([torch.arange(count), torch.full((count,), -1)], dim=1)
    out[theirs[theirs >= 0], 1] = mine[theirs >= 0]
    return out


class _Told(Match):
    """Matches that both are told of."""

    def __init__(
        self,
        session: Session,
        receiver: int,
        sizes: Mapping[int, int],
        rows: int,
        order: Tensor | None,
        table: Tensor | None,
    ) -> None:
        self.rows = rows
        self.common = rows
        self.session, self._receiver, self._sizes = session, receiver, sizes
        self._order, self._table = order, table

    @override
    def told(self) -> dict[str, Tensor]:
        """4 bytes a row, from the receiver. One hop."""
        session, sender = self.session, 1 - self._receiver
        column = None if self._table is None else _column(self._table, 0).to(torch.int32)
        (arrived,) = hop(session, [Note(self._receiver, (self.rows,), torch.int32, column)])
        out = {}
        if self._table is not None:
            out[session.parties[self._receiver]] = self._table[:, 1].contiguous()
        if arrived is not None:
            assert self._order is not None
            places = arrived.long()
            seen = torch.zeros(self._sizes[sender], dtype=torch.bool)
            inside = bool(((places >= 0) & (places < len(seen))).all())
            if inside:
                seen[places] = True
            if not inside or int(seen.sum()) != len(places):
                raise DivergenceError(
                    f"{session.parties[self._receiver]} names rows of {session.parties[sender]} that are none"
                )
            out[session.parties[sender]] = self._order[places]
        return out

    @override
    def picked(self, owner: str, x: Tensor | None, width: int, frac_bits: int) -> Number:
        raise TypeError("rows that both know are shared, not picked")
