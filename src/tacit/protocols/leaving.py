"""How a secret leaves parties whose shares add up to it, or XOR: re-randomised, to roles or as shares for others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import iadd, ixor

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.ring import kernels
from tacit.ring.ring import RING
from tacit.session.session import Session

__all__ = ["ZERO", "refreshed", "revealed"]

ZERO = "zero"
"""The purpose of the key streams of pairs that sharings of zero come from."""


def refreshed(session: Session, shares: Sequence[Tensor], *, binary: bool = False) -> list[Tensor]:
    """Fresh shares of the parties hosted here, which say nothing beyond their sum. Local."""
    session.check_open()
    return [_fresh(session, i, t.contiguous(), binary) for i, t in zip(session.party_indices, shares, strict=False)]


def _fresh(session: Session, index: int, part: Tensor, binary: bool) -> Tensor:
    """part + Σ_{j > i} s_ij - Σ_{j < i} s_ji, with s_ij from the key stream of the pair; the sum over i is zero."""
    fresh = part.clone(memory_format=torch.contiguous_format)  # both ends of a stream add it in one order
    for other, peer in enumerate(session.parties):
        if other == index:
            continue
        stream = session.stream(session.parties[index], peer, ZERO)
        if binary:
            fresh ^= stream.bits(part.numel()).view(part.shape)
        elif other > index:
            stream.add_to(fresh)
        else:
            stream.subtract_from(fresh)
    return fresh


def revealed(
    session: Session, shares: Sequence[Tensor], shape: torch.Size, receivers: Sequence[str], *, binary: bool
) -> Tensor | None:
    """Each party adds a fresh sharing of zero before its share leaves; None where no receiver is hosted. One round."""
    fresh = refreshed(session, shares, binary=binary)
    if binary:
        fresh = [kernels.on(t).pack_bits(t) for t in fresh]
    count = shape.numel()
    size = (count + 7) // 8 if binary else RING.bytes * count
    names = [session.parties[i] for i in session.party_indices]
    session.meter.round({p: size * sum(r != p for r in receivers) for p in session.parties})
    sends = [Parcel(n, r, t) for n, t in zip(names, fresh, strict=True) for r in receivers if r != n]
    arrivals: dict[str, list[Tensor]] = {r: [] for r in receivers if r in session.transport.hosted}
    incoming = []
    for receiver, tensors in arrivals.items():
        for party in session.parties:
            if party != receiver:
                space = torch.empty((size,), dtype=torch.uint8) if binary else torch.empty(shape, dtype=RING.dtype)
                tensors.append(space)
                incoming.append(Parcel(party, receiver, space))
    session.transport.exchange(sends, incoming)
    if not arrivals:
        return None
    receiver, tensors = next(iter(arrivals.items()))
    total = reduce(ixor if binary else iadd, tensors + [t for n, t in zip(names, fresh, strict=True) if n == receiver])
    return kernels.on(total).unpack_bits(total, count).view(shape) if binary else total
