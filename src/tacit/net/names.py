"""What a process of a role is called on its links, where a role is several of them: its name and its rank."""

from __future__ import annotations

__all__ = ["plain"]


def plain(name: str) -> str:
    """The role of `alice[1]`, which is `alice`: names of roles have no brackets."""
    return name.partition("[")[0]
