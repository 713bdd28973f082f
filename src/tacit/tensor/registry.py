"""Which function answers for which ATen operator on secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["HANDLERS", "LAST_RESORTS", "Handler", "implements", "last_resort"]

HANDLERS: dict[Any, Callable[..., Any]] = {}
"""From ATen overload to the function that computes it on secrets."""

LastResort = Callable[[Any, Any, Any], Any]
LAST_RESORTS: list[LastResort] = []
"""They are given an operator with its arguments, and return None where they do not answer."""

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


def last_resort(function: LastResort) -> LastResort:
    """Register a function that may answer for an operator that neither has a handler nor is made of those that have."""
    LAST_RESORTS.append(function)
    return function
