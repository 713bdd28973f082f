"""Tables of secrets: a tensor, or what was read or joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tacit.data.read import named_columns
from tacit.errors import DataError
from tacit.records.joined import Joined
from tacit.records.table import Records
from tacit.tensor import SecretTensor

__all__ = ["table_of"]


def table_of(
    table: Any, columns: Sequence[str] | None, least_rows: int, what: str
) -> tuple[SecretTensor, tuple[str, ...]]:
    """The secret [rows, columns] and the names of its columns; too few rows are refused."""
    if isinstance(table, Joined) and table.padded:
        raise DataError(f"of the rows of this join some are nobody's: {what} takes one whose rows all count")
    if isinstance(table, Records | Joined):
        columns = table.columns if columns is None else columns
        table = table.x
    if not isinstance(table, SecretTensor):
        raise DataError(f"{what} takes a secret table, not {type(table).__name__}: plain ones have pandas")
    x = table.detach()
    assert isinstance(x, SecretTensor)
    if x.dim() != 2 or not x.shape[1]:
        raise DataError(f"{what} takes a table of shape (rows, columns), not {tuple(x.shape)}")
    if type(least_rows) is not int or least_rows < 2:
        raise DataError(f"least_rows is a number of rows from 2 on, not {least_rows!r}")
    if x.shape[0] < least_rows:
        raise DataError(
            f"{what} of {x.shape[0]} rows would say too much of single ones: it takes {least_rows}, see least_rows="
        )
    names = columns if columns is not None else named_columns(table)
    names = tuple(names) if names is not None else tuple(f"column {k + 1}" for k in range(x.shape[1]))
    if len(names) != x.shape[1]:
        raise DataError(f"{what} was given {len(names)} names for {x.shape[1]} columns")
    return x, names
