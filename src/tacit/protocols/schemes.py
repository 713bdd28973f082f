"""Every scheme there is, by the name that configs call it. A new one is a folder beside `additive`, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tacit.errors import ConfigError
from tacit.protocols.additive.matching import Helped
from tacit.protocols.additive.protocol import Additive
from tacit.protocols.matching import Matcher
from tacit.protocols.plain.matching import InTheOpen
from tacit.protocols.plain.protocol import Plain
from tacit.protocols.protocol import Protocol
from tacit.protocols.two_party.matching import Alone
from tacit.protocols.two_party.protocol import TwoParty
from tacit.session.roles import register
from tacit.session.session import Session

__all__ = ["MATCHERS", "PROTOCOLS", "matcher_of", "protocol_of"]

PROTOCOLS: dict[str, type[Protocol]] = {kind.scheme.name: kind for kind in (Additive, Plain, TwoParty)}

MATCHERS: dict[str, Callable[[Any], Matcher]] = {
    Additive.scheme.name: Helped,
    Plain.scheme.name: InTheOpen,
    TwoParty.scheme.name: Alone,
}
"""How those that can find the rows that belong together do it."""

for _kind in PROTOCOLS.values():
    register(_kind.scheme)


def protocol_of(session: Session) -> Protocol:
    """Begin the protocol that a session's config names."""
    return PROTOCOLS[session.config.protocol](session)


def matcher_of(protocol: Protocol) -> Matcher:
    """What finds rows that belong together, by the scheme of a protocol."""
    matcher = MATCHERS.get(protocol.scheme.name)
    if matcher is None:
        able = " or ".join(map(repr, MATCHERS))
        raise ConfigError(f"the protocol {protocol.scheme.name!r} has no way to match keys: choose {able}")
    return matcher(protocol)
