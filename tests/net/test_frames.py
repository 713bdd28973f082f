"""Frames and links against whatever may come over a wire."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tacit.errors import LinkDown, NetworkError, TacitError
from tacit.net.courier import Courier
from tacit.net.framing import HEADER_BYTES, LIMITS, Kind, pack_header, printable, unpack_header
from tacit.net.link import SMALL_BYTES, Link
from tacit.net.parting import Cause, search
from tacit.net.tcp import Tcp
from tacit.net.transcript import Transcript

fast = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
digests = st.binary(min_size=8, max_size=8)


@given(st.sampled_from(Kind), st.integers(0, 1 << 40), st.integers(0, 64), digests)
def test_headers_read_back_as_written(kind: Kind, sequence: int, length: int, digest: bytes) -> None:
    length = min(length, LIMITS[kind])

    header = unpack_header(pack_header(kind, sequence, length, digest), 0, "bob")

    assert header == (kind, sequence % (1 << 32), length, digest)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_any_bytes_are_a_header_within_limits_or_refused(data: bytes) -> None:
    try:
        header = unpack_header(data, 0, "bob")
    except NetworkError:
        return

    assert header.length <= LIMITS[header.kind]


@contextmanager
def link_pair() -> Iterator[tuple[Link, socket.socket]]:
    here, there = socket.socketpair()
    link = Link("bob", "127.0.0.1:1", here, bytes(32), same_script=True)
    with there:
        yield link, there
        link.close()


def give_up(link: Link) -> None:
    if not link.readable.poll(0):
        raise TimeoutError


@fast
@given(st.lists(st.binary(max_size=200), max_size=6), st.booleans())
def test_a_link_fed_with_anything_raises_only_what_its_callers_know(parts: list[bytes], closes: bool) -> None:
    with link_pair() as (link, there):
        for part in parts:
            there.sendall(part)
        if closes:
            there.shutdown(socket.SHUT_WR)

        def read() -> None:
            for _ in range(1000):
                link.next_header(give_up)
                link.skip_payload(give_up)

        with pytest.raises((NetworkError, LinkDown, TimeoutError)):
            read()


frames = st.tuples(st.sampled_from(Kind), st.integers(0, 3), st.integers(0, 300), digests, st.binary(max_size=60))


@fast
@given(st.lists(frames, max_size=5), st.binary(max_size=40))
def test_a_transport_fed_with_malformed_frames_raises_only_errors_of_tacit(
    written: list[tuple[Kind, int, int, bytes, bytes]], tail: bytes
) -> None:
    with link_pair() as (link, there):
        for kind, sequence, length, digest, payload in written:
            there.sendall(pack_header(kind, sequence, length, digest) + payload)
        there.sendall(tail)
        there.shutdown(socket.SHUT_WR)
        transport = Tcp("alice", ("alice", "bob"), {"bob": link}, Transcript(), timeout=0.4)

        def listen() -> None:
            for _ in range(7):
                transport.announce("bob", None)

        with pytest.raises(TacitError):
            listen()
        transport.abort("done")


def test_a_length_is_refused_before_memory_is_taken() -> None:
    with link_pair() as (link, there):
        there.sendall(pack_header(Kind.ANNOUNCE, 0, (1 << 62), bytes(8)))

        with pytest.raises(NetworkError, match="impossible length"):
            link.next_header(give_up)


@fast
@given(st.lists(st.integers(0, 3 * SMALL_BYTES), min_size=1, max_size=12))
def test_frames_arrive_in_order_however_they_were_joined(sizes: list[int]) -> None:
    with link_pair() as (link, there):
        other = Link("alice", "127.0.0.1:2", there.dup(), bytes(32), same_script=True)
        payloads = [bytes([at]) * size for at, size in enumerate(sizes)]
        for payload in payloads:
            link.push(Kind.DATA, payload, bytes(8))
        assert link.queued == sum(HEADER_BYTES + size for size in sizes)

        def wait(waiting: Link) -> None:
            link.flush()

        arrived = []
        for at in range(len(sizes)):
            header = other.next_header(wait)
            assert header.sequence == at
            arrived.append(other.take_payload(wait))

        assert arrived == payloads
        assert link.flush()
        assert link.queued == 0
        other.close()


class Interrupted:
    """A wire whose write is hit by a Ctrl-C when some of it has gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, data: memoryview, /) -> int:
        self._socket.send(data[:100])
        raise KeyboardInterrupt

    def recv_into(self, target: memoryview, /) -> int:
        return self._socket.recv_into(target)


def test_nothing_goes_twice_after_a_write_that_was_interrupted() -> None:
    here, there = socket.socketpair()
    with here, there:
        link = Link("bob", "127.0.0.1:1", here, bytes(32), same_script=True, wire=Interrupted(here))
        link.push(Kind.DATA, bytes(SMALL_BYTES + 1), bytes(8))
        link.push(Kind.DATA, bytes(300), bytes(8))
        with pytest.raises(KeyboardInterrupt):
            link.flush()

        for _ in range(2):
            with pytest.raises(LinkDown, match="interrupted"):
                link.flush()
        link.drop_queue()

        assert link.queued == 0
        assert len(there.recv(1000)) == HEADER_BYTES
        assert there.recv(1000) == b""


@given(st.binary(max_size=300))
def test_any_abort_payload_is_an_abort(payload: bytes) -> None:
    error = Cause.from_bytes(payload, "bob").error("alice", "bob")

    assert isinstance(error, TacitError)
    assert str(error) == printable(str(error))


def test_a_cause_reads_back_and_is_named_once() -> None:
    cause = Cause("lost", "carol", "carol (h:1) closed its connection")

    read = Cause.from_bytes(cause.to_bytes(), "bob")

    assert read == cause
    assert str(read.error("alice", "bob")) == "carol (h:1) closed its connection (reported by bob)"
    assert str(read.error("carol", "bob")) == "bob stopped: carol (h:1) closed its connection"


def test_search_finds_an_abort_behind_other_frames() -> None:
    with link_pair() as (link, there):
        other = Link("alice", "127.0.0.1:2", there.dup(), bytes(32), same_script=True)
        for size in (0, 5, 40_000):
            other.push(Kind.DATA, bytes(size), bytes(8))
        other.push(Kind.ABORT, b"{}", bytes(8))
        other.flush()

        found = search(link, 1.0, (Kind.ABORT,))
        other.close()

    assert found == (Kind.ABORT, b"{}")


def test_the_courier_reports_a_closed_connection_and_goes_on() -> None:
    with link_pair() as (link, there):
        courier = Courier([link], 10.0, lambda link: b"")
        courier.start()
        there.close()

        deadline = time.monotonic() + 5
        while courier.trouble is None and time.monotonic() < deadline:
            time.sleep(0.01)
        courier.stop()
        courier.stop()

    assert courier.trouble is link


@given(st.binary(max_size=200))
def test_a_malformed_history_is_refused(data: bytes) -> None:
    try:
        history = Transcript.from_bytes(data)
    except ValueError:
        return
    assert sum(18 for _ in history) <= len(data)
