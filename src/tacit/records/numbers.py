"""Columns of a table as numbers, or what keeps them from being some: how many cells, and where; never what is there."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

__all__ = ["as_numbers", "look_like_numbers", "looks_like_a_key", "missing", "rows_of"]


def as_numbers(name: str, column: np.ndarray, limit: float, problems: list[str]) -> np.ndarray | None:
    """A column as float64; None, and why in `problems`, if it is no column of numbers below the limit."""
    here = f"column {name!r}"
    if column.dtype.kind == "M":
        problems.append(f"{here} holds dates")
        return None
    wrong = none = missing(column)
    if column.dtype.kind == "O":
        words = np.array([value is not None and not _is_number(value) for value in column.tolist()], dtype=bool)
        if words.any():
            problems.append(f"{here} holds words in {rows_of(words)}{_hint(column[words])}")
            wrong = none | words
    if none.any():
        problems.append(f"{here} has no value in {rows_of(none)}")
    if column.dtype.kind == "O" and wrong.any():
        return None
    numbers = column.astype(np.float64)
    large = ~(np.abs(numbers) < limit) & ~none
    if large.any():
        problems.append(f"{here} holds numbers that are infinite, or not below {limit:g}, in {rows_of(large)}")
    return None if (large | wrong).any() else numbers


LIKE_NUMBERS = re.compile(r"[-+]?[€$£]?[0-9]+([.,' \u00a0\u202f][0-9]+)*-?\s?[€$£%]?")


def look_like_numbers(words: Iterable[str]) -> bool:
    """Whether texts all look like numbers as people write them, 1.234,50 or 12 %, and some are not their digits only.

    Postal codes, say, are digits only, and words to whoever wants them to be.
    """
    found = [str(word).strip() for word in words]
    return bool(found) and all(map(LIKE_NUMBERS.fullmatch, found)) and not all(map(str.isdecimal, found))


def _hint(words: np.ndarray) -> str:
    how = " that look like numbers: say how they are written, decimal=… or thousands=…, or take signs away by query=…"
    return how if look_like_numbers(words.tolist()) else ""


ENDS = ("id", "key", "uuid", "guid")


def looks_like_a_key(name: str, present: np.ndarray) -> bool:
    """Whether these are whole numbers, no two of them equal, under a name that says so."""
    word = name.lower().replace("-", "_").replace(" ", "_").rpartition("_")[2]
    if word not in ENDS and not name.endswith("Id") and not name.endswith("ID"):
        return False
    return bool((present == np.floor(present)).all()) and len(np.unique(present)) == len(present)


def missing(column: np.ndarray) -> np.ndarray:
    """Where a column has no value."""
    if column.dtype.kind == "O":
        return np.array([value is None for value in column.tolist()], dtype=bool)
    none: np.ndarray = np.zeros(len(column), dtype=bool)
    if column.dtype.kind in "fM":
        none = np.isnan(column) if column.dtype.kind == "f" else np.isnat(column)
    return none


def rows_of(wrong: np.ndarray) -> str:
    """How many rows, and which is the first, counted from 1."""
    first, count = int(wrong.argmax()) + 1, int(wrong.sum())
    return f"row {first}" if count == 1 else f"{count} of {len(wrong)} rows (the first is row {first})"


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return "_" not in str(value)
