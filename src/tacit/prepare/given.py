"""Tables as owners have them, as columns of one kind each: numbers, truths, categories or dates.

Data frames of pandas and polars, tables of Arrow, dicts of columns, lists of dicts, and one dict for one row. None of
these libraries is imported here. Messages name columns and rows, never what a cell holds.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tacit.errors import DataError, UnusableTable

__all__ = [
    "CATEGORY",
    "DATE",
    "NOTHING",
    "NUMBER",
    "PLURAL",
    "TRUTH",
    "Column",
    "columns_of",
    "is_column",
    "names_of",
    "refuse",
]

NUMBER, TRUTH, CATEGORY, DATE, NOTHING = "number", "truth", "category", "date", "nothing"
PLURAL = {NUMBER: "numbers", TRUTH: "truth values", CATEGORY: "words", DATE: "dates", NOTHING: "nothing"}

EXACT = 2.0**53
"""Integers from here on are not all floating-point numbers."""

DAY = np.timedelta64(1, "D")


class Column(NamedTuple):
    """A named column: floats with NaN for what is missing (dates are days since 1970), or strings and None."""

    name: str
    kind: str
    values: np.ndarray[Any, Any]

    @property
    def missing(self) -> np.ndarray[Any, Any]:
        """Which rows have no value."""
        if self.values.dtype == object:
            return np.array([v is None for v in self.values], dtype=bool)
        absent: np.ndarray[Any, Any] = np.isnan(self.values)
        return absent


def columns_of(table: Any, used: Callable[[str], bool]) -> tuple[list[Column], list[str]]:
    """The columns that are used of whatever table it is, and what is wrong with any of them."""
    named = _named(table)
    problems: list[str] = []
    found, seen = [], set()
    for name, values in named:
        if not isinstance(name, str) or not name:
            problems.append(f"a column has a name that is no text, of type {type(name).__name__}")
        elif name in seen:
            problems.append(f"two columns are named {name!r}")
        elif used(name):
            seen.add(name)
            try:
                found.append(_column(name, values))
            except DataError as error:
                problems.append(str(error))
    if len({len(c.values) for c in found}) > 1:
        problems.append("the columns differ in their number of rows")
    elif found and not len(found[0].values):
        problems.append("it has no rows")
    return found, problems


def names_of(table: Any) -> list[Any]:
    """The names of the columns of whatever table it is."""
    if isinstance(table, (list, tuple)) and table and isinstance(table[0], Mapping):
        table = table[0]
    if isinstance(table, Mapping):
        return list(table)
    names: Any = getattr(table, "column_names", None)  # of Arrow
    return list(getattr(table, "columns", ()) if names is None else names)


def refuse(problems: Sequence[str]) -> None:
    """Raise one error for all problems, if there are any."""
    if problems:
        shown = "; ".join(problems[:20])
        more = f"; and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise UnusableTable(f"the table cannot be used: {shown}{more}")


def _named(table: Any) -> list[tuple[Any, Any]]:
    if isinstance(table, Mapping):
        rows = [v if is_column(v) else [v] for v in table.values()]
        return list(zip(table, rows, strict=True))
    if isinstance(table, (list, tuple)) and table and all(isinstance(row, Mapping) for row in table):
        names = list(table[0])
        if any(set(row) != set(names) for row in table):
            raise DataError("the rows do not all have the same names")
        return [(name, [row[name] for row in table]) for name in names]
    if hasattr(table, "column_names") and hasattr(table, "column"):  # Arrow
        return [(name, table.column(place)) for place, name in enumerate(table.column_names)]
    if hasattr(table, "columns") and hasattr(table, "__getitem__"):
        names = list(table.columns)
        if hasattr(table, "iloc"):  # pandas, where names may occur twice
            return [(name, table.iloc[:, place]) for place, name in enumerate(names)]
        return [(name, table[name]) for name in names]
    raise DataError(
        f"a table is a data frame, an Arrow table, a dict of columns or a list of dicts, not a {type(table).__name__}"
    )


def is_column(value: Any) -> bool:
    """Whether it is a column, and no single cell."""
    if isinstance(value, (str, bytes)):
        return False
    return hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0


def _column(name: str, values: Any) -> Column:
    array = _array(name, values)
    if array.ndim != 1:
        raise DataError(f"column {name!r} has {array.ndim} dimensions, and a column has one")
    kind = array.dtype.kind
    if kind in "iuf":
        floats = _floats(name, array)
        return Column(name, NOTHING if floats.size and np.isnan(floats).all() else NUMBER, floats)
    if kind == "b":
        return Column(name, TRUTH, array.astype(np.float64))
    if kind == "M":
        return Column(name, DATE, _days(array))
    if kind in "UO":
        return _objects(name, array)
    raise DataError(f"column {name!r} holds {array.dtype}, which is no number, date, text or truth")


def _array(name: str, values: Any) -> np.ndarray[Any, Any]:
    """A column as an array; strings and what may be missing as objects."""
    if hasattr(values, "chunks") and hasattr(values, "combine_chunks"):  # Arrow
        if str(values.type).startswith("dictionary"):
            values = values.cast(values.type.value_type)
        return np.asarray(values.to_numpy())
    if hasattr(values, "cat") and hasattr(values, "astype") and str(values.dtype) == "category":
        values = values.astype(object)
    if hasattr(values, "numpy") and hasattr(values, "detach"):  # a tensor
        values = values.detach()
    try:
        if hasattr(values, "to_numpy"):
            return np.asarray(values.to_numpy())
        if isinstance(values, (list, tuple)) and any(v is None or isinstance(v, str) for v in values):
            out = np.empty(len(values), dtype=object)
            out[:] = list(values)
            return out
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"column {name!r} is no column of values") from None


def _floats(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    out = array.astype(np.float64)
    if np.isinf(out).any():
        raise DataError(f"column {name!r} holds infinity, in row {int(np.isinf(out).argmax()) + 1}")
    if array.dtype.kind in "iu" and array.size and bool((np.abs(out) >= EXACT).any()):
        raise DataError(f"column {name!r} holds integers of 2^53 and more: is it a key? Leave it out with drop=[…]")
    return out


def _days(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Days since 1970-01-01, times of day as parts of one."""
    out = (array - np.datetime64(0, "s")) / DAY
    return np.asarray(np.where(np.isnat(array), np.nan, out), dtype=np.float64)


