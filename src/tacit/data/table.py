"""A table of numbers with named columns, read strictly: what is not plainly a number is an error that says where.

A message names file, row and column and never the cell's content: the owner's peers are told the message, too.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from math import isfinite
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from tacit.errors import DataError

__all__ = ["Table", "read_table"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Table:
    """Named columns of float64 numbers: `values` has a row per record and a column per name."""

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

    def check_whole(self) -> Table:
        """Return the table, or raise if a number is not a whole one."""
        broken = (self.values != self.values.round()).nonzero()
        if len(broken):
            row, column = (int(i) for i in broken[0])
            raise DataError(f"{self.source}, row {row + 1}, column {self.columns[column]!r}: not a whole number")
        return self


def read_table(path: str | Path) -> Table:
    """Read a CSV file: UTF-8, a header of column names, then a row of finite numbers for each record.

    A byte order mark, CRLF and quoted cells are fine. Rows are counted from 1, below the header.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return _parse(str(path), file)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _parse(source: str, file: TextIOWrapper) -> Table:
    rows = _rows(source, file)
    columns = _header(source, next(rows, []))
    values, count = array("d"), 0
    for count, cells in enumerate(rows, start=1):
        values.extend(_numbers(source, count, columns, cells))
    if not count:
        raise DataError(f"{source} has a header but no rows")
    return Table(source, columns, torch.frombuffer(values, dtype=torch.float64).reshape(count, len(columns)))


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
    for place, name in enumerate(columns):
        if not name:
            raise DataError(f"{source}: column {place + 1} has no name in the header")
        if not name.isprintable():
            raise DataError(f"{source}: the name of column {place + 1} has characters that cannot be printed")
        if name in columns[:place]:
            raise DataError(f"{source} has two columns named {name!r}")
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        raise DataError(f"{source}: cells must be separated by commas")
    return columns


def _numbers(source: str, row: int, columns: Sequence[str], cells: Sequence[str]) -> list[float]:
    if len(cells) != len(columns):
        raise DataError(f"{source}, row {row} has {len(cells)} cells, but the header names {len(columns)} columns")
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
        return "the cell is empty"
    try:
        number = float(cell)
    except ValueError:
        return "the cell is not a number"
    if "_" in cell:  # which Python allows in numbers and nobody else does
        return "the cell is not a number"
    if not isfinite(number):
        return "the cell is NaN" if number != number else "the cell is infinite"
    return None
