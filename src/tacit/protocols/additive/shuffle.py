"""Rows in an order that nobody knows: each party in its turn permutes them, in an order that it and its source know.

In the turn of party p, who knows π, every other party j has uniform masks a_j and b_j, and sends p its share under one:

    m_j = x_j - a_j        x'_p = π(x_p + Σ_j m_j) + Δ        x'_j = b_j        Δ = π(Σ_j a_j) - Σ_j b_j

so that the new shares add up to π(x). p sees the m_j, each under a mask of its own, and Δ, which is masked by the b_j:
uniform words. The others see nothing. When all parties have had their turn, the order is uniform to whoever lacks one
of them. Bits go the same way, by XOR. A permutation that a sharing goes through is the share translation of [CGP20];
here it is dealt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.protocols.additive.source.base import Source, Turn
from tacit.protocols.additive.source.dealing import packed, unpacked, wire_bytes
from tacit.ring.memory import space
from tacit.session.session import Session

__all__ = ["turned"]


def turned(session: Session, source: Source, holder: int, rows: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """Permute the rows of values by one party's order. One round; each other party sends it all of its shares.

    `rows` has, for each value, a share for each hosted party, or the shape at a role without one, as a meta tensor.
    """
    session.check_open()
    shapes, kinds = [r[0].shape for r in rows], [r[0].dtype for r in rows]
    turn = source.turn(holder, shapes, kinds)
    size = sum(wire_bytes(s, k) for s, k in zip(shapes, kinds, strict=True))
    session.meter.round({name: size * (i != holder) for i, name in enumerate(session.parties)})
    hosted = session.party_indices
    if not hosted:
        return [[torch.empty_like(r[0])] for r in rows]
    names, at = session.parties, names_of(hosted)
    sends, arrivals, incoming = [], [], []
    for value, row in enumerate(rows):
        if holder in hosted:
            size = wire_bytes(shapes[value], kinds[value])
            incoming.append([space((size,), torch.uint8) for _ in range(len(names) - 1)])
            others = [name for i, name in enumerate(names) if i != holder]
            arrivals += [Parcel(name, names[holder], t) for name, t in zip(others, incoming[-1], strict=True)]
        for i in hosted:
            if i != holder:
                sends.append(Parcel(names[i], names[holder], packed(without(row[at[i]], turn.masks[i][value]))))
    session.transport.exchange(sends, arrivals)
    out: list[list[Tensor]] = []
    for value, row in enumerate(rows):
        parts = []
        for i in hosted:
            if i != holder:
                parts.append(turn.fresh[i][value])
                continue
            total = row[at[i]]
            for piece in incoming[value]:
                total = joined(total, unpacked(piece, shapes[value], kinds[value]))
            parts.append(joined(permuted(total, turn), turn.change[value]))
        out.append(parts)
    return out


def names_of(hosted: Sequence[int]) -> dict[int, int]:
    """Where each hosted party's share stands."""
    return {index: place for place, index in enumerate(hosted)}


def permuted(x: Tensor, turn: Turn) -> Tensor:
    """π(x), at the party that knows π."""
    assert turn.order is not None
    return x[turn.order]


def joined(x: Tensor, y: Tensor) -> Tensor:
    """The sum of numbers, the XOR of bits."""
    return x ^ y if x.dtype == torch.uint8 else x + y


def without(x: Tensor, y: Tensor) -> Tensor:
    """The difference of numbers, the XOR of bits, contiguous."""
    return (x ^ y if x.dtype == torch.uint8 else x - y).contiguous()
