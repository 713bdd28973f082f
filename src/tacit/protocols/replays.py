"""What a scheme tells a recording of a step, so that it may be replayed: see `tacit.replay`.

A recorded step began with secrets in some form (what is open of them, which masks are in their shares), and ended with
others. It may be replayed where it would begin in the same form. What passes in and out shares no mask with anything
else, whether a call is replayed, recorded or runs as it is written: a replay makes objects anew, and a mask that two of
them have must not be taken for two masks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, UntypedStorage

from tacit.protocols.scale import Scale

if TYPE_CHECKING:
    from tacit.protocols.values import Value

__all__ = ["Form", "Left", "Replays"]


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
    def sum(self, value: Value) -> Hashable:
        """The form of what a step adds to, in place, wherever it is: a gradient. Raises as `input`."""

    @abstractmethod
    def state(self, value: Value) -> Hashable:
        """The form of what a step writes to, of which nothing else is known. Raises as `input`."""


class Left(NamedTuple):
    """A secret that stands alone: what it is made of, and nothing else is known of it."""

    kind: type[Value]
    scale: Scale
    held: list[Tensor]
    masked: bool
    """Whether a mask is in its shares, which will never be opened under it alone."""
    mask: Tensor | None
    """That mask, where the producer is."""

    @property
    def tensors(self) -> list[Tensor]:
        """All that it is made of."""
        return self.held if self.mask is None else [*self.held, self.mask]

    def at(self, place: Callable[[Tensor], Tensor]) -> Left:
        """The same of other tensors."""
        return self._replace(held=list(map(place, self.held)), mask=None if self.mask is None else place(self.mask))


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

    # --- where secrets pass in and out, alike at every call and every role --------------------------------------------

    @abstractmethod
    def whole(self, value: Value) -> None:
        """Have an argument's shares add up to it, so that it shares no mask with anything. 8 bytes an element, if any
        was in them."""

    @abstractmethod
    def alone(self, value: Value) -> None:
        """Have what a step reads, or has written to, share no mask that anything may still be opened under. Local."""

    @abstractmethod
    def forget(self, value: Value) -> None:
        """Have nothing be known of a value, as after a write, and its mask be `alone`. Local."""

    @abstractmethod
    def renew(self, value: Value) -> None:
        """Forget what a step works out anew, see `Remembered`, of what it is given or reads. Local."""

    @abstractmethod
    def apart(self, value: Value) -> Value:
        """A copy of what a step leaves, of which nothing is known, and which shares no mask with anything. Local."""

    @abstractmethod
    def left(self, value: Value) -> Left:
        """What a copy that `apart` has made, or what is `alone`, is made of."""

    @abstractmethod
    def made(self, left: Left) -> Value:
        """Such a copy, around the tensors themselves."""

    @abstractmethod
    def miss(self, value: Value, left: Left) -> None:
        """Say which mask is in the shares of what was written to: the one there."""

    # --- what is known of secrets -------------------------------------------------------------------------------------

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
    def is_clean(self, value: Value) -> bool:
        """Whether nothing is known of a value, as after a write."""
