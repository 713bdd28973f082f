"""Packages that read tables, names in their SQL, and their errors in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tacit.errors import ConfigError, UnusableTable

__all__ = [
    "SOURCE",
    "TABLE",
    "arrow",
    "duckdb_here",
    "missing",
    "of_query",
    "pyarrow_here",
    "quoted",
    "readable",
    "told",
]

SOURCE, TABLE = "data", "tacit_table"
"""What a query calls the table of a source that has one only; where what is read stands then."""


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def arrow(columns: Mapping[str, np.ndarray]) -> Any:
    """An Arrow table of arrays."""
    return pyarrow_here().table(dict(columns))


def duckdb_here() -> Any:
    """The package."""
    try:
        import duckdb
    except ImportError:
        raise missing("duckdb") from None
    return duckdb


def pyarrow_here() -> Any:
    """The package."""
    try:
        import pyarrow
    except ImportError:
        raise missing("pyarrow") from None
    return pyarrow


def missing(package: str) -> ConfigError:
    """What to say where a package is not there."""
    return ConfigError(f"tacit.read_table needs {package} here: pip install 'tacit[data]'")


def of_query(message: str) -> str:
    """What DuckDB says of a query's form: names of columns, which its owner may see; no cells, for nothing ran yet."""
    return f": {message.splitlines()[0]}"


@contextlib.contextmanager
def told(sentence: str, show: Callable[[str], str] | None = None) -> Iterator[None]:
    """Say in our words what DuckDB stumbled over: its own may have values."""
    duckdb = duckdb_here()
    of_form = (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException)
    try:
        yield
    except duckdb.Error as error:
        message = str(error)
        if "extension" in message:
            detail = ": DuckDB has no extension for it, and cannot get one from the network"
        elif isinstance(error, duckdb.IOException):
            detail = ": it is not there, is damaged, or this process may not read it"
        elif show is not None and isinstance(error, of_form):
            detail = show(message)
        else:
            detail = f" ({type(error).__name__})"
        raise UnusableTable(f"{sentence}{detail}") from None


@contextlib.contextmanager
def readable(sentence: str) -> Iterator[None]:
    """The same of what Python and PyArrow stumble over in a file or a data frame."""
    try:
        yield
    except (UnusableTable, ConfigError):
        raise
    except (OSError, ValueError, TypeError, ArithmeticError) as error:
        raise UnusableTable(f"{sentence} ({type(error).__name__})") from None
