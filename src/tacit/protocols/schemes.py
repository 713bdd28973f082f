"""Every scheme there is, by the name that configs call it. A new one is a folder beside `additive`, and a line here."""

from __future__ import annotations

from tacit.protocols.additive.protocol import Additive
from tacit.protocols.plain.protocol import Plain
from tacit.protocols.protocol import Protocol
from tacit.session.roles import register
from tacit.session.session import Session

__all__ = ["PROTOCOLS", "protocol_of"]

PROTOCOLS: dict[str, type[Protocol]] = {kind.scheme.name: kind for kind in (Additive, Plain)}

for _kind in PROTOCOLS.values():
    register(_kind.scheme)


def protocol_of(session: Session) -> Protocol:
    """Begin the protocol that a session's config names."""
    return PROTOCOLS[session.config.protocol](session)
