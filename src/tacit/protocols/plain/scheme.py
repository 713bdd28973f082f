"""What the plain scheme asks of its roles: nothing, and it promises them nothing."""

from __future__ import annotations

from tacit.session.roles import Scheme

__all__ = ["SCHEME"]

SCHEME = Scheme(
    name="plain",
    threat="nothing is hidden: all values stand in one process, for tests and for checking programs",
    least=1,
    networked=False,
)
