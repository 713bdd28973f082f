"""Columns made what the program says that they are, in DuckDB, where no cell is lost or changed by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tacit.records.csv_files import WHOLE, in_sql, sql_type
from tacit.records.packages import TABLE, quoted
from tacit.records.sources import Reading

__all__ = ["typed", "without_missing"]


def without_missing(connection: Any, types: Mapping[str, str], reading: Reading) -> None:
    """Take values away that stand for none: empty texts, as databases have them, and what `na` says.

    The reader of CSV has done most of it already, which does no harm.
    """
    texts = [name for name, kind in types.items() if kind == "VARCHAR" and name not in reading.keys]
    if texts:
        tests = ", ".join(f"bool_or(trim({quoted(name)}) = '')" for name in texts)
        (found,) = connection.execute(f"SELECT {tests} FROM {TABLE}").fetchall()
        for name in (name for name, blank in zip(texts, found, strict=True) if blank):
            connection.execute(f"UPDATE {TABLE} SET {quoted(name)} = NULL WHERE trim({quoted(name)}) = ''")
    for word in reading.na or ():
        for name, kind in types.items():
            if kind == "VARCHAR":
                column = quoted(name)
                connection.execute(f"UPDATE {TABLE} SET {column} = NULL WHERE trim({column}) = ?", [word])


def typed(connection: Any, types: dict[str, str], reading: Reading, problems: list[str]) -> dict[str, str]:
    """The types of columns, once those that are stated have been made so; the reader of CSV has done most already."""
    out = dict(types)
    for name, given in reading.dtype.items():
        kind = sql_type(name, given)
        if name not in types or types[name] == kind:
            continue
        column, cast = quoted(name), _cast(quoted(name), types[name], kind, reading)
        torn = f"{column} IS NOT NULL AND {cast} IS NULL"
        count = connection.execute(f"SELECT count(*) FROM {TABLE} WHERE {torn}").fetchall()[0][0]
        if count:
            why = ""
            if kind == "DATE":
                moment = f"{torn} AND {_moment(column, types[name], reading)} IS NOT NULL"
                if connection.execute(f"SELECT count(*) FROM {TABLE} WHERE {moment}").fetchall()[0][0]:
                    why = ", for it has times of day, which a date would lose (say 'datetime')"
            problems.append(f"column {name!r} is not what dtype says in {count} row{'s' * (count > 1)}{why}")
            continue
        connection.execute(f"ALTER TABLE {TABLE} ALTER {column} TYPE {kind} USING {cast}")
        out[name] = kind
    for name, kind in out.items():
        if kind.startswith(("DATE", "TIMESTAMP")):
            endless = f"SELECT count(*) FROM {TABLE} WHERE NOT isfinite({quoted(name)})"
            count = connection.execute(endless).fetchall()[0][0]
            if count:
                problems.append(f"column {name!r} holds infinite dates in {count} row{'s' * (count > 1)}")
    return out


def _cast(column: str, had: str, kind: str, reading: Reading) -> str:
    """A column as of a type, in SQL: NULL for what would be another value in it, which DuckDB would round or cut."""
    if kind == WHOLE:
        return _whole(column, had, reading)
    if kind == "BOOLEAN" and had != "VARCHAR":
        number = f"TRY_CAST({column} AS DOUBLE)"
        return f"CASE WHEN {number} IN (0, 1) THEN {number} = 1 END"
    if kind == "TIMESTAMP":
        return _moment(column, had, reading)
    if kind == "DATE":
        moment = _moment(column, had, reading)
        return f"CASE WHEN {moment} = date_trunc('day', {moment}) THEN CAST({moment} AS DATE) END"
    return f"TRY_CAST({column} AS {kind})"


def _moment(column: str, had: str, reading: Reading) -> str:
    """A column as points in time: in UTC, where it says how far from that they are."""
    if had == "VARCHAR" and reading.date_format is not None:
        return f"CAST(try_strptime(trim({column}), {in_sql(reading.date_format)}) AS TIMESTAMP)"
    if had == "VARCHAR":  # as a TIMESTAMP, it would lose that
        return f"(TRY_CAST({column} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    return f"TRY_CAST({column} AS TIMESTAMP)"


def _whole(column: str, kind: str, reading: Reading) -> str:
    """A column as whole numbers."""
    if kind != "VARCHAR":
        number = f"TRY_CAST({column} AS DOUBLE)"
        return f"TRY_CAST(CASE WHEN {number} = trunc({number}) THEN {column} END AS BIGINT)"
    text = f"trim({column})"
    if reading.thousands is not None:
        text = f"replace({text}, {in_sql(reading.thousands)}, '')"
    if reading.decimal is not None:
        text = f"replace({text}, {in_sql(reading.decimal)}, '.')"
    return f"TRY_CAST(regexp_extract({text}, '^([+-]?[0-9]+)([.]0*)?$', 1) AS BIGINT)"
