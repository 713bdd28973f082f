"""Tables as people have them, brought into DuckDB at their owner: files of every kind, databases, and data frames.

What is wrong with a source is told in our words, all of it at once: DuckDB's own messages show cells.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time
from numbers import Number
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch

from tacit.errors import ConfigError, UnusableTable
from tacit.records.csv_files import in_utf8, load_csv
from tacit.records.headers import first_row, problems_of_names
from tacit.records.packages import SOURCE, TABLE, duckdb_here, missing, of_query, pyarrow_here, quoted, readable, told
from tacit.records.parquet import PLACE, load_parquet
from tacit.records.postgres import ADDRESSES, queried
from tacit.records.remote import REMOTE, fetched

__all__ = ["Reading", "columns_of_parquet", "described", "loaded"]

PARQUET, JSON, ARROW, EXCEL, SQLITE = "parquet", "json", "arrow", "excel", "sqlite"
ENDINGS = {
    PARQUET: (".parquet", ".pq"),
    JSON: (".json", ".jsonl", ".ndjson"),
    ARROW: (".arrow", ".feather", ".ipc"),
    EXCEL: (".xlsx", ".xlsm"),
    SQLITE: (".db", ".sqlite", ".sqlite3"),
}
WEB = ("http://", "https://")
"""Addresses that DuckDB fetches with an extension of its own."""
MAGIC = {PARQUET: b"PAR1", ARROW: b"ARROW1", SQLITE: b"SQLite format 3\0", EXCEL: b"PK\3\4"}


DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a source is to be read."""

    query: str | None = None
    columns: Sequence[str] | None = None
    """Of a Parquet file, those that are read; all if None."""
    rows: range | np.ndarray | None = None
    """Of a Parquet file, the places of those that are read; all if None."""
    na: Sequence[str] | None = None
    dtype: Mapping[str, str] = field(default_factory=dict)
    keys: Sequence[str] = ()
    """Columns that are text, or dates, whatever they look like."""
    label: str | None = None
    stated: Collection[str] = ()
    """Columns that the program names, which are public anyway."""
    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    thousands: str | None = None
    date_format: str | None = None
    skip: int = 0
    sheet: str | None = None
    folder: Path | None = None
    """Where a table that is larger than memory may be."""


LEAST_MEMORY = "512MB"
"""That DuckDB takes of a table that is larger than memory. More: fewer pieces to write; fewer: less memory."""


