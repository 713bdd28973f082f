"""`tacit.read_table`: a table that one party owns, in whatever form it has it."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tacit.api import current_session
from tacit.errors import ConfigError, DataError, UnusableTable
from tacit.records.csv_files import WHOLE as WHOLE_NUMBER
from tacit.records.csv_files import in_sql, problems_of_names, sql_type
from tacit.records.digests import Texts, at_hand
from tacit.records.keys import DIGEST_BYTES, Either, alternatives_of, is_raw, key_query
from tacit.records.labels import Classes, as_label, check_classes
from tacit.records.shards import SHARDS, Unkeyed, own_rows
from tacit.records.sources import TABLE, Reading, arrow, described, loaded, quoted, told
from tacit.records.stored import CHUNK, TEXT, Column, written
from tacit.records.table import Held, Records, check, limit_of_numbers, promised
from tacit.session.announced import fitting, names, whole
from tacit.session.ranks import Rank

__all__ = ["read_table"]

LIKE_A_KEY = re.compile(
    r"(^|_)(id|key|uuid|guid|ssn|iban|email|e_mail|phone|passport)($|_)|(Id|ID|Key)$", re.IGNORECASE
)
"""Names of columns that say who a row is about."""

SMALL = 20
"""Rows below which all texts of a column may differ by chance."""


def read_table(
    source: Any,
    owner: str,
    *,
    key: str | Sequence[str] | Either | None = None,
    label: str | None = None,
    classes: Classes | None = None,
    columns: Sequence[str] | None = None,
    query: str | None = None,
    na: str | Sequence[str] | None = None,
    dtype: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    date_format: str | None = None,
    encoding: str | None = None,
    skip: int = 0,
    sheet: str | None = None,
    on_disk: str | Path | None = None,
    shard: str | None = None,
    name: str | None = None,
) -> Records:
    """Read a table that only `owner` has; at every other role `source` means nothing, and may be None.

    Args:
        source: the path of a CSV file (in any dialect, or compressed), or of a Parquet, Arrow, JSON lines, Excel or
            SQLite file; the address of a PostgreSQL database; or a data frame of pandas or polars, an Arrow table, or a
            dict of columns.
        owner: the party that has it.
        key: the column, or columns, by which `tacit.join` finds rows of others, or several keys that it tries one
            after the other, `tacit.either("phone", "email")`. They become no features.
        label: the column that is to be predicted. Words and truth values become classes, int64; numbers other than 0
            and 1 stay numbers, float32.
        classes: of the label, how many classes there are, their values in order, or {value: number}. Without it words
            are classes in sorted order.
        columns: those that are wanted, in this order, beside key and label.
        query: SQL that runs at the owner: in a database there, or on the source, which it calls `data`.
        na: what stands in cells without a value, beside nothing at all; by default NA, NaN, NULL, None and ?.
        dtype: types of columns that the reader shall not find out by itself: {"zip": "str"}, of int, float, str, bool,
            date and datetime.
        delimiter, decimal, thousands, date_format, encoding: of CSV files, where they are not found out: ";", ",", ".",
            "%d/%m/%Y", "latin-1".
        skip: of CSV and Excel files, how many lines stand above the names of the columns.
        sheet: of an Excel file, where it has several.
        on_disk: for a table that is larger than memory, a folder of the owner's with room for it. Its columns stay
            there, in files without names, which are gone with the process; `batches` shares rows when they are used.
        shard: where roles have several ranks, which rows each of them keeps: "rows", the next N/n of them, or "key",
            those whose key falls to it, by which tables are joined ("rows" is not for queries, which have no fixed
            order). Without it each rank has the whole table.
        name: what all roles call the table, "the table of alice" at first.

    Reveals: to all roles, that name, the number of rows, the names of the columns but those of the key, of how many
    columns that is, and how many classes the label has.

    Raises:
        UnusableTable: at the owner, with all that is wrong with the table, and no value of it.
        DataError: at the other roles then, when they come to use the table; they are not told why.

    The owner reads at once, and the others go on until they need to know what it has read: owners whose tables are read
    one after the other in the program read them at the same time.
    """
    session = current_session()
    alternatives = alternatives_of(key if isinstance(key, Either) else _listed("key", key))
    keys = tuple(dict.fromkeys(name for each in alternatives for name in each))
    asked = None if columns is None else _listed("columns", columns)
    check_classes(classes)
    if classes is not None and label is None:
        raise ConfigError("classes are those of the label: say which column it is, label=…")
    if label is not None and label in keys:
        raise ConfigError(f"column {label!r} cannot be the key and the label")
    if asked is not None and (both := [n for n in asked if n in keys or n == label]):
        raise ConfigError(f"{', '.join(both)}: columns=… are those beside key and label")
    if shard is not None and shard not in SHARDS:
        raise ConfigError(f'tacit.read_table(shard=…) takes "rows" or "key", not {shard!r}')
    if shard == "rows" and query is not None:
        raise ConfigError(
            'shard="rows" goes by the places of rows, and a query may find them in another order at each rank, which '
            'then lose some and have others twice: write shard="key", or read a file of what the query finds'
        )
    if shard == "key" and len(alternatives) != 1:
        raise ConfigError('shard="key" goes by one key: say which column it is, key=…, without tacit.either')
    if owner not in session.parties:
        raise ConfigError(f"{owner!r} cannot own data: the computing parties are {', '.join(session.parties)}")
    if session.preparing:
        raise ConfigError(
            "tacit.read_table asks its owner for names and rows, and nobody is there while a run is prepared"
        )
    session.transcript.record(f"tacit.read_table(of {owner})")
    if session.rank.count == 1:
        shard = None
    wanted = Wanted(keys, alternatives, label, classes, asked, shard, session.rank)
    reading = Reading(
        query=query,
        na=None if na is None else _listed("na", na),
        dtype=dict(dtype or {}),
        keys=keys,
        label=label,
        delimiter=delimiter,
        decimal=decimal,
        thousands=thousands,
        date_format=date_format,
        encoding=encoding,
        skip=skip,
        sheet=sheet,
    )
    title = name or f"the table of {owner}"
    held, hear = promised(
        owner,
        title,
        lambda: _read(source, wanted, reading, on_disk),
        lambda said: _public(owner, wanted, said),
    )
    return Records(owner, title, label, [len(key) for key in alternatives], len(keys), held, hear, shard)


class Wanted(NamedTuple):
    """What is to become of the columns."""

    keys: tuple[str, ...]
    """All columns of keys."""
    alternatives: tuple[tuple[str, ...], ...]
    """Keys that are tried one after the other."""
    label: str | None
    classes: Classes | None
    columns: tuple[str, ...] | None
    shard: str | None
    """How rows are divided among ranks."""
    rank: Rank


def _read(source: Any, wanted: Wanted, reading: Reading, on_disk: str | Path | None) -> tuple[Held, dict[str, Any]]:
    """At the owner: what it keeps, and what all roles learn."""
    if source is None:
        raise DataError("the owner of a table must give it: a path, a data frame, an Arrow table or a dict of columns")
    if on_disk is None:
        return _opened(source, wanted, reading)
    try:
        with tempfile.TemporaryDirectory(dir=on_disk, prefix=".tacit-") as private:
            return _opened(source, wanted, replace(reading, folder=Path(private)))
    except OSError as error:
        raise UnusableTable(f"no table can be kept in {on_disk}: {error.strerror}") from None


def _opened(source: Any, wanted: Wanted, reading: Reading) -> tuple[Held, dict[str, Any]]:
    called = described(source)
    connection = loaded(source, reading)
    try:
        with told(f"{called} cannot be used"):
            return _taken(connection, called, wanted, reading)
    finally:
        connection.close()


def _taken(connection: Any, called: str, wanted: Wanted, reading: Reading) -> tuple[Held, dict[str, Any]]:
    """`_read`, of what a connection has loaded."""
    types = {n: str(t) for n, t, *_ in connection.execute(f"DESCRIBE {TABLE}").fetchall()}
    problems = problems_of_names(list(types)) or _absent(types, wanted)
    check(called, problems)
    names = wanted.columns
    if names is None:
        names = tuple(n for n in types if n not in wanted.keys and n != wanted.label)
    rows = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall()[0][0]
    check(called, [] if rows else ["it has no rows"])
    _na(connection, types, reading)
    types = _typed(connection, types, reading, problems)
    kept = {n: types[n] for n in names}
    label = None  # of all rows, also where this rank has some: which classes there are, all of them say
    if wanted.label is not None:
        column = _fetched(connection, {wanted.label: types[wanted.label]}, problems).get(wanted.label)
        if column is not None:
            label = as_label(wanted.label, column, wanted.classes, limit_of_numbers(), problems)
    found = [_digests(connection, [(n, types[n]) for n in key], problems) for key in wanted.alternatives]
    check(called, problems)
    digests = [_apart(place, part[0]) for place, part in enumerate(found) if part is not None]
    every = torch.cat(digests, dim=1) if digests else None
    if not wanted.keys:
        _warn_of_keys(connection, called, {n: types[n] for n in names}, rows)
    origin = torch.arange(rows)
    if wanted.shard is not None:
        unkeyed = _unkeyed(connection, list(types), found[0][1]) if found and found[0] is not None else None
        origin = own_rows(wanted.shard, wanted.rank, rows, every, unkeyed)
        check(
            called, [] if len(origin) else [f"none of its {rows} rows is rank {wanted.rank.index}'s: use fewer ranks"]
        )
        _keep(connection, origin)
        every = None if every is None else every[origin]
        label = None if label is None else label._replace(values=label.values[origin])
    frame: dict[str, Column]
    if reading.folder is None:
        frame = _fetched(connection, kept, problems)
    else:
        frame = written(reading.folder, len(origin), *_streamed(connection, kept, problems), problems)
    check(called, problems)
    folder = None if reading.folder is None else reading.folder.parent
    held = Held(called, frame, label, every, origin, limit_of_numbers(), folder, wanted.columns is not None)
    public = {"rows": len(origin), "columns": list(names), "classes": None if label is None else label.classes}
    return held, public


def _unkeyed(connection: Any, columns: Sequence[str], keyless: Tensor) -> Unkeyed:
    """Rows without a key, with hashes of all their columns."""
    places = torch.nonzero(keyless).squeeze(1)
    if not len(places):
        return Unkeyed(places, np.empty(0, dtype=np.uint64))
    connection.register("unkeyed", arrow({"place": places.numpy()}))
    listed = ", ".join(f"t.{quoted(name)}" for name in columns)
    found = connection.execute(
        f"SELECT hash(row({listed})) AS h FROM {TABLE} t, unkeyed WHERE t.rowid = unkeyed.place ORDER BY t.rowid"
    ).fetchnumpy()
    connection.unregister("unkeyed")
    return Unkeyed(places, np.asarray(found["h"]))


def _keep(connection: Any, places: Tensor) -> None:
    """Keep these rows of the table, in their order."""
    connection.register("kept", arrow({"place": places.numpy()}))
    connection.execute(
        f"CREATE TABLE tacit_shard AS SELECT t.* FROM {TABLE} t, kept WHERE t.rowid = kept.place ORDER BY t.rowid"
    )
    connection.unregister("kept")
    connection.execute(f"DROP TABLE {TABLE}")
    connection.execute(f"ALTER TABLE tacit_shard RENAME TO {TABLE}")


def _public(owner: str, wanted: Wanted, said: Any) -> dict[str, Any]:
    """Check what an owner says of its table, beside what the program says of it."""
    rows, columns, classes = whole(said["rows"], 1), names(said["columns"]), said["classes"]
    if classes is not None:
        whole(classes, 1, 1 << 24)
    if wanted.columns is not None and tuple(columns) != wanted.columns:
        raise ValueError
    if len({*columns, *wanted.keys, wanted.label}) < len(columns) + len(wanted.keys) + 1:
        raise ValueError
    fitting(owner, (rows,))
    return {"rows": rows, "columns": columns, "classes": classes if wanted.label is not None else None}


def _listed(what: str, names: str | Sequence[str] | None) -> tuple[str, ...]:
    listed = (names,) if isinstance(names, str) else tuple(names or ())
    if any(not isinstance(each, str) for each in listed):
        raise ConfigError(f"{what}=… takes names of columns")
    if len(set(listed)) < len(listed):
        raise ConfigError(f"{what}=… names a column twice")
    return listed


def _absent(types: Mapping[str, str], wanted: Wanted) -> list[str]:
    asked = (*wanted.keys, *([wanted.label] if wanted.label is not None else []), *(wanted.columns or ()))
    missing = [repr(name) for name in asked if name not in types]
    return [f"it has no column {', '.join(missing)}; its columns are {', '.join(types)}"] if missing else []


def _na(connection: Any, types: Mapping[str, str], reading: Reading) -> None:
    """Take values away that stand for none; the reader of CSV has done so already, which does no harm."""
    for word in reading.na or ():
        for name, kind in types.items():
            if kind == "VARCHAR":
                column = quoted(name)
                connection.execute(f"UPDATE {TABLE} SET {column} = NULL WHERE trim({column}) = ?", [word])


def _typed(connection: Any, types: dict[str, str], reading: Reading, problems: list[str]) -> dict[str, str]:
    """The types of columns, once those that are stated have been made so; the reader of CSV has done that already."""
    out = dict(types)
    for name, given in reading.dtype.items():
        kind = sql_type(name, given)
        if name not in types or types[name] == kind:
            continue
        column, cast = quoted(name), f"TRY_CAST({quoted(name)} AS {kind})"
        if kind == WHOLE_NUMBER:  # DuckDB would round others
            cast = _whole(column, types[name], reading)
        torn = f"{column} IS NOT NULL AND {cast} IS NULL"
        count = connection.execute(f"SELECT count(*) FROM {TABLE} WHERE {torn}").fetchall()[0][0]
        if count:
            problems.append(f"column {name!r} is not what dtype says in {count} row{'s' * (count > 1)}")
            continue
        connection.execute(f"ALTER TABLE {TABLE} ALTER {column} TYPE {kind} USING {cast}")
        out[name] = kind
    return out


def _whole(column: str, kind: str, reading: Reading) -> str:
    """A column as whole numbers: in SQL, NULL for what is none."""
    if kind != "VARCHAR":
        number = f"TRY_CAST({column} AS DOUBLE)"
        return f"TRY_CAST(CASE WHEN {number} = trunc({number}) THEN {column} END AS BIGINT)"
    text = f"trim({column})"
    if reading.thousands is not None:
        text = f"replace({text}, {in_sql(reading.thousands)}, '')"
    if reading.decimal is not None:
        text = f"replace({text}, {in_sql(reading.decimal)}, '.')"
    return f"TRY_CAST(regexp_extract({text}, '^([+-]?[0-9]+)([.]0*)?$', 1) AS BIGINT)"


# --- columns ----------------------------------------------------------------------------------------------------------

NOTHING = '"NULL"'
"""The type of a column without any value."""
WHOLE = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"})
REAL = frozenset({"FLOAT", "DOUBLE", "HUGEINT", "UHUGEINT", "UBIGINT"})


def _fetched(connection: Any, types: Mapping[str, str], problems: list[str]) -> dict[str, np.ndarray]:
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


def _streamed(connection: Any, types: Mapping[str, str], problems: list[str]) -> tuple[dict[str, Any], Any]:
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
    return kinds, _batches(connection, _query(casts), CHUNK)


def _batches(connection: Any, query: str, rows: int) -> Iterator[Any]:
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


def _digests(connection: Any, columns: Sequence[tuple[str, str]], problems: list[str]) -> tuple[Tensor, Tensor] | None:
    """Digests of the rows' keys, the first 128 bits of SHA-256, and which rows have none; there they are random."""
    wrong = [f"column {name!r} holds {kind}, which is no key" for name, kind in columns if _cast(kind) is None]
    if wrong:
        problems += wrong
        return None
    query = key_query([(quoted(name), kind) for name, kind in columns], TABLE)
    raw = [is_raw(kind) for _, kind in columns]
    found = [_of_batch(batch, raw) for batch in _batches(connection, query, 16 * CHUNK)]
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


def _apart(place: int, digests: Tensor) -> Tensor:
    """Digests that those of another alternative never equal, even of the same text."""
    digests[:, 0] ^= place
    return digests


def _warn_of_keys(connection: Any, title: str, types: Mapping[str, str], rows: int) -> None:
    """Warn the owner of columns that look as if they said who a row is about."""
    named = [name for name in types if LIKE_A_KEY.search(name)]
    texts = [name for name, kind in types.items() if kind in ("VARCHAR", "UUID") and name not in named]
    if texts and rows >= SMALL:
        counts = ", ".join(f"count(DISTINCT {quoted(name)})" for name in texts)
        (found,) = connection.execute(f"SELECT {counts} FROM {TABLE}").fetchall()
        named += [name for name, count in zip(texts, found, strict=True) if count == rows]
    if named:
        columns = " and ".join(map(repr, named))
        warnings.warn(
            f"{title}: {columns} looks like a key: say key={named[0]!r} to have tacit.join find rows of others, "
            f"or leave it out with columns=…",
            stacklevel=6,
        )
