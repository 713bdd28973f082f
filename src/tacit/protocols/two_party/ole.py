"""Products of one party's bits with the other's numbers, from one random oblivious transfer each: one hop.

The sender S of a transfer has random ring elements r₀ and r₁, the receiver R a random bit β and r_β. For a bit b of R
and a number v of S, R opens d = b ^ β and S opens e = v - (r₁ - r₀), both at once. With β = b ^ d,

    b v  =  d v + (1 - 2d) β v        β v  =  β e + (r_β - r₀)

    R:  (1 - 2d) (β e + r_β)          S:  d v - (1 - 2d) r₀

*Privacy.* β is uniform and S has never seen it, r₁ - r₀ is uniform given all that R holds (r_β, and so not both): d and
e are uniform, whatever b and v are.

Numbers whose low bits are zero, multiples of 2^(64 - 8 w), need w bytes of e: then all of it is read modulo 2^(8 w).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from tacit.protocols.two_party import kernels
from tacit.protocols.two_party.exchange import Note, hop
from tacit.ring.ring import RING

if TYPE_CHECKING:
    from tacit.protocols.two_party.transfers import Transfers
    from tacit.session.session import Session

__all__ = ["BitProduct", "Job", "bit_products", "numbers", "split"]

SPLIT = 1 << 10
"""Elements from which on either party is the sender for half of them, so that both directions carry as much. Fewer:
more frames and calls for little; more: one direction waits for the other."""


class Job(NamedTuple):
    """b v for bits b of one party and numbers v of the other, both of the shape [length]."""

    sender: int
    """Who has v."""
    length: int
    bits: Tensor | None
    """b, uint8, where its owner is in this process."""
    values: Tensor | None
    """v, int64, where its owner is in this process."""
    width: int = RING.bytes
    """Bytes w of v at the top of a ring element, below which it is zero."""


def numbers(session: Session, transfers: Transfers, jobs: Sequence[Job]) -> list[list[Tensor]]:
    """Shares of b v for each job, one for each party of this process. One hop, of w bytes and a bit an element."""
    orders = [transfers.order_words(job.sender, job.length) for job in jobs]
    transfers.make(orders)
    dealt = [order.entries for order in orders]
    notes = []
    kept: list[dict[int, tuple[Tensor, Tensor, Tensor]]] = []
    for job, entries in zip(jobs, dealt, strict=True):
        mine: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        d = e = None
        for index, entry in zip(session.party_indices, entries, strict=True):
            first, second = entry
            if index == job.sender:
                assert job.values is not None
                e = kernels.on(job.values).masked_numbers(job.values, first, second, job.width)
                mine[index] = (job.values, first, second)
            else:
                assert job.bits is not None
                flips = job.bits ^ first
                d = kernels.on(flips).pack_bits(flips)
                mine[index] = (first, second, flips)
        kept.append(mine)
        notes.append(Note(1 - job.sender, ((job.length + 7) // 8,), torch.uint8, d))
        notes.append(Note(job.sender, (job.length * job.width,), torch.uint8, e))
    arrived = iter(hop(session, notes))
    out = []
    for job, mine in zip(jobs, kept, strict=True):
        d, e = next(arrived), next(arrived)
        shares = []
        for index in session.party_indices:
            first, second, third = mine[index]
            if index == job.sender:
                assert d is not None
                bits = kernels.on(d).unpack_bits(d, job.length)
                shares.append(kernels.on(d).sender_share(bits, first, second, job.width))
            else:
                assert e is not None
                shares.append(kernels.on(e).receiver_share(third, first, second, e, job.width))
        out.append(shares)
    return out


def split(session: Session, count: int) -> list[tuple[int, slice]]:
    """Who is the sender for which elements of a product that either may send."""
    half = count // 2 if count >= SPLIT else 0
    return [(0, slice(0, half)), (1, slice(half, count))] if half else [(1, slice(0, count))]


class BitProduct(NamedTuple):
    """a b m for bits a of party 0 and b of party 1, [length], and a public m, a multiple of 2^(64 - 8 w)."""

    a: Tensor | None
    b: Tensor | None
    length: int
    m: int = 1
    width: int = RING.bytes


def bit_products(session: Session, transfers: Transfers, products: Sequence[BitProduct]) -> list[list[Tensor]]:
    """Shares of each product. One hop for all, of w bytes and a bit an element."""
    jobs, owners = [], []
    for k, (a, b, count, m, width) in enumerate(products):
        for sender, at in split(session, count):
            bits, values = (b, a) if sender == 0 else (a, b)
            cut = None if values is None else values[at].to(RING.dtype) * m
            jobs.append(Job(sender, at.stop - at.start, None if bits is None else bits[at], cut, width))
            owners.append(k)
    pieces: list[list[list[Tensor]]] = [[] for _ in products]
    for k, shares in zip(owners, numbers(session, transfers, jobs), strict=True):
        pieces[k].append(shares)
    return [p[0] if len(p) == 1 else [torch.cat(row) for row in zip(*p, strict=True)] for p in pieces]
