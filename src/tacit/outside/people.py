"""What a client says of the people whom it asks about: digests of their keys, their columns, or a case."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tacit.errors import DataError
from tacit.outside.plan import ROW_BYTES, KeyPlan
from tacit.records.keys import digest_of

__all__ = ["NOTHING", "About", "Said", "pushed", "said"]

Row = Mapping[str, Any]


class Said(NamedTuple):
    """What one server is told: fields of a head, and a body."""

    head: dict[str, Any]
    body: bytes


NOTHING = Said({}, b"")
"""What a server is told that owns no columns."""


class About(NamedTuple):
    """What one owner is told of all people: the name of a case, digests, or rows."""

    case: str | None = None
    digests: Sequence[bytes] = ()
    rows: Sequence[Row] = ()

    def of(self, first: int, count: int) -> Said:
        """Of so many of them."""
        if self.case is not None:
            return Said({"by": "case", "case": self.case}, b"")
        if self.digests:
            return Said({"by": "key"}, b"".join(self.digests[first : first + count]))
        return _said_of(self.rows[first : first + count])


def said(plan: KeyPlan, about: Any, case: str | None) -> tuple[dict[str, About], int, bool]:
    """What each owner is told, about how many people that is, and whether it is one, who is no list of one."""
    parts = dict(plan.owners)
    each = dict(about) if isinstance(about, Mapping) else {} if about is None else dict.fromkeys(parts, about)
    strangers = [str(name) for name in each if name not in parts]
    if strangers:
        raise DataError(f"{', '.join(strangers)} has no columns in this service; {' and '.join(parts)} have")
    out, counts, single = {}, set(), True
    for owner, width in parts.items():
        if owner not in each:
            if case is None:
                raise DataError(f"{owner} has columns, too: say the key of its row, the columns, or a case")
            out[owner] = About(case=case)
            counts.add(1)
            continue
        people = each[owner]
        people = _rows_of(people)
        single = single and not _several(people)
        listed = list(people) if _several(people) else [people]
        if not listed:
            raise DataError("nobody is asked about")
        rows = isinstance(listed[0], Mapping)
        if rows and listed[0] and set(listed[0]) <= set(parts):
            lists = ", ".join(f"{name!r}: […]" for name in parts)
            raise DataError(f"of several people say for each owner what there is of all of them: {{{lists}}}")
        out[owner] = About(rows=_checked(listed)) if rows else About(digests=_digests(listed, owner, width))
        counts.add(len(listed))
    if len(counts) > 1:
        raise DataError(f"the owners are asked about different numbers of people: {sorted(counts)}")
    return out, counts.pop(), single


def pushed(row: Row) -> Said:
    """One row of an owner's columns."""
    return _said_of(_checked([row]))


def _rows_of(people: Any) -> Any:
    """A data frame of pandas or polars as its rows: as a list it would be the names of its columns."""
    if not hasattr(people, "columns"):
        return people
    return people.to_dicts() if hasattr(people, "to_dicts") else people.to_dict("records")


def _several(people: Any) -> bool:
    """Whether this is a list of people: a text, a tuple, which is a compound key, and a dict are one."""
    return not isinstance(people, str | bytes | tuple | Mapping) and hasattr(people, "__len__")


def _digests(keys: Sequence[Any], owner: str, width: int) -> list[bytes]:
    if not width:
        raise DataError(f"the table of {owner} has no key: give the columns of a person, or have them pushed")
    found = []
    for key in keys:
        columns = key if isinstance(key, tuple) else (key,)
        if len(columns) != width:
            raise DataError(f"a key of {owner} is made of {width} columns, not {len(columns)}: give a tuple of them")
        found.append(digest_of(columns))
    return found


def _checked(rows: Sequence[Any]) -> list[Row]:
    if any(not isinstance(row, Mapping) or not row for row in rows):
        raise DataError("columns of people are a dict of cells by the names of columns, one dict a person")
    return [{str(name): _cell(name, cell) for name, cell in row.items()} for row in rows]


def _said_of(rows: Sequence[Row]) -> Said:
    body = json.dumps(rows).encode()
    if len(body) > ROW_BYTES:
        raise DataError(f"columns of people have up to {ROW_BYTES} bytes at once: ask for fewer people")
    return Said({"by": "row", "bytes": len(body)}, body)


def _cell(name: Any, cell: Any) -> Any:
    """A cell as JSON has it: dates are texts, and what is missing is null."""
    if cell is None or isinstance(cell, str | bool):
        return cell
    if hasattr(cell, "item"):
        cell = cell.item()
    if hasattr(cell, "isoformat"):
        return cell.isoformat() if cell == cell else None  # pandas' NaT has one, too
    if isinstance(cell, int):
        return cell
    try:
        number = float(cell)
    except (TypeError, ValueError):
        raise DataError(
            f"column {name!r} holds a {type(cell).__name__}, and not a number, text, truth or date"
        ) from None
    if math.isinf(number):
        raise DataError(f"column {name!r} holds infinity")
    return None if math.isnan(number) else number
