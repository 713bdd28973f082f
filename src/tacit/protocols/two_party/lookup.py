"""What one party, the holder, finds at its keys of what the other one, the programmer, has for them: [PSTY19].

The holder puts each of its keys into one of three bins of it; the programmer knows that any key y of its own can be in
three bins. With `Programs` the holder finds at its key x, in its bin b, what the programmer has for x there, less a
uniform word for the bin, which is the programmer's share; and else rubbish. A tag that is drawn for the bin, found and
taken off again, is zero where keys are the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.oblivious import Bins, Functions, Programs
from tacit.protocols.two_party.oblivious.kernels import CHOICES
from tacit.protocols.two_party.oblivious.tables import KEY_BYTES
from tacit.ring.prg import Stream
from tacit.session.session import Session

__all__ = ["Lookup", "Shares"]

Shares = dict[int, Tensor]
"""Of each party of this process, by its number."""


class Lookup:
    """One key of each row: where the holder has it, and what it finds there, as shares of bins."""

    def __init__(
        self,
        session: Session,
        functions: Functions,
        sizes: Mapping[int, int],
        digests: Mapping[int, Tensor],
        holder: int,
    ) -> None:
        """`digests` are int64 [rows, 2], no two of a party alike. Two hops, beside those of a function."""
        self._session = session
        self._holder, self._programmer = holder, 1 - holder
        self._sizes = sizes
        self._bins = Bins.of(sizes[holder])
        self.count = self._bins.count
        """How many bins there are."""
        self.at: Shares = {}
        """At the holder the bin of each of its keys; at the programmer the three bins of each, one after the other."""
        self._numbers: Tensor | None = None
        self._choose(digests)
        self._evaluate(functions, digests)

    def _choose(self, digests: Mapping[int, Tensor]) -> None:
        """The holder fills bins, and tells the other by which cipher."""
        holder, key, choice = self._holder, None, None
        if holder in digests:
            drawn, choice = self._bins.filled(digests[holder])
            key = torch.frombuffer(bytearray(drawn), dtype=torch.uint8)
        (arrived,) = hop(self._session, [Note(holder, (KEY_BYTES,), torch.uint8, key)])
        if choice is not None and key is not None:
            self._numbers = choice.long()
            places = self._bins.places(digests[holder], bytes(key.tolist()))
            self.at[holder] = places.gather(1, self._numbers[:, None]).squeeze(1)
        if arrived is not None:
            places = self._bins.places(digests[self._programmer], bytes(arrived.tolist()))
            self.at[self._programmer] = places.T.reshape(-1)

    def _evaluate(self, functions: Functions, digests: Mapping[int, Tensor]) -> None:
        """A function at each key beside the number of its bin: one of the holder's, three of the other's."""
        beside: Shares = {}
        if self._numbers is not None:
            beside[self._holder] = _numbered(digests[self._holder], self._numbers)
        if self._programmer in digests:
            mine = digests[self._programmer]
            beside[self._programmer] = torch.cat([_numbered(mine, torch.tensor(j)) for j in range(CHOICES)])
        found = functions.evaluate(self._holder, self._sizes[self._holder], beside)
        count = CHOICES * self._sizes[self._programmer]
        self._programs = Programs(self._session, self._programmer, count, beside, found)

    @property
    def front(self) -> Tensor | None:
        """At the holder, all bins: those of its keys, then those without one."""
        if self._holder not in self.at:
            return None
        bins = self.at[self._holder]
        rest = torch.ones(self.count, dtype=torch.bool)
        rest[bins] = False
        return torch.cat([bins, rest.nonzero().squeeze(1)])

    def found(self, columns: Tensor | None, width: int) -> Shares:
        """Shares of columns [rows, width] of the programmer's rows, in bins: [count, width]; rubbish where it has not
        the holder's key. One hop."""
        masks, values = None, None
        if columns is not None:
            masks = _drawn(self.count, width)
            values = columns.repeat(CHOICES, 1) - masks[self.at[self._programmer]]
        return self._in_bins(self._programs.send(values, width), masks, width)

    def differences(self) -> Shares:
        """Shares of what is zero in bins of keys that both have, [count, 1], and elsewhere uniform. One hop."""
        tags, values = None, None
        if self._programmer in self.at:
            tags = _drawn(self.count, 1)
            values = tags[self.at[self._programmer]]
        return self._in_bins(self._programs.send(values, 1), None if tags is None else -tags, 1)

    def _in_bins(self, found: Tensor | None, rest: Tensor | None, width: int) -> Shares:
        """What the holder has found at its keys, in their bins, and the other's share for each bin."""
        shares = {}
        if found is not None:
            shares[self._holder] = torch.zeros(self.count, width, dtype=torch.int64)
            shares[self._holder][self.at[self._holder]] = found
        if rest is not None:
            shares[self._programmer] = rest
        return shares


def _numbered(digests: Tensor, numbers: Tensor) -> Tensor:
    """Other digests for each number below four: int64 [n, 2] and [n]."""
    return torch.stack([digests[:, 0], digests[:, 1] ^ numbers << 62], dim=1)


def _drawn(count: int, width: int) -> Tensor:
    return Stream(os.urandom(16)).ring((count, width))
