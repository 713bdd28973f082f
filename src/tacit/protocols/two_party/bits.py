"""Products of shared bits, as planes of eight to a byte: one random oblivious transfer a factor and direction, one hop.

    (c₀ ^ c₁) (v₀ ^ v₁)  =  c₀ v₀ ^ c₁ v₁ ^ c₀ v₁ ^ c₁ v₀

What one party has of one factor and the other of the other is as in `ole`, with ^ for + and -: the receiver opens
d = c ^ β, the sender e = v ^ r₀ ^ r₁, and they have β e ^ r_β and d v ^ r₀. A choice c that is common to several v
takes one transfer with a message of as many bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from tacit.protocols.two_party.exchange import Note, hop

if TYPE_CHECKING:
    from tacit.protocols.two_party.transfers import Transfers
    from tacit.session.session import Session

__all__ = ["BitJob", "both", "crossed"]


class BitJob(NamedTuple):
    """c v for planes c of one party and planes v of the other: [bytes], and [width, bytes]."""

    sender: int
    """Who has v."""
    length: int
    """Bytes of a plane."""
    width: int
    choice: Tensor | None
    values: Tensor | None


def crossed(session: Session, transfers: Transfers, jobs: Sequence[BitJob]) -> list[list[Tensor]]:
    """Shares of c v for each job, [width, bytes] for each party of this process. One hop, of 1 + width bits."""
    orders = [transfers.order_bits(job.sender, 8 * job.length, job.width) for job in jobs]
    transfers.make(orders)
    dealt = [order.entries for order in orders]
    notes = []
    for job, entries in zip(jobs, dealt, strict=True):
        d = e = None
        for index, (first, second) in zip(session.party_indices, entries, strict=True):
            if index == job.sender:
                assert job.values is not None
                e = job.values ^ first ^ second
            else:
                assert job.choice is not None
                d = job.choice ^ first
        notes.append(Note(1 - job.sender, (job.length,), torch.uint8, d))
        notes.append(Note(job.sender, (job.width, job.length), torch.uint8, e))
    arrived = iter(hop(session, notes))
    out = []
    for job, entries in zip(jobs, dealt, strict=True):
        d, e = next(arrived), next(arrived)
        shares = []
        for index, (first, second) in zip(session.party_indices, entries, strict=True):
            if index == job.sender:
                assert d is not None
                assert job.values is not None
                shares.append((d & job.values) ^ first)
            else:
                assert e is not None
                shares.append((first & e) ^ second)
        out.append(shares)
    return out


def both(session: Session, transfers: Transfers, choices: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
    """Shares of c v from shares of both, of [bytes] and [width, bytes]. One hop."""
    width, length = values[0].shape
    here = session.party_indices
    choice = dict(zip(here, choices, strict=True))
    value = dict(zip(here, values, strict=True))
    jobs = [BitJob(sender, length, width, choice.get(1 - sender), value.get(sender)) for sender in (0, 1)]
    first, second = crossed(session, transfers, jobs)
    return [(c & v) ^ a ^ b for c, v, a, b in zip(choices, values, first, second, strict=True)]
