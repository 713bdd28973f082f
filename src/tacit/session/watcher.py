"""What a session may have beside it: something that sees every operator, and something that looks at certain points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Guard", "Watcher"]


class Watcher(ABC):
    """Sees every operator on secrets, and what comes in and goes out. It sends nothing and changes nothing."""

    @abstractmethod
    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], handler: Callable[..., Any]) -> Any:
        """Run the operator: `handler(func, *args, **kwargs)`."""

    @abstractmethod
    def composed(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """An operator that is made of others, above autograd, has given a result."""

    @abstractmethod
    def shared(self, x: Any) -> None:
        """A secret was made of a plain value."""

    @abstractmethod
    def revealed(self, x: Any) -> None:
        """A secret, whose value has been computed, is about to be revealed."""

    @abstractmethod
    def replaced(self, before: Sequence[Any], after: Sequence[Any], why: str) -> None:
        """Secrets take the place of others, which are the same but for `why`."""

    @abstractmethod
    def close(self) -> None:
        """The session ends."""


class Guard(ABC):
    """Looks, by a protocol that all roles run, at certain points of a program. It costs rounds and bytes."""

    @abstractmethod
    def loss(self, x: Any) -> None:
        """A backward pass begins at a secret."""

    @abstractmethod
    def before_step(self, optimizer: Any) -> None:
        """An optimizer is about to use its gradients."""

    @abstractmethod
    def after_step(self, optimizer: Any) -> None:
        """An optimizer has changed its parameters."""

    @abstractmethod
    def require(self, bits: Any, what: str) -> None:
        """Stop the run unless all of these secret bits are set; `what` says what it means that one is not."""

    @abstractmethod
    def close(self) -> None:
        """The session ends."""
