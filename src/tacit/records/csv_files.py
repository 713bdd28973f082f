"""CSV files in any dialect, through DuckDB's reader, and all that is wrong with one at once."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tacit.errors import ConfigError, UnusableTable
from tacit.records.headers import STATED, first_row, problems_of_names
from tacit.records.packages import quoted

if TYPE_CHECKING:
    from tacit.records.sources import Reading

SNIFFED = (
    "delim",
    "quote",
    "escape",
    "newline",
    "comment",
    "skip",
    "header",
    "columns",
    "dateformat",
    "timestampformat",
)
"""The columns of DuckDB's `sniff_csv`, by the names of the options that they are."""

__all__ = ["MISSING", "TYPES", "WHOLE", "check_options", "in_sql", "in_utf8", "load_csv", "sql_type"]

WORDS = ("na", "n/a", "nan", "null", "none", "?", "")
MISSING = tuple(dict.fromkeys(form for word in WORDS for form in (word, word.upper(), word.title(), "NaN")))
"""What stands in cells without a value."""

TYPES = {
    "int": "BIGINT",
    "int64": "BIGINT",
    "float": "DOUBLE",
    "float32": "DOUBLE",
    "float64": "DOUBLE",
    "str": "VARCHAR",
    "bool": "BOOLEAN",
    "date": "DATE",
    "datetime": "TIMESTAMP",
}
"""What dtype={column: …} may say."""

WHOLE = "BIGINT"

READ = ("utf-8", "utf-16", "iso8859-1")
"""Encodings that DuckDB reads by itself, as Python calls them."""

STRUCTURE = {
    "MISSING COLUMNS": "too few cells",
    "TOO MANY COLUMNS": "too many cells",
    "UNQUOTED VALUE": "a quote that is not closed, or something behind one",
    "LINE SIZE OVER MAXIMUM": "too many characters",
    "INVALID ENCODING": "no UTF-8 text (say what it is, encoding='cp1252' or 'utf-16' as a rule)",
    "INVALID UNICODE": "no UTF-8 text (say what it is, encoding='cp1252' or 'utf-16' as a rule)",
}


@contextlib.contextmanager
def in_utf8(path: str, encoding: str | None, folder: Path | None) -> Iterator[tuple[str, str | None]]:
    """A file that DuckDB reads, and its encoding: a copy, where that is one of those that only Python has."""
    try:
        known = encoding is None or codecs.lookup(encoding).name in READ
        TextIOWrapper(BytesIO(), encoding=encoding)  # refuses codecs that make no text
    except LookupError:
        raise ConfigError(f"encoding={encoding!r} is none that Python knows: utf-8, latin-1, cp1252, …") from None
    if known or not Path(path).is_file():
        yield path, encoding
        return
    opened = gzip.open if path.endswith(".gz") else open
    with tempfile.TemporaryDirectory(dir=folder) as private:
        copy = Path(private) / Path(path).name.removesuffix(".gz")
        try:
            with (
                opened(path, "rt", encoding=encoding, newline="") as source,
                copy.open("w", encoding="utf-8", newline="") as target,
            ):
                shutil.copyfileobj(source, target)
        except UnicodeDecodeError:
            raise UnusableTable(f"{path} is no text in the encoding {encoding}") from None
        yield str(copy), None


def load_csv(connection: Any, path: str, table: str, reading: Reading, called: str) -> None:
    """Make a table of a CSV file; `UnusableTable` with all that is wrong with its lines and its header."""
    if "://" not in path and any(mark in path for mark in "*?["):
        raise UnusableTable(f"{called} may be several files: give one")
    given = _options(reading)
    above = f", skip = {reading.skip}" if reading.skip else ""
    how = f"sample_size = -1, ignore_errors = true{above}{given}"
    sniffed = connection.execute(f"SELECT * FROM sniff_csv({in_sql(path)}, {how})").fetchone()
    found: dict[str, Any] = dict(zip(SNIFFED, ("" if value == "(empty)" else value for value in sniffed), strict=False))
    skip, columns = found["skip"], found["columns"]
    options = ("delim", "quote", "escape", "comment", "dateformat", "timestampformat")
    dialect = "".join(
        f", {option} = {in_sql(found[option])}"
        for option in options
        if found[option]
        and not (option == "delim" and reading.delimiter)
        and not (option in ("dateformat", "timestampformat") and reading.date_format)
    )
    names = _header(path, reading, found, called)
    problems = problems_of_names(names)
    if names and names[0].casefold().startswith("sep="):
        problems = ["its first line says what separates cells, and names no columns: say skip=1"]
    if names and all(name and _is_number(name) for name in names):
        problems = ["its first line holds numbers and must name the columns"]
    elif len(names) == len(columns):
        problems = first_row(names, [c["type"] != "VARCHAR" for c in columns], reading.stated) or problems
    if not columns or not names:
        problems = ["it is empty: its first line must name the columns"]
    elif len(names) != len(columns):
        problems.append("its first line does not have a name for each column; lines above the names need skip=…")
    if skip != reading.skip:
        problems = [f"its first {skip} lines are unlike the others; the first must name the columns, or say skip=…"]
    if problems:
        raise UnusableTable(f"{called} cannot be used: {'; '.join(problems)}")
    types = _types(names, {c["name"]: c["type"] for c in columns}, [c["name"] for c in columns], reading)
    spelled = ", ".join(f"{in_sql(name)}: {in_sql(kind)}" for name, kind in types.items())
    connection.execute(
        f"CREATE TABLE {table} AS SELECT * FROM read_csv({in_sql(path)}, header = false, skip = {skip + 1}, "
        f"columns = {{{spelled}}}, auto_detect = false, store_rejects = true, rejects_limit = 0{dialect}{given})"
    )
    problems = (
        _rejected(connection, reading)
        or _ambiguous(connection, table, types, found["dateformat"] or "", reading)
        or _pointed(connection, table, types, reading)
        or _among_cells(connection, table, types, {c["type"] for c in columns}, reading.stated)
    )
    if problems:
        raise UnusableTable(f"{called} cannot be used: {'; '.join(problems)}")


