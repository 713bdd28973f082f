"""Random oblivious transfers, with both ends in one process: what the sender has and the receiver got fit together."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tacit.errors import ConfigError, TacitError
from tacit.net.in_process import InProcess
from tacit.net.transport import Parcel
from tacit.protocols.two_party.transfers import Choice, Digits, Pair, Planes, Tables, Transfers, Words
from tacit.protocols.two_party.transfers import transfers as of_transfers
from tacit.protocols.two_party.transfers import ways as of_ways
from tacit.protocols.two_party.transfers.kernels import SHORT, Reference, at_hand
from tacit.protocols.two_party.transfers.transfers import MOST
from tacit.protocols.two_party.transfers.ways import GROUP, LARGEST, PREPARED, SMALLEST
from tacit.ring import kernels
from tacit.session.config import Config
from tacit.session.session import Session

from .apart import apart

PARTIES = ("alice", "bob")
COUNTS = [1, 7, 64, 1000, 1025, SMALLEST + 1]


class Recorder(InProcess):
    """A transport that writes down what travels."""

    def __init__(self, roles: tuple[str, ...]) -> None:
        super().__init__(roles)
        self.sent: list[Parcel] = []

    def send(self, parcel: Parcel) -> None:
        self.sent.append(parcel._replace(tensor=parcel.tensor.clone()))
        super().send(parcel)


def embedded() -> Session:
    config = Config.embedded(PARTIES)
    return Session(Recorder(config.roles), config)


@pytest.fixture
def session() -> Iterator[Session]:
    with embedded() as opened:
        yield opened


@pytest.fixture
def transfers(session: Session) -> Transfers:
    return Transfers(session)


def split(entries: list[Pair | Choice | Tables], sender: int) -> tuple[Pair | Tables, Choice]:
    """The sender's entry and the receiver's."""
    has, got = entries[sender], entries[1 - sender]
    assert isinstance(got, Choice)
    assert not isinstance(has, Choice)
    return has, got


def check_words(transfers: Transfers, sender: int, count: int) -> tuple[Pair, Choice]:
    return fit_words(transfers.words(sender, count), sender, count)


def fit_words(entries: list[Words], sender: int, count: int) -> tuple[Pair, Choice]:
    has, got = split(entries, sender)
    assert isinstance(has, Pair)
    assert [t.dtype for t in (*has, *got)] == [torch.int64, torch.int64, torch.uint8, torch.int64]
    assert all(t.shape == (count,) for t in (*has, *got))
    assert torch.equal(got.pad, torch.where(got.choice == 1, has.one, has.zero))
    assert not (got.pad == torch.where(got.choice == 1, has.zero, has.one)).any()
    assert not (got.choice > 1).any()
    return has, got


def unpacked(planes: Tensor, count: int) -> Tensor:
    return torch.stack([kernels.on(p).unpack_bits(p, count) for p in planes])


def check_bits(transfers: Transfers, sender: int, count: int, width: int) -> None:
    fit_bits(transfers.bits(sender, count, width), sender, count, width)


def fit_bits(entries: list[Planes], sender: int, count: int, width: int) -> None:
    has, got = split(entries, sender)
    assert isinstance(has, Pair)
    size = (count + 7) // 8
    assert [t.shape for t in (*has, *got)] == [(width, size), (width, size), (size,), (width, size)]
    zero, one, pad = (unpacked(t, count) for t in (*has, got.pad))
    assert torch.equal(pad, torch.where(unpacked(got.choice[None], count) == 1, one, zero))


def check_digits(transfers: Transfers, sender: int, count: int, tables: int) -> tuple[Tables, Choice]:
    return fit_digits(transfers.digits(sender, count, tables), sender, count, tables)


def fit_digits(entries: list[Digits], sender: int, count: int, tables: int) -> tuple[Tables, Choice]:
    has, got = split(entries, sender)
    assert isinstance(has, Tables)
    assert [t.dtype for t in (*has, *got)] == [torch.int32, torch.uint8, torch.uint8]
    assert [t.shape for t in (*has, *got)] == [(tables, count), (count,), (tables, count)]
    assert torch.equal(got.pad, (has.pads >> 2 * got.choice & 3).to(torch.uint8))
    assert not (got.choice > 15).any()
    return has, got


def assert_uniform(values: Tensor, bits: int) -> None:
    """Each bit is one as often as not: seven standard deviations."""
    values = values.reshape(-1)
    for bit in range(bits):
        ones = int((values >> bit & 1).sum())
        assert abs(2 * ones - values.numel()) < 7 * values.numel() ** 0.5 + 1


# --- what fits together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", [0, 1])
def test_every_kind_of_transfer_fits_together(transfers: Transfers, sender: int) -> None:
    for count in COUNTS:
        check_words(transfers, sender, count)
        check_bits(transfers, sender, count, 1 + count % 8)
        check_digits(transfers, sender, count, 1 + count % 3)
    check_digits(transfers, sender, 100, 150)


def test_threads_share_the_work(transfers: Transfers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    check_words(transfers, 0, GROUP + 77)
    check_bits(transfers, 1, GROUP + 77, 2)
    check_digits(transfers, 1, GROUP // 4 + 77, 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_inference_mode_may_come_and_go(transfers: Transfers, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    for inference in (True, False, True, False):
        with torch.inference_mode(inference):
            check_words(transfers, 0, 5000)
            check_bits(transfers, 1, GROUP, 1)
            check_digits(transfers, 1, GROUP // 4, 1)


def test_machines_without_native_kernels_make_the_same(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (of_transfers, of_ways):
        monkeypatch.setattr(module, "at_hand", Reference)
    transfers = Transfers(session)

    check_words(transfers, 0, 1000)
    check_bits(transfers, 1, 1000, 3)
    check_digits(transfers, 0, 1000, 2)


def test_half_as_much_is_sent_in_the_short_form(session: Session) -> None:
    transfers = Transfers(session, SHORT)

    check_words(transfers, 0, 3000)
    check_digits(transfers, 1, 3000, 2)
    before = session.meter.cost
    check_words(transfers, 0, GROUP)

    assert (session.meter.cost - before).prepared["bob"] == 15 * GROUP // 8


def test_orders_of_both_directions_are_filled_together(transfers: Transfers, session: Session) -> None:
    for counts in ((5, 700), (2 * GROUP + 99, 3 * GROUP), (0, GROUP), (0, 0), (100, GROUP + 1)):
        words = [transfers.order_words(sender, count) for sender, count in enumerate(counts)]
        bits = [transfers.order_bits(sender, count, 2) for sender, count in enumerate(counts)]
        digits = [transfers.order_digits(sender, count // 4, 2) for sender, count in enumerate(counts)]
        transfers.make([*words, *bits, *digits])

        for sender, count in enumerate(counts):
            fit_words(words[sender].entries, sender, count)
            fit_bits(bits[sender].entries, sender, count, 2)
            fit_digits(digits[sender].entries, sender, count // 4, 2)
    with pytest.raises(ValueError, match="filled once"):
        transfers.make(words)


def test_directions_may_alternate(transfers: Transfers) -> None:
    for count in COUNTS:
        for sender in (0, 1, 0):
            check_words(transfers, sender, count)


def test_none_are_made_of_none(transfers: Transfers, session: Session) -> None:
    check_words(transfers, 0, 0)
    check_bits(transfers, 0, 0, 3)
    check_digits(transfers, 1, 0, 2)
    transfers.prepare(0, 0)

    assert not sum(session.meter.cost.prepared.values())


def test_a_million_fit_together(transfers: Transfers) -> None:
    check_words(transfers, 1, 10**6)
    check_bits(transfers, 0, 10**6, 2)
    check_digits(transfers, 0, 10**5, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_million_fit_together(transfers: Transfers) -> None:
    for sender in (0, 1):
        for _ in range(3):
            check_words(transfers, sender, 10**7)
            check_bits(transfers, sender, 10**7, 8)
        check_digits(transfers, sender, 10**6, 3)


def test_blocks_differ_by_delta_where_the_choice_is_one(transfers: Transfers) -> None:
    for sender in (0, 1):
        for count in (5, 3000, 20_000):
            raws = transfers._ways.take(sender, count)
            has, got = raws[sender], raws[1 - sender]
            delta = torch.frombuffer(bytearray(has.delta), dtype=torch.int64)
            assert torch.equal(has.blocks ^ got.blocks, got.choice.to(torch.int64)[:, None] * delta)


def test_all_sixteen_messages_are_chosen_and_had(transfers: Transfers) -> None:
    has, got = check_digits(transfers, 0, 20_000, 2)

    assert set(got.choice.tolist()) == set(range(16))
    for j in range(16):  # whichever was chosen, the others say nothing of it: each agrees one time in four
        other = (has.pads >> 2 * j & 3).to(torch.uint8) == got.pad
        share = float(other[:, got.choice != j].double().mean())
        assert 0.22 < share < 0.28


# --- once, and nothing about it ---------------------------------------------------------------------------------------


def test_nothing_is_handed_out_twice(transfers: Transfers) -> None:
    blocks = [transfers._ways.take(0, count)[end].blocks for count in (1, 100, 9000, 30_000, 100) for end in (0, 1)]
    words = [t for count in (1, 1000, 50_000, 7) for t in check_words(transfers, 0, count)[0]]
    digits = [
        check_digits(transfers, sender, 4000, 16)[0].pads.T.contiguous().view(torch.int64) for sender in (0, 1, 0)
    ]

    for end in (0, 1):
        mine = torch.cat(blocks[end::2])
        assert len(torch.unique(mine, dim=0)) == len(mine)
    assert len(torch.unique(torch.cat(words))) == sum(map(len, words))
    assert len(torch.unique(torch.cat(digits), dim=0)) == 3 * 4000


def test_what_is_had_and_got_is_uniform(transfers: Transfers) -> None:
    has, got = check_words(transfers, 1, 20_000)
    tables, choice = check_digits(transfers, 1, 20_000, 2)

    for words in (*has, got.pad, has.zero ^ has.one):
        assert_uniform(words, 64)
    assert_uniform(got.choice, 1)
    assert_uniform(tables.pads, 32)
    assert_uniform(choice.choice, 4)


def test_what_travels_is_uniform(transfers: Transfers, session: Session) -> None:
    transfers.words(0, 20_000)
    transport = session.transport
    assert isinstance(transport, Recorder)

    extension = [p.tensor for p in transport.sent if p.tensor.shape[1:] == (31, 256)]
    assert extension
    for sent in extension:
        assert_uniform(sent, 8)
        assert len(torch.unique(sent[..., :16].reshape(-1, 16).view(torch.int64), dim=0)) == 31 * len(sent)
    answers = [p.tensor[-4096:] for p in transport.sent if p.tensor.numel() == 2 * 128 * 1088 + 4096]
    assert len(answers) == 2
    for sums in answers:
        assert_uniform(sums, 8)


def test_the_caller_may_write_to_what_it_has(transfers: Transfers) -> None:
    for out in (*transfers.words(0, 100), *transfers.bits(0, 100, 2), *transfers.digits(0, 100, 2)):
        for t in out:
            t.fill_(1)

    check_words(transfers, 0, 100)
    check_digits(transfers, 0, 100, 1)


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_first_use_and_all_of_it_is_counted(session: Session) -> None:
    transfers = Transfers(session)
    assert not sum(session.transport.wire_bytes.values())

    transfers.words(0, 10)
    transfers.digits(1, 50_000, 1)
    transfers.bits(0, 3 * SMALLEST, 1)

    cost, transport = session.meter.cost, session.transport
    assert isinstance(transport, Recorder)
    travelled = {name: sum(p.tensor.nbytes for p in transport.sent if p.source == name) for name in PARTIES}
    assert (cost.rounds, cost.online, cost.prepared) == (0, {"alice": 0, "bob": 0}, travelled)


def test_31_bits_travel_for_a_transfer(transfers: Transfers, session: Session) -> None:
    transfers.prepare(100, 100)
    before = session.meter.cost

    transfers.words(0, LARGEST)

    sent = (session.meter.cost - before).prepared
    assert sent["alice"] <= 31 * SMALLEST
    assert sent["bob"] <= 31 * (LARGEST + SMALLEST) // 8


def test_both_directions_are_prepared_in_one_exchange(transfers: Transfers, session: Session) -> None:
    transport = session.transport
    assert isinstance(transport, Recorder)
    transfers.prepare(20_000, 30_000)
    prepared = len(transport.sent)

    check_words(transfers, 0, 20_000)
    check_words(transfers, 1, 30_000)
    transfers.prepare(0, 0)

    assert len(transport.sent) == prepared == 2 + 2 + 2


def test_no_hint_fills_the_memory(transfers: Transfers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PREPARED <= 1 << 22
    monkeypatch.setattr(of_ways, "PREPARED", 1 << 16)

    transfers.prepare(10**9, 10**10)

    assert [transfers._ways.left(sender) for sender in (0, 1)] == [1 << 16] * 2
    check_words(transfers, 0, 5000)


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(6))
def test_after_an_interrupt_nothing_is_handed_out_that_does_not_fit(
    after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded() as session:
        transfers = Transfers(session)
        check_words(transfers, 0, 100)
        calls = iter(range(100))

        def interrupted(kernel: Any) -> Any:
            def call(*operands: Any) -> None:
                if next(calls) == after:
                    raise KeyboardInterrupt
                kernel(*operands)

            return call

        kernels_in_use = at_hand()
        for name in ("words", "bits"):
            monkeypatch.setattr(kernels_in_use, name, interrupted(getattr(kernels_in_use, name)), raising=False)
        with pytest.raises(KeyboardInterrupt):
            (transfers.words(0, 2 * GROUP), transfers.bits(1, 1000, 2))
        monkeypatch.undo()

        for ask in (lambda: transfers.words(0, 1), lambda: transfers.digits(1, 1, 1), lambda: transfers.prepare(1, 1)):
            with pytest.raises(TacitError, match="begin a new session"):
                ask()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [-1, MOST + 1, 1 << 70])
def test_no_more_is_made_than_anybody_can_hold(transfers: Transfers, count: int) -> None:
    for ask in (
        lambda: transfers.words(0, count),
        lambda: transfers.bits(0, count, 1),
        lambda: transfers.digits(0, count, 1),
        lambda: transfers.prepare(0, count),
        lambda: transfers.prepare(count, 0),
    ):
        with pytest.raises(ValueError, match="transfers are made in one call"):
            ask()
    with pytest.raises(ValueError, match="entries are made in one call"):
        transfers.digits(0, MOST // 8, 9)


def test_what_makes_no_sense_is_refused(transfers: Transfers) -> None:
    with pytest.raises(ValueError, match="party 0 or party 1"):
        transfers.words(2, 1)
    for width in (0, 9, -1):
        with pytest.raises(ValueError, match="1 to 8 bits"):
            transfers.bits(0, 1, width)
    for tables in (0, -1):
        with pytest.raises(ValueError, match="entries"):
            transfers.digits(0, 1, tables)


def test_three_parties_are_refused() -> None:
    config = Config.embedded(("alice", "bob", "carol"))
    with Session(InProcess(config.roles), config) as session, pytest.raises(ConfigError, match="between two parties"):
        Transfers(session)


def test_transfers_end_with_their_session_and_cannot_be_copied() -> None:
    with embedded() as session:
        transfers = Transfers(session)
        transfers.words(0, 5)
    with pytest.raises(TacitError, match="ended"):
        transfers.words(0, 5)
    with pytest.raises(TypeError, match="twice"):
        copy.copy(transfers)
    assert "hidden" in repr(transfers)


def test_choices_are_not_pythons_randomness(transfers: Transfers) -> None:
    torch.manual_seed(1)
    one = check_words(transfers, 0, 100)[1].choice
    with embedded() as session:
        torch.manual_seed(1)
        other = check_words(Transfers(session), 0, 100)[1].choice

    assert not torch.equal(one, other)


def test_each_party_alone_has_its_end_only() -> None:
    def play(session: Session, index: int) -> list[Any]:
        transfers = Transfers(session)
        outs = [transfers.words(0, 3000), transfers.words(1, 2 * GROUP), transfers.digits(0, 1000, 2)]
        assert all(len(entries) == 1 for entries in outs)
        assert isinstance(outs[0][0], Choice) is bool(index)
        return [entries[0] for entries in outs]

    alice, bob = apart(play)

    for pair, choice in ((alice[0], bob[0]), (bob[1], alice[1])):
        assert torch.equal(choice.pad, torch.where(choice.choice == 1, pair.one, pair.zero))
    assert torch.equal(bob[2].pad, (alice[2].pads >> 2 * bob[2].choice & 3).to(torch.uint8))
