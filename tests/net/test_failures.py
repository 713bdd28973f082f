"""What roles say when a run goes wrong, and that none of them hangs or leaves anything behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from typing import Any

import pytest
import torch

from tacit.errors import DivergenceError, NetworkError, PeerAborted, PeerLost, PeerStalled, TacitError
from tacit.net.tcp import Tcp
from tacit.net.transport import Parcel

from .conftest import Body, Net, free_ports

ALL = ("alice", "bob", "crypto-producer")


def idle(transport: Tcp) -> None:
    pass


def swap(transport: Tcp, operator: str = "mul (3, 4)", public: bytes = b"", size: int = 3) -> None:
    """One operator in which alice and bob open something."""
    (role,) = transport.hosted
    transport.transcript.record(operator, public)
    if role in ("alice", "bob"):
        peer = "bob" if role == "alice" else "alice"
        mine, theirs = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
        transport.exchange([Parcel(role, peer, mine)], [Parcel(peer, role, theirs)])


def after(*steps: Any) -> Body:
    def body(transport: Tcp) -> None:
        for step in steps:
            step(transport)

    return body


# --- divergence ------------------------------------------------------------------------------------------------------


def test_different_operators_are_named_at_both_sides(net: Net) -> None:
    alice = after(swap, lambda transport: swap(transport, "add (3, 4)"))
    bob = after(swap, lambda transport: swap(transport, "sub (3, 4)"))

    results = net.run({"alice": alice, "bob": bob, "crypto-producer": after(swap, swap)})

    for role, mine, peer, other in (("alice", "add", "bob", "sub"), ("bob", "sub", "alice", "add")):
        assert type(results[role]) is DivergenceError
        assert f"operator 2 is `{mine} (3, 4)` at {role} but `{other} (3, 4)` at {peer}" in str(results[role])
    assert isinstance(results["crypto-producer"], DivergenceError)
    assert "alice and bob" in str(results["crypto-producer"]) or "bob and alice" in str(results["crypto-producer"])


def test_different_shapes_are_named_at_both_sides(net: Net) -> None:
    alice, bob = (lambda t: swap(t, "mul (3,)", size=3)), (lambda t: swap(t, "mul (4,)", size=4))

    results = net.run({"alice": alice, "bob": bob, "crypto-producer": lambda t: swap(t, "mul (3,)")})

    for role in ("alice", "bob"):
        assert type(results[role]) is DivergenceError
        assert "mul (3,)" in str(results[role])
        assert "mul (4,)" in str(results[role])


def test_different_public_values_are_said_to_differ(net: Net) -> None:
    alice, bob = (lambda t: swap(t, public=b"one")), (lambda t: swap(t, public=b"two"))

    results = net.run({"alice": alice, "bob": bob, "crypto-producer": lambda t: swap(t, public=b"one")})

    for role in ("alice", "bob"):
        assert type(results[role]) is DivergenceError
        assert "operator 1 is `mul (3, 4)` at both, but its public values differ" in str(results[role])


@pytest.mark.parametrize(("other", "said"), [("two", True), ("one", False)])
def test_a_divergence_says_whether_the_scripts_differ(net: Net, other: str, said: bool) -> None:
    alice, bob = (lambda t: swap(t, "add")), (lambda t: swap(t, "sub"))

    scripts = {"alice": "one", "bob": other, "crypto-producer": "one"}
    results = net.run({"alice": alice, "bob": bob, "crypto-producer": idle}, scripts=scripts)

    assert ("their scripts differ" in str(results["alice"])) is said
    assert ("their scripts differ" in str(results["bob"])) is said


def test_a_size_that_the_transcript_does_not_show_is_noticed(net: Net) -> None:
    alice, bob = (lambda t: swap(t, size=3)), (lambda t: swap(t, size=100_000))

    results = net.run({"alice": alice, "bob": bob, "crypto-producer": idle})

    assert type(results["alice"]) is type(results["bob"]) is DivergenceError
    assert "24 bytes" in str(results["alice"]) + str(results["bob"])


def test_a_role_that_ends_its_program_early_diverges(net: Net) -> None:
    results = net.run({"alice": swap, "bob": after(swap, swap), "crypto-producer": idle})

    assert type(results["bob"]) is DivergenceError
    assert "expects a tensor from alice, which has sent its end of the program" in str(results["bob"])
    assert type(results["alice"]) is DivergenceError


def test_two_roles_that_wait_for_each_other_notice_it(net: Net) -> None:
    def wait(source: str) -> Body:
        def body(transport: Tcp) -> None:
            transport.transcript.record(f"receive from {source}")
            transport.receive(Parcel(source, transport.hosted[0], torch.zeros(1, dtype=torch.int64)))

        return body

    began = time.monotonic()
    results = net.run({"alice": wait("bob"), "bob": wait("alice"), "crypto-producer": idle}, net.config(timeout=8))

    assert type(results["alice"]) is type(results["bob"]) is DivergenceError
    assert "`receive from bob` at alice but `receive from alice` at bob" in str(results["alice"])
    assert time.monotonic() - began < 8


def test_the_same_operator_waiting_in_both_directions_is_noticed(net: Net) -> None:
    def wait(transport: Tcp) -> None:
        (role,) = transport.hosted
        transport.transcript.record("open (1,)")
        peer = "bob" if role == "alice" else "alice"
        transport.receive(Parcel(peer, role, torch.zeros(1, dtype=torch.int64)))

    results = net.run({"alice": wait, "bob": wait, "crypto-producer": idle}, net.config(timeout=8))

    assert all(type(results[role]) is DivergenceError for role in ("alice", "bob"))
    assert "wait for each other" in str(results["alice"]) + str(results["bob"])


def test_a_producer_far_ahead_still_knows_where_it_diverged(net: Net) -> None:
    count = 2000

    def produce(transport: Tcp) -> None:
        for at in range(count):
            transport.transcript.record("deal" if at != 5 else "deal more")
            transport.send(Parcel("crypto-producer", "alice", torch.zeros(1, dtype=torch.int64)))

    def consume(transport: Tcp) -> None:
        time.sleep(1)
        for _ in range(count):
            transport.transcript.record("deal")
            transport.receive(Parcel("crypto-producer", "alice", torch.zeros(1, dtype=torch.int64)))

    results = net.run({"alice": consume, "bob": idle, "crypto-producer": produce})

    assert type(results["alice"]) is type(results["crypto-producer"]) is DivergenceError
    assert "operator 6 is `deal` at alice but `deal more` at crypto-producer" in str(results["alice"])


def relay(port: int, target: int, delay: float) -> threading.Thread:
    """Stand between two roles like a slow line: what the target sends arrives in pieces, each after a pause."""

    def pump(source: socket.socket, sink: socket.socket, piece: int, pause: float) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                for at in range(0, len(data), piece):
                    time.sleep(pause if len(data) > 1 << 15 else 0)
                    sink.sendall(data[at : at + piece])
            sink.shutdown(socket.SHUT_WR)

    def join(near: socket.socket) -> None:
        with near, reach(target) as far:
            back = threading.Thread(target=pump, args=(far, near, 1 << 17, delay))
            back.start()
            pump(near, far, 1 << 20, 0)
            back.join()

    def reach(port: int, patience: float = 10.0) -> socket.socket:
        """Connect to a role that may not listen yet."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port))
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def serve() -> None:
        with server:
            joined = [threading.Thread(target=join, args=(server.accept()[0],)) for _ in range(2)]
            for thread in joined:
                thread.start()
        for thread in joined:
            thread.join()

    server = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_tensor_on_a_slow_line_is_not_mistaken_for_waiting_for_each_other(net: Net) -> None:
    size = 1 << 17
    config = net.config(timeout=2)
    real = free_ports(1)[0]
    alice = net.config(timeout=2, listen=f"127.0.0.1:{real}")

    def send(transport: Tcp) -> None:
        transport.exchange([Parcel("alice", "bob", torch.zeros(size, dtype=torch.int64))], [])
        transport.receive(Parcel("bob", "alice", torch.zeros(1, dtype=torch.int64)))

    def take(transport: Tcp) -> None:
        transport.receive(Parcel("alice", "bob", torch.zeros(size, dtype=torch.int64)))
        transport.send(Parcel("bob", "alice", torch.zeros(1, dtype=torch.int64)))

    thread = relay(net.ports["alice"], real, 0.45)
    configs = {"alice": alice, "bob": config, "crypto-producer": config}
    results = net.run({"alice": send, "bob": take, "crypto-producer": idle}, configs)
    thread.join()

    assert results == dict.fromkeys(ALL)


