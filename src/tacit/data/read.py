"""Read an owner's file into a secret: its numbers stay at the owner, its shape and column names are public."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from tacit.api import current_session, share
from tacit.data.table import Table, read_table
from tacit.errors import DataError
from tacit.ring.fixed_point import VALUE_BITS
from tacit.session.session import Session
from tacit.tensor import SecretTensor

__all__ = ["columns", "read_csv"]

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
) -> tuple[SecretTensor, SecretTensor]: ...


def read_csv(
    path: str | Path,
    owner: str,
    label: str | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    standardize: bool = False,
    name: str | None = None,
) -> SecretTensor | tuple[SecretTensor, SecretTensor]:
    """Share the numbers of a CSV file that only `owner` opens; the path means nothing at the other roles.

    Returns a secret of shape (rows, columns), or with `label` the features and the label column of shape (rows, 1).
    `standardize` brings every feature, not the label, to mean 0 and standard deviation 1 at the owner, before sharing.
    `name` is what errors call it, at first the name of the owner's file.

    Reveals: that name, the number of rows and the names of the columns (`tacit.data.columns`), to all roles.
    """
    session = current_session()
    if dtype not in (torch.float32, torch.int64):
        raise DataError(f"read_csv gives torch.float32 or torch.int64, not {dtype}")
    if standardize and not dtype.is_floating_point:
        raise DataError("standardized columns are not whole numbers: use dtype=torch.float32")
    tables: list[Table] | None = None
    message = None
    if owner in session.transport.hosted:
        tables = _load(session, path, label, dtype, standardize)
        shapes = {"rows": len(tables[0].values), "columns": [table.columns for table in tables]}
        message = json.dumps({"name": name or Path(path).name, **shapes}).encode()
    public = json.loads(session.announce(owner, message))
    secrets = []
    for place, names in enumerate(public["columns"]):
        value = tables[place].values.to(dtype) if tables else None
        secret = share(value, owner, shape=(public["rows"], len(names)), dtype=dtype, name=public["name"])
        _COLUMNS[secret] = tuple(names)
        secrets.append(secret)
    return (secrets[0], secrets[1]) if label is not None else secrets[0]


def columns(x: Tensor) -> tuple[str, ...]:
    """Return the names of the columns of a tensor that `tacit.read_csv` returned; they are public."""
    names: Any = _COLUMNS.get(x)
    if names is None:
        raise DataError("only a tensor as tacit.read_csv returned it has column names")
    return tuple(names)


def _load(session: Session, path: str | Path, label: str | None, dtype: torch.dtype, standardize: bool) -> list[Table]:
    """The features, and the label if there is one, checked to be numbers that fixed point holds."""
    table = read_table(path)
    frac_bits = session.config.frac_bits if dtype.is_floating_point else 0
    table.check_below(2.0 ** (VALUE_BITS - frac_bits))
    if not dtype.is_floating_point:
        table.check_whole()
    tables = [table] if label is None else list(table.split(label))
    return [tables[0].standardized(), *tables[1:]] if standardize else tables
