"""Requests for predictions at one party, between the thread that talks to clients and the one that computes.

A request is *held* from when its share has come, *ready* from when its client knows that all servers hold it, and
leaves when it is answered, or when its client goes away.

There are only so many places. When they are taken, whoever has two more than the newcomer loses its latest, which is
refused as `Overloaded`; else the newcomer is. A batch takes one request of each guest before it takes anybody's second.
So a guest that fills all places keeps nobody out, and delays others by a batch or two.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from tacit.errors import Overloaded, Refused, TacitError
from tacit.outside.plan import OUTPUT, KeyPlan, Plan
from tacit.outside.schema import Field, Schema

__all__ = ["Answer", "Desk", "Entry", "Queue", "Request"]

LEAST_SECONDS = 0.01
"""That a refused client is told to wait, however fast batches are."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One party's fresh share of a result: ring elements at the session's fractional bits, and the value's dtype."""

    share: Tensor
    dtype: str

    @property
    def schema(self) -> Schema:
        """What the client is told of it."""
        return Schema(len(self.share), (Field(OUTPUT, self.dtype, tuple(self.share.shape[1:])),))

    def __repr__(self) -> str:
        return f"Answer(<hidden>, shape={tuple(self.share.shape)})"


class Entry(ABC):
    """What one party has of a request, for whoever computes it."""

    def __init__(self, identity: str, client: str, rows: int) -> None:
        self.id, self.client, self.rows = identity, client, rows

    @property
    @abstractmethod
    def content(self) -> Tensor:
        """Ring elements of its rows."""

    @abstractmethod
    def resolve(self, answer: Answer | TacitError) -> None:
        """Put an answer into its place, from any thread; nobody may be there to take it any more."""


class Desk(ABC):
    """Where whoever computes gets the requests of one party's clients from: a queue, or a line to one."""

    batch_seconds = 0.0
    """How long the latest batch took."""
    refused = 0
    """Requests turned away because all places were taken."""

    @abstractmethod
    def next(self, wait: float, idle: float) -> Sequence[Entry]:
        """Requests for one batch, which nobody else gets; none after `idle` seconds without any."""

    @abstractmethod
    def take(self, named: Sequence[tuple[str, int]]) -> Sequence[Entry | None]:
        """Take requests off their places by identity and number of rows; None for what is not here."""

    @abstractmethod
    def close(self, why: str) -> None:
        """Take no more requests; those in the queue will still be computed."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether no more are taken."""

    @abstractmethod
    def dismiss(self, why: str) -> None:
        """Close, and tell everybody who still waits."""


class Request(Entry):
    """A request at a party's door, and the place where its answer will be put."""

    def __init__(self, identity: str, client: str, guest: str, rows: int) -> None:
        super().__init__(identity, client, rows)
        self.guest = guest
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.taken = False
        """Whether it is being computed, or has been."""

    @override
    def resolve(self, answer: Answer | TacitError) -> None:
        loop = self.answer.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._resolve, answer)

    def _resolve(self, answer: Answer | TacitError) -> None:
        if not self.answer.done():
            if isinstance(answer, Answer):
                self.answer.set_result(answer)
            else:
                self.taken = False
                self.answer.set_exception(answer)
                self.answer.exception()  # it counts as seen: its client may have gone


