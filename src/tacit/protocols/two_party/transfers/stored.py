"""Transfers on disk: both parties make them before a run, and each writes its own ends, hashed, into its own store.

A piece of a store is an end of an order under a key stream of the store's own. So once a run
has begun, and the key is wiped, what is left in the file is random to whoever finds it.

*Privacy.* An end is what its party would have had in the run, and the other party never sees it. Whoever has the files
of both knows all masks of the run: see `tacit.session.store` for how a store is used once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tacit.protocols.two_party.transfers.order import Field, Order
from tacit.session.preparation import Preparation
from tacit.session.session import Session
from tacit.session.store import Shelf

__all__ = ["Reader", "Writer"]


class Writer:
    """Puts what has been made into the stores of the parties here."""

    def __init__(self, session: Session, store: Preparation) -> None:
        self._session, self._store = session, store
        self._streams = {index: store.stream(index) for index in session.party_indices}

    def put(self, order: Order[Any]) -> None:
        """Write the ends of an order that was made."""
        for (index, stream), entry in zip(self._streams.items(), order.entries, strict=True):
            places, size = _places(order.layout.fields(sends=index == order.sender))
            piece = torch.zeros(size, dtype=torch.uint8)
            for tensor, place in zip(entry, places, strict=True):
                piece[place] = tensor.view(-1).view(torch.uint8)
            stream.xor_into(piece)
            self._store.add(index, _name(self._session, order), piece, self._session.transcript)


class Reader:
    """Takes what was made out of the stores of the parties here, in the order in which it was put there."""

    def __init__(self, session: Session, store: Shelf) -> None:
        self._session, self._store = session, store
        self._streams = {index: store.stream(index) for index in session.party_indices}

    def fill(self, order: Order[Any]) -> None:
        """Give an order its ends, in the memory that they were read into."""
        entries = []
        for index, stream in self._streams.items():
            sends = index == order.sender
            fields = order.layout.fields(sends=sends)
            places, size = _places(fields)
            piece = self._store.take(index, _name(self._session, order), size, self._session.transcript)
            stream.xor_into(piece)
            tensors = [piece[p].view(f.dtype).view(f.shape) for p, f in zip(places, fields, strict=True)]
            entries.append(order.layout.entry(tensors, sends=sends))
        order.fill(entries)


def _name(session: Session, order: Order[Any]) -> str:
    return f"{order.layout.name} sent by {session.parties[order.sender]}"


def _places(fields: Sequence[Field]) -> tuple[list[slice], int]:
    """Where the tensors of an end lie in a piece, each from a multiple of 8 bytes on, and the bytes of all."""
    places, at = [], 0
    for field in fields:
        places.append(slice(at, at + field.size))
        at += (field.size + 7) // 8 * 8
    return places, at
