"""The offline phase on disk: what the producer deals goes into a store, and comes out of it in another run.

The producer runs the program by itself, `Ahead`, for it knows masks only and needs nobody's secrets; the parties run it
later, `Stored`, without the producer. Shares and corrections are those of a produced run, and so is what is opened: the
run sends what the parties send one another, and nothing else.

*Privacy.* A party's file holds what the producer would have sent it, and the key that the two would have agreed on. So
whoever gets the files of all parties but one learns what these parties learn, as before; whoever has all files knows
all masks, as the producer does. A mask that serves two runs would show the difference of two secrets: see
`tacit.session.store` for how a store is used once.
"""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from tacit.protocols.additive.source.dealing import Delivery, Links
from tacit.ring.prg import Stream
from tacit.session.preparation import Preparation
from tacit.session.session import Session
from tacit.session.store import Shelf

__all__ = ["Ahead", "Stored", "delivery"]


def delivery(session: Session) -> Delivery:
    """How what is dealt gets to the parties of a session."""
    if isinstance(session.supply, Preparation):
        return Ahead(session, session.supply)
    if isinstance(session.supply, Shelf):
        return Stored(session, session.supply)
    return Links(session)


class Ahead(Delivery):
    """The producer's end, which writes."""

    online = True

    def __init__(self, session: Session, store: Preparation) -> None:
        self._session, self._store = session, store

    @override
    def party_stream(self, index: int) -> Stream:
        raise AssertionError("no party is here while a store is prepared")

    @override
    def producer_stream(self, index: int) -> Stream:
        return self._store.stream(index)

    @override
    def send(self, index: int, name: str, frame: Tensor) -> None:
        self._store.add(index, name, frame, self._session.transcript)

    @override
    def take(self, index: int, name: str, size: int) -> Tensor:
        raise AssertionError("no party is here while a store is prepared")


class Stored(Delivery):
    """The parties' end, which reads."""

    online = False

    def __init__(self, session: Session, store: Shelf) -> None:
        self._session, self._store = session, store

    @override
    def party_stream(self, index: int) -> Stream:
        return self._store.stream(index)

    @override
    def producer_stream(self, index: int) -> Stream:
        raise AssertionError("the producer takes no part in a run from a store")

    @override
    def send(self, index: int, name: str, frame: Tensor) -> None:
        raise AssertionError("the producer takes no part in a run from a store")

    @override
    def take(self, index: int, name: str, size: int) -> Tensor:
        return self._store.take(index, name, size, self._session.transcript)
