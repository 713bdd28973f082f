"""How a secret leaves the two parties, re-randomised: to one or both of them, or as shares for somebody else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.ring import kernels
from tacit.ring.ring import RING
from tacit.session.session import Session

__all__ = ["refreshed", "revealed"]


def refreshed(session: Session, parts: Sequence[Tensor], *, binary: bool = False) -> list[Tensor]:
    """Fresh shares, which say nothing beyond their sum: x₀ + s and x₁ - s, s from a key stream of both. Local."""
    session.check_open()
    out = []
    for index, part in zip(session.party_indices, parts, strict=True):
        stream = session.stream(session.parties[index], session.parties[1 - index], "zero")
        if binary:
            out.append(part.contiguous() ^ stream.bits(part.numel()).view(part.shape))
        else:
            s = stream.ring(part.shape)
            out.append(part + s if index == 0 else part - s)
    return out


def revealed(
    session: Session, parts: Sequence[Tensor], shape: torch.Size, receivers: Sequence[str], *, binary: bool
) -> Tensor | None:
    """The secret where a receiver is in this process, else None. One hop, to whom of the other parties receives."""
    fresh = refreshed(session, parts, binary=binary)
    if binary:
        fresh = [kernels.on(t).pack_bits(t) for t in fresh]
    count = shape.numel()
    size = (count + 7) // 8 if binary else RING.bytes * count
    session.meter.round({p: size * sum(r != p for r in receivers) for p in session.parties})
    sends, arrivals = [], []
    found = None
    for index, mine in zip(session.party_indices, fresh, strict=True):
        here, there = session.parties[index], session.parties[1 - index]
        if there in receivers and size:
            sends.append(Parcel(here, there, mine.contiguous()))
        if here in receivers:
            other = torch.empty(mine.shape, dtype=mine.dtype)
            if size:
                arrivals.append(Parcel(there, here, other))
            found = found or (mine.contiguous(), other)
    session.transport.exchange(sends, arrivals)
    if found is None:
        return None
    total = found[0] ^ found[1] if binary else found[0] + found[1]
    return kernels.on(total).unpack_bits(total, count).view(shape) if binary else total
