"""Which rows of its table an owner keeps at this rank, with their keys and labels; without ranks, all of them.

Of a Parquet file a rank reads the columns of key and label, then its own rows: a range of places takes the row groups
that have some. What is read in any other way each rank reads as a whole, and keeps its rows of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tacit.records.alike import check_alike, of_footer, of_table
from tacit.records.columns import digests_of, fetched
from tacit.records.headers import problems_of_names
from tacit.records.labels import Classes, Label, as_label
from tacit.records.packages import TABLE, arrow, quoted, told
from tacit.records.shards import Unkeyed, own_rows
from tacit.records.sources import Reading, columns_of_parquet, loaded
from tacit.records.table import check, limit_of_numbers
from tacit.records.typed import typed, without_missing
from tacit.session.ranks import Rank

__all__ = ["Own", "Wanted", "absent", "own_part", "types_of", "whole_part"]


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


class Own(NamedTuple):
    """What a rank knows of a table before it reads its own rows."""

    origin: Tensor
    """The places of these."""
    label: Label | None
    digests: Tensor | None
    reads: range | np.ndarray


def own_part(source: Any, called: str, wanted: Wanted, reading: Reading) -> Own | None:
    """Of a Parquet file, by the columns of key and label: which rows are this rank's. None of other sources."""
    found = columns_of_parquet(source, reading)
    if found is None:
        return None
    assert wanted.shard is not None
    columns, rows = found
    check(called, problems_of_names(columns) or absent(dict.fromkeys(columns, ""), wanted))
    check(called, [] if rows else ["it has no rows"])
    check_alike(called, rows, of_footer(Path(source)))
    needed = [n for n in dict.fromkeys((*wanted.keys, wanted.label)) if n is not None]
    label = digests = keyless = None
    if needed:
        folder = None if reading.folder is None else reading.folder / "keys"
        if folder is not None:
            folder.mkdir()
        stated = {n: kind for n, kind in reading.dtype.items() if n in needed}
        connection = loaded(source, replace(reading, columns=needed, dtype=stated, folder=folder))
        try:
            with told(f"{called} cannot be used"):
                problems: list[str] = []
                types = types_of(connection, reading, problems)
                label = _label(connection, types, wanted, problems)
                found_keys = _keys(connection, types, wanted, problems)
                check(called, problems)
        finally:
            connection.close()
        if folder is not None:
            shutil.rmtree(folder)
        if found_keys is not None:
            digests, keyless = found_keys
    unkeyed = None
    if keyless is not None:  # in the order of the file, which is the same at all ranks
        places = torch.nonzero(keyless).squeeze(1)
        unkeyed = Unkeyed(places, np.arange(len(places), dtype=np.uint64))
    origin = own_rows(wanted.shard, wanted.rank, rows, digests, unkeyed)
    _check_some(called, origin, rows, wanted)
    in_turn = wanted.shard == "rows"
    reads = range(int(origin[0]), int(origin[-1]) + 1) if in_turn else origin.numpy()
    label = None if label is None else label._replace(values=label.values[origin])
    return Own(origin, label, None if digests is None else digests[origin], reads)


def _check_some(called: str, origin: Tensor, rows: int, wanted: Wanted) -> None:
    check(called, [] if len(origin) else [f"none of its {rows} rows is rank {wanted.rank.index}'s: use fewer ranks"])


def types_of(connection: Any, reading: Reading, problems: list[str]) -> dict[str, str]:
    """The types of a table's columns, without what stands for no value, and once they are what is stated of them."""
    types = {n: str(t) for n, t, *_ in connection.execute(f"DESCRIBE {TABLE}").fetchall()}
    without_missing(connection, types, reading)
    return typed(connection, types, reading, problems)


def _label(connection: Any, types: Mapping[str, str], wanted: Wanted, problems: list[str]) -> Label | None:
    if wanted.label is None:
        return None
    column = fetched(connection, {wanted.label: types[wanted.label]}, problems).get(wanted.label)
    return None if column is None else as_label(wanted.label, column, wanted.classes, limit_of_numbers(), problems)


def _keys(
    connection: Any, types: Mapping[str, str], wanted: Wanted, problems: list[str]
) -> tuple[Tensor, Tensor] | None:
    """Digests of all alternatives, [rows, 2 k], and which rows have none of the first."""
    found = [digests_of(connection, [(n, types[n]) for n in key], problems) for key in wanted.alternatives]
    parts = [part for part in found if part is not None]
    if len(parts) < len(found) or not parts:
        return None
    return torch.cat([_apart(place, part[0]) for place, part in enumerate(parts)], dim=1), parts[0][1]


def whole_part(
    connection: Any, called: str, wanted: Wanted, types: Mapping[str, str], rows: int, problems: list[str]
) -> Own:
    """The same of a table that is there as a whole: a rank's own rows stay."""
    label = _label(connection, types, wanted, problems)  # of all rows: which classes there are, all of them say
    keys = _keys(connection, types, wanted, problems)
    check(called, problems)
    digests = None if keys is None else keys[0]
    origin = torch.arange(rows)
    if wanted.shard is not None:
        check_alike(called, rows, of_table(connection, list(types), in_order=wanted.shard == "rows"))
        unkeyed = None if keys is None else _unkeyed(connection, list(types), keys[1])
        origin = own_rows(wanted.shard, wanted.rank, rows, digests, unkeyed)
        _check_some(called, origin, rows, wanted)
        _keep(connection, origin)
        digests = None if digests is None else digests[origin]
        label = None if label is None else label._replace(values=label.values[origin])
    return Own(origin, label, digests, range(rows))


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


def absent(types: Mapping[str, str], wanted: Wanted) -> list[str]:
    """What to say of columns that are asked for and not there."""
    asked = (*wanted.keys, *([wanted.label] if wanted.label is not None else []), *(wanted.columns or ()))
    missing = [repr(name) for name in asked if name not in types]
    return [f"it has no column {', '.join(missing)}; its columns are {', '.join(types)}"] if missing else []


def _apart(place: int, digests: Tensor) -> Tensor:
    """Digests that those of another alternative never equal, even of the same text."""
    digests[:, 0] ^= place
    return digests