# --- aborts ----------------------------------------------------------------------------------------------------------


def test_an_abort_gives_its_reason_to_everybody(net: Net) -> None:
    def refuse(transport: Tcp) -> None:
        raise NetworkError("the policy\x1b[31m says no")

    results = net.run({"alice": swap, "bob": refuse, "crypto-producer": idle})

    for role in ("alice", "crypto-producer"):
        assert type(results[role]) is PeerAborted
        assert str(results[role]) == "bob stopped: the policy [31m says no"


def test_an_abort_reaches_a_producer_that_runs_ahead(net: Net) -> None:
    def produce(transport: Tcp) -> None:
        while True:
            transport.send(Parcel("crypto-producer", "alice", torch.zeros(1 << 14, dtype=torch.int64)))

    def refuse(transport: Tcp) -> None:
        time.sleep(0.5)
        raise ValueError("no")

    results = net.run({"alice": refuse, "bob": swap, "crypto-producer": produce}, net.config(outbox_bytes=1 << 20))

    assert str(results["crypto-producer"]) == str(results["bob"]) == "alice stopped: no"


def test_the_third_role_hears_who_stopped_first(net: Net) -> None:
    def stop(transport: Tcp) -> None:
        time.sleep(0.3)
        raise ValueError("enough")

    def wait_for_bob(transport: Tcp) -> None:
        transport.receive(Parcel("bob", "crypto-producer", torch.zeros(1, dtype=torch.int64)))

    results = net.run({"alice": stop, "bob": swap, "crypto-producer": wait_for_bob})

    assert str(results["bob"]) == str(results["crypto-producer"]) == "alice stopped: enough"


