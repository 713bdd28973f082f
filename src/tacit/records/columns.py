"""Columns of a table in DuckDB as arrays, or in pieces, and digests of its keys."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.records.digests import Texts, at_hand
from tacit.records.keys import DIGEST_BYTES, is_raw, key_query
from tacit.records.packages import TABLE, quoted
from tacit.records.stored import CHUNK, TEXT

__all__ = ["batches", "digests_of", "fetched", "streamed"]

NOTHING = '"NULL"'
"""The type of a column without any value."""
WHOLE = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"})
REAL = frozenset({"FLOAT", "DOUBLE", "HUGEINT", "UHUGEINT", "UBIGINT"})


def fetched(connection: Any, types: Mapping[str, str], problems: list[str]) -> dict[str, np.ndarray]:
    """Columns as arrays: numbers (NaN for none), truth values, dates (NaT), or texts (None)."""
    casts = _casts(types, problems)
    if not casts:
        return {}
    arrays = connection.execute(_query(casts)).fetchnumpy()
    return {name: _filled(arrays[name]) for name in casts}


def _casts(types: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """The types in which columns are fetched, of those that are something."""
    casts = {name: cast for name, kind in types.items() if (cast := _cast(kind)) is not None}
    others = [name for name in types if name not in casts]
    problems += [f"column {name!r} holds {types[name]}, which is no number, text or date" for name in others]
    return casts


def _query(casts: Mapping[str, str]) -> str:
    listed = ", ".join(f"CAST({quoted(name)} AS {cast}) AS {quoted(name)}" for name, cast in casts.items())
    return f"SELECT {listed} FROM {TABLE}"


def streamed(connection: Any, types: Mapping[str, str], problems: list[str]) -> tuple[dict[str, Any], Any]:
    """The same in pieces: what NumPy calls the columns' types, and batches. Whole numbers with gaps are real."""
    casts = _casts(types, problems)
    if not casts:
        return {}, ()
    counts = ", ".join(f"count({quoted(name)}) = count(*)" for name in casts)
    (full,) = connection.execute(f"SELECT {counts} FROM {TABLE}").fetchall()
    for (name, cast), filled in zip(casts.items(), full, strict=True):
        if cast in ("BIGINT", "BOOLEAN") and not filled:
            casts[name] = "DOUBLE"
    kinds = {name: STORED[cast] for name, cast in casts.items()}
    return kinds, batches(connection, _query(casts), CHUNK)


def batches(connection: Any, query: str, rows: int) -> Iterator[Any]:
    """What a query finds, so many rows at a time."""
    with connection.sql(query).to_arrow_reader(rows) as reader:
        yield from reader


STORED = {"BIGINT": np.int64, "DOUBLE": np.float64, "BOOLEAN": np.bool_, "TIMESTAMP": "M8[us]", "VARCHAR": TEXT}
"""What NumPy calls the types in which columns are fetched."""


def _cast(kind: str) -> str | None:
    """The type in which a column of a type is fetched."""
    if kind in WHOLE:
        return "BIGINT"
    if kind in REAL or kind.startswith("DECIMAL"):
        return "DOUBLE"
    if kind in ("VARCHAR", "UUID") or kind.startswith("ENUM"):
        return "VARCHAR"
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return "TIMESTAMP"
    return {"BOOLEAN": "BOOLEAN", NOTHING: "DOUBLE"}.get(kind)


def _filled(array: Any) -> np.ndarray:
    """An array with NaN, NaT or None where DuckDB has NULL."""
    if not np.ma.isMaskedArray(array):
        return np.asarray(array)
    mask, data = np.ma.getmaskarray(array), array.data
    if not mask.any():
        return np.asarray(data)
    if data.dtype.kind in "biu":
        data = data.astype(np.float64)
    data = data.copy()
    data[mask] = {"f": np.nan, "M": np.datetime64("NaT")}.get(data.dtype.kind)
    return data


def digests_of(
    connection: Any, columns: Sequence[tuple[str, str]], problems: list[str]
) -> tuple[Tensor, Tensor] | None:
    """Digests of the rows' keys, the first 128 bits of SHA-256, and which rows have none; there they are random."""
    wrong = [f"column {name!r} holds {kind}, which is no key" for name, kind in columns if _cast(kind) is None]
    if wrong:
        problems += wrong
        return None
    query = key_query([(quoted(name), kind) for name, kind in columns], TABLE)
    raw = [is_raw(kind) for _, kind in columns]
    found = [_of_batch(batch, raw) for batch in batches(connection, query, 16 * CHUNK)]
    digests, keyless = (torch.cat(parts) for parts in zip(*found, strict=True))
    return digests, keyless


def _of_batch(batch: Any, raw: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """The same of some rows: int64 [rows, 2] and bool [rows]."""
    texts = [_texts(column, each) for column, each in zip(batch.columns, raw, strict=True)]
    found, keyless = at_hand().make(texts)
    if keyless.numpy().any():
        random = os.urandom(DIGEST_BYTES * int(keyless.sum()))
        found[keyless] = torch.frombuffer(bytearray(random), dtype=torch.uint8).view(-1, DIGEST_BYTES)
    return found.view(torch.int64), keyless


def _texts(column: Any, raw: bool) -> Texts:
    """A column of Arrow's, where it lies."""
    if str(column.type) != "string":  # texts of other types lie otherwise
        column = column.cast("string")
    _, offsets, data = column.buffers()
    places = np.frombuffer(offsets, dtype=np.int32, count=len(column) + 1, offset=4 * column.offset)
    letters = np.frombuffer(b"" if data is None else data, dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of memory that may only be read, as it is
        return Texts(torch.from_numpy(letters), torch.from_numpy(places), raw)
