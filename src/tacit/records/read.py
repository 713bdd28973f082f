"""`tacit.read_table`: a table that one party owns, in whatever form it has it."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tacit.api import current_session
from tacit.errors import ConfigError, DataError, UnusableTable
from tacit.records.columns import fetched, streamed
from tacit.records.csv_files import check_options
from tacit.records.headers import problems_of_names
from tacit.records.keys import Either, alternatives_of
from tacit.records.labels import Classes, Label, check_classes
from tacit.records.own import Own, Wanted, absent, own_part, types_of, whole_part
from tacit.records.packages import TABLE, quoted, told
from tacit.records.shards import SHARDS
from tacit.records.sources import Reading, described, loaded
from tacit.records.stored import Column, written
from tacit.records.table import Held, Records, check, limit_of_numbers, promised
from tacit.session.announced import fitting, names, whole

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
        na: what stands in cells without a value, beside nothing at all; by default, in CSV files, NA, NaN, NULL, None
            and ?.
        dtype: types of columns that the reader shall not find out by itself: {"zip": "str"}, of int, float, str, bool,
            date and datetime. A column that would lose something by it is refused: 1.5 is no int, noon no date.
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
        stated=frozenset((*keys, *(asked or ()), *((label,) if label else ()))),
        delimiter=delimiter,
        decimal=decimal,
        thousands=thousands,
        date_format=date_format,
        encoding=encoding,
        skip=skip,
        sheet=sheet,
    )
    check_options(reading)
    title = name or f"the table of {owner}"
    held, hear = promised(
        owner,
        title,
        lambda: _read(source, wanted, reading, on_disk),
        lambda said: _public(owner, wanted, said),
    )
    return Records(owner, title, label, [len(key) for key in alternatives], len(keys), held, hear, shard)


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
    own = None if wanted.shard is None else own_part(source, called, wanted, reading)
    if own is not None:
        reading = replace(reading, rows=own.reads)
    connection = loaded(source, reading)
    try:
        with told(f"{called} cannot be used"):
            return _taken(connection, called, wanted, reading, own)
    finally:
        connection.close()


def _taken(
    connection: Any, called: str, wanted: Wanted, reading: Reading, own: Own | None
) -> tuple[Held, dict[str, Any]]:
    """`_read`, of what a connection has loaded: the whole table, or a rank's own part of it."""
    types = {n: str(t) for n, t, *_ in connection.execute(f"DESCRIBE {TABLE}").fetchall()}
    check(called, problems_of_names(list(types)) or absent(types, wanted))
    names = wanted.columns
    if names is None:
        names = tuple(n for n in types if n not in wanted.keys and n != wanted.label)
    rows = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall()[0][0]
    check(called, [] if rows else ["it has no rows"])
    problems: list[str] = []
    types = types_of(connection, reading, problems)
    if own is None:
        own = whole_part(connection, called, wanted, types, rows, problems)
    elif rows != len(own.origin):
        raise UnusableTable(f"{called} has changed while it was read")
    if not wanted.keys:
        _warn_of_keys(connection, called, {n: types[n] for n in names}, rows)
    kept = {n: types[n] for n in names}
    frame: dict[str, Column]
    if reading.folder is None:
        frame = fetched(connection, kept, problems)
    else:
        frame = written(reading.folder, len(own.origin), *streamed(connection, kept, problems), problems)
    check(called, problems)
    folder = None if reading.folder is None else reading.folder.parent
    label = own.label
    if label is not None:
        _warn_of_two(called, wanted, label)
    held = Held(called, frame, label, own.digests, own.origin, limit_of_numbers(), folder, wanted.columns is not None)
    public = {"rows": len(own.origin), "columns": list(names), "classes": None if label is None else label.classes}
    return held, public


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


def _warn_of_two(title: str, wanted: Wanted, label: Label) -> None:
    """Warn the owner of a label of numbers, of which there are two: they are classes, most likely."""
    values = label.values
    low, high = values.min(), values.max()
    if label.classes is None and low < high and bool(((values == low) | (values == high)).all()):
        warnings.warn(
            f"{title}: the label {wanted.label!r} has two different numbers and is taken for a quantity: if they are "
            "classes, say which, classes=[…]",
            stacklevel=6,
        )


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