@pytest.mark.parametrize(("size", "said"), [(1000, ["bob stopped: enough"]), (200_000, ["bob stopped", "bob (127"])])
def test_an_abort_is_found_behind_unread_tensors(net: Net, size: int, said: list[str]) -> None:
    def send_and_stop(transport: Tcp) -> None:
        transport.send(Parcel("bob", "alice", torch.zeros(size, dtype=torch.int64)))
        time.sleep(0.2)
        raise ValueError("enough")

    def wait_for_producer(transport: Tcp) -> None:
        transport.receive(Parcel("crypto-producer", "alice", torch.zeros(1, dtype=torch.int64)))

    def compute(transport: Tcp) -> None:
        time.sleep(3)

    results = net.run({"alice": wait_for_producer, "bob": send_and_stop, "crypto-producer": compute})

    assert str(results["alice"]).startswith(tuple(said))


def test_abort_and_close_may_be_called_again(net: Net) -> None:
    def twice(transport: Tcp) -> None:
        transport.abort("one")
        transport.abort("two")
        transport.close()

    results = net.run({"alice": twice, "bob": swap, "crypto-producer": idle})

    assert str(results["bob"]) == "alice stopped: one"


# --- death and silence, in processes ----------------------------------------------------------------------------------

LOOP = """
def loop():
    connected()
    one, two = torch.zeros(10, dtype=torch.int64), torch.zeros(10, dtype=torch.int64)
    print("connected", flush=True)
    while True:
        transcript.record("open (10,)")
        if role == "crypto-producer":
            for party in ("alice", "bob"):
                transport.send(Parcel(role, party, torch.zeros(100, dtype=torch.int64)))
        else:
            peer = "bob" if role == "alice" else "alice"
            transport.receive(Parcel("crypto-producer", role, torch.zeros(100, dtype=torch.int64)))
            transport.exchange([Parcel(role, peer, one)], [Parcel(peer, role, two)])
connected, body = body, loop
"""


def start_all(net: Net, **settings: object) -> dict[str, subprocess.Popen[str]]:
    literal = net.literal(**settings)
    processes = {role: net.spawn(role, LOOP, literal) for role in ALL}
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
    return processes


@pytest.mark.parametrize("victim", ["bob", "crypto-producer"])
def test_a_killed_role_is_named_by_all_others(net: Net, victim: str) -> None:
    processes = start_all(net)

    time.sleep(0.3)
    began = time.monotonic()
    processes[victim].kill()

    for role in set(ALL) - {victim}:
        out, err = processes[role].communicate(timeout=30)
        assert out.startswith(f"PeerLost: {victim} (127.0.0.1:"), out + err
        assert "`open (10,)`" in out
        assert err == ""
    assert time.monotonic() - began < 10


@pytest.mark.timed
def test_a_stopped_process_is_named_by_all_others_within_the_timeout(net: Net) -> None:
    processes = start_all(net, timeout=2)

    time.sleep(0.3)
    began = time.monotonic()
    os.kill(processes["bob"].pid, signal.SIGSTOP)

    for role in ("alice", "crypto-producer"):
        out, err = processes[role].communicate(timeout=30)
        assert out.startswith("PeerStalled: bob (127.0.0.1:"), out + err
        assert "no sign of life for 2 s" in out
        assert err == ""
    assert time.monotonic() - began < 8


def test_ctrl_c_ends_a_role_and_its_peers(net: Net) -> None:
    processes = start_all(net)

    time.sleep(0.3)
    processes["alice"].send_signal(signal.SIGINT)

    _, err = processes["alice"].communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    for role in ("bob", "crypto-producer"):
        out, _ = processes[role].communicate(timeout=30)
        stopped, torn = "PeerAborted: alice stopped: its program ended in the middle", "PeerLost: alice (127.0.0.1:"
        assert out.startswith((stopped, torn)), out


FORK = """
import os
connect_first = body
def body():
    connect_first()
    if role != "crypto-producer":
        child = os.fork()
        if not child:
            sys.exit(0)
        os.waitpid(child, 0)
        peer = "bob" if role == "alice" else "alice"
        into = torch.zeros(3, dtype=torch.int64)
        transport.exchange([Parcel(role, peer, torch.arange(3))], [Parcel(peer, role, into)])
        print(into.tolist())
"""


def test_a_forked_child_that_ends_does_not_disturb_its_parent(net: Net) -> None:
    literal = net.literal()
    processes = {role: net.spawn(role, FORK, literal) for role in ALL}

    said = {role: process.communicate(timeout=60) for role, process in processes.items()}

    assert said == {"alice": ("[0, 1, 2]\n", ""), "bob": ("[0, 1, 2]\n", ""), "crypto-producer": ("", "")}


def test_every_failure_is_an_error_of_tacit() -> None:
    assert all(issubclass(kind, TacitError) for kind in (PeerLost, PeerStalled, PeerAborted, DivergenceError))
