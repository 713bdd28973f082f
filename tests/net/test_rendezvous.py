"""How roles find each other, and what they say when they do not."""

from __future__ import annotations

import itertools
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from tacit.errors import AuthenticationError, ConfigError, ConnectError, NetworkError
from tacit.net import handshake
from tacit.net.certificates import make_certificate
from tacit.net.tcp import Tcp
from tacit.session.config import Config

from .conftest import ROLES, Net


def meet(transport: Tcp) -> str:
    return "met"


EVERYBODY = dict.fromkeys(ROLES, meet)
MET = dict.fromkeys(ROLES, "met")


@pytest.mark.parametrize("order", list(itertools.permutations(ROLES)))
def test_roles_start_in_any_order(net: Net, order: tuple[str, ...]) -> None:
    delays = {role: 0.25 * place for place, role in enumerate(order)}

    results = net.run(EVERYBODY, delays=delays)

    assert results == MET


def test_a_port_in_use_is_named_at_once(net: Net) -> None:
    config = net.config()
    with socket.create_server(("127.0.0.1", net.ports["bob"])):
        began = time.monotonic()

        results = net.run({"bob": meet}, config)

    assert type(results["bob"]) is ConnectError
    assert f"bob cannot listen at 127.0.0.1:{net.ports['bob']}: another program uses that port" in str(results["bob"])
    assert time.monotonic() - began < 2


def test_an_address_of_another_machine_is_refused_with_a_hint(net: Net) -> None:
    net.config()
    config = net.config(listen="192.0.2.1:9000")

    results = net.run({"alice": meet}, config)

    assert "192.0.2.1:9000: that is no address of this machine" in str(results["alice"])
    assert "tacit.listen" in str(results["alice"])


def test_a_role_may_listen_elsewhere_than_the_others_call(net: Net) -> None:
    config = net.config()
    alice = net.config(listen=f"0.0.0.0:{net.ports['alice']}")

    results = net.run(EVERYBODY, {"alice": alice, "bob": config, "crypto-producer": config})

    assert results == MET


def test_a_peer_that_never_comes_is_named_by_those_who_wait(net: Net) -> None:
    results = net.run({"alice": meet, "crypto-producer": meet}, net.config(connect_timeout=1))

    assert type(results["alice"]) is ConnectError
    assert "bob did not come within 1 s (bob did not call alice" in str(results["alice"])
    assert f"bob did not come within 1 s (127.0.0.1:{net.ports['bob']}: connection refused)" in str(
        results["crypto-producer"]
    )


def other_certificates(net: Net, name: str, stranger: str) -> Path:
    """A folder of certificates like everybody's, but with one that nobody has seen."""
    folder = net.folder / name
    shutil.copytree(net.certificates, folder)
    (folder / f"{stranger}.key").unlink()
    make_certificate(folder, stranger)
    return folder


@pytest.mark.parametrize(("stranger", "victim"), [("alice", "bob"), ("bob", "alice")])
def test_an_unknown_certificate_is_refused_at_both_ends(net: Net, stranger: str, victim: str) -> None:
    config = net.config(connect_timeout=2)
    folder = other_certificates(net, "forged", stranger)
    forged = net.config(tls=str(folder), connect_timeout=2)

    results = net.run({"alice": meet, "bob": meet}, {stranger: forged, victim: config})

    assert type(results[victim]) is AuthenticationError
    assert f"{stranger} (127.0.0.1:{net.ports[stranger]}) presents a certificate that is not the" in str(
        results[victim]
    )
    assert type(results[stranger]) is AuthenticationError
    said = f"{victim} (127.0.0.1:{net.ports[victim]}) does not accept the certificate of {stranger}"
    assert said in str(results[stranger])


def test_a_peer_may_not_play_another_role_of_the_run(net: Net) -> None:
    config = net.config(connect_timeout=2)
    folder = net.folder / "disguise"
    shutil.copytree(net.certificates, folder)
    for kind in ("key", "crt"):
        shutil.copy(net.certificates / f"crypto-producer.{kind}", folder / f"bob.{kind}")
    (folder / "crypto-producer.crt").write_bytes((net.certificates / "carol.crt").read_bytes())
    disguised = net.config(tls=str(folder), connect_timeout=2)

    results = net.run({"alice": meet, "bob": meet}, {"alice": config, "bob": disguised})

    assert type(results["alice"]) is AuthenticationError
    assert type(results["bob"]) is AuthenticationError


def test_tls_at_one_end_only_is_said_in_words(net: Net) -> None:
    config = net.config(connect_timeout=2)
    plain = net.config(tls="insecure-plaintext", connect_timeout=2)

    results = net.run({"alice": meet, "bob": meet}, {"alice": config, "bob": plain})

    assert "'tacit.tls' differs: alice connects with TLS, but bob without TLS" in str(results["alice"])
    assert "'tacit.tls' differs: bob connects without TLS, but alice with TLS" in str(results["bob"])


