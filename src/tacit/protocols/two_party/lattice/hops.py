"""One exchange between the two parties: what goes both ways at a time, counted as one round."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.ring.memory import space
from tacit.session.session import Session

__all__ = ["Hop"]


class Hop:
    """Moves that leave together. Both parties list the same ones in the same order."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sends: list[Parcel] = []
        self._receives: list[Parcel] = []
        self._sent = dict.fromkeys(session.parties, 0)

    def move(self, source: int, size: int, data: Tensor | None) -> Tensor | None:
        """Let a party send so many bytes to the other: what they will be there once the hop is `done`."""
        names = self._session.parties
        here, there = names[source], names[1 - source]
        self._sent[here] += size
        if source in self._session.party_indices:
            assert data is not None
            assert data.nbytes == size
            if size:
                self._sends.append(Parcel(here, there, data))
        if 1 - source not in self._session.party_indices:
            return None
        arrival = space((size,), torch.uint8)
        if size:
            self._receives.append(Parcel(here, there, arrival))
        return arrival

    def done(self, *, ahead: bool = False) -> None:
        """Exchange; nothing to move is no round. What is `ahead` depends on no input."""
        if not any(self._sent.values()):
            return
        self._session.check_open()
        if ahead:
            self._session.meter.ahead(self._sent)
        else:
            self._session.meter.round(self._sent)
        if self._sends or self._receives:
            self._session.transport.exchange(self._sends, self._receives)
