"""One hop: what each of the two parties sends to the other at the same time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.ring.memory import space
from tacit.session.session import Session

__all__ = ["Note", "hop"]

LARGE_BYTES = 1 << 16
"""Bytes of a hop from which on tensors travel one by one. Fewer: more frames; more: more copies."""


class Note(NamedTuple):
    """A tensor on its way from one party to the other: at the sender what it is, elsewhere what it looks like."""

    sender: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    tensor: Tensor | None
    """None where the sender is not in this process."""

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def hop(session: Session, notes: Sequence[Note]) -> list[Tensor | None]:
    """Exchange notes in one hop: for each of them what arrived, or None where its receiver is not in this process.

    What arrives must only be read. Nothing is sent, and no hop counted, if all notes are empty.
    """
    session.check_open()
    sizes = [sum(note.size for note in notes if note.sender == party) for party in (0, 1)]
    if not any(sizes):
        return [torch.empty(n.shape, dtype=n.dtype) if 1 - n.sender in session.party_indices else None for n in notes]
    session.meter.round(dict(zip(session.parties, sizes, strict=True)))
    return _apart(session, notes) if max(sizes) >= LARGE_BYTES else _joined(session, notes, sizes)


def _apart(session: Session, notes: Sequence[Note]) -> list[Tensor | None]:
    """Each note in a frame of its own, from where it is."""
    sends, arrivals = [], []
    out: list[Tensor | None] = []
    for note in notes:
        here, there = session.parties[note.sender], session.parties[1 - note.sender]
        arrived = None
        if note.tensor is not None and note.size:
            sends.append(Parcel(here, there, note.tensor.contiguous()))
        if 1 - note.sender in session.party_indices:
            arrived = space(note.shape, note.dtype)
            if note.size:
                arrivals.append(Parcel(here, there, arrived))
        out.append(arrived)
    session.transport.exchange(sends, arrivals)
    return out


def _joined(session: Session, notes: Sequence[Note], sizes: Sequence[int]) -> list[Tensor | None]:
    """All notes of a party in one frame."""
    sends, arrivals = [], []
    frames: dict[int, Tensor] = {}
    for party in (0, 1):
        if not sizes[party]:
            continue
        here, there = session.parties[party], session.parties[1 - party]
        if party in session.party_indices:
            mine = [t.contiguous().view(-1).view(torch.uint8) for n in notes if (t := _sent(n, party)) is not None]
            sends.append(Parcel(here, there, torch.cat(mine) if len(mine) > 1 else mine[0]))
        if 1 - party in session.party_indices:
            frames[party] = torch.empty(sizes[party], dtype=torch.uint8)
            arrivals.append(Parcel(here, there, frames[party]))
    session.transport.exchange(sends, arrivals)
    at = [0, 0]
    out: list[Tensor | None] = []
    for note in notes:
        if 1 - note.sender not in session.party_indices:
            out.append(None)
            continue
        if not note.size:
            out.append(torch.empty(note.shape, dtype=note.dtype))
            continue
        begin = at[note.sender]
        at[note.sender] = begin + note.size
        piece = frames[note.sender][begin : begin + note.size]
        piece = piece.clone() if begin % 8 else piece  # so that its bytes may be read as words
        out.append(piece.view(note.dtype).view(note.shape))
    return out


def _sent(note: Note, party: int) -> Tensor | None:
    """What this party sends of a note, if it sends anything."""
    return note.tensor if note.sender == party and note.size else None
