"""Requests about people whose columns several owners have: each owner puts in what it has of them.

A client sends every owner digests of keys, which the owner looks up in its table; or one owner the columns of a new
row, which are prepared there as in training; or the name of a *case*, for which the owners' own systems have pushed
their columns. Where an owner has nobody its columns are zero, and so is its secret mark of who is there. The result of
the model and the product of all marks go to the client: it alone learns whether all owners know somebody, and nobody
learns which of them does not.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import ConfigError, DataError, Overloaded, Refused
from tacit.outside.door import Handler
from tacit.outside.guests import Visit
from tacit.outside.plan import DIGEST_BYTES, ROW_BYTES, KeyPlan
from tacit.outside.schema import checked_identity, from_bytes
from tacit.predictions.questions import answered, name_of
from tacit.predictions.queue import Queue, Request
from tacit.protocols.matching import DIGEST_WORDS, ascending, places
from tacit.records.numbers import as_numbers
from tacit.records.table import Records, check
from tacit.ring.fixed_point import encode

__all__ = ["CASE_SECONDS", "MOST_CASES", "Cases", "Named", "Shelf"]

CASE_SECONDS = 60.0
"""Seconds that columns wait which were pushed for a case. Longer: for owners who are not quick; shorter: forgotten ones
take a place for less time."""

MOST_CASES = 1024
"""Cases that wait at one owner. One guest may have a quarter of them."""

Row = Mapping[str, Any]


class Shelf:
    """What one owner has: the rows of its table by the digests of their keys, and how new ones are prepared."""

    def __init__(self, table: Records, frac_bits: int) -> None:
        held = table.held
        assert held is not None
        self._frame, self._limit, self._preparation, self._frac_bits = (
            held.frame,
            held.limit,
            table.preparation,
            frac_bits,
        )
        digests = torch.empty((0, DIGEST_WORDS), dtype=torch.int64) if held.digests is None else held.digests
        self._order = ascending(digests)
        self._digests = digests[self._order]

    def of_keys(self, digests: Tensor) -> Tensor:
        """Ring elements [rows, columns + 1] of people by their digests: their columns, and 1; zeros for nobody."""
        if not len(self._digests):
            raise Refused("the table here has no key: give the columns of a person, or push them for a case")
        at = places(self._digests, digests)
        there = at >= 0
        rows = self._order[at.clamp(min=0)].numpy()
        return self._ring([column[rows].astype(np.float64) for column in self._frame.values()], there)

    def of_rows(self, rows: Sequence[Row]) -> Tensor:
        """The same of new rows, each a dict of columns as the owner's table has them; all of them are somebody."""
        try:
            return self._ring(self._prepared(rows), torch.ones(len(rows), dtype=torch.bool))
        except (DataError, ConfigError) as error:
            raise Refused(f"these columns cannot be used: {error}") from None
        except (ArithmeticError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise Refused(f"these columns cannot be used ({type(error).__name__})") from None

    def _prepared(self, rows: Sequence[Row]) -> Sequence[Any]:
        if self._preparation is not None:
            return list(np.asarray(self._preparation.transform(list(rows))).T)
        given = dict.fromkeys(name for row in rows for name in row)
        problems = [f"column {name!r} is missing" for name in self._frame if any(name not in row for row in rows)]
        problems += [f"there is no column {name!r}" for name in given if name not in self._frame]
        check("the row", problems)
        columns = [np.array([row[name] for row in rows], dtype=object) for name in self._frame]
        found = [as_numbers(n, c, self._limit, problems) for n, c in zip(self._frame, columns, strict=True)]
        check("the row", problems)
        return found

    def _ring(self, columns: Sequence[Any], there: Tensor) -> Tensor:
        matrix = torch.from_numpy(np.stack(columns, axis=1)).to(torch.float32)  # as training has shared them
        ring = encode(matrix, self._frac_bits, name="a column")
        return torch.cat([ring * there[:, None], there[:, None].to(torch.int64)], dim=1)


class Cases:
    """Columns that an owner's system has pushed, until somebody asks for their case, once. Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._waiting: dict[str, Pushed] = {}

    def __len__(self) -> int:
        with self._lock:
            self._forget()
            return len(self._waiting)

    def put(self, case: str, row: Tensor, guest: str) -> None:
        """Keep a row for a case, or raise."""
        with self._lock:
            self._forget()
            if case in self._waiting:
                raise Refused("columns have been pushed for this case already")
            mine = Counter(pushed.guest for pushed in self._waiting.values())[guest]
            if len(self._waiting) >= MOST_CASES or mine >= MOST_CASES // 4:
                raise Overloaded("too many cases wait: ask for them, or push again later", after=CASE_SECONDS)
            self._waiting[case] = Pushed(row, guest, self._clock() + CASE_SECONDS)

    def take(self, case: str) -> Pushed:
        """What was pushed for a case, which is forgotten."""
        with self._lock:
            self._forget()
            pushed = self._waiting.pop(case, None)
        if pushed is None:
            raise Refused(f"nobody has pushed columns for this case in the last {CASE_SECONDS:g} s")
        return pushed

    def give_back(self, case: str, pushed: Pushed) -> None:
        """Keep what `take` has returned for as long as it would have been kept, unless there is something newer."""
        with self._lock:
            self._waiting.setdefault(case, pushed)
            self._forget()

    def _forget(self) -> None:
        now = self._clock()
        for case in [case for case, pushed in self._waiting.items() if pushed.until <= now]:
            del self._waiting[case]


class Pushed(NamedTuple):
    """What an owner's system has pushed for a case, and until when it waits."""

    row: Tensor
    guest: str
    until: float


class Asked(Request):
    """A request about people: the owner's columns of them, nothing at a party that has no table."""

    def __init__(self, identity: str, client: str, guest: str, columns: Tensor) -> None:
        super().__init__(identity, client, guest, len(columns))
        self._columns = columns

    @property
    @override
    def content(self) -> Tensor:
        return self._columns


class Named(Handler):
    """Puts requests about people into a queue, and sends their answers; takes what is pushed for cases."""

    def __init__(self, plan: Callable[[], KeyPlan], queue: Queue, shelf: Shelf | None, *, given: bool) -> None:
        super().__init__("score", "push")
        self._plan, self._queue, self._shelf, self.cases = plan, queue, shelf, Cases()
        self._given = given

    @override
    def greeting(self) -> dict[str, Any]:
        return {"scores": self._plan().literal()}

    @override
    def open(self) -> None:
        pass

    @override
    async def handle(self, visit: Visit, head: dict[str, Any]) -> None:
        if head["do"] == "push":
            await self._push(visit, head)
            return
        identity = checked_identity(head.get("id"))
        case = checked_identity(head.get("case")) if head.get("by") == "case" and self._shelf is not None else None
        pushed = None if case is None else self._pushed(case, head)
        columns = await self._columns(visit, head) if pushed is None else pushed.row
        request = Asked(identity, name_of(visit, identity), visit.account, columns)
        try:
            await answered(self._queue, request, visit.connection)
        finally:
            if case is not None and pushed is not None and not request.taken:
                self.cases.give_back(case, pushed)

    async def _push(self, visit: Visit, head: dict[str, Any]) -> None:
        case = checked_identity(head.get("case"))
        if self._shelf is None:
            raise Refused("this server owns no columns")
        self._check_given()
        rows = await _rows(visit, head, most=1)
        row = await asyncio.to_thread(self._shelf.of_rows, rows)
        self.cases.put(case, row, visit.account)
        await visit.connection.send(ok="pushed")

    async def _columns(self, visit: Visit, head: dict[str, Any]) -> Tensor:
        """This party's columns of the people that a request is about."""
        count, by = self._count(head), head.get("by")
        if self._shelf is None:
            return torch.empty((count, 0), dtype=torch.int64)
        if by == "key":
            content = await visit.connection.whole(DIGEST_BYTES * count)
            return await asyncio.to_thread(self._shelf.of_keys, from_bytes(content).view(count, DIGEST_WORDS))
        if by == "row":
            self._check_given()
            rows = await _rows(visit, head, most=count)
            if len(rows) == count:
                return await asyncio.to_thread(self._shelf.of_rows, rows)
        raise Refused("a request is about people by keys, by their columns, or by a case")

    def _pushed(self, case: str, head: dict[str, Any]) -> Pushed:
        """What was pushed for the case that a request is about."""
        if self._count(head) != 1:
            raise Refused("a case is about one person")
        return self.cases.take(case)

    def _count(self, head: dict[str, Any]) -> int:
        """How many people a request is about."""
        count, most = head.get("rows"), self._plan().batch
        if type(count) is not int or not 1 <= count <= most:
            raise Refused(f"this service takes from 1 to {most} people at once")
        return count

    def _check_given(self) -> None:
        """Refuse columns where none are taken: whoever gives one owner's may probe what another one has."""
        if not self._given:
            raise Refused(
                "this owner takes no columns from clients, but looks people up by their keys: a service that shall "
                "take some names the owner in GIVEN, or given=[…]"
            )


async def _rows(visit: Visit, head: dict[str, Any], most: int) -> list[Row]:
    """Columns as they came, checked: texts, numbers and truth values by names."""
    size = head.get("bytes")
    if type(size) is not int or not 0 < size <= ROW_BYTES:
        raise Refused(f"columns of people have up to {ROW_BYTES} bytes")
    content = await visit.connection.whole(size)
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list) or not 1 <= len(rows) <= most or not all(map(_is_row, rows)):
        raise Refused("columns of people are texts, finite numbers and truth values by their names")
    return rows


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and bool(row) and all(map(_is_cell, row.values()))


def _is_cell(cell: Any) -> bool:
    if isinstance(cell, float):
        return math.isfinite(cell)
    return cell is None or isinstance(cell, str | bool) or (isinstance(cell, int) and abs(cell) < 1 << 63)