def _ambiguous(connection: Any, table: str, types: dict[str, str], found: str, reading: Reading) -> list[str]:
    """Dates as 03/04/2020, all of which are dates in another order, too; with dots the day stands first."""
    if reading.date_format is not None or not re.match(r"%[dm][/-]", found):
        return []
    problems = []
    for name, kind in types.items():
        if kind == "DATE":
            day, month = (f"{part}({quoted(name)})" for part in ("day", "month"))
            query = f"SELECT bool_and({day} <= 12) AND bool_or({day} <> {month}) FROM {table}"
            if connection.execute(query).fetchall()[0][0]:
                problems.append(
                    f"column {name!r} holds dates whose day may be the month: say date_format='%d/%m/%Y', or as it is"
                )
    return problems


def _pointed(connection: Any, table: str, types: dict[str, str], reading: Reading) -> list[str]:
    """Columns of numbers with points in a file of another decimal mark: those points are of thousands, as a rule."""
    if reading.decimal in (None, "."):
        return []
    columns = [n for n, kind in types.items() if kind == "VARCHAR" and n not in (*reading.keys, *reading.dtype)]
    tests = [f"bool_and(regexp_full_match(trim({quoted(n)}), '[+-]?[0-9]+([.][0-9]+)+'))" for n in columns]
    if not columns:
        return []
    (found,) = connection.execute(f"SELECT {', '.join(tests)} FROM {table}").fetchall()
    return [
        f"column {name!r} holds numbers with points beside decimal={reading.decimal!r}: say thousands='.' if they "
        f"are of thousands, or dtype={{{name!r}: 'str'}}"
        for name, pointed in zip(columns, found, strict=True)
        if pointed
    ]


def _among_cells(
    connection: Any, table: str, types: dict[str, str], kinds: set[str], stated: Collection[str]
) -> list[str]:
    """What to say of a table of texts only in which a name occurs among the cells of its own column."""
    names = [n for n, kind in types.items() if kind == "VARCHAR" and n not in stated]
    if kinds != {"VARCHAR"} or len(names) < len(types):  # the program names a column of a header
        return []
    tests = [f"bool_or(trim({quoted(name)}) = {in_sql(name)})" for name in names]
    (found,) = connection.execute(f"SELECT {', '.join(tests)} FROM {table}").fetchall()
    places = [str(list(types).index(name) + 1) for name, among in zip(names, found, strict=True) if among]
    if not places:
        return []
    return [f"its first line looks like a row, and must name the columns: see column {places[0]}{STATED}"]


def _header(path: str, reading: Reading, found: dict[str, Any], called: str) -> list[str]:
    """The names in the first line, as they stand there: DuckDB has renamed those that it found twice."""
    known = [column["name"] for column in found["columns"]]
    if not Path(path).is_file() or path.endswith(".zst") or len(found["delim"]) != 1:
        return known
    opened = gzip.open if path.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding=reading.encoding or "utf-8-sig", newline="") as file:
            rows = islice(file, reading.skip, None)
            lines = csv.reader(rows, delimiter=found["delim"], quotechar=found["quote"] or '"')
            return [name.strip() for name in next(lines, [])]
    except UnicodeDecodeError:
        raise UnusableTable(f"{called} holds {STRUCTURE['INVALID ENCODING']}") from None


