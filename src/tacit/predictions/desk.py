"""A desk that is elsewhere: one rank of a party takes requests from the process that keeps the party's door.

They talk by a socket pair of one machine, the rank asking and the front answering; each message is a head in JSON and a
body of ring elements::

    {"do": "next", "wait": s, "idle": s}      ->  {"named": [[id, rows], …]}, or {"stop": true}
    {"do": "take", "named": [[id, rows], …]}  ->  {"clients": [client or null, …]} and the rows of those that are there
    {"do": "answer", "id": id, "dtype": …, "shape": …, "seconds": s}  and the share of the result
    {"do": "refuse", "id": id, "why": …}
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import NetworkError, TacitError
from tacit.outside.plan import KeyPlan, Plan
from tacit.outside.schema import bytes_of
from tacit.predictions.queue import Answer, Desk, Entry

__all__ = ["FarDesk", "receive", "send", "tensor_of"]

SIZES = struct.Struct("<IQ")
"""Bytes of a head, and of the body behind it."""

GONE = select.POLLHUP | getattr(select, "POLLRDHUP", 0)


def send(sock: socket.socket, head: dict[str, Any], *body: Tensor) -> None:
    """Send a message; tensors are contiguous, of ring elements."""
    text, parts = json.dumps(head).encode(), [bytes_of(t) for t in body if t.numel()]
    sock.sendall(SIZES.pack(len(text), sum(len(part) for part in parts)) + text)
    for part in parts:
        sock.sendall(part)


def receive(sock: socket.socket) -> tuple[dict[str, Any], bytearray]:
    """The next message, or `OSError` when the other end has gone."""
    head, body = SIZES.unpack(_exactly(sock, SIZES.size))
    return json.loads(_exactly(sock, head)), _exactly(sock, body)


def _exactly(sock: socket.socket, count: int) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        size = sock.recv_into(view)
        if not size:
            raise ConnectionResetError("the other end has gone")
        view = view[size:]
    return data


def tensor_of(data: bytearray | memoryview, shape: Sequence[int]) -> Tensor:
    """Ring elements as they came."""
    if not len(data):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    return torch.frombuffer(data, dtype=torch.int64).view(tuple(shape))


class FarDesk(Desk):
    """The desk of one rank. When the front goes, the rank is told to end as by a signal, wherever it is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._closed = sock, False
        self._plan: Plan | KeyPlan | None = None
        threading.Thread(target=self._watch, name="tacit-front", daemon=True).start()

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._sock, GONE)
        poll.poll()
        if not self._closed:
            os.kill(os.getpid(), signal.SIGTERM)

    def _ask(self, head: dict[str, Any]) -> tuple[dict[str, Any], bytearray]:
        self._say(head)
        try:
            return receive(self._sock)
        except OSError:
            raise self._gone() from None

    def _say(self, head: dict[str, Any], *body: Tensor) -> None:
        try:
            send(self._sock, head, *body)
        except OSError:
            raise self._gone() from None

    @staticmethod
    def _gone() -> NetworkError:
        return NetworkError("the process that keeps the door of this rank has gone")

    def ready(self, plan: Plan | KeyPlan | None) -> None:
        """Say that this rank can compute, and what; one of a role without clients says that it is there."""
        self._plan = plan
        self._ask({"do": "ready", "plan": None if plan is None else plan.literal()})

    @override
    def next(self, wait: float, idle: float) -> Sequence[Entry]:
        head, _ = self._ask({"do": "next", "wait": wait, "idle": idle})
        self._closed = "stop" in head
        return [_Taken(self, identity, "", rows, None) for identity, rows in head.get("named", [])]

    @override
    def take(self, named: Sequence[tuple[str, int]]) -> Sequence[Entry | None]:
        if not named:
            return []
        assert isinstance(self._plan, Plan)
        head, body = self._ask({"do": "take", "named": named})
        taken: list[Entry | None] = []
        at, size = 0, 8 * math.prod(self._plan.shape)
        view = memoryview(body)
        for (identity, rows), client in zip(named, head["clients"], strict=True):
            if client is None:
                taken.append(None)
                continue
            content = tensor_of(view[at : at + rows * size], (rows, *self._plan.shape))
            taken.append(_Taken(self, identity, client, rows, content))
            at += rows * size
        return taken

    @override
    def close(self, why: str) -> None:
        """Whoever keeps the door closes it."""

    @property
    @override
    def closed(self) -> bool:
        return self._closed

    @override
    def dismiss(self, why: str) -> None:
        """Whoever keeps the door tells those who wait, when this rank's end of the line closes."""
        self._closed = True

    def _resolve(self, identity: str, answer: Answer | TacitError) -> None:
        if isinstance(answer, Answer):
            about = {"dtype": answer.dtype, "shape": list(answer.share.shape), "seconds": self.batch_seconds}
            self._say({"do": "answer", "id": identity, **about}, answer.share.contiguous())
        else:
            self._say({"do": "refuse", "id": identity, "why": str(answer)})


class _Taken(Entry):
    """A request that this rank computes."""

    def __init__(self, desk: FarDesk, identity: str, client: str, rows: int, content: Tensor | None) -> None:
        super().__init__(identity, client, rows)
        self._desk, self._content = desk, content

    @property
    @override
    def content(self) -> Tensor:
        assert self._content is not None
        return self._content

    @override
    def resolve(self, answer: Answer | TacitError) -> None:
        self._desk._resolve(self.id, answer)
