"""How a secret comes in: masked by what its owner and the producer know. How it goes out, `protocols/leaving` says.

    E = x - a        c = b ^ β        from the owner to all the others, once, when it shares x

The shares are E at the first party, a at the owner, and zero elsewhere. So an owner is bound to x before it has seen
anything, and what it sends is a public E less a mask that the producer knows: what a check of roles that cheat needs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.errors import ConfigError
from tacit.net.transport import Parcel
from tacit.ring.memory import space
from tacit.session.session import Session

__all__ = ["LARGE_BYTES", "given", "owner_index"]

LARGE_BYTES = 1 << 16
"""A party's bytes in a round from which on tensors travel one by one. Fewer: more frames, of 21 bytes and some 20 µs
each; more: larger tensors are copied together at one end and apart at the other."""


def owner_index(session: Session, owner: str) -> int:
    """Which of the parties shares something."""
    session.check_open()
    if owner not in session.parties:
        raise ConfigError(f"{owner!r} cannot own data: the computing parties are {', '.join(session.parties)}")
    return session.parties.index(owner)


def given(
    session: Session,
    masked: Tensor | None,
    owner: int,
    shape: torch.Size,
    dtype: torch.dtype,
    *,
    beside: bool = False,
) -> Tensor | None:
    """What an owner sends to all other parties; `masked` at the owner, and None where no party is hosted.

    Nobody waits for anything but its arrival, so several of these in a row are one round, and what goes out `beside` an
    opening that follows takes none.
    """
    names, size = session.parties, shape.numel() * dtype.itemsize
    session.meter.given(names[owner], (len(names) - 1) * size, beside=beside)
    if not session.party_indices or not size:
        return masked if masked is not None or not session.party_indices else torch.empty(shape, dtype=dtype)
    arrivals = [Parcel(names[owner], names[i], space(shape, dtype)) for i in session.party_indices if i != owner]
    sends = [] if masked is None else [Parcel(names[owner], peer, masked) for peer in names if peer != names[owner]]
    if size < LARGE_BYTES:
        session.transport.exchange(sends, arrivals)
    else:  # the owner goes on while these travel
        for parcel in sends:
            session.transport.send(parcel)
        for parcel in arrivals:
            session.transport.receive(parcel)
    found = arrivals[0].tensor if masked is None else masked
    session.witness(found)
    return found
