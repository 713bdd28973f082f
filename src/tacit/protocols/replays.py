"""What a scheme tells a recording of a step, so that it may be replayed: see `tacit.replay`.

A recorded step began with secrets in some form (what is open of them, which masks are in their shares), and ended with
others. It may be replayed where it would begin in the same form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from torch import Tensor, UntypedStorage

if TYPE_CHECKING:
    from tacit.protocols.values import Value

__all__ = ["Copies", "Form", "Replays"]


class Form(ABC):
    """The form of several secrets: what two of them have in common is part of it."""

    tensors: list[Tensor]
    """What they are made of, in the order of their form."""

    @abstractmethod
    def input(self, value: Value) -> Hashable:
        """The form of an argument. Nothing is opened for it.

        Raises:
            Unsteady: if steps that begin with it cannot be replayed.
        """

    @abstractmethod
    def state(self, value: Value) -> Hashable:
        """The form of what a step writes to, of which nothing else is known. Raises as `input`."""


class Copies(ABC):
    """Copies of a scheme's objects around other tensors."""

    @abstractmethod
    def of(self, x: Any) -> Any:
        """The copy of a value, or of what it holds; one for each object. Raises `NotReplayed` where there is none."""


class Replays(ABC):
    """A scheme whose steps can be recorded."""

    kernels: list[Any]
    """The modules that call native kernels for it."""

    @property
    @abstractmethod
    def turn(self) -> int:
        """How often something was dealt: whose turn it is follows from that, modulo the number of parties."""

    @abstractmethod
    def pass_turns(self, count: int) -> None:
        """Say that so much more was dealt."""

    @abstractmethod
    def form(self) -> Form:
        """Begin a form."""

    @abstractmethod
    def pins(self, value: Value) -> list[Any]:
        """Everything that is known of a value that is not written to, to be compared by identity, or by value."""

    @abstractmethod
    def memory(self) -> dict[int, UntypedStorage]:
        """All memory that secrets and their masks are in now, in the process, by addresses."""

    @abstractmethod
    def shares(self, value: Value) -> list[Tensor]:
        """The memory that it is kept in."""

    @abstractmethod
    def missing(self, value: Value) -> Any:
        """What its shares are short of, to be copied."""

    @abstractmethod
    def miss(self, value: Value, missing: Any) -> None:
        """Say what they are short of from now on."""

    @abstractmethod
    def is_clean(self, value: Value) -> bool:
        """Whether nothing is known of a value, as after a write."""

    @abstractmethod
    def copies(self, at: Callable[[Tensor], Tensor], kept: dict[int, Any], refused: dict[int, str]) -> Copies:
        """Begin copies. `at` gives tensors; objects stay that are `kept`, and `refused` ones may not be among them."""