def loaded(source: Any, reading: Reading) -> Any:
    """A DuckDB connection in which `TABLE` is what was asked for; `UnusableTable` if there is no such thing."""
    connection = _connected(reading.folder)
    try:
        connection.execute("SET TimeZone = 'UTC'")  # or times with a zone would be other ones at each owner
        with told(f"{described(source)} cannot be read"), readable(f"{described(source)} cannot be read"):
            _load(connection, source, reading)
        connection.execute("SET enable_external_access = false")
        there = _names(connection, SOURCE)
        if reading.query is not None and not _is_database(source):
            with told(f"the query on {described(source)} does not run", show=of_query):
                connection.execute(f"CREATE TABLE {TABLE} AS SELECT * FROM ({reading.query.rstrip().rstrip(';')})")
        else:
            connection.execute(f"ALTER TABLE {SOURCE} RENAME TO {TABLE}")
        if reading.dtype and (stray := set(reading.dtype) - there - _names(connection, TABLE)):
            raise UnusableTable(
                f"{described(source)} cannot be used: dtype says what there is no column for, "
                f"{', '.join(map(repr, sorted(stray)))}"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _names(connection: Any, table: str) -> set[str]:
    return {name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall()}


def _connected(folder: Path | None) -> Any:
    """A database in memory, or in a file of this folder, a private one that is removed afterwards."""
    if folder is None:
        return duckdb_here().connect()
    settings = {"memory_limit": LEAST_MEMORY, "temp_directory": str(folder), "threads": "2"}
    try:
        return duckdb_here().connect(str(folder / "table.duckdb"), config=settings)
    except duckdb_here().Error as error:
        raise UnusableTable(f"there is no room for the table in {folder.parent} ({type(error).__name__})") from None


def described(source: Any) -> str:
    """What messages to the owner call a source; an address may hold a password, so it is not shown."""
    if isinstance(source, str | Path):
        return "the address" if "://" in str(source) else str(source)
    return f"the {type(source).__name__}"


def _load(connection: Any, source: Any, reading: Reading) -> None:
    """Make the table `SOURCE` of a source."""
    if not isinstance(source, str | Path):
        _take(connection, _arrow(source, reading))
        return
    text = _address(source)
    if text.startswith(ADDRESSES):
        with queried(text, reading.query) as (rows, numeric):
            check_names(rows.schema.names)
            _take(connection, rows, [name for name in numeric if name not in reading.keys])
    elif text.startswith(REMOTE):
        with fetched(text, reading.folder) as path:
            _load_file(connection, str(path), reading, described(source))
    elif "://" in text and not text.startswith(WEB):
        listed = ", ".join((*ADDRESSES, *REMOTE, *WEB))
        raise UnusableTable(f"the address is of no kind that is read; there are {listed}")
    else:
        _load_file(connection, text, reading, described(source))


def _address(source: str | Path) -> str:
    """The text of a path or an address, whose scheme is in small letters."""
    text = str(source)
    if isinstance(source, Path) and re.match(r"\w+:/", text):
        raise ConfigError("an address is given as a text: a Path takes one of its slashes away")
    scheme, mark, rest = text.partition("://")
    return scheme.lower() + mark + rest if mark else text


def _load_file(connection: Any, text: str, reading: Reading, called: str) -> None:
    kind = _kind(text)
    if text.lower().endswith((".zip", ".tar", ".7z", ".tar.gz", ".tgz")):
        raise UnusableTable(f"{called} is an archive: unpack the file that is in it")
    if text.lower().endswith((".bz2", ".xz", ".lzma")):
        raise UnusableTable(f"{called} is compressed in a way that is not read (gzip and zstd are): unpack it")
    if "://" in text and kind in (SQLITE, EXCEL, ARROW):
        raise UnusableTable(f"{called} is of a file that is read from a disk only: fetch it before")
    if kind == SQLITE:
        _take(connection, _sqlite(text, reading))
    elif kind == EXCEL:
        _take(connection, _excel(text, reading.sheet, reading.skip, reading.stated))
    elif kind == ARROW:
        _take(connection, _arrow_file(text))
    elif kind is None:
        with in_utf8(text, reading.encoding, reading.folder) as (path, encoding):
            load_csv(connection, path, SOURCE, replace(reading, encoding=encoding), called)
    elif kind == PARQUET:
        load_parquet(connection, text, reading)
    else:
        connection.execute(f"CREATE TABLE {SOURCE} AS SELECT * FROM read_json_auto(?)", [text])


def columns_of_parquet(source: Any, reading: Reading) -> tuple[list[str], int] | None:
    """The columns and the number of rows of a source of which some can be read: a Parquet file; None of any other."""
    if not isinstance(source, str | Path) or reading.query is not None or "://" in str(source):
        return None
    if any(mark in str(source) for mark in "*?[") or _kind(str(source)) != PARQUET:
        return None
    with duckdb_here().connect() as connection, told(f"{described(source)} cannot be read"):
        names = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(source)]).fetchall()
        rows = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(source)]).fetchall()[0][0]
    columns = [name for name, *_ in names]
    return None if PLACE in columns else (columns, rows)


def _take(connection: Any, table: Any, numeric: Sequence[str] = ()) -> None:
    """Make the table of Arrow's; texts in columns that are `numeric` become numbers."""
    connection.register("taken", table)
    as_numbers = ", ".join(f"CAST({quoted(name)} AS DOUBLE) AS {quoted(name)}" for name in numeric)
    chosen = f"* REPLACE ({as_numbers})" if numeric else "*"
    connection.execute(f"CREATE TABLE {SOURCE} AS SELECT {chosen} FROM taken")
    connection.unregister("taken")


def _kind(text: str) -> str | None:
    """What a file is, by its ending, or by how it begins; None for CSV."""
    ending = Path(text.lower().removesuffix(".gz").removesuffix(".zst")).suffix
    for kind, endings in ENDINGS.items():
        if ending in endings:
            return kind
    if "://" in text or any(mark in text for mark in "*?["):
        return None
    path = Path(text)
    if not path.is_file():
        raise UnusableTable(f"there is no file {text}")
    try:
        with path.open("rb") as file:
            begins = file.read(16)
    except OSError as error:
        raise UnusableTable(f"{text} cannot be read: {error.strerror}") from None
    return next((kind for kind, magic in MAGIC.items() if begins.startswith(magic)), None)


def _is_database(source: Any) -> bool:
    if not isinstance(source, str | Path):
        return False
    text = _address(source)
    return text.startswith(ADDRESSES) or (not text.startswith(REMOTE) and _kind(text) == SQLITE)


# --- what DuckDB does not read by itself --------------------------------------------------------------------------


def _arrow(source: Any, reading: Reading) -> Any:
    """A data frame, an Arrow table or a dict of columns. What names rows in pandas is a column where it is the key."""
    pyarrow = pyarrow_here()
    index = [name for name in getattr(getattr(source, "index", None), "names", ()) if name in reading.keys]
    if index and not any(name in source for name in index):
        source = source.reset_index(index)
    if isinstance(source, Mapping) or (type(source).__module__.split(".")[0] == "pandas" and source.ndim == 2):
        names, columns = list(source.keys()), source
        lengths = {len(columns[name]) for name in dict.fromkeys(names) if names.count(name) == 1}
        if len(lengths) > 1:
            raise UnusableTable(f"{described(source)} cannot be used: its columns have different numbers of rows")
        check_names(list(map(str, names)))
        return pyarrow.table([_column(columns[name]) for name in names], names=list(map(str, names)))
    if hasattr(source, "__arrow_c_stream__") and type(source).__name__ != "Series":
        table = pyarrow.table(source)
        check_names(table.column_names)
        return table
    raise ConfigError(
        f"tacit.read_table takes a path, a data frame, an Arrow table or a dict of columns, "
        f"not a {type(source).__name__}"
    )


