"""The places of a service: whose turn it is, and who makes room for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import torch

from tacit.errors import Overloaded, Refused
from tacit.outside.plan import Plan
from tacit.outside.schema import PURPOSE, Schema
from tacit.outside.sharing import expand
from tacit.predictions.questions import Cut
from tacit.predictions.queue import Queue, Request

PLAN = Plan((2,), batch=2)


def request(name: str, *, rows: int = 1, seeded: bool = False, content: bytes | None = None) -> Request:
    """A request whose guest is the first letter of its name."""
    schema = Schema(rows, (PLAN.field,))
    return Cut(name, name, name[0], schema, bytes(schema.nbytes) if content is None else content, seeded=seeded)


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


def held(queue: Queue, *names: str, ready: bool = True) -> list[Request]:
    requests = [request(name) for name in names]
    for each in requests:
        queue.hold(each)
        if ready:
            queue.ready(each)
    return requests


@in_a_loop
async def test_a_batch_takes_one_request_of_each_guest_before_anybodys_second() -> None:
    queue = Queue(PLAN, places=8)
    held(queue, "a1", "a2", "a3", "b1", "a4", "c1", "b2")

    order = []
    while not queue.idle:
        chosen = queue.next(0, 0)
        order += [each.id for each in chosen]
        queue.take([(each.id, each.rows) for each in chosen])

    assert order == ["a1", "b1", "a2", "c1", "a3", "b2", "a4"]


@in_a_loop
async def test_who_has_two_places_more_makes_room_with_its_latest_that_is_not_ready() -> None:
    queue = Queue(PLAN, places=3)
    (waits,) = held(queue, "a1", ready=False)
    held(queue, "a2", "a3")

    held(queue, "b1")
    with pytest.raises(Overloaded, match="others needed the place") as told:
        await asyncio.wait_for(waits.answer, 5)
    with pytest.raises(Overloaded, match="all 3 places are taken"):
        queue.hold(request("b2"))
    held(queue, "c1")

    assert told.value.after is not None
    assert sorted(queue._held) == ["a2", "b1", "c1"]
    assert queue.refused == 3
    queue.ready(waits)  # its client has not heard of it yet
    assert [each.id for each in queue._ready] == ["a2", "b1", "c1"]


@in_a_loop
async def test_a_guest_alone_may_have_all_places_and_no_more() -> None:
    queue = Queue(PLAN, places=2)
    queue.batch_seconds = 3.0
    held(queue, "a1", "a2")

    with pytest.raises(Overloaded) as refused:
        queue.hold(request("a3"))
    with pytest.raises(Refused, match="is here already"):
        queue.hold(request("a1"))

    assert refused.value.after == 3.0
    assert len(queue) == 2


@in_a_loop
async def test_a_seed_is_expanded_when_the_share_is_asked_for() -> None:
    seed = bytes(range(16))
    schema = Schema(3, (PLAN.field,))

    share = request("a", rows=3, seeded=True, content=seed).content

    assert torch.equal(share, torch.cat(list(expand(seed, schema.sizes, PURPOSE))).view(3, 2))
    assert torch.equal(request("a").content, torch.zeros(1, 2, dtype=torch.int64))