def check_options(reading: Reading) -> None:
    """Refuse what no CSV file is written with: the reader would say so in words of its own, or not at all."""
    if type(reading.skip) is not int or reading.skip < 0:
        raise ConfigError(f"skip is how many lines stand above the names of the columns, not {reading.skip!r}")
    for option, marks in (("decimal", ".,"), ("thousands", ".,' _\u00a0\u202f")):
        value = getattr(reading, option)
        if value is not None and (len(value) != 1 or value not in marks):
            raise ConfigError(f"{option}={value!r} is none of the marks that numbers have, as {option}={marks[1]!r}")
    if reading.thousands is not None and reading.thousands == (reading.decimal or "."):
        raise ConfigError(f"thousands={reading.thousands!r} needs another decimal mark: say decimal=…")
    if reading.date_format is not None and "%" not in reading.date_format:
        raise ConfigError(f"date_format={reading.date_format!r} has no %: write as '%d.%m.%Y' which part stands where")


def _options(reading: Reading) -> str:
    na = MISSING if reading.na is None else ("", *reading.na)
    options = f", nullstr = [{', '.join(map(in_sql, dict.fromkeys(na)))}]"
    for option, value in (
        ("delim", reading.delimiter),
        ("decimal_separator", reading.decimal),
        ("encoding", reading.encoding),
        ("thousands", reading.thousands),
        ("timestampformat" if of_times(reading.date_format) else "dateformat", reading.date_format),
    ):
        if value is not None:
            options += f", {option} = {in_sql(value)}"
    return options


def _types(names: Sequence[str], sniffed: dict[str, str], places: Sequence[str], reading: Reading) -> dict[str, str]:
    """The type of each column, by the names of the header."""
    types = {name: sniffed[place] for name, place in zip(names, places, strict=True)}
    for name in reading.keys:
        if name in types and not types[name].startswith(("DATE", "TIMESTAMP")):
            types[name] = "VARCHAR"
    if reading.label is not None and types.get(reading.label) == "BOOLEAN":
        types[reading.label] = "VARCHAR"  # as it is written, yes or true
    for name, kind in reading.dtype.items():
        stated = sql_type(name, kind)
        if name in types:
            types[name] = _read_as(stated, types[name], reading)
    return types


TIMES = re.compile(r"%-?[HIMSpfgnXc]")
"""What formats of dates say of the time of day."""


def of_times(date_format: str | None) -> bool:
    """Whether a format of dates has times of day, too: taken for one of dates, DuckDB would leave them out."""
    return date_format is not None and TIMES.search(date_format.replace("%%", "")) is not None


def _read_as(stated: str, found: str, reading: Reading) -> str:
    """As what a column is read that is stated to be of a type: the reader would round 1.5, and cut times off dates."""
    if stated == WHOLE:
        return "VARCHAR"
    if stated in ("DATE", "TIMESTAMP"):
        known = found.startswith(("DATE", "TIMESTAMP")) and reading.date_format is None
        return found if known else "VARCHAR"
    return stated


def sql_type(name: str, kind: str) -> str:
    """The type that dtype says of a column, in SQL."""
    if kind not in TYPES:
        raise ConfigError(f"dtype={{{name!r}: …}} is one of {', '.join(TYPES)}, not {kind!r}")
    return TYPES[kind]


def _rejected(connection: Any, reading: Reading) -> list[str]:
    """What the reader has left out, by what was wrong, with the number of lines and the first."""
    query = "SELECT error_type::VARCHAR, column_name, count(DISTINCT line), min(line) FROM reject_errors "
    structure = "error_type::VARCHAR <> 'CAST'"
    torn = connection.execute(f"{query} WHERE {structure} GROUP BY 1, 2 ORDER BY min(line)").fetchall()
    cells = connection.execute(
        f"{query} WHERE error_type::VARCHAR = 'CAST' AND line NOT IN "
        f"(SELECT line FROM reject_errors WHERE {structure}) GROUP BY 1, 2 ORDER BY min(line)"
    ).fetchall()
    merged: dict[str, tuple[int, int]] = {}
    for kind, _, count, first in torn:
        total, earliest = merged.get(kind, (0, first))
        merged[kind] = (total + count, min(earliest, first))
    problems = [
        f"{STRUCTURE.get(kind, 'something that cannot be read')} in {_lines(*found)}" for kind, found in merged.items()
    ]
    says = dict.fromkeys(reading.dtype, "what dtype says")
    taken = "what the rest of it is taken for (if that is wrong, say dtype={column: 'str'}, or date_format=…)"
    return problems + [
        f"column {name!r} is not {says.get(name, taken)} in {_lines(count, line)}" for _, name, count, line in cells
    ]


def _lines(count: int, first: int) -> str:
    return f"line {first}" if count == 1 else f"{count} lines (the first is line {first})"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def in_sql(value: str) -> str:
    """A text in SQL."""
    return "'" + str(value).replace("'", "''") + "'"
