"""Some columns or some rows of a Parquet file, of which the rest is not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tacit.records.packages import SOURCE, arrow, quoted

if TYPE_CHECKING:
    from tacit.records.sources import Reading

__all__ = ["PLACE", "load_parquet"]

PLACE = "file_row_number"
"""What DuckDB calls the place of a row in a Parquet file: a range of them takes the row groups that have some."""


def load_parquet(connection: Any, path: str, reading: Reading) -> None:
    """Make the table `SOURCE` of the columns and rows that are asked for, in their order."""
    if reading.columns is None and reading.rows is None:
        connection.execute(f"CREATE TABLE {SOURCE} AS SELECT * FROM read_parquet(?)", [path])
        return
    chosen = f"* EXCLUDE ({PLACE})" if reading.columns is None else ", ".join(map(quoted, reading.columns))
    query = f"CREATE TABLE {SOURCE} AS SELECT {chosen} FROM read_parquet(?, {PLACE} = true)"
    if isinstance(reading.rows, range):
        connection.execute(f"{query} WHERE {PLACE} BETWEEN ? AND ?", [path, reading.rows.start, reading.rows.stop - 1])
    elif reading.rows is not None:
        connection.register("kept", arrow({"place": reading.rows}))
        connection.execute(f"{query} SEMI JOIN kept ON {PLACE} = kept.place ORDER BY {PLACE}", [path])
        connection.unregister("kept")
    else:
        connection.execute(query, [path])
