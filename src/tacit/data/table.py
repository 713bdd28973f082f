"""A table of numbers with named columns, read strictly: what is not plainly a number is an error that says where.

A message names file, row and column and never the cell's content: the owner's peers are told the message, too.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from io import TextIOWrapper
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.ring.fixed_point import VALUE_BITS

__all__ = ["ABSENT", "Reading", "Table", "read_table"]

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""What stands in cells without a value, in small letters."""

ABSENT = -(2.0**30)
"""What trees take for a number that is missing: a float32, and one that no column of numbers should hold."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a file beyond plain numbers."""

    columns: Sequence[str] | None = None
    """The columns that are wanted, in this order; all if None."""
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For columns of words: the words, whose places are the numbers."""
    fill: float | Mapping[str, float] | None = None
    """What a cell without a value becomes, in every column or by its name."""
    whole: bool = False
    """Whether all numbers are whole, and kept to the last digit."""

    @property
    def plain(self) -> bool:
        """Whether there is nothing but numbers to read, in all columns."""
        return self.columns is None and not self.categories and self.fill is None and not self.whole

    def filled(self, name: str) -> float | None:
        """What a column's missing cells become."""
        return self.fill.get(name) if isinstance(self.fill, Mapping) else self.fill


PLAIN = Reading()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Table:
    """Named columns of float64 (int64) numbers: `values` has a row per record and a column per name."""

    source: str
    columns: tuple[str, ...]
    values: Tensor

    def __repr__(self) -> str:
        return f"Table({self.source!r}, {len(self.values)} rows, columns={self.columns})"

    def split(self, label: str) -> tuple[Table, Table]:
        """Return the table without one column, and that column as a table of its own."""
        if label not in self.columns:
            raise DataError(f"{self.source} has no column {label!r}; its columns are {', '.join(self.columns)}")
        place = self.columns.index(label)
        rest = [i for i in range(len(self.columns)) if i != place]
        if not rest:
            raise DataError(f"{self.source} has no column but the label {label!r}")
        features = Table(self.source, tuple(self.columns[i] for i in rest), self.values[:, rest])
        return features, Table(self.source, (label,), self.values[:, [place]])

    def standardized(self) -> Table:
        """Return the table with every column at mean 0 and standard deviation 1; a constant column becomes 0."""
        centred = self.values - self.values.mean(dim=0)
        deviation = centred.square().mean(dim=0).sqrt()
        # The mean of a constant column is off by rounding, which must not be blown up to size 1.
        constant = deviation <= 1e-12 * self.values.abs().amax(dim=0)
        return Table(self.source, self.columns, torch.where(constant, 0.0, centred / deviation))

    def check_below(self, limit: float) -> Table:
        """Return the table, or raise if a number's magnitude reaches `limit`."""
        beyond = (self.values.abs() >= limit).nonzero()
        if len(beyond):
            row, column = (int(i) for i in beyond[0])
            raise DataError(
                f"{self.source}, row {row + 1}, column {self.columns[column]!r}: the number is too large, "
                f"fixed point holds numbers below {limit:g} in magnitude"
            )
        return self


