"""Who is at the other end may have another OpenSSL, another certificate or an older TLS, and may say goodbye or not."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tacit.net.certificates import Identity, Terms, make_certificate
from tacit.net.tls import PIECE_BYTES, Tls

T = TypeVar("T")
ENDS = pytest.mark.parametrize("server", [True, False], ids=["of a server", "of a client"])


def standard(folder: Path, *, server: bool, own: str | None = "bob") -> ssl.SSLContext:
    """Bob's settings for Python's `ssl`: alice must show her certificate."""
    pin = Identity.load(folder, "bob", ("alice",)).pins["alice"]
    return Terms(server, own and folder / own, (pin,)).standard()


@contextmanager
def facing(
    folder: Path, theirs: ssl.SSLContext, talk: Callable[[ssl.SSLSocket], T], *, server: bool
) -> Iterator[tuple[Tls, Future[T]]]:
    """Alice's end, a server's or not, of a connection to somebody who talks by Python's `ssl`."""
    here, there = socket.socketpair()

    def meet() -> T:
        with theirs.wrap_socket(there, server_side=not server) as bob:
            return talk(bob)

    with ThreadPoolExecutor(1) as pool, there, here:
        here.settimeout(60)
        there.settimeout(60)
        context = Identity.load(folder, "alice", ("bob",)).context("bob", server=server)
        yield Tls(here, context, "bob", server=server), pool.submit(meet)


def read(wire: Tls, size: int) -> bytes:
    target, at = memoryview(bytearray(size)), 0
    while at < size:
        at += (part := wire.recv_into(target[at:]))
        assert part
    return bytes(target)


@ENDS
@pytest.mark.parametrize("polite", [True, False], ids=["with goodbye", "without"])
def test_the_ssl_of_python_understands_and_is_understood(certificates: Path, server: bool, polite: bool) -> None:
    message = os.urandom(3 * PIECE_BYTES + 1)

    def talk(bob: ssl.SSLSocket) -> tuple[bytes, str | None]:
        bob.sendall(message)
        answer = bob.recv(100), bob.version()
        if polite:
            bob.settimeout(0)
            with pytest.raises(ssl.SSLWantReadError):
                bob.unwrap()  # says goodbye, and would wait for ours
        return answer

    with facing(certificates, standard(certificates, server=not server), talk, server=server) as (alice, bob):
        shown = alice.shake_hands()
        came = read(alice, len(message))
        sent = alice.send(memoryview(b"thanks"))

        assert shown == Identity.load(certificates, "alice", ("bob",)).pins["bob"]
        assert (came, sent, bob.result(60)) == (message, 6, (b"thanks", "TLSv1.3"))
        assert alice.recv_into(memoryview(bytearray(10))) == 0


@ENDS
def test_tls_is_of_version_1_3_only(certificates: Path, server: bool) -> None:
    theirs = standard(certificates, server=not server)
    theirs.minimum_version = theirs.maximum_version = ssl.TLSVersion.TLSv1_2

    with facing(certificates, theirs, ssl.SSLSocket.version, server=server) as (alice, bob):
        with pytest.raises(ssl.SSLError, match="protocol"):
            alice.shake_hands()

        assert isinstance(bob.exception(60), ssl.SSLError)


def test_a_client_without_a_certificate_is_not_let_in(certificates: Path) -> None:
    theirs = standard(certificates, server=False, own=None)

    with facing(certificates, theirs, lambda bob: bob.recv(1), server=True) as (alice, bob):
        with pytest.raises(ssl.SSLError) as found:
            alice.shake_hands()

        assert found.value.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        assert "CERTIFICATE_REQUIRED" in str(bob.exception(60)).upper()


@ENDS
def test_another_certificate_of_the_same_name_is_refused(certificates: Path, tmp_path: Path, server: bool) -> None:
    make_certificate(tmp_path, "bob")
    (tmp_path / "alice.crt").write_bytes((certificates / "alice.crt").read_bytes())

    theirs = standard(tmp_path, server=not server)
    with facing(certificates, theirs, lambda bob: bob.recv(1), server=server) as (alice, bob):
        with pytest.raises(ssl.SSLCertVerificationError) as found:
            alice.shake_hands()

        assert found.value.reason == "CERTIFICATE_VERIFY_FAILED"
        assert "alert" in str(bob.exception(60)).lower()


@ENDS
def test_who_is_refused_learns_it_by_an_alert(certificates: Path, tmp_path: Path, server: bool) -> None:
    """Bob has another certificate of alice's, and says so: a server before, a client after alice thinks all is well."""
    make_certificate(tmp_path, "alice")
    for suffix in ("crt", "key"):
        (tmp_path / f"bob.{suffix}").write_bytes((certificates / f"bob.{suffix}").read_bytes())
    (tmp_path / "bob.key").chmod(0o600)

    theirs = standard(tmp_path, server=not server)
    with facing(certificates, theirs, lambda bob: bob.recv(1), server=server) as (alice, bob):

        def greet() -> None:
            alice.shake_hands()
            alice.recv_into(memoryview(bytearray(10)))

        with pytest.raises(ssl.SSLError, match="alert"):
            greet()

        assert isinstance(bob.exception(60), ssl.SSLCertVerificationError)


@ENDS
def test_nobody_waits_for_what_comes_after_a_goodbye_nor_keeps_it(certificates: Path, server: bool) -> None:
    """OpenSSL would keep all that comes, of a connection that stays open, and read nothing of it."""
    seen = threading.Event()

    def talk(bob: ssl.SSLSocket) -> bool:
        bob.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            bob.unwrap()
        socket.socket.send(bob, bytes(1000))
        return seen.wait(60)

    with facing(certificates, standard(certificates, server=not server), talk, server=server) as (alice, bob):
        alice.shake_hands()

        came = [alice.recv_into(memoryview(bytearray(10))) for _ in range(3)]
        seen.set()

        assert came == [0, 0, 0]
        assert bob.result(60)


def test_no_session_is_taken_up_again(certificates: Path) -> None:
    theirs, sessions = standard(certificates, server=False), []

    def talk(bob: ssl.SSLSocket) -> bool:
        assert bob.recv(2) == b"hi"  # tickets would have come before
        sessions.append(bob.session)
        return bob.session_reused is True

    with facing(certificates, theirs, talk, server=True) as (alice, first):
        alice.shake_hands()
        alice.send(memoryview(b"hi"))
        assert first.result(60) is False

    here, there = socket.socketpair()
    with here, there, ThreadPoolExecutor(1) as pool:
        context = Identity.load(certificates, "alice", ("bob",)).context("bob", server=True)
        alice = Tls(here, context, "bob", server=True)
        second = pool.submit(lambda: theirs.wrap_socket(there, session=sessions[0]))
        shown = alice.shake_hands()

        with second.result(60) as bob:
            assert bob.session_reused is False
        assert shown == Identity.load(certificates, "alice", ("bob",)).pins["bob"]
