"""What is sent on a connection can be read by its two ends only, and arrives as it was sent or not at all."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import NetworkError, TacitError
from tacit.net import tls
from tacit.net.certificates import Identity
from tacit.net.framing import HEADER_BYTES, Kind
from tacit.net.link import SMALL_BYTES, Link
from tacit.net.tcp import Tcp
from tacit.net.tls import PIECE_BYTES, Tls
from tacit.net.transport import Parcel

from .conftest import Net, free_ports

fast = settings(deadline=None, max_examples=30)


@contextmanager
def ends(folder: Path) -> Iterator[tuple[Tls, Tls, socket.socket, socket.socket]]:
    """Alice's and bob's end of a TLS connection, and their sockets, which do not wait any more."""
    alice, bob = Identity.load(folder, "alice", ("bob",)), Identity.load(folder, "bob", ("alice",))
    here, there = socket.socketpair()
    with here, there:
        server = Tls(here, alice.context("bob", server=True), "bob", server=True)
        client = Tls(there, bob.context("alice", server=False), "alice", server=False)
        thread = threading.Thread(target=server.shake_hands)
        thread.start()
        assert alice.pins["bob"] != client.shake_hands() == bob.pins["alice"]
        thread.join()
        here.setblocking(False)
        there.setblocking(False)
        yield server, client, here, there


@fast
@given(sizes=st.lists(st.one_of(st.integers(1, 50), st.integers(1, 3 * PIECE_BYTES)), min_size=1, max_size=6))
def test_bytes_of_any_length_arrive_both_ways_however_the_socket_cuts_them(
    certificates: Path, sizes: list[int]
) -> None:
    messages = [os.urandom(size) for size in sizes]
    with ends(certificates) as (alice, bob, _, _):
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
@given(place=st.integers(5, 60), bit=st.integers(0, 7))
def test_a_changed_bit_ends_the_run(certificates: Path, place: int, bit: int) -> None:
    with ends(certificates) as (alice, bob, _, there):
        assert alice.send(memoryview(os.urandom(40))) == 40
        with suppress(BlockingIOError):
            assert bob.recv_into(memoryview(bytearray(100))) == 40
        alice.send(memoryview(os.urandom(40)))
        changed = bytearray(there.recv(1000))
        changed[place] ^= 1 << bit
        left, right = socket.socketpair()
        with left, right:
            left.sendall(changed)
            left.shutdown(socket.SHUT_WR)
            bob._socket = right

            with pytest.raises(NetworkError, match="not what it sent"):
                bob.recv_into(memoryview(bytearray(100)))


def test_an_error_keeps_no_hold_of_where_bytes_were_to_go(certificates: Path) -> None:
    """A view that is collected while somebody borrows it ends the process, in Python 3.11."""
    with ends(certificates) as (alice, bob, here, _):
        bob.send(memoryview(b"hello"))
        here.recv(1000)
        here.setblocking(True)
        target = memoryview(bytearray(100))
        bob._socket.sendall(b"\x17\x03\x03\x00\x30" + bytes(48))

        with pytest.raises(NetworkError, match="not what it sent") as found:
            alice.recv_into(target)

        target.release()  # would raise if it were lent
        found.value.args = (found.value,)
        del found
        gc.collect()


def test_bytes_go_into_nothing_that_must_not_change(certificates: Path) -> None:
    constant = bytes(16)
    with ends(certificates) as (alice, bob, _, _):
        assert alice.send(memoryview(b"")) == 0
        assert alice.send(memoryview(b"hello")) == 5

        with pytest.raises(BufferError):
            bob.recv_into(memoryview(constant))

        target = memoryview(bytearray(10))
        assert constant == bytes(16)
        assert bob.recv_into(target) == 5
        assert target[:5] == b"hello"


def test_what_others_have_left_among_the_errors_of_a_thread_is_not_of_this_connection(certificates: Path) -> None:
    with ends(certificates) as (alice, bob, _, _):
        target = memoryview(bytearray(100))
        for message in (b"one", b"two"):
            alice._lib.ERR_put_error(20, 0, 134, b"elsewhere.c", 1)
            assert alice.send(memoryview(message)) == 3

            assert bob.recv_into(target) == 3
            assert target[:3] == message
        with pytest.raises(BlockingIOError):
            bob.recv_into(target)


def test_what_does_not_fit_what_leaves_at_once_leaves_all_the_same(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_PROTECTED_BYTES", 1000)
    message = os.urandom(50_000)
    with ends(certificates) as (alice, bob, _, _):
        target, got = memoryview(bytearray(len(message))), 0

        assert alice.send(memoryview(message)) == len(message)

        while got < len(message):
            got += bob.recv_into(target[got:])
        assert target == message


def test_both_ends_take_the_longer_key_and_agree_on_it_in_two_ways_at_once(certificates: Path) -> None:
    with ends(certificates) as (alice, bob, _, _):
        for end in (alice._connection, bob._connection):
            assert end.get_protocol_version_name() == "TLSv1.3"
            assert end.get_cipher_name() == "TLS_AES_256_GCM_SHA384"
            assert end.get_group_name() == "X25519MLKEM768"


def test_a_header_leaves_with_its_payload(certificates: Path) -> None:
    payload = os.urandom(2 * SMALL_BYTES)
    with ends(certificates) as (alice, bob, here, there):
        link = Link("bob", "address", here, bytes(32), same_script=True, wire=alice)
        with suppress(BlockingIOError):
            bob.recv_into(memoryview(bytearray(100)))  # what the handshake has left
        link.push(Kind.DATA, payload, bytes(8))

        assert link.flush()

        assert len(there.recv(1 << 20, socket.MSG_PEEK)) > HEADER_BYTES + len(payload)
        target = memoryview(bytearray(HEADER_BYTES + len(payload)))
        assert bob.recv_into(target) == len(target)
        assert target[HEADER_BYTES:] == payload


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
