"""What is sent on a connection can be read by its two ends only, and arrives as it was sent or not at all."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import NetworkError, TacitError
from tacit.net import records
from tacit.net.records import OVERHEAD, PIECE_BYTES, Sealed
from tacit.net.tcp import Tcp
from tacit.net.transport import Parcel

from .conftest import Net, free_ports

ONE, OTHER = bytes(range(32)), bytes(range(32, 64))
fast = settings(deadline=None, max_examples=60)


@contextmanager
def ends() -> Iterator[tuple[Sealed, Sealed, socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        yield Sealed(here, ONE, OTHER, "bob"), Sealed(there, OTHER, ONE, "alice"), here, there


def sealed(*pieces: bytes) -> list[bytes]:
    """The records of these pieces, as they travel."""
    with ends() as (sender, _, _, there):
        written = []
        for piece in pieces:
            assert sender.send(memoryview(piece)) == len(piece)
            written.append(there.recv(len(piece) + OVERHEAD))
    return written


def opened(*parts: bytes, room: int = 1000) -> list[bytes]:
    """What the receiver makes of these bytes, up to their end."""
    with ends() as (_, receiver, here, _):
        for part in parts:
            here.sendall(part)
        here.shutdown(socket.SHUT_WR)
        read, target = [], memoryview(bytearray(room))
        while count := receiver.recv_into(target):
            read.append(bytes(target[:count]))
    return read


@fast
@given(st.lists(st.one_of(st.integers(1, 50), st.integers(1, 3 * PIECE_BYTES)), min_size=1, max_size=6))
def test_bytes_of_any_length_arrive_both_ways_however_the_socket_cuts_them(sizes: list[int]) -> None:
    messages = [os.urandom(size) for size in sizes]
    with ends() as (alice, bob, _, _):
        for sender, receiver in ((alice, bob), (bob, alice)):
            for message in messages:
                target, left, got = memoryview(bytearray(len(message))), memoryview(message), 0
                while got < len(message):
                    with suppress(BlockingIOError):
                        left = left[sender.send(left) :] if left else left
                    with suppress(BlockingIOError):
                        got += receiver.recv_into(target[got:])

                assert target == message


@fast
@given(st.data())
def test_a_changed_bit_anywhere_ends_the_run(data: st.DataObject) -> None:
    (record,) = sealed(os.urandom(40))
    place, bit = data.draw(st.integers(0, len(record) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(record)
    changed[place] ^= 1 << bit

    arrived = []
    with suppress(NetworkError):  # not raised where a greater length makes it wait for the rest
        arrived = opened(bytes(changed))

    assert arrived == []


@pytest.mark.parametrize("order", [(1,), (0, 0), (1, 0), (0, 2)])
def test_records_that_are_dropped_repeated_or_moved_end_the_run(order: tuple[int, ...]) -> None:
    written = sealed(b"first", b"second", b"third")

    with pytest.raises(NetworkError, match="not what it sent"):
        opened(*(written[place] for place in order))


def test_a_record_does_not_open_in_the_other_direction() -> None:
    (record,) = sealed(b"to bob")
    with ends() as (alice, _, _, there):
        there.sendall(record)

        with pytest.raises(NetworkError, match="not what it sent"):
            alice.recv_into(memoryview(bytearray(100)))


@pytest.mark.parametrize("length", [0, PIECE_BYTES + 1, (1 << 32) - 1])
def test_an_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(NetworkError, match="impossible length"):
        opened(length.to_bytes(4, "little") + bytes(40))


def test_a_record_that_is_longer_than_what_waits_for_it_is_refused() -> None:
    with pytest.raises(NetworkError, match="only 10 fit"):
        opened(*sealed(bytes(11)), room=10)


def test_equal_pieces_look_different_and_keys_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RENEWAL", 3)
    pieces = [bytes(64)] * 10

    written = sealed(*pieces)

    assert len({record[4:] for record in written}) == len(written)
    assert opened(*written) == pieces


class Tap:
    """Stands between two roles, keeps what passes, and changes what it is told to."""

    def __init__(self, port: int, target: int, change: int | None = None) -> None:
        self.passed = bytearray()
        self._change, self._lock = change, threading.Lock()
        self._server = socket.create_server(("127.0.0.1", port))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, args=(target,))]
        self._threads[0].start()

    def _accept(self, target: int) -> None:
        try:
            while True:
                caller, _ = self._server.accept()
                try:
                    called = socket.create_connection(("127.0.0.1", target))
                except OSError:
                    caller.close()
                    continue
                self._sockets += caller, called
                for pair in ((caller, called), (called, caller)):
                    thread = threading.Thread(target=self._relay, args=pair)
                    self._threads.append(thread)
                    thread.start()
        except OSError:
            pass

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while part := source.recv(1 << 16):
                with self._lock:
                    self.passed += part
                    if self._change is not None and len(self.passed) > self._change:
                        part, self._change = bytes((part[0] ^ 1,)) + part[1:], None
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for sock in (self._server, *self._sockets):
            sock.close()


def tapped(net: Net, change: int | None = None, **tls: object) -> tuple[dict[str, object], bytes]:
    """Run alice and bob, who swap a megabyte of one pattern, with a tap at alice's address."""
    (real,) = free_ports(1)
    pattern = torch.full((1 << 17,), 0x5EC1E75EC1E75EC)

    def swap(transport: Tcp) -> bool:
        (role,) = transport.hosted
        peer = "bob" if role == "alice" else "alice"
        arrived = torch.zeros_like(pattern)
        transport.exchange([Parcel(role, peer, pattern)], [Parcel(peer, role, arrived)])
        return torch.equal(arrived, pattern)

    shared = net.config(**tls)
    configs = dict.fromkeys(("alice", "bob", "crypto-producer"), shared)
    configs["alice"] = net.config(listen=f"127.0.0.1:{real}", **tls)
    with closing(Tap(net.ports["alice"], real, change)) as tap:
        results = net.run({"alice": swap, "bob": swap, "crypto-producer": lambda transport: None}, configs)
    return results, bytes(tap.passed)


def test_nobody_on_the_way_can_read_what_passes(net: Net) -> None:
    secret, plain = tapped(net), tapped(net, tls="insecure-plaintext")

    for results, _ in (secret, plain):
        assert results["alice"] is results["bob"] is True
    needle = (0x5EC1E75EC1E75EC).to_bytes(8, "little")
    assert needle not in secret[1]
    assert needle in plain[1]


def test_who_changes_what_passes_ends_the_run(net: Net) -> None:
    results, _ = tapped(net, change=500_000)

    assert isinstance(results["alice"], TacitError)
    assert isinstance(results["bob"], TacitError)
    assert "not what it sent" in f"{results['alice']} {results['bob']}"
