"""What a party's door does for those who ask for predictions: it passes their requests to the service's queue."""

from __future__ import annotations

import asyncio
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import PeerLost, PeerStalled, Refused
from tacit.outside.door import Handler
from tacit.outside.guests import ANONYMOUS, Visit
from tacit.outside.plan import Plan
from tacit.outside.schema import PURPOSE, Schema, bytes_of, checked_identity, from_bytes
from tacit.outside.sharing import SEED_BYTES, expand
from tacit.outside.wire import Connection
from tacit.predictions.queue import Answer, Queue, Request

__all__ = ["Cut", "Questions", "answered", "name_of"]

HOLD_SECONDS = 10.0
"""Seconds that a request may wait for its client to hear from the other servers. Longer: clients on slow lines get
through; shorter: a client that goes to one server only takes a place for less time."""


class Cut(Request):
    """One party's share of inputs that a client has cut."""

    def __init__(self, identity: str, client: str, guest: str, schema: Schema, content: bytes, *, seeded: bool) -> None:
        super().__init__(identity, client, guest, schema.rows)
        self._schema, self._content, self._seeded = schema, content, seeded

    @property
    @override
    def content(self) -> Tensor:
        """The share itself, made of its seed only now: while a request waits it is as large as what was sent."""
        if self._seeded:
            flat = torch.cat(list(expand(self._content, self._schema.sizes, PURPOSE)))
        else:
            flat = from_bytes(self._content)
        return flat.view(self.rows, *self._schema.fields[0].shape)


class Questions(Handler):
    """Puts requests into a queue, and sends their answers."""

    def __init__(self, plan: Plan, queue: Queue) -> None:
        super().__init__("predict")
        self._plan, self._queue = plan, queue

    @override
    def greeting(self) -> dict[str, Any]:
        return {"serves": self._plan.literal()}

    @override
    def open(self) -> None:
        pass

    @override
    async def handle(self, visit: Visit, head: dict[str, Any]) -> None:
        schema = Schema.parse(head.get("schema"))
        self._plan.check(schema)
        identity = checked_identity(head.get("id"))
        seeded = head.get("form") == "seed"
        content = await visit.connection.whole(SEED_BYTES if seeded else schema.nbytes)
        request = Cut(identity, name_of(visit, identity), visit.account, schema, content, seeded=seeded)
        await answered(self._queue, request, visit.connection)


def name_of(visit: Visit, identity: str) -> str:
    """What the ledger calls whoever has asked."""
    return identity[:8] if visit.client == ANONYMOUS else f"{visit.client} {identity[:8]}"


async def answered(queue: Queue, request: Request, connection: Connection) -> None:
    """Give a request a place, and its client the answer."""
    queue.hold(request)
    try:
        await connection.send(ok="held")
        await _until_ready(connection)
        queue.ready(request)
        answer = await _first(request, connection)
        await connection.send(ok="answer", schema=answer.schema.literal())
        await connection.send_body([bytes_of(answer.share)])
    finally:
        queue.drop(request)


async def _until_ready(connection: Connection) -> None:
    """Wait until the client knows that all servers hold its request."""
    try:
        if (await connection.receive(HOLD_SECONDS)).get("do") != "go":
            raise Refused("a request that is held can go ahead, or be left alone")
    except PeerStalled:
        raise Refused(f"the other servers have not held this request within {HOLD_SECONDS:g} s") from None


async def _first(request: Request, connection: Connection) -> Answer:
    """The answer to a request, or `PeerLost` if the client goes away before it comes."""
    gone = asyncio.ensure_future(connection.ended())
    try:
        either: set[asyncio.Future[Any]] = {gone, request.answer}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not request.answer.done():
            raise PeerLost("the client went away before its answer came")
        return request.answer.result()
    finally:
        gone.cancel()
