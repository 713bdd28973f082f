"""Tensors and messages over TCP with TLS, when nothing goes wrong."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from tacit.errors import DivergenceError
from tacit.net.framing import HEADER_BYTES
from tacit.net.tcp import ALIVE, Tcp
from tacit.net.transport import Parcel

from .conftest import Net

PARTIES = ("alice", "bob")


def idle(transport: Tcp) -> None:
    """What the crypto-producer does where a test has no use for it."""


def numbers(count: int, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + count, dtype=torch.int64)


@pytest.mark.parametrize("tls", [None, "insecure-plaintext"])
def test_exchange_swaps_tensors_of_every_size_at_once(net: Net, tls: str | None) -> None:
    sizes = [0, 1, 2047, 2048, 2049, 8192, 100_003, 1 << 23]

    def swap(transport: Tcp) -> bool:
        (role,) = transport.hosted
        peer = PARTIES[role == "alice"]
        mine, others = (0, 7) if role == "alice" else (7, 0)
        for size in sizes:
            received = torch.full((size,), -1, dtype=torch.int64)
            transport.exchange([Parcel(role, peer, numbers(size, mine))], [Parcel(peer, role, received)])
            assert torch.equal(received, numbers(size, others))
        return True

    settings = {} if tls is None else {"tls": tls}
    results = net.run({"alice": swap, "bob": swap, "crypto-producer": idle}, net.config(**settings))

    assert results == {"alice": True, "bob": True, "crypto-producer": None}


def test_exchange_among_three_parties_with_several_parcels_each_way(net: Net) -> None:
    parties = ("alice", "bob", "carol")

    def swap(transport: Tcp) -> bool:
        (role,) = transport.hosted
        me, peers = parties.index(role), [party for party in parties if party != role]
        for size in (3, 300_000):
            sends = [Parcel(role, peer, numbers(size, me * 10 + part)) for peer in peers for part in (0, 1)]
            arrivals = [torch.empty(size, dtype=torch.int64) for _ in range(4)]
            places = [(peer, part) for peer in peers for part in (0, 1)]
            receives = [Parcel(peer, role, into) for (peer, _), into in zip(places, arrivals, strict=True)]
            transport.exchange(sends, receives)
            for (peer, part), into in zip(places, arrivals, strict=True):
                assert torch.equal(into, numbers(size, parties.index(peer) * 10 + part))
        return True

    config = net.config((*parties, "crypto-producer"))
    results = net.run({**dict.fromkeys(parties, swap), "crypto-producer": idle}, config)

    assert all(results[party] is True for party in parties)


def test_tensors_of_any_integer_dtype_and_shape_arrive(net: Net) -> None:
    tensors = [torch.tensor(5), torch.ones(2, 3, dtype=torch.uint8), torch.zeros(0, 4, dtype=torch.int32)]

    def give(transport: Tcp) -> None:
        for tensor in tensors:
            transport.send(Parcel("alice", "bob", tensor))

    def take(transport: Tcp) -> bool:
        arrivals = [torch.full_like(tensor, 9) for tensor in tensors]
        for into in arrivals:
            transport.receive(Parcel("alice", "bob", into))
        return all(map(torch.equal, arrivals, tensors))

    results = net.run({"alice": give, "bob": take, "crypto-producer": idle})

    assert results["bob"] is True


def test_the_producer_runs_ahead_but_no_further_than_its_outbox(net: Net) -> None:
    block, blocks, bound = 1 << 18, 100, 1 << 21
    ahead = []

    def produce(transport: Tcp) -> None:
        for at in range(blocks):
            transport.send(Parcel("crypto-producer", "alice", torch.full((block // 8,), at)))
            ahead.append(transport._links["alice"].queued)

    def consume(transport: Tcp) -> list[int]:
        time.sleep(1)
        started = len(ahead)
        into, seen = torch.empty(block // 8, dtype=torch.int64), []
        for _ in range(blocks):
            transport.receive(Parcel("crypto-producer", "alice", into))
            seen.append(int(into[0]))
        return [started, *seen]

    results = net.run({"alice": consume, "bob": idle, "crypto-producer": produce}, net.config(outbox_bytes=bound))

    started, *seen = results["alice"]
    assert seen == list(range(blocks))
    assert bound // block <= started < blocks
    assert max(ahead) <= bound + block + HEADER_BYTES


def test_many_small_frames_keep_their_order_and_share_records(net: Net) -> None:
    count = 5000

    def produce(transport: Tcp) -> None:
        for at in range(count):
            transport.transcript.record("deal")
            transport.send(Parcel("crypto-producer", "bob", torch.tensor([at])))

    def consume(transport: Tcp) -> list[int]:
        seen, into = [], torch.empty(1, dtype=torch.int64)
        for _ in range(count):
            transport.transcript.record("deal")
            transport.receive(Parcel("crypto-producer", "bob", into))
            seen.append(int(into))
        return seen

    def follow(transport: Tcp) -> None:
        for _ in range(count):
            transport.transcript.record("deal")

    results = net.run({"alice": follow, "bob": consume, "crypto-producer": produce})

    assert results["bob"] == list(range(count))


def test_send_before_exchange_keeps_its_place_even_when_large_both_ways(net: Net) -> None:
    size = 1 << 21

    def both(transport: Tcp) -> bool:
        (role,) = transport.hosted
        peer = PARTIES[role == "alice"]
        first, second = torch.empty(size, dtype=torch.int64), torch.empty(4, dtype=torch.int64)
        transport.send(Parcel(role, peer, numbers(size)))
        transport.exchange([Parcel(role, peer, numbers(4))], [Parcel(peer, role, first), Parcel(peer, role, second)])
        return torch.equal(first, numbers(size)) and torch.equal(second, numbers(4))

    results = net.run({"alice": both, "bob": both, "crypto-producer": idle})

    assert results["alice"] is results["bob"] is True


@pytest.mark.parametrize("message", [b"", b"shape", bytes(3 << 20)])
def test_an_announcement_reaches_every_role(net: Net, message: bytes) -> None:
    def announce(transport: Tcp) -> bytes:
        return transport.announce("bob", message if transport.hosted == ("bob",) else None)

    results = net.run(dict.fromkeys(("alice", "bob", "crypto-producer"), announce))

    assert set(results.values()) == {message}


def test_nobody_waits_for_what_is_promised_before_asking_for_it_or_for_what_comes_after(net: Net) -> None:
    roles, order = ("alice", "bob", "crypto-producer"), threading.Barrier(2, timeout=20)

    def alice(transport: Tcp) -> bytes:
        transport.transcript.record("of alice")
        order.wait()  # bob has gone on before alice has said anything
        transport.promise("alice", b"first")
        transport.transcript.record("of bob")
        said = transport.promise("bob", None)
        tensor = torch.arange(5)
        transport.exchange([Parcel("alice", "bob", tensor)], [])
        return said()

    def bob(transport: Tcp) -> bytes:
        transport.transcript.record("of alice")
        said = transport.promise("alice", None)
        order.wait()
        transport.transcript.record("of bob")
        transport.promise("bob", b"second")
        tensor = torch.zeros(5, dtype=torch.int64)
        transport.exchange([], [Parcel("alice", "bob", tensor)])
        assert tensor.tolist() == list(range(5))
        return said() + said()

    def producer(transport: Tcp) -> bytes:
        transport.transcript.record("of alice")
        transport.promise("alice", None)  # never asked for
        transport.transcript.record("of bob")
        return transport.announce("bob", None)

    results = net.run(dict(zip(roles, (alice, bob, producer), strict=True)))

    assert results == {"alice": b"second", "bob": b"firstfirst", "crypto-producer": b"second"}


def test_a_promise_of_another_program_is_a_divergence(net: Net) -> None:
    def bob(transport: Tcp) -> None:
        transport.transcript.record("the one")
        transport.promise("bob", b"x")
        transport.announce("alice", None)

    def alice(transport: Tcp) -> None:
        transport.transcript.record("the other")
        said = transport.promise("bob", None)
        transport.transcript.record("what comes after")
        said()

    results = net.run({"alice": alice, "bob": bob, "crypto-producer": idle})

    assert isinstance(results["alice"], DivergenceError)


def test_an_announcement_that_no_frame_can_hold_is_refused_where_it_is_made(net: Net) -> None:
    def announce(transport: Tcp) -> None:
        with pytest.raises(ValueError, match="16777217 bytes is too long"):
            transport.announce("alice", bytes((1 << 24) + 1))

    results = net.run({"alice": announce, "bob": idle, "crypto-producer": idle})

    assert results["alice"] is None


def test_each_pair_has_a_key_of_its_own_that_is_new_in_every_run(net: Net) -> None:
    pairs = (("alice", "bob"), ("alice", "crypto-producer"), ("bob", "crypto-producer"))

    def keys(transport: Tcp) -> dict[tuple[str, str], bytes]:
        return {pair: transport.pair_key(*pair) for pair in pairs if transport.hosted[0] in pair}

    first, second = (net.run(dict.fromkeys(("alice", "bob", "crypto-producer"), keys)) for _ in range(2))

    for run in (first, second):
        assert all(run[one][one, other] == run[other][one, other] for one, other in pairs)
    drawn = {run[one][one, other] for run in (first, second) for one, other in pairs}
    assert len(drawn) == 6
    assert all(len(key) == 32 for key in drawn)


def test_a_role_has_no_key_of_others_and_none_with_itself(net: Net) -> None:
    def ask(transport: Tcp) -> None:
        for pair in (("bob", "crypto-producer"), ("alice", "alice")):
            with pytest.raises(ValueError, match="shares no key"):
                transport.pair_key(*pair)

    results = net.run({"alice": ask, "bob": idle, "crypto-producer": idle})

    assert results["alice"] is None


def test_wire_bytes_count_payload_and_framing(net: Net) -> None:
    def give(transport: Tcp) -> int:
        before = transport.wire_bytes["alice", "bob"]
        transport.exchange([Parcel("alice", "bob", numbers(100))], [])
        return transport.wire_bytes["alice", "bob"] - before

    def take(transport: Tcp) -> None:
        transport.receive(Parcel("alice", "bob", numbers(100)))

    results = net.run({"alice": give, "bob": take, "crypto-producer": idle})

    sign_of_life = HEADER_BYTES + ALIVE.size
    assert results["alice"] in (800 + HEADER_BYTES, 800 + HEADER_BYTES + sign_of_life)


def test_a_long_computation_is_not_mistaken_for_a_stall(net: Net) -> None:
    def slow(transport: Tcp) -> None:
        time.sleep(2.5)
        transport.exchange([Parcel("alice", "bob", numbers(3))], [])

    def wait(transport: Tcp) -> torch.Tensor:
        into = torch.empty(3, dtype=torch.int64)
        transport.receive(Parcel("alice", "bob", into))
        return into

    results = net.run({"alice": slow, "bob": wait, "crypto-producer": idle}, net.config(timeout=1))

    assert torch.equal(results["bob"], numbers(3))