def _objects(name: str, array: np.ndarray[Any, Any]) -> Column:
    """A column of Python objects: of one kind, beside what is missing."""
    kinds = {k for v in array if (k := _kind(v)) != NOTHING}
    if not kinds:
        return Column(name, NOTHING, np.full(len(array), np.nan))
    if kinds == {NUMBER, TRUTH}:
        kinds = {NUMBER}
    if len(kinds) > 1 or "unknown" in kinds:
        what = "values of no known kind" if "unknown" in kinds else " and ".join(sorted(PLURAL[k] for k in kinds))
        raise DataError(f"column {name!r} mixes {what}" if len(kinds) > 1 else f"column {name!r} holds {what}")
    (kind,) = kinds
    if kind == CATEGORY:
        out = np.empty(len(array), dtype=object)
        out[:] = [str(v) if _kind(v) == CATEGORY else None for v in array]
        return Column(name, CATEGORY, out)
    if kind == DATE:
        return Column(name, DATE, np.array([_date(v) for v in array], dtype=np.float64))
    return Column(name, kind, _floats(name, np.array([_number(v) for v in array], dtype=np.float64)))


def _kind(value: Any) -> str:
    if value is None or _not_a_number(value):
        return NOTHING
    if isinstance(value, (bool, np.bool_)):
        return TRUTH
    if isinstance(value, (datetime.date, np.datetime64)):
        return NOTHING if _not_a_number(value) else DATE
    if isinstance(value, str):
        return CATEGORY if value.strip() else NOTHING
    if isinstance(value, numbers.Number) and not isinstance(value, complex):
        return NUMBER
    return NUMBER if type(value).__name__ == "Decimal" else "unknown"


def _not_a_number(value: Any) -> bool:
    """NaN, NaT and pandas' NA: what is not equal to itself, or says neither."""
    if isinstance(value, (str, bytes, list, tuple, dict, np.ndarray)):
        return False
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def _number(value: Any) -> float:
    return np.nan if _kind(value) == NOTHING else float(value)


def _date(value: Any) -> float:
    if _kind(value) == NOTHING:
        return float("nan")
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return float((np.datetime64(value) - np.datetime64(0, "s")) / DAY)
