"""Rows of a PostgreSQL database: a query runs there, and what it finds comes in Arrow's batches.

An address may hold a password, and the driver's messages may hold the address, or cells: neither is ever shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tacit.errors import ConfigError, UnusableTable

__all__ = ["ADDRESSES", "queried"]

ADDRESSES = ("postgres://", "postgresql://")

MONEY = "money"
"""A type that comes as hundredths, or as what the server's settings say."""

FORM = "42"
"""How PostgreSQL's codes begin for what is wrong with a query's form. Its own words are shown of these: they name
columns and tables, and no cell, for nothing ran yet."""

PROBLEMS = {
    "22": "the query meets a value that it cannot compute with",
    "25": "the query writes, and it may only read",
    "53": "it has no room for one more connection",
    "57": "it has stopped the query",
}
"""By the first two letters of other codes."""

CONNECTING = {
    "authentication failed": "it does not let this user in with this password",
    "does not exist": "it has no such database, or no such user",
    "refused": "nobody listens there",
    "translate host name": "no such host is known",
}
"""By what the driver says where no connection came about: it has no codes then."""


@contextlib.contextmanager
def queried(address: str, query: str | None) -> Iterator[tuple[Any, list[str]]]:
    """A stream of record batches, of a transaction that cannot write, and the columns of which texts are numbers."""
    if query is None or not query.strip(" ;\n\t"):
        raise ConfigError("a database has many tables: say which rows, tacit.read_table(…, query='select …')")
    try:
        from adbc_driver_manager import Error
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise ConfigError("tacit.read_table needs adbc-driver-postgresql here: pip install 'tacit[data]'") from None
    try:
        with dbapi.connect(address) as connection, connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(query.strip().rstrip(";"))
            rows = cursor.fetch_record_batch()
            kinds = {f.name: (f.metadata or {}).get(b"POSTGRESQL:type", b"").decode().strip("'") for f in rows.schema}
            money = [name for name, kind in kinds.items() if kind == MONEY]
            if money:
                raise UnusableTable(f"columns of type money ({', '.join(money)}): cast them to numeric in the query")
            yield rows, [name for name, kind in kinds.items() if kind == "numeric"]
    except Error as error:
        raise UnusableTable(f"the database cannot be read: {_problem(error.sqlstate, str(error))}") from None


def _problem(code: str | None, message: str) -> str:
    if not code:
        return next((told for word, told in CONNECTING.items() if word in message), "no connection to it came about")
    if code.startswith(FORM):
        said = next((line.partition("ERROR:")[2].strip() for line in message.splitlines() if "ERROR:" in line), code)
        return f"the query does not run: {said}"
    return PROBLEMS.get(code[:2], f"PostgreSQL's code is {code}")