def read_table(path: str | Path, reading: Reading = PLAIN) -> Table:
    """Read a CSV file: UTF-8, a header of column names, then a row of finite numbers for each record.

    A byte order mark, CRLF and quoted cells are fine. Rows are counted from 1, below the header. Words and empty cells
    are errors, unless `reading` says what they mean.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return _parse(str(path), file, reading)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _parse(source: str, file: TextIOWrapper, reading: Reading) -> Table:
    rows = _rows(source, file)
    columns = _header(source, next(rows, []))
    chosen = columns if reading.columns is None else tuple(reading.columns)
    for name in (*chosen, *reading.categories, *(reading.fill if isinstance(reading.fill, Mapping) else ())):
        if name not in columns:
            raise DataError(f"{source} has no column {name!r}; its columns are {', '.join(columns)}")
    places = [(name, columns.index(name)) for name in chosen]
    codes = {name: {word: code for code, word in enumerate(words)} for name, words in reading.categories.items()}
    values: array[Any] = array("q" if reading.whole else "d")
    count = 0
    for count, cells in enumerate(rows, start=1):
        if reading.plain:
            values.extend(_numbers(source, count, columns, cells))
        else:
            _check_length(source, count, columns, cells)
            values.extend([_read(source, count, name, cells[k], reading, codes) for name, k in places])
    if not count:
        raise DataError(f"{source} has a header but no rows")
    dtype = torch.int64 if reading.whole else torch.float64
    return Table(source, chosen, torch.frombuffer(values, dtype=dtype).reshape(count, len(chosen)))


def _read(
    source: str, row: int, name: str, cell: str, reading: Reading, codes: Mapping[str, Mapping[str, int]]
) -> float:
    """The number that a cell stands for."""
    where = f"{source}, row {row}, column {name!r}"
    text = cell.strip()
    known = codes.get(name, {}).get(text)
    if known is not None:
        return known
    filled = reading.filled(name)
    if filled is not None and text.lower() in MISSING:
        text = repr(filled)
    elif name in codes:
        raise DataError(f"{where}: the cell is none of the categories")
    problem = _problem(text)
    if problem is not None:
        raise DataError(f"{where}: {problem}")
    return _whole(where, text) if reading.whole else float(text)


def _whole(where: str, cell: str) -> int:
    """A whole number, to the last digit."""
    number = Decimal(cell)
    if number != number.to_integral_value():
        raise DataError(f"{where}: not a whole number")
    if abs(number) >= 1 << VALUE_BITS:
        raise DataError(f"{where}: the number is too large, secret integers are below 2^{VALUE_BITS}")
    return int(number)


def _rows(source: str, file: TextIOWrapper) -> Iterator[list[str]]:
    """The rows as lists of cells, header included; empty lines are fine at the end only."""
    reader = csv.reader(file, strict=True)
    empty_line = None
    try:
        for cells in reader:
            if not cells:
                empty_line = empty_line or reader.line_num
                continue
            if empty_line:
                raise DataError(f"{source}, line {empty_line} is empty")
            yield cells
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: {error}") from None


def _header(source: str, cells: Sequence[str]) -> tuple[str, ...]:
    columns = tuple(cell.strip() for cell in cells)
    if not columns:
        raise DataError(f"{source} is empty: its first line must name the columns")
    if all(_problem(name) is None for name in columns):
        raise DataError(f"{source} has no header: its first line holds numbers and must name the columns")
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        raise DataError(f"{source}: cells must be separated by commas")
    for place, name in enumerate(columns):
        if not name:
            raise DataError(f"{source}: column {place + 1} has no name in the header")
        if not name.isprintable():
            raise DataError(f"{source}: the name of column {place + 1} has characters that cannot be printed")
        if name in columns[:place]:
            raise DataError(f"{source} has two columns named {name!r}")
    return columns


def _check_length(source: str, row: int, columns: Sequence[str], cells: Sequence[str]) -> None:
    if len(cells) != len(columns):
        raise DataError(f"{source}, row {row} has {len(cells)} cells, but the header names {len(columns)} columns")


def _numbers(source: str, row: int, columns: Sequence[str], cells: Sequence[str]) -> list[float]:
    _check_length(source, row, columns, cells)
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        _blame(source, row, columns, cells)
    if not all(map(isfinite, numbers)) or any("_" in cell for cell in cells):
        _blame(source, row, columns, cells)
    return numbers


def _blame(source: str, row: int, columns: Sequence[str], cells: Sequence[str]) -> NoReturn:
    """Raise for the first cell of the row that is not a finite number."""
    name, problem = next((name, p) for name, cell in zip(columns, cells, strict=True) if (p := _problem(cell)))
    raise DataError(f"{source}, row {row}, column {name!r}: {problem}")


def _problem(cell: str) -> str | None:
    """What keeps a cell from being a finite number."""
    if not cell.strip():
        return "the cell is empty; say what it stands for with fill=…"
    try:
        number = float(cell)
    except ValueError:
        return "the cell is not a number; say categories={…} for words"
    if "_" in cell:  # which Python allows in numbers and nobody else does
        return "the cell is not a number"
    if not isfinite(number):
        return "the cell is NaN" if number != number else "the cell is infinite"
    return None
