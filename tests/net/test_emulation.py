"""The emulated link has the round trip and the rate that it was given, loses nothing and holds little."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch

from tacit.net.emulation import Conditions, Relay
from tacit.net.tcp import Tcp
from tacit.net.transport import Parcel

from .conftest import Net, free_ports


@contextmanager
def connection(text: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection through a relay."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Relay(Conditions.parse(text), server.getsockname()[1]) as relay,
        socket.create_connection(("127.0.0.1", relay.port)) as near,
    ):
        far, _ = server.accept()
        with far:
            for end in (near, far):
                end.settimeout(20)
            yield near, far


@pytest.mark.timed
@pytest.mark.parametrize("milliseconds", [10, 40])
def test_a_round_trip_takes_what_was_asked_for(milliseconds: int) -> None:
    times = []
    with connection(f"{milliseconds}ms,350mbit") as (near, far):
        for _ in range(12):
            start = time.perf_counter()
            near.sendall(b"ping")
            far.sendall(far.recv(4, socket.MSG_WAITALL))
            assert near.recv(4, socket.MSG_WAITALL) == b"ping"
            times.append(time.perf_counter() - start)

    least = min(times)  # other programs on this machine can only make it longer

    assert 1.0 <= least / (milliseconds / 1e3) <= 1.1


@pytest.mark.timed
@pytest.mark.parametrize(("megabits", "megabytes"), [(350, 12), (50, 3)])
def test_bytes_pass_at_the_rate_in_both_directions_at_once(megabits: int, megabytes: int) -> None:
    sent = os.urandom(megabytes * 1_000_000)
    rates: dict[str, float] = {}
    arrived: dict[str, bytes] = {}

    def receive(name: str, end: socket.socket) -> None:
        parts = [end.recv(1 << 16)]
        start, first = time.perf_counter(), len(parts[0])
        while sum(map(len, parts)) < len(sent):
            parts.append(end.recv(1 << 16))
        rates[name] = (len(sent) - first) * 8 / (time.perf_counter() - start) / 1e6
        arrived[name] = b"".join(parts)

    for _ in range(4):  # other programs on this machine can only make it slower
        with connection(f"20ms,{megabits}mbit") as (near, far):
            threads = [threading.Thread(target=receive, args=pair) for pair in (("near", near), ("far", far))]
            threads += [threading.Thread(target=end.sendall, args=(sent,)) for end in (near, far)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        assert arrived["near"] == arrived["far"] == sent
        assert max(rates.values()) <= megabits * 1.1
        if min(rates.values()) >= megabits * 0.9:
            break

    assert min(rates.values()) >= megabits * 0.9


def test_a_receiver_that_does_not_read_stops_the_sender() -> None:
    with connection("20ms,1gbit") as (near, far):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        near.settimeout(0.5)
        taken = 0
        with suppress(TimeoutError):
            while taken < 32 << 20:
                taken += near.send(bytes(1 << 17))

        assert taken < 32 << 20

        rest = taken
        while rest:
            rest -= len(far.recv(min(rest, 1 << 20)))


def test_the_end_of_a_stream_comes_after_its_last_byte() -> None:
    with connection("40ms,10mbit") as (near, far):
        near.sendall(bytes(20_000))
        near.shutdown(socket.SHUT_WR)
        far.sendall(b"still open")

        received = b"".join(iter(lambda: far.recv(1 << 16), b""))

        assert received == bytes(20_000)
        assert near.recv(10, socket.MSG_WAITALL) == b"still open"


def test_nobody_behind_the_relay_looks_like_a_closed_connection() -> None:
    (port,) = free_ports(1)
    with (
        Relay(Conditions.parse("1ms,1gbit"), port) as relay,
        socket.create_connection(("127.0.0.1", relay.port)) as caller,
    ):
        assert caller.recv(1) == b""


def test_roles_run_over_it_and_a_round_takes_half_a_round_trip(net: Net) -> None:
    conditions = Conditions.parse("40ms,350mbit")
    real = dict(zip(("alice", "bob", "crypto-producer"), free_ports(3), strict=True))
    configs = {role: net.config(listen=f"127.0.0.1:{port}") for role, port in real.items()}

    def rounds(transport: Tcp) -> float:
        (role,) = transport.hosted
        peer = "bob" if role == "alice" else "alice"
        mine, theirs = torch.ones(4), torch.zeros(4)
        start = time.perf_counter()
        for _ in range(8):
            transport.exchange([Parcel(role, peer, mine)], [Parcel(peer, role, theirs)])
        assert torch.equal(mine, theirs)
        return time.perf_counter() - start

    with Relay(conditions, real["alice"], net.ports["alice"]), Relay(conditions, real["bob"], net.ports["bob"]):
        results = net.run({"alice": rounds, "bob": rounds, "crypto-producer": lambda transport: None}, configs)

    for role in ("alice", "bob"):
        assert 7 * 0.02 <= results[role] <= 8 * 0.04  # the first does not wait, if the peer was ahead


@pytest.mark.parametrize(
    ("text", "trip", "rate"),
    [("40ms,350mbit", 0.04, 43.75e6), ("0.1s, 1gbit/s", 0.1, 125e6), ("0ms,800kbit", 0.0, 1e5)],
)
def test_conditions_are_read(text: str, trip: float, rate: float) -> None:
    conditions = Conditions.parse(text)

    assert (conditions.round_trip, conditions.rate) == pytest.approx((trip, rate))


@pytest.mark.parametrize("text", ["", "40ms", "40,350", "ms,mbit", "40ms,0mbit", "99s,1mbit", "1.2.3ms,1gbit"])
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a link such as 40ms,350mbit"):
        Conditions.parse(text)
