"""What one party computes of its own data and shares in its turn, such as the rows that its class labels stand for.

Where a step is recorded, whoever records it is told: what the party computes is one thing to it, which a replay does
anew, and all that is shared in between is part of the step.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

__all__ = ["Onlooker", "computed", "look_on", "sharing"]

Compute = Callable[[Tensor], Tensor]


class Onlooker(ABC):
    """A recording that sees what parties compute of their own data."""

    @abstractmethod
    def sharing(self) -> AbstractContextManager[None]:
        """While this is entered, a party shares what it has computed."""

    @abstractmethod
    def computed(self, compute: Compute, value: Tensor) -> Tensor:
        """What a party computes, in memory of its own."""


class _Here(threading.local):
    onlooker: Onlooker | None = None


_here = _Here()


def look_on(it: Onlooker | None) -> None:
    """Have it see this thread from now on."""
    _here.onlooker = it


def computed(compute: Compute, value: Tensor) -> Tensor:
    """compute(value), of which nothing but the value differs from one call of a recorded step to the next."""
    it = _here.onlooker
    return (compute(value) if it is None else it.computed(compute, value)).contiguous()


def sharing() -> AbstractContextManager[None]:
    """Entered by all roles where a party shares what it has computed."""
    it = _here.onlooker
    return nullcontext() if it is None else it.sharing()
