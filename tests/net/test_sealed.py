"""Records after the handshake arrive as they were sent and in their order, or end the run."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import NetworkError
from tacit.net import sealed as module
from tacit.net.framing import Kind
from tacit.net.link import SMALL_BYTES, Link
from tacit.net.sealed import RECORD_BYTES, Direction, Sealed, sealed
from tacit.net.tls import MORE, PIECE_BYTES

from .test_tls import ends

fast = settings(deadline=None, max_examples=30)
KEYS = bytes(range(32)), bytes(range(1, 33))


@contextmanager
def pair() -> Iterator[tuple[Sealed, Sealed, socket.socket, socket.socket]]:
    """Both ends, and their sockets, which do not wait."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        yield Sealed(here, "bob", *KEYS), Sealed(there, "alice", *KEYS[::-1]), here, there


def records(*messages: bytes) -> list[bytes]:
    """What travels for each of these."""
    with pair() as (alice, _, _, there):
        found = []
        for message in messages:
            assert alice.send(memoryview(message)) == len(message)
            found.append(there.recv(1 << 20))
        return found


def opened(*parts: bytes, room: int = 1000) -> bytes:
    """What bob makes of it."""
    with pair() as (_, bob, here, _):
        here.sendall(b"".join(parts))
        here.shutdown(socket.SHUT_WR)
        target = memoryview(bytearray(room))
        found = b""
        while count := bob.recv_into(target):
            found += target[:count]
        return found


def test_a_record_is_what_the_documents_say() -> None:
    first, second = records(b"x" * 40, b"y" * 5)

    nonce = (1).to_bytes(12, "little")
    assert first[:4] == (40).to_bytes(4, "little")
    assert AESGCM(KEYS[0]).decrypt(bytes(12), first[4:], first[:4]) == b"x" * 40
    assert AESGCM(KEYS[0]).decrypt(nonce, second[4:], second[:4]) == b"y" * 5


@fast
@given(sizes=st.lists(st.one_of(st.integers(1, 50), st.integers(1, 3 * PIECE_BYTES)), min_size=1, max_size=6))
def test_bytes_of_any_length_arrive_both_ways_however_they_are_asked_for(sizes: list[int]) -> None:
    messages = [os.urandom(size) for size in sizes]
    whole = b"".join(messages)
    with pair() as (alice, bob, _, _):
        for sender, receiver, room in ((alice, bob, 1 << 14), (bob, alice, len(whole))):
            got, lefts = bytearray(), [memoryview(message) for message in messages]
            while len(got) < len(whole):
                target = memoryview(bytearray(min(room, len(whole) - len(got))))
                with suppress(BlockingIOError):
                    while lefts:
                        lefts[0] = lefts[0][sender.send(lefts[0], MORE if len(lefts) > 1 else 0) :]
                        lefts = lefts if lefts[0] else lefts[1:]
                with suppress(BlockingIOError):
                    got += target[: receiver.recv_into(target)]

            assert got == whole


@fast
@given(place=st.integers(0, 59), bit=st.integers(0, 7))
def test_a_changed_bit_ends_the_run_wherever_it_is(place: int, bit: int) -> None:
    changed = bytearray(records(os.urandom(40))[0])
    changed[place] ^= 1 << bit

    try:
        found = opened(bytes(changed))
    except NetworkError:
        pass
    else:  # it was the length, and what is longer has not come: the connection has ended
        assert place < 4
        assert found == b""


@pytest.mark.parametrize("order", [(1, 0), (0, 0), (0, 2), (1,)], ids=["swapped", "repeated", "left out", "first"])
def test_a_record_in_another_place_ends_the_run(order: tuple[int, ...]) -> None:
    sent = records(b"a" * 40, b"b" * 40, b"c" * 40)

    with pytest.raises(NetworkError, match="not what it sent"):
        opened(*(sent[k] for k in order))


def test_a_record_that_comes_back_to_its_sender_ends_the_run() -> None:
    (sent,) = records(b"a" * 40)
    with pair() as (alice, _, _, there):
        there.sendall(sent)

        with pytest.raises(NetworkError, match="bob is not what it sent"):
            alice.recv_into(memoryview(bytearray(100)))


