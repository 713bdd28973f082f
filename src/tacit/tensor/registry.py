"""Which function answers for which ATen operator on secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["HANDLERS", "LAST_RESORTS", "implements"]

HANDLERS: dict[Any, Callable[..., Any]] = {}
"""From ATen overload to the function that computes it on secrets."""

LAST_RESORTS: list[Callable[[Any, Any, Any], Any]] = []
"""Functions that may answer for an operator that neither has a handler nor is made of those that have, or give None."""

Handler = TypeVar("Handler", bound=Callable[..., Any])


def implements(*overloads: Any) -> Callable[[Handler], Handler]:
    """Register a function for ATen overloads. It is called with the overload first, then the operator's arguments."""

    def register(handler: Handler) -> Handler:
        for overload in overloads:
            if overload in HANDLERS:
                raise ValueError(f"{overload} has two handlers")
            HANDLERS[overload] = handler
        return handler

    return register
