"""What the fields of a model's file must be, whoever wrote it: kinds of numbers, lengths, bounds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from tacit.errors import MessageError

MOST = 1 << 24
"""Of whatever a file counts: leaves, outputs, coefficients. No message holds more."""

DTYPE = re.compile(r"[a-z]+[0-9]{0,3}|[<>|=][a-zA-Z][0-9]{0,5}(\[[0-9]{0,5}[a-zA-Z]{1,2}\])?")
"""Types as NumPy writes a single one. It reads far more, lists of types with expressions in them and strings that
fill all memory, none of which a model has."""


def dtype_named(name: Any, kinds: str, otherwise: str) -> np.dtype[Any]:
    """Return NumPy's type of this name, of one of these kinds.

    Raises:
        MessageError: for any other name, which is `otherwise`.
    """
    try:
        dtype = np.dtype(name) if type(name) is str and DTYPE.fullmatch(name) else None
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or dtype.kind not in kinds:
        raise MessageError(f"this model file names {otherwise}")
    return dtype


def insist(fine: Any, what: str) -> None:
    """Refuse a file in which something is not as it should be.

    Raises:
        MessageError: if it is not.
    """
    if not fine:
        raise MessageError(f"{what} in this model file are damaged")


def vectors(kind: str, *items: Any) -> bool:
    """Return whether these are vectors of one length, of whole numbers ("i") or of others ("f")."""
    return all(isinstance(item, np.ndarray) and item.ndim == 1 and item.dtype.kind == kind for item in items) and (
        len({len(item) for item in items}) == 1
    )


def finite(*items: Any) -> bool:
    """Return whether these are arrays of finite floating-point numbers, and none is empty."""
    return all(
        isinstance(item, np.ndarray) and item.dtype.kind == "f" and item.size > 0 and bool(np.isfinite(item).all())
        for item in items
    )


def number(item: Any) -> bool:
    """Return whether this is one finite number."""
    return type(item) in (int, float) and bool(np.isfinite(item))


def counts(items: Iterable[Any], least: int = 1) -> bool:
    """Return whether these are whole numbers, from `least` on."""
    return all(type(item) is int and least <= item <= MOST for item in items)


def flags(*items: Any) -> bool:
    """Return whether these are truth values."""
    return all(type(item) is bool for item in items)
