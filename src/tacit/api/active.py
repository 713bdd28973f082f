"""Which session is open, and which role this process plays in it."""

from __future__ import annotations

import atexit
import os
import sys

from tacit.errors import ConfigError, TacitError
from tacit.protocols.protocol import Protocol
from tacit.session.session import Session

__all__ = ["active_protocol", "current_session", "enter", "is_role", "role"]

_active: list[Protocol] = []


def enter(protocol: Protocol) -> None:
    """Make a protocol the innermost one."""
    _active.append(protocol)


def active_protocol() -> Protocol:
    """The protocol of the innermost open session. Raises `TacitError` if there is none."""
    while _active and _active[-1].session.closed:
        _active.pop()
    if not _active:
        raise TacitError("there is no session: write `with tacit.session():` around this")
    return _active[-1]


@atexit.register
def _close_all() -> None:
    for protocol in reversed(_active):
        protocol.session.end(getattr(sys, "last_value", None))


def _leave_behind() -> None:
    for protocol in _active:
        protocol.session.leave_behind()
    _active.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_behind)


def current_session() -> Session:
    """The innermost open session. Raises `TacitError` if there is none."""
    return active_protocol().session


def role() -> str:
    """The name of the role that this process plays, or "embedded" where it plays all of them."""
    return current_session().role


def is_role(name: str) -> bool:
    """Whether this process plays the role: the condition for work that one role does alone.

    True for every role in the embedded mode. Work under it must touch no secret, because the others do not do it.
    """
    opened = current_session()
    roles = opened.transport.roles if opened.supply is None else opened.config.roles
    if name not in roles:
        raise ConfigError(f"there is no role {name!r} in this session; its roles are {', '.join(roles)}")
    return opened.embedded or opened.role == name
