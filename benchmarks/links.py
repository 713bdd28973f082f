"""What plain TCP does between two hosts of a benchmark: a round trip, and bytes one way and both ways at once.

python benchmarks/links.py                                               # over loopback
python benchmarks/wan.py 40ms,350mbit 2 python benchmarks/links.py       # over an emulated wide-area link
"""

from __future__ import annotations

import json
import multiprocessing
import select
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import hosts

MESSAGE_BYTES = 64
BLOCK_BYTES = 1 << 20


def limits(trips: int, bulk: int) -> dict[str, float]:
    """Return what plain TCP does: round trips in seconds, and bytes per second.

    A round trip is a median, once of processes that sleep until the answer comes, once of ones that look for it again
    and again. Bytes go one way, then both ways at once.
    """
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    far = context.Process(target=_far, args=(theirs, trips, bulk), daemon=True)
    far.start()
    hosts.enter(0)
    with socket.create_connection((hosts.address(1), mine.recv())) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asleep, looking = (sorted(_ask(link, trips, look))[trips // 2] for look in (False, True))
        _send(link, bulk)
        one_way = mine.recv()
        both_ways = min(_both(link, bulk), mine.recv())
    far.join()
    return {"round_trip": asleep, "round_trip_looking": looking, "one_way": one_way, "both_ways": both_ways}


def _far(near: Connection, trips: int, bulk: int) -> None:
    """Answer, receive, then send and receive at once."""
    hosts.enter(1)
    with socket.create_server((hosts.address(1), 0)) as listener:
        near.send(listener.getsockname()[1])
        link, _ = listener.accept()
    with link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for look in (False, True):
            for _ in range(trips):
                _await(link, look)
                link.sendall(bytes(MESSAGE_BYTES))
        near.send(_receive(link, bulk))
        near.send(_both(link, bulk))


def _ask(link: socket.socket, trips: int, look: bool) -> Iterator[float]:
    for _ in range(trips):
        start = time.perf_counter()
        link.sendall(bytes(MESSAGE_BYTES))
        _await(link, look)
        yield time.perf_counter() - start


def _await(link: socket.socket, look: bool) -> None:
    """Receive a message, asleep or looking for it until it has come."""
    poll = select.poll()
    poll.register(link, select.POLLIN)
    while look and not poll.poll(0):
        pass
    link.recv(MESSAGE_BYTES, socket.MSG_WAITALL)


def _both(link: socket.socket, bulk: int) -> float:
    sender = threading.Thread(target=_send, args=(link, bulk))
    sender.start()
    rate = _receive(link, bulk)
    sender.join()
    return rate


def _send(link: socket.socket, bulk: int) -> None:
    block = bytes(BLOCK_BYTES)
    for _ in range(bulk // BLOCK_BYTES):
        link.sendall(block)


def _receive(link: socket.socket, bulk: int) -> float:
    """Return the bytes per second at which the second half comes: TCP has found its speed by then."""
    bulk, received, buffer = bulk // BLOCK_BYTES * BLOCK_BYTES, 0, bytearray(BLOCK_BYTES)
    half, start = bulk, 0.0
    while received < bulk:
        received += link.recv_into(buffer, min(BLOCK_BYTES, bulk - received))
        if half == bulk and received >= bulk // 2:
            half, start = received, time.perf_counter()
    return (bulk - half) / (time.perf_counter() - start)


if __name__ == "__main__":
    print(json.dumps(limits(*((25, 64 << 20) if hosts.namespaces() else (5_000, 1 << 29)))))
