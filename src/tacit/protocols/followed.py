"""Public numbers that are another at each call of a recorded step: a learning rate, the corrections of Adam's averages.

All that is made of them has one form whatever they are: a ring element by which a secret is multiplied. Where a step
is recorded, whoever makes that element says how it follows from the number, and a replay makes it anew. A number that
would go another way, such as a power of two, is for another recording.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any

from torch import Tensor

__all__ = ["Followed", "Follower", "Ring", "follow", "follower", "number"]


class Ring(int):
    """A ring element that is made of one: what kernels are given as a number."""


class Followed(float):
    """A public number that is followed, where it is used once."""

    follower: Follower
    origin: Any
    """What its follower knows it by."""

    def goes(self, way: Callable[[float], Hashable]) -> None:
        """Say what must be the same of it for a replay."""
        self.follower.goes(self, way, way(self))

    def ring(self, make: Callable[[float], int | None]) -> int:
        """What `make` makes of it, which is None where it makes nothing of that form."""
        made = make(self)
        assert made is not None
        out: int = self.follower.made(self, Ring(made), make)
        return out

    def element(self, t: Tensor, make: Callable[[float], int | None]) -> Tensor:
        """The same as a tensor, of which t is one already."""
        out: Tensor = self.follower.made(self, t, make)
        return out


class Follower(ABC):
    """A recording that follows numbers."""

    @abstractmethod
    def step_begins(self, optimizer: Any) -> None:
        """A step of an optimizer begins, and with it its numbers count."""

    @abstractmethod
    def step_ends(self) -> None:
        """It has ended."""

    @abstractmethod
    def find(self, place: str, value: float) -> Followed | None:
        """The number that stands at a place of an optimizer's step, if it is one that changes."""

    @abstractmethod
    def goes(self, number: Followed, way: Callable[[float], Hashable], before: Hashable) -> None:
        """See `Followed.goes`."""

    @abstractmethod
    def made(self, number: Followed, element: Ring | Tensor, make: Callable[[float], int | None]) -> Any:
        """A ring element is made of it; the same one, or a tensor of its own memory."""


class _Here(threading.local):
    follower: Follower | None = None


_here = _Here()


def follower() -> Follower | None:
    """The recording of this thread that follows numbers."""
    return _here.follower


def follow(it: Follower | None) -> None:
    """Have it follow numbers in this thread from now on."""
    _here.follower = it


def number(place: str, value: float) -> float:
    """A public factor at a place of an optimizer's step: as it is, or followed."""
    it = _here.follower
    found = None if it is None else it.find(place, value)
    return value if found is None else found
