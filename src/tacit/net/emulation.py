"""A wide-area link on one machine: a relay that delays what passes and limits its rate.

Needs no privileges and no kernel module, unlike `tc netem`. Each connection gets a link of its own in each direction::

    sender → [ queue, emptied at the rate ] → [ in flight for half a round trip ] → receiver

A sender that is faster than the link, or a receiver that does not read, fills the queue, and then the sender waits, as
with a router. Packets are never lost, and opening a connection takes no time. Only the standard library is used, so
that programs without Tacit can load this file.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["Conditions", "Relay"]

CHUNK_BYTES = 1 << 14
"""What is delayed as one. Shorter is closer to packets; longer takes less processor time from the roles."""

QUEUE_SECONDS = 0.01
"""How long bytes may queue for their turn before the sender has to wait: what good routers allow."""

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a link is like."""

    round_trip: float
    """Seconds there and back."""
    rate: float
    """Bytes per second in each direction."""

    @staticmethod
    def parse(text: str) -> Conditions:
        """Read "40ms,350mbit": a round trip and the bits per second in each direction. Raises `ValueError`."""
        match = re.fullmatch(r"([0-9.]+) *(ms|s) *, *([0-9.]+) *([kmg]?)bit(?:/s)?", text.strip().lower())
        try:
            if match is None:
                raise ValueError
            trip = float(match[1]) * (1e-3 if match[2] == "ms" else 1.0)
            rate = float(match[3]) * UNITS[match[4]] / 8
            if not (0 <= trip <= 10 and 1e3 <= rate <= 1e11):
                raise ValueError
        except ValueError:
            raise ValueError(f"{text!r} is not a link such as 40ms,350mbit (round trip, rate per direction)") from None
        return Conditions(trip, rate)

    def __str__(self) -> str:
        return f"{self.round_trip * 1e3:g} ms, {self.rate * 8 / 1e6:g} Mbit/s"


class Relay:
    """Listens on a loopback port and connects each caller to another one under the given conditions, until closed."""

    def __init__(self, conditions: Conditions, target: int, port: int = 0) -> None:
        self._conditions, self._target = conditions, target
        self._server = socket.create_server(("127.0.0.1", port))
        self.port: int = self._server.getsockname()[1]
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._spawn(self._accept)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections and wait for the threads."""
        with self._lock:
            self._closed = True
            ends = [self._server, *self._ends]
        for end in ends:
            _cut(end)
        while self._threads:
            self._threads.pop().join()
        for end in ends:
            end.close()

    def _spawn(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name="tacit-relay", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):  # of the listening socket: we were closed
            while True:
                caller, _ = self._server.accept()
                try:
                    called = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    caller.close()
                    continue
                with self._lock:
                    self._ends += caller, called
                    if self._closed:
                        _cut(caller)
                        _cut(called)
                for source, sink in ((caller, called), (called, caller)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    flight = _Flight(self._conditions)
                    self._spawn(lambda source=source, flight=flight: flight.take_off(source))  # type: ignore[misc]
                    self._spawn(lambda sink=sink, flight=flight: flight.land(sink))  # type: ignore[misc]


class _Flight:
    """One direction of one connection: what has left its sender and not yet come to its receiver."""

    def __init__(self, conditions: Conditions) -> None:
        self._delay, self._rate = conditions.round_trip / 2, conditions.rate
        self._limit = int(self._rate * (self._delay + QUEUE_SECONDS)) + 4 * CHUNK_BYTES
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._torn = False

    def take_off(self, source: socket.socket) -> None:
        """Read from the sender for as long as there is room; no bytes stand for the end of the stream."""
        free = 0.0
        try:
            while True:
                chunk = source.recv(CHUNK_BYTES)
                now = time.monotonic()
                free = max(free, now) + len(chunk) / self._rate
                self._put(free + self._delay, chunk)
                if not chunk:
                    return
                if free - now > QUEUE_SECONDS:
                    time.sleep(free - now - QUEUE_SECONDS)
        except OSError:
            self._tear()
            _cut(source)

    def land(self, sink: socket.socket) -> None:
        """Give the receiver each chunk when its time has come."""
        try:
            while (chunk := self._get()) is not None:
                if not chunk:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(chunk)
            _cut(sink)
        except OSError:
            self._tear()
            _cut(sink)

    def _put(self, due: float, chunk: bytes) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._size < self._limit or self._torn)
            if self._torn:
                raise ConnectionResetError
            self._chunks.append((due, chunk))
            self._size += len(chunk)
            self._changed.notify_all()

    def _get(self) -> bytes | None:
        """Wait for the next chunk and its time; None if the connection broke."""
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._torn)
            if self._torn:
                return None
            due, chunk = self._chunks.popleft()
        time.sleep(max(due - time.monotonic(), 0.0))
        with self._changed:
            self._size -= len(chunk)
            self._changed.notify_all()
        return chunk

    def _tear(self) -> None:
        with self._changed:
            self._torn = True
            self._changed.notify_all()


def _cut(sock: socket.socket) -> None:
    """End a connection in both directions, which wakes whoever waits for it."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
