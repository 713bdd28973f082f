"""Two parties apart: a session for each, in threads of their own, with queues between them."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.net.in_process import InProcess
from tacit.net.transcript import Transcript
from tacit.net.transport import Parcel
from tacit.session.config import Config
from tacit.session.session import Session

WAIT = 60
"""Seconds until a party that waits gives up."""


class End(InProcess):
    """One party's end: it hosts one role, and what it sends is a copy."""

    def __init__(self, roles: Sequence[str], here: str, queues: dict[tuple[str, str], queue.Queue[Any]], key: bytes):
        super().__init__(roles, Transcript())
        self.hosted = (here,)
        self._between = queues
        self._key = key
        self.sent = 0

    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> None:
        for parcel in sends:
            self.send(parcel)
        for parcel in receives:
            self.receive(parcel)

    def send(self, parcel: Parcel) -> None:
        assert parcel.source == self.hosted[0]
        self._between[parcel.source, parcel.destination].put(parcel.tensor.clone())
        self.sent += parcel.tensor.nbytes

    def receive(self, parcel: Parcel) -> None:
        assert parcel.destination == self.hosted[0]
        got: Tensor = self._between[parcel.source, parcel.destination].get(timeout=WAIT)
        assert got.nbytes == parcel.tensor.nbytes
        parcel.tensor.view(torch.uint8).view(-1).copy_(got.view(torch.uint8).view(-1))

    def announce(self, source: str, message: bytes | None) -> bytes:
        if source == self.hosted[0]:
            assert message is not None
            for other in self.roles:
                if (source, other) in self._between:
                    self._between[source, other].put(message)
            return message
        got: bytes = self._between[source, self.hosted[0]].get(timeout=WAIT)
        return got

    def pair_key(self, one: str, other: str) -> bytes:
        return self._key


def apart(body: Callable[[Session, int], Any]) -> list[Any]:
    """What `body(session, index)` returns at each party; the first error of either is raised."""
    config = Config.embedded(["alice", "bob"], protocol="additive")
    names = config.roles[:2]
    queues: dict[tuple[str, str], queue.Queue[Any]] = {(a, b): queue.Queue() for a in names for b in names if a != b}
    key, results, errors = os.urandom(32), [None, None], []

    def run(index: int) -> None:
        try:
            session = Session(End(config.roles, names[index], queues, key), config)
            assert session.party_indices == (index,)
            results[index] = body(session, index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * WAIT)
    if errors:
        raise errors[0]
    return results