@pytest.mark.parametrize("size", [0, PIECE_BYTES + 1, (1 << 32) - 1])
def test_impossible_lengths_are_refused_before_anything_else_comes(size: int) -> None:
    with pair() as (_, bob, here, _):
        here.sendall(size.to_bytes(4, "little"))

        with pytest.raises(NetworkError, match="alice is not what it sent"):
            bob.recv_into(memoryview(bytearray(100)))


def test_no_number_serves_twice_and_keys_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWAL", 3)
    messages = [os.urandom(20) for _ in range(10)]

    sent = records(*messages)

    assert opened(*sent) == b"".join(messages)
    direction = Direction(KEYS[0])
    used = [direction.next() for _ in range(10)]
    assert len({nonce for _, nonce in used}) == 10
    assert [used[k][0] is used[k + 1][0] for k in range(6)] == [True, True, False, True, True, False]
    assert AESGCM(KEYS[0]).decrypt((2).to_bytes(12, "little"), sent[2][4:], sent[2][:4]) == messages[2]
    nonce = (3).to_bytes(12, "little")
    assert used[3][0].decrypt(nonce, sent[3][4:], sent[3][:4]) == messages[3]
    with pytest.raises(InvalidTag):
        AESGCM(KEYS[0]).decrypt(nonce, sent[3][4:], sent[3][:4])


def test_a_record_that_was_begun_and_interrupted_costs_its_number() -> None:
    with pair() as (alice, bob, _, _):
        alice._out.next()

        alice.send(memoryview(b"what comes next"))

        with pytest.raises(NetworkError, match="not what it sent"):
            bob.recv_into(memoryview(bytearray(100)))


def test_a_header_leaves_with_its_payload() -> None:
    payload = os.urandom(2 * SMALL_BYTES)
    with pair() as (alice, bob, here, there):
        link = Link("bob", "address", here, bytes(32), same_script=True, wire=alice)
        link.push(Kind.DATA, payload, bytes(8))

        assert link.flush()

        first = there.recv(1 << 20, socket.MSG_PEEK)
        assert len(first) == 2 * (RECORD_BYTES - PIECE_BYTES) + 21 + len(payload) or not MORE
        target = memoryview(bytearray(100))
        assert bob.recv_into(target) == 21  # the next record does not fit beside it
        target = memoryview(bytearray(len(payload)))
        assert bob.recv_into(target) == len(payload)
        assert target == payload


def test_what_has_come_with_the_last_of_tls_is_not_lost(certificates: Path) -> None:
    with ends(certificates) as (server, client, here, there):
        here.setblocking(True)
        server.send(memoryview(b"hello"))
        early = Sealed(here, "bob", *KEYS)
        early.send(memoryview(b"first"))
        target = memoryview(bytearray(5))

        assert client.recv_into(target) == 5
        late = Sealed(there, client.peer, *KEYS[::-1], client.surplus())

        assert late.recv_into(target) == 5
        assert target == b"first"


def test_both_ends_make_the_same_keys_of_a_secret(certificates: Path) -> None:
    with ends(certificates) as (server, client, here, there):
        alice, bob = sealed(here, server, KEYS[0], "alice", "bob"), sealed(there, client, KEYS[0], "bob", "alice")
        target = memoryview(bytearray(5))

        for one, other in ((alice, bob), (bob, alice)):
            one.send(memoryview(b"hello"))
            assert other.recv_into(target) == 5
            assert target == b"hello"
        assert alice._out._secret != alice._in._secret != KEYS[0]


def test_two_threads_may_send_and_receive_at_once() -> None:
    messages = [os.urandom(1 << 16) for _ in range(40)]

    def talk(end: Sealed, sock: socket.socket, got: list[bytes]) -> None:
        def send() -> None:
            for message in messages:
                left = memoryview(message)
                while left:
                    left = left[end.send(left) :]

        sock.setblocking(True)
        thread = threading.Thread(target=send)
        thread.start()
        target, found = memoryview(bytearray(1 << 16)), b""
        while len(found) < len(messages) << 16:
            found += target[: end.recv_into(target)]
        thread.join()
        got.append(found)

    with pair() as (alice, bob, here, there):
        got: list[bytes] = []
        threads = [threading.Thread(target=talk, args=end) for end in ((alice, here, got), (bob, there, got))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert got == [b"".join(messages)] * 2