VALUES = (type(None), str, bytes, Number, np.generic, date, time, UUID)
"""What a cell may be."""


def _column(cells: Any) -> Any:
    """A column in Arrow's form; text, if it is of several kinds."""
    pyarrow = pyarrow_here()
    cells = cells.detach().cpu().numpy() if isinstance(cells, torch.Tensor) else cells
    try:
        found = pyarrow.array(cells, from_pandas=True)
        if "pandas." in str(found.type):  # what lies below are counts of months, say
            raise UnusableTable("a column holds periods or intervals: make dates or numbers of them, to_timestamp()")
        return found
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError, OverflowError):
        if getattr(cells, "ndim", 1) != 1:
            raise UnusableTable("a column of a table has one dimension: name each of a matrix") from None
        if not all(isinstance(cell, VALUES) or cell != cell for cell in cells):
            raise UnusableTable("a column holds objects that are no numbers, texts or dates") from None
        return pyarrow.array([None if cell is None or cell != cell else str(cell) for cell in cells])


def _arrow_file(path: str) -> Any:
    pyarrow_here()
    from pyarrow import feather

    return feather.read_table(path)


def _sqlite(path: str, reading: Reading) -> Any:
    """The rows of a query, or of the only table. SQLite has no types of columns, so those of the values count."""
    if not Path(path).is_file():
        raise UnusableTable(f"there is no file {path}")
    with contextlib.closing(sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)) as base:
        query = reading.query
        try:
            if query is None:
                names = [n for (n,) in base.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
                if len(names) != 1:
                    raise UnusableTable(f"{path} has {len(names)} tables ({', '.join(names)}): say which rows, query=…")
                query = f"SELECT * FROM {quoted(names[0])}"
            cursor = base.execute(query)
            return _dated(_columns([place[0] for place in cursor.description or ()], cursor.fetchall()))
        except sqlite3.Error as error:
            raise UnusableTable(f"the query on {path} does not run: {error}") from None


def _dated(table: Any) -> Any:
    """Texts that are all dates, as SQLite keeps them, made dates."""
    pyarrow = pyarrow_here()
    for place, name in enumerate(table.column_names):
        texts = table.column(place)
        if texts.type == pyarrow.string() and all(DATE.fullmatch(t) for t in texts.to_pylist() if t is not None):
            with contextlib.suppress(pyarrow.ArrowInvalid):
                table = table.set_column(place, name, texts.cast(pyarrow.timestamp("us")))
    return table


def _excel(path: str, sheet: str | None, skip: int, stated: Collection[str]) -> Any:
    """A sheet, whose first row, below so many, names the columns; the only one if none is named."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise missing("openpyxl") from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:
        raise UnusableTable(f"{path} is no workbook that can be read ({type(error).__name__})") from None
    with contextlib.closing(book):
        if sheet is None and len(book.sheetnames) > 1:
            raise UnusableTable(f"{path} has the sheets {', '.join(book.sheetnames)}: say which, sheet=…")
        if sheet is not None and sheet not in book.sheetnames:
            raise UnusableTable(f"{path} has no sheet {sheet!r}; its sheets are {', '.join(book.sheetnames)}")
        found = list(book[sheet or book.sheetnames[0]].iter_rows(values_only=True))[skip:]
        rows = [row for row in found if any_value(row)]
    names = [str(name).strip() if name is not None else "" for name in (rows[0] if rows else ())]
    typed = [any(not isinstance(row[place], str | None) for row in rows[1:]) for place in range(len(names))]
    if problems := first_row(names, typed, stated):
        raise UnusableTable(f"{path} cannot be used: {problems[0]}")
    return _columns(names, rows[1:])


def any_value(row: Sequence[Any]) -> bool:
    """Whether there is something in a row."""
    return any(cell is not None for cell in row)


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """Rows of Python objects as a table; a column of several kinds is text."""
    pyarrow = pyarrow_here()
    check_names(names)
    columns = [_column([row[place] for row in rows]) for place in range(len(names))]
    return pyarrow.table(columns, names=list(names))


def check_names(names: Sequence[str]) -> None:
    """Raise for columns that cannot be told apart."""
    problems = problems_of_names(names) if names else ["it has no columns"]
    if problems:
        raise UnusableTable(f"the table cannot be used: {'; '.join(problems)}")
