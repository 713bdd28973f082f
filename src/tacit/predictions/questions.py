"""What a party's door does for those who ask for predictions: it passes their requests to the service's queue."""

from __future__ import annotations

import asyncio
from typing import Any

from typing_extensions import override

from tacit.errors import PeerLost, PeerStalled, Refused
from tacit.outside.door import Handler
from tacit.outside.guests import ANONYMOUS, Visit
from tacit.outside.schema import Schema, bytes_of, checked_identity
from tacit.outside.sharing import SEED_BYTES
from tacit.outside.wire import Connection
from tacit.predictions.queue import Answer, Queue, Request

__all__ = ["Questions"]

HOLD_SECONDS = 10.0
"""Seconds that a request may wait for its client to hear from the other servers. Longer: clients on slow lines get
through; shorter: a client that goes to one server only takes a place for less time."""


class Questions(Handler):
    """Puts requests into a queue, and sends their answers."""

    def __init__(self, queue: Queue) -> None:
        super().__init__("predict")
        self._queue = queue

    @override
    def greeting(self) -> dict[str, Any]:
        return {"serves": self._queue.plan.literal()}

    @override
    def open(self) -> None:
        pass

    @override
    async def handle(self, visit: Visit, head: dict[str, Any]) -> None:
        schema = Schema.parse(head.get("schema"))
        self._queue.plan.check(schema)
        identity = checked_identity(head.get("id"))
        seeded = head.get("form") == "seed"
        content = await visit.connection.whole(SEED_BYTES if seeded else schema.nbytes)
        client = identity[:8] if visit.client == ANONYMOUS else f"{visit.client} {identity[:8]}"
        request = Request(identity, client, visit.account, schema, content, seeded=seeded)
        self._queue.hold(request)
        try:
            await visit.connection.send(ok="held")
            await self._until_ready(visit.connection)
            self._queue.ready(request)
            answer = await _first(request, visit.connection)
            await visit.connection.send(ok="answer", schema=answer.schema.literal())
            await visit.connection.send_body([bytes_of(answer.share)])
        finally:
            self._queue.drop(request)

    async def _until_ready(self, connection: Connection) -> None:
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
