"""All roles in one process."""

from __future__ import annotations

import pytest
import torch

from tacit.errors import DivergenceError
from tacit.net.framing import HEADER_BYTES
from tacit.net.in_process import InProcess
from tacit.net.transport import Parcel

ROLES = ("alice", "bob", "crypto-producer")


@pytest.fixture
def transport() -> InProcess:
    return InProcess(ROLES)


def test_exchange_swaps_tensors(transport: InProcess) -> None:
    one, two = torch.tensor([1, 2]), torch.tensor([3, 4])
    into_alice, into_bob = torch.empty_like(one), torch.empty_like(one)

    transport.exchange(
        [Parcel("alice", "bob", one), Parcel("bob", "alice", two)],
        [Parcel("alice", "bob", into_bob), Parcel("bob", "alice", into_alice)],
    )

    assert torch.equal(into_alice, two)
    assert torch.equal(into_bob, one)
    transport.close()


def test_an_exchanged_tensor_may_be_reused_before_it_is_received(transport: InProcess) -> None:
    sent, into = torch.tensor([1, 2]), torch.empty(2, dtype=torch.int64)

    transport.exchange([Parcel("alice", "bob", sent)], [])
    sent.zero_()
    transport.receive(Parcel("alice", "bob", into))

    assert into.tolist() == [1, 2]


def test_parcels_of_a_pair_keep_their_order(transport: InProcess) -> None:
    into = torch.empty(1, dtype=torch.int64)
    for at in range(3):
        transport.send(Parcel("crypto-producer", "bob", torch.tensor([at])))

    seen = []
    for _ in range(3):
        transport.receive(Parcel("crypto-producer", "bob", into))
        seen.append(int(into))

    assert seen == [0, 1, 2]


def test_the_same_bytes_may_be_received_in_another_shape_and_dtype(transport: InProcess) -> None:
    into = torch.empty(2, 4, dtype=torch.uint8)

    transport.send(Parcel("alice", "bob", torch.tensor([1])))
    transport.receive(Parcel("alice", "bob", into.view(8)))

    assert into.view(8).tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_what_was_handed_over_is_taken_without_a_copy(transport: InProcess) -> None:
    sent = torch.tensor([1, 2])

    transport.send(Parcel("crypto-producer", "bob", sent))
    taken = transport.take("crypto-producer", "bob", 16)

    assert taken.data_ptr() == sent.data_ptr()
    assert taken.dtype == torch.uint8
    with pytest.raises(DivergenceError, match="bob waits for crypto-producer"):
        transport.take("crypto-producer", "bob", 16)


def test_other_sizes_and_missing_or_forgotten_parcels_are_refused(transport: InProcess) -> None:
    transport.transcript.record("mul (3, 4)")
    with pytest.raises(DivergenceError, match=r"bob waits for alice in mul \(3, 4\), but alice has sent nothing"):
        transport.receive(Parcel("alice", "bob", torch.zeros(1)))

    transport.send(Parcel("alice", "bob", torch.zeros(3, dtype=torch.int64)))
    with pytest.raises(DivergenceError, match=r"expects 8 bytes from alice in .* has sent 24"):
        transport.receive(Parcel("alice", "bob", torch.zeros(1, dtype=torch.int64)))

    transport.send(Parcel("alice", "bob", torch.zeros(3)))
    with pytest.raises(DivergenceError, match="bob has not received 1 parcels"):
        transport.close()

    transport.abort("enough")
    transport.close()


def test_keys_and_announcements_and_wire_bytes(transport: InProcess) -> None:
    key = transport.pair_key("alice", "bob")

    assert key == transport.pair_key("bob", "alice")
    assert len(key) == 32
    assert key != transport.pair_key("alice", "crypto-producer")
    with pytest.raises(ValueError, match="two different roles"):
        transport.pair_key("alice", "alice")

    assert transport.announce("alice", b"four") == b"four"
    assert transport.wire_bytes["alice", "bob"] == HEADER_BYTES + 4
    with pytest.raises(ValueError, match="must be given"):
        transport.announce("alice", None)
