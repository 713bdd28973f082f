"""What products register with sessions: settings of their own, and receivers that are no roles.

A session knows roles and no product. `tacit.products` names all there are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

from tacit.session.addresses import Address

__all__ = [
    "GUEST",
    "Block",
    "Outsider",
    "block_kinds",
    "complete",
    "outsider_of",
    "outsiders",
    "register_block",
    "register_outsider",
]


GUEST = "client"
"""Whoever comes to a server that computes with its clients: the other role of a config that names one alone."""


@dataclass(frozen=True, slots=True)
class Outsider:
    """Somebody who plays no role and may be given values: what policies and ledgers call them."""

    word: str
    """In a reveal policy. "all" are the roles, and nobody of these."""
    one: str
    """In a ledger: by this name or, where there are `many`, by one that begins with it and a space."""
    who: str
    """Whom the word stands for, in a sentence."""
    many: bool = False
    """Whether there are several, each with a name."""

    def named(self, name: object) -> str:
        """What the ledger calls one of several."""
        return f"{self.one} {name}"

    def includes(self, receiver: str) -> bool:
        """Whether a receiver in a ledger's line is one of these."""
        return receiver == self.one or (self.many and receiver.startswith(f"{self.one} "))


class Block(ABC):
    """A product's own settings: a frozen dataclass, whose fields are keys of a config under "tacit"."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @classmethod
    @abstractmethod
    def read(cls, given: Mapping[str, Any], parties: Sequence[str], folder: Path) -> Self:
        """Check the settings; those that are absent keep their defaults. Relative paths start at the folder."""

    @abstractmethod
    def listening(self, parties: Sequence[str]) -> Iterator[tuple[str, Address]]:
        """The addresses at which roles will listen for this product, each with what an error calls it."""

    @classmethod
    @abstractmethod
    def trial(cls, parties: Sequence[str], address: Callable[[], str]) -> dict[str, object]:
        """What to set for trying out on one machine; `address` gives another free address at each call."""


_OUTSIDERS: list[Outsider] = []
_BLOCKS: list[type[Block]] = []


@cache
def complete() -> None:
    """Import whatever registers. Whoever reads a config first may have imported none of it."""
    for name in ("tacit.protocols.schemes", "tacit.products"):
        import_module(name)


def register_outsider(outsider: Outsider) -> Outsider:
    """Let policies name somebody who is no role."""
    taken = {word for known in _OUTSIDERS for word in (known.word, known.one)}
    if not taken.isdisjoint((outsider.word, outsider.one)):
        raise ValueError(f"policies or ledgers call somebody else {outsider.word!r} or {outsider.one!r}")
    _OUTSIDERS.append(outsider)
    return outsider


def register_block(kind: type[Block]) -> None:
    """Let configs hold a product's settings."""
    keys = {field.name for known in _BLOCKS for field in fields(known)}
    if again := keys.intersection(field.name for field in fields(kind)):
        raise ValueError(f"{', '.join(sorted(again))} are settings of another product")
    _BLOCKS.append(kind)


def outsiders() -> tuple[Outsider, ...]:
    """All receivers that are no roles."""
    complete()
    return tuple(_OUTSIDERS)


def outsider_of(receiver: str) -> Outsider | None:
    """Whom a receiver in a ledger's line belongs to; None for a role."""
    return next((known for known in outsiders() if known.includes(receiver)), None)


def block_kinds() -> tuple[type[Block], ...]:
    """The settings of all products."""
    complete()
    return tuple(_BLOCKS)