@pytest.mark.parametrize(
    ("setting", "mine", "other"), [("frac_bits", 16, 20), ("round_bytes", 200_000, 1_750_000), ("seed", 1, 2)]
)
def test_two_configs_are_refused_at_both_ends_by_the_key(net: Net, setting: str, mine: int, other: int) -> None:
    alice, bob = net.config(**{setting: mine}), net.config(**{setting: other})

    results = net.run({"alice": meet, "bob": meet}, {"alice": alice, "bob": bob})

    assert type(results["alice"]) is type(results["bob"]) is ConfigError
    assert f"differ in 'tacit.{setting}': {mine} at alice, but {other} at bob" in str(results["alice"])
    assert f"differ in 'tacit.{setting}': {other} at bob, but {mine} at alice" in str(results["bob"])


def test_local_settings_may_differ(net: Net) -> None:
    configs = {role: net.config(timeout=at, threads=at, outbox_bytes=at << 20) for at, role in enumerate(ROLES, 10)}

    results = net.run(EVERYBODY, configs)

    assert results == MET


def test_different_lists_of_roles_are_refused(net: Net) -> None:
    three = net.config((*ROLES[:2], "carol", "crypto-producer"))
    two = net.config()

    results = net.run({"alice": meet, "bob": meet}, {"alice": two, "bob": three})

    assert "differ in 'the list of roles'" in str(results["alice"])
    assert "differ in 'the list of roles'" in str(results["bob"])


def test_two_versions_are_refused_at_both_ends(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    hello = handshake._hello

    def forged(me: handshake.Endpoint, nonce: bytes) -> bytes:
        return hello(me, nonce).replace(me.version.encode(), b"9.9.9") if me.role == "bob" else hello(me, nonce)

    monkeypatch.setattr(handshake, "_hello", forged)

    results = net.run({"alice": meet, "bob": meet}, net.config(connect_timeout=2))

    assert "bob runs '9.9.9'" in str(results["alice"])
    assert isinstance(results["bob"], NetworkError | ConnectError)


def test_the_third_role_hears_why_the_others_will_not_come(net: Net) -> None:
    alice, bob = (net.config(frac_bits=bits, connect_timeout=6) for bits in (16, 20))
    began = time.monotonic()

    results = net.run(EVERYBODY, {"alice": alice, "bob": bob, "crypto-producer": alice})

    assert all(isinstance(results[role], ConfigError | NetworkError) for role in ROLES)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"TACIT\x01\x01\x05\x05carolalice",
        b"TACIT\x09\x01\x03\x05bobalice",  # in the name of a role, with nothing to prove it: another version,
        b"TACIT\x02\x00\x03\x05bobalice",  # without TLS,
        b"TACIT\x02\x01\x03\x05bobalice" + b"\x16\x03\x01garbage" * 10,  # with something that is no TLS,
        b"TACIT\x02\x01\x05\x05alicealice",  # and in the name of the role that is called
        b"TACIT\x01\x01\xff\xff" + bytes(range(1, 256)) * 2,
        b"\x16\x03\x01" * 9,
    ],
)
def test_strangers_at_the_port_do_not_disturb(net: Net, noise: bytes) -> None:
    config = net.config()
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", net.ports["alice"]), timeout=1) as stranger:
                    stranger.sendall(noise)
                    stop.wait(0.05)
            except OSError:
                stop.wait(0.01)

    thread = threading.Thread(target=disturb)
    thread.start()
    results = net.run(EVERYBODY, config, delays={"bob": 0.5, "crypto-producer": 0.5})
    stop.set()
    thread.join()

    assert results == MET


@pytest.mark.parametrize("count", [50, 200])
def test_silent_strangers_do_not_hold_up_the_meeting(net: Net, count: int) -> None:
    config = net.config()
    held: list[socket.socket] = []

    def hold() -> None:
        for _ in range(count):
            try:
                held.append(socket.create_connection(("127.0.0.1", net.ports["alice"]), timeout=1))
            except OSError:
                time.sleep(0.01)

    thread = threading.Thread(target=hold)
    thread.start()
    began = time.monotonic()
    results = net.run(EVERYBODY, config, delays={"bob": 0.3, "crypto-producer": 0.3})
    thread.join()
    for sock in held:
        sock.close()

    assert results == MET
    assert time.monotonic() - began < 5


def test_something_else_at_the_address_is_named(net: Net) -> None:
    config = net.config(connect_timeout=1)
    with socket.create_server(("127.0.0.1", net.ports["alice"])) as server:

        def answer() -> None:
            server.settimeout(3)
            try:
                while True:
                    sock, _ = server.accept()
                    with sock:
                        sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                        sock.settimeout(0.2)
                        sock.recv(100)
            except OSError:
                pass

        thread = threading.Thread(target=answer)
        thread.start()
        results = net.run({"bob": meet}, config)
    thread.join()

    assert "something that is not Tacit answers there" in str(results["bob"])


def test_plaintext_needs_stronger_words_beyond_loopback(net: Net) -> None:
    roles = '"alice": "10.0.0.1:9000", "bob": "localhost:9000", "crypto-producer": "localhost:9001"'
    text = "{" + roles + ', "tacit": {"tls": "%s"}}'

    with pytest.raises(ConfigError, match=r"'alice' is at 10\.0\.0\.1:9000"):
        Config.parse(text % "insecure-plaintext")

    assert Config.parse(text % "insecure-plaintext-anywhere").plaintext
