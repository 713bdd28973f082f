"""How a secret comes in, as shares of what its owner knows; `tacit.protocols.leaving` says how it goes out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tacit.errors import ConfigError
from tacit.session.session import Session

__all__ = ["from_owner"]


def from_owner(
    session: Session,
    value: Tensor | None,
    owner: str,
    draw: Callable[..., Tensor],
    without: Callable[[Tensor, Tensor], Tensor],
) -> list[Tensor]:
    """Shares of what an owner knows: every other party draws its own from a key stream it shares with the owner."""
    session.check_open()
    if owner not in session.parties:
        raise ConfigError(f"{owner!r} cannot own data: the computing parties are {', '.join(session.parties)}")
    parts = []
    for index in session.party_indices:
        here = session.parties[index]
        if here != owner:
            parts.append(draw(session.stream(here, owner, f"input of {owner}")))
            continue
        assert value is not None
        rest = value
        for peer in session.parties:
            if peer != owner:
                rest = without(rest, draw(session.stream(here, peer, f"input of {owner}")))
        parts.append(rest)
    return parts