class Queue(Desk):
    """The places of one party. Methods may be called from any thread, and several may take requests from it."""

    def __init__(self, plan: Plan | KeyPlan, places: int) -> None:
        self.plan, self.places = plan, places
        self._changed = threading.Condition()
        self._held: dict[str, Request] = {}
        self._ready: list[Request] = []
        self._chosen: list[Request] = []
        """Those of a batch whose identities are under way to the other parties."""
        self._taken: list[Request] = []
        """Those that are computed, and have not been answered."""
        self._closed: str | None = None

    def __len__(self) -> int:
        return len(self._held)

    # --- clients ---------------------------------------------------------------------------------------------------

    def hold(self, request: Request) -> None:
        """Give a request a place, or raise `Overloaded`."""
        with self._changed:
            if self._closed is not None:
                raise Refused(self._closed)
            if request.id in self._held:
                raise Refused("a request of this identity is here already")
            if len(self._held) >= self.places:
                self.refused += 1
                last = self._last_of_greediest(request)
                if last is None:
                    raise Overloaded(f"all {self.places} places are taken: ask again later", after=self._seconds())
                self._remove(last)
                last.resolve(Overloaded("others needed the place of this request: ask again later", self._seconds()))
            self._held[request.id] = request

    def _last_of_greediest(self, newcomer: Request) -> Request | None:
        """The latest request of whoever has most places, if that is two more than the newcomer's guest has."""
        places = Counter(request.guest for request in self._held.values())
        guest, most = places.most_common(1)[0]
        if most < places[newcomer.guest] + 2:
            return None
        waiting = [r for r in self._held.values() if r.guest == guest and r not in self._chosen]
        not_ready = [request for request in waiting if request not in self._ready]
        return next(reversed(not_ready or waiting), None)

    def _seconds(self) -> float:
        """How long the requests that are here will take, as the latest batch did."""
        return max(LEAST_SECONDS, self.batch_seconds * math.ceil(len(self._held) / self.plan.batch))

    def _remove(self, request: Request) -> None:
        del self._held[request.id]
        self._ready = [other for other in self._ready if other is not request]
        self._chosen = [other for other in self._chosen if other is not request]

    def ready(self, request: Request) -> None:
        """Put a request that all servers hold into the queue."""
        with self._changed:
            if self._held.get(request.id) is request:
                self._ready.append(request)
                self._changed.notify_all()

    def drop(self, request: Request) -> None:
        """Forget a request, unless it is being computed already."""
        with self._changed:
            if self._held.get(request.id) is request:
                self._remove(request)

    # --- the program -----------------------------------------------------------------------------------------------

    @override
    def next(self, wait: float, idle: float) -> list[Request]:
        """The requests at the front of the queue that fit into one batch; none after `idle` seconds without any.

        From the first one, wait up to `wait` seconds for others to fill the batch.
        """
        end = time.monotonic() + idle
        with self._changed:
            while self._changed.wait_for(lambda: self._ready or self._closed is not None, end - time.monotonic()):
                deadline = time.monotonic() + wait
                while self._ready and sum(r.rows for r in self._ready) < self.plan.batch and self._closed is None:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
                chosen: list[Request] = []
                for request in _in_turn(self._ready):
                    if sum(r.rows for r in chosen) + request.rows > self.plan.batch:
                        break
                    chosen.append(request)
                self._ready = [request for request in self._ready if request not in chosen]
                self._chosen += chosen
                if chosen or self._closed is not None:  # or else others have taken what there was
                    return chosen
            return []

    @override
    def take(self, named: Sequence[tuple[str, int]]) -> list[Request | None]:
        with self._changed:
            taken: list[Request | None] = []
            for identity, rows in named:
                request = self._held.get(identity)
                if request is not None and request.rows == rows:
                    self._remove(request)
                    request.taken = True
                    taken.append(request)
                else:
                    taken.append(None)
            self._taken = [request for request in self._taken if not request.answer.done()]
            self._taken += [request for request in taken if request is not None]
            return taken

    @override
    def close(self, why: str) -> None:
        with self._changed:
            self._closed = why
            self._changed.notify_all()

    @property
    @override
    def closed(self) -> bool:
        return self._closed is not None

    @property
    def idle(self) -> bool:
        """Whether nobody waits in the queue."""
        return not self._ready

    @override
    def dismiss(self, why: str) -> None:
        self.close(why)
        with self._changed:
            waiting, self._held, self._ready, self._chosen = list(self._held.values()), {}, [], []
        for request in (*waiting, *self._taken):  # one that has its answer keeps it
            request.resolve(Refused(why))


def _in_turn(ready: Sequence[Request]) -> list[Request]:
    """The first request of each guest, then the second of each, and so on; in each round who came first."""
    before: Counter[str] = Counter()
    turns = []
    for request in ready:
        turns.append(before[request.guest])
        before[request.guest] += 1
    return [request for _, request in sorted(zip(turns, ready, strict=True), key=lambda pair: pair[0])]
