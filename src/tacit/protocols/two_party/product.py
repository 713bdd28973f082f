"""Cross terms of few products by oblivious transfer [Gil99]: the bits of one party's number, and the other's number.

    a v  =  Σ_i a_i 2^i v        for a of the receiver and v of the sender

Of the i-th product only what is below 2^(64 - i) counts, so its words shrink. Many products are made by `lattice`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from tacit.protocols.two_party import ole
from tacit.ring.ring import RING

if TYPE_CHECKING:
    from tacit.protocols.two_party.transfers import Transfers
    from tacit.session.session import Session

__all__ = ["Cross", "crossed"]


class Cross(NamedTuple):
    """a v elementwise, of one shape [n]: a of the receiver, with so many bits below its sign, v of the sender."""

    sender: int
    length: int
    a: Tensor | None
    v: Tensor | None
    bits: int = RING.bits
    """a is a signed number of so many bits, -2^(bits - 1) <= a < 2^(bits - 1)."""


def crossed(session: Session, transfers: Transfers, pairs: Sequence[Cross]) -> list[list[Tensor]]:
    """Shares of a v mod 2^64 for each pair. One hop: for 64 bits, of 36 x 8 bytes and 64 bits an element."""
    jobs, owners = [], []
    for k, pair in enumerate(pairs):
        for low in range(0, pair.bits, 8):
            places = range(low, min(low + 8, pair.bits))
            bits = values = None
            if pair.a is not None:
                bits = torch.stack([(pair.a >> i & 1).to(torch.uint8) for i in places]).view(-1)
            if pair.v is not None:
                signs = [-1 if i == pair.bits - 1 else 1 for i in places]
                values = torch.stack([(pair.v << i) * s for i, s in zip(places, signs, strict=True)]).view(-1)
            jobs.append(ole.Job(pair.sender, len(places) * pair.length, bits, values, RING.bytes - low // 8))
            owners.append((k, len(places)))
    out: list[list[Tensor]] = [[] for _ in pairs]
    for (k, rows), shares in zip(owners, ole.numbers(session, transfers, jobs), strict=True):
        sums = [s.view(rows, -1).sum(0) for s in shares]
        out[k] = [a + b for a, b in zip(out[k], sums, strict=True)] if out[k] else sums
    return out
