"""Read an owner's file into a secret: its numbers stay at the owner, its shape and column names are public."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from tacit.api import current_session, share
from tacit.data.table import ABSENT, Reading, Table, read_table
from tacit.errors import DataError
from tacit.net.framing import printable
from tacit.ring.fixed_point import VALUE_BITS
from tacit.session.announced import fitting, names, said_by, whole
from tacit.session.session import Session
from tacit.tensor import SecretTensor

__all__ = ["columns", "named_columns", "read_csv", "remember_columns"]

_COLUMNS: WeakIdKeyDictionary = WeakIdKeyDictionary()


@overload
def read_csv(
    path: str | Path,
    owner: str,
    label: None = None,
    *,
    dtype: torch.dtype = torch.float32,
    standardize: bool = False,
    name: str | None = None,
    columns: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    fill: float | Mapping[str, float] | None = None,
    classes: int | None = None,
) -> SecretTensor: ...


@overload
def read_csv(
    path: str | Path,
    owner: str,
    label: str,
    *,
    dtype: torch.dtype = torch.float32,
    standardize: bool = False,
    name: str | None = None,
    columns: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    fill: float | Mapping[str, float] | None = None,
    classes: int | None = None,
) -> tuple[SecretTensor, SecretTensor]: ...


def read_csv(
    path: str | Path,
    owner: str,
    label: str | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    standardize: bool = False,
    name: str | None = None,
    columns: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    fill: float | Mapping[str, float] | None = None,
    classes: int | None = None,
) -> SecretTensor | tuple[SecretTensor, SecretTensor]:
    """Share the numbers of a CSV file that only `owner` opens; the path means nothing at the other roles.

    Returns a secret of shape (rows, columns), or with `label` the features and the label column of shape (rows, 1).
    `standardize` brings every feature, not the label, to mean 0 and standard deviation 1 at the owner, before sharing.
    `name` is what errors call it, at first the name of the owner's file.

    `columns` are those that are wanted, in this order, beside the label. `categories` says for columns of words which
    words there are, {"sex": ["female", "male"]}; their places are the numbers. `fill` is what a cell becomes that is
    empty, NULL, NA, NaN or ?, for all columns or by name. With `classes`, or for a label of words, the label is a
    tensor of int64 and shape (rows,), as `torch.nn.functional.cross_entropy` takes it, and its owner checks that all
    are 0 to classes - 1. With `torch.int64` whole numbers below 2^62 are exact to the last digit.

    Reveals: that name, the number of rows and the names of the columns (`tacit.data.columns`), to all roles.
    """
    session = current_session()
    if dtype not in (torch.float32, torch.float64, torch.int64):
        raise DataError(f"read_csv gives torch.float32, torch.float64 or torch.int64, not {dtype}")
    if classes is not None and label is None:
        raise DataError("classes are those of the label: say which column it is")
    if label is not None and categories and label in categories and classes is None:
        classes = len(categories[label])
    if standardize and not dtype.is_floating_point:
        raise DataError("standardized columns are not whole numbers: use dtype=torch.float32")
    if standardize and ABSENT in (fill.values() if isinstance(fill, Mapping) else (fill,)):
        raise DataError(
            "standardize=True would make other numbers of tacit.ensemble.MISSING: leave it out, for trees take columns "
            "as they are"
        )
    tables: list[Table] | None = None
    message = None
    if owner in session.transport.hosted:
        wanted = None if columns is None else [*columns, *([] if label is None or label in columns else [label])]
        reading = Reading(wanted, categories or {}, fill, whole=not dtype.is_floating_point)
        tables = _load(session, path, label, dtype, standardize, reading)
        shapes = {"rows": len(tables[0].values), "columns": [table.columns for table in tables]}
        message = json.dumps({"name": name or Path(path).name, **shapes}).encode()
    many = 1 if label is None else 2
    public = said_by(owner, session.announce(owner, message), "a table", lambda said: _public(owner, said, many))
    secrets = []
    for place, those in enumerate(public["columns"]):
        value = tables[place].values if tables else None
        if place and classes is not None:
            value = None if value is None else value.squeeze(1)
            secret = share(value, owner, shape=(public["rows"],), name=f"{public['name']}: {label}", classes=classes)
        else:
            value = None if value is None else value.to(dtype)
            secret = share(value, owner, shape=(public["rows"], len(those)), dtype=dtype, name=public["name"])
        _COLUMNS[secret] = tuple(those)
        secrets.append(secret)
    return (secrets[0], secrets[1]) if label is not None else secrets[0]


def _public(owner: str, said: Any, many: int) -> dict[str, Any]:
    """Check what an owner says of so many tables."""
    rows, columns = whole(said["rows"]), [names(each) for each in said["columns"]]
    if not isinstance(said["name"], str) or len(columns) != many:
        raise ValueError
    for each in columns:
        fitting(owner, (rows, len(each)))
    return {"name": printable(said["name"][:200]), "rows": rows, "columns": columns}


def remember_columns(x: Tensor, names: Sequence[str]) -> None:
    """Say what the columns of a tensor are called, for `columns`. Names are public."""
    _COLUMNS[x] = tuple(names)


def columns(x: Tensor) -> tuple[str, ...]:
    """Return the names of the columns of a tensor that `tacit.read_csv` returned; they are public."""
    names = named_columns(x)
    if names is None:
        raise DataError("only a tensor as tacit.read_csv returned it has column names")
    return names


def named_columns(x: Tensor) -> tuple[str, ...] | None:
    """The same, or None where nothing is known."""
    names: Any = _COLUMNS.get(x)
    return None if names is None else tuple(names)


def _load(
    session: Session, path: str | Path, label: str | None, dtype: torch.dtype, standardize: bool, reading: Reading
) -> list[Table]:
    """The features, and the label if there is one, checked to be numbers that fixed point holds."""
    table = read_table(path, reading)
    if dtype.is_floating_point:
        table.check_below(2.0 ** (VALUE_BITS - session.config.frac_bits))
    tables = [table] if label is None else list(table.split(label))
    if label is not None and reading.filled(label) == ABSENT and bool((gone := tables[1].values == ABSENT).any()):
        row = int(gone.nonzero()[0, 0]) + 1
        raise DataError(f"{table.source}, row {row}, column {label!r}: a label is not missing, so leave such rows out")
    return [tables[0].standardized(), *tables[1:]] if standardize else tables
