"""Rows in an order that nobody knows, or in that of a secret key: networks of switches, and comparisons in the open.

Each party in its turn brings the rows into an order that it draws; see `switches`. To either the rows then stand in a
uniform order, for it lacks the other's.

To sort them, the parties compare keys of rows so shuffled, two at a time, and open what comes first; see `partition`.
In the end both know where each shuffled row belongs, and move it there.

*Privacy.* Rows with equal keys come in the order of the places that they had, which are shuffled with them and stay
secret. So of n rows no two are equal, and which shuffled row has which rank is a permutation: uniform, and independent
of the keys, since the shuffle is uniform and independent of them. All outcomes, which comparisons are made next, and
how many there are, follow from this permutation. Whoever draws one can make up everything that is opened. (With ties
that are not broken so, the number of equal keys would show.) What is sent beside is a comparison's or a network's. Of
several columns each is shuffled by itself: how the order of one goes with that of another stays unknown.

Ref: [HKICT12] for the shuffle before comparisons that are opened.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.protocols.matching import permutation
from tacit.protocols.two_party import kernels
from tacit.protocols.two_party.comparison import before
from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.oblivious import Switches
from tacit.protocols.two_party.partition import ascending
from tacit.ring.prg import Stream

if TYPE_CHECKING:
    from tacit.protocols.two_party.transfers import Transfers
    from tacit.session.session import Session

__all__ = ["Rows", "arranged", "shuffled", "sorted_by", "sorted_by_owner"]

Rows = dict[int, Tensor]
"""Shares of rows of each party here: int64 [n, words]."""


def shuffled(session: Session, transfers: Transfers, rows: Rows, columns: int = 1) -> Rows:
    """Rows in a uniform order that neither party knows; of several columns under each other, each in one of its own.

    Cost: two networks of switches, see `Switches.move`.
    """
    for holder in (0, 1):
        order = None
        if holder in rows:
            stream, count = Stream(os.urandom(16)), len(rows[holder]) // columns
            order = torch.cat([permutation(stream, count) + count * column for column in range(columns)])
        rows = _turned(session, transfers, holder, order, rows)
    return rows


def _turned(session: Session, transfers: Transfers, holder: int, order: Tensor | None, rows: Rows) -> Rows:
    """Row i is what was row order[i], which the holder knows."""
    count = len(next(iter(rows.values())))
    return Switches(session, transfers).move(holder, order, {i: t.contiguous() for i, t in rows.items()}, count)


def sorted_by(session: Session, transfers: Transfers, rows: Rows, columns: int) -> Rows:
    """Rows of columns under each other, whose first words are keys, in ascending order; equal ones keep their order.

    Domain: differences of keys below 2^63.
    Cost: two networks of switches of the words and one more; about n log2 n comparisons of the n rows of a column, each
    a half dearer than others for the ties, and a bit of each; eight hops for each of some 2 log2 n calls.
    """
    count = len(next(iter(rows.values()))) // columns
    width = max(count.bit_length() + 3, 4) // 4
    place = torch.arange(count).repeat(columns)[:, None]
    beside = {i: torch.cat([t, place if i == 0 else torch.zeros_like(place)], 1) for i, t in rows.items()}
    mixed = shuffled(session, transfers, beside, columns)
    ends = [[t[:, k].clone(memory_format=torch.contiguous_format) for t in mixed.values()] for k in (0, -1)]

    def compare(left: Tensor, right: Tensor) -> Tensor:
        steps = [[t[left] - t[right] for t in row] for row in ends]
        return _opened(session, before(session, transfers, steps[0], steps[1], width))

    order = ascending(compare, [count] * columns)
    return {i: t[order, :-1] for i, t in mixed.items()}


def sorted_by_owner(session: Session, transfers: Transfers, owner: int, rows: Rows, columns: int) -> Rows:
    """The same where one party knows the first words of rows, so their order.   Cost: a network of switches."""
    order = None
    if owner in rows:
        keys = rows[owner][:, 0].view(columns, -1)
        order = (keys.argsort(dim=1, stable=True) + torch.arange(columns)[:, None] * keys.shape[1]).view(-1)
    return _turned(session, transfers, owner, order, rows)


def arranged(session: Session, transfers: Transfers, rows: Rows) -> Rows:
    """Rows at the places that their first words say, without these.   Cost: that of a shuffle, and 8 bytes a row.

    What is opened are places in a uniform order: a uniform permutation, whatever the places were.
    """
    mixed = shuffled(session, transfers, rows)
    at = {i: t[:, 0].clone(memory_format=torch.contiguous_format) for i, t in mixed.items()}
    mine, theirs = _exchanged(session, at)
    order = mine + theirs
    back = order.argsort()
    if not torch.equal(order[back], torch.arange(len(order))):
        raise TacitError("places that rows were to be arranged at are no permutation: a bug of Tacit")
    return {i: t[back, 1:] for i, t in mixed.items()}


def _opened(session: Session, shares: Sequence[Tensor]) -> Tensor:
    """Bits that both may know, bool [n], of uint8 shares of each party here. One hop, of a bit each."""
    planes = [kernels.on(t).pack_bits(t) for t in shares]
    mine, theirs = _exchanged(session, dict(zip(session.party_indices, planes, strict=True)))
    return kernels.on(mine).unpack_bits(mine ^ theirs, shares[0].numel()).to(torch.bool)


def _exchanged(session: Session, shares: Rows) -> tuple[Tensor, Tensor]:
    """Both parts of what is opened: a party's own, and what it is sent. One hop."""
    like = next(iter(shares.values()))
    notes = [Note(party, tuple(like.shape), like.dtype, shares.get(party)) for party in (0, 1)]
    arrived = hop(session, notes)
    here = session.party_indices[-1]  # of two in one process either will do
    theirs = arrived[1 - here]
    assert theirs is not None
    return shares[here], theirs
