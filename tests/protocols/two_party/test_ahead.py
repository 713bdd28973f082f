"""Transfers made before they are asked for: both ends agree on them, hand them out once, and have only so many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import tacit
from tacit.errors import ConfigError, TacitError
from tacit.net.in_process import InProcess
from tacit.protocols.two_party.transfers import Choice, Pair, Transfers
from tacit.protocols.two_party.transfers import transfers as of_transfers
from tacit.protocols.two_party.transfers.ahead import Ahead
from tacit.protocols.two_party.transfers.ways import GROUP
from tacit.session.config import Config
from tacit.session.session import Session

from .apart import apart
from .test_transfers import fit_bits, fit_digits, fit_words


@pytest.fixture
def session() -> Iterator[Session]:
    config = Config.embedded(("alice", "bob"))
    with Session(InProcess(config.roles), config) as opened:
        yield opened


def asked(transfers: Transfers) -> list[torch.Tensor]:
    """A step: orders of every kind, which fit together; the words that it has."""
    words = [transfers.order_words(sender, count) for sender, count in ((0, 100), (1, 9), (0, 100))]
    bits, digits = transfers.order_bits(1, 64, 3), transfers.order_digits(0, 50, 2)
    transfers.make([*words, bits, digits])
    for order in words:
        fit_words(order.entries, order.sender, order.count)
    fit_bits(bits.entries, 1, 64, 3)
    fit_digits(digits.entries, 0, 50, 2)
    return [t for order in words for entry in order.entries if isinstance(entry, Pair) for t in entry]


def prepared(session: Session) -> int:
    return sum(session.meter.cost.prepared.values())


def test_a_step_is_made_ahead_so_many_times_and_used_once(session: Session) -> None:
    transfers = Transfers(session)
    seen = asked(transfers)

    assert not transfers.work_ahead(2)
    before, seconds = prepared(session), session.meter.cost.ahead_seconds
    for _ in range(2):
        seen += asked(transfers)
    assert (prepared(session), session.meter.cost.ahead_seconds) == (before, seconds)
    seen += asked(transfers)

    assert session.meter.cost.ahead_seconds > seconds
    everything = torch.cat(seen)
    assert len(everything.unique()) == len(everything)


def test_other_orders_are_made_when_they_are_asked_for(session: Session) -> None:
    transfers = Transfers(session)
    asked(transfers)
    transfers.work_ahead(1)

    for sender, count in ((0, 101), (1, 100), (0, 100), (0, 0)):
        fit_words(transfers.words(sender, count), sender, count)
    fit_bits(transfers.bits(1, 64, 2), 1, 64, 2)
    fit_digits(transfers.digits(0, 50, 3), 0, 50, 3)


def test_work_is_done_in_pieces_as_small_as_wanted(session: Session) -> None:
    transfers = Transfers(session)
    fit_words(transfers.words(0, 2 * GROUP + 5), 0, 2 * GROUP + 5)

    pieces = 0
    while transfers.work_ahead(1, most=1):
        transfers._ways.take(pieces % 2, 1000)  # something else comes in between
        pieces += 1
        assert pieces < 100

    assert pieces >= 2
    before = prepared(session)
    fit_words(transfers.words(0, 2 * GROUP + 5), 0, 2 * GROUP + 5)
    assert prepared(session) == before


def test_there_is_only_so_much_room(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_transfers, "Ahead", lambda: Ahead(room=40_000))
    transfers = Transfers(session)
    transfers.words(0, 1000)  # 16,000 bytes at the sender

    transfers.work_ahead(50)
    assert (transfers._ahead.size, transfers._ahead.waiting) == (32_000, 2)
    transfers.words(0, 1000)
    assert (transfers._ahead.size, transfers._ahead.waiting) == (16_000, 1)
    transfers.words(1, 2000)
    transfers.words(1, 100)
    transfers.work_ahead(1)  # the step took one of each; what is too large is made when it is asked for

    assert (transfers._ahead.size, transfers._ahead.waiting) == (17_600, 2)


def test_what_a_step_no_longer_takes_is_let_go_of(session: Session) -> None:
    transfers = Transfers(session)
    transfers.words(0, 1000)
    transfers.work_ahead(3)
    transfers.words(1, 10)

    transfers.work_ahead(1)

    assert (transfers._ahead.size, transfers._ahead.waiting) == (160, 1)
    transfers.work_ahead(2)  # nothing was asked for: the step is the one before
    assert transfers._ahead.waiting == 2


def test_both_parties_apart_are_in_step() -> None:
    def body(session: Session, index: int) -> list[tuple[object, ...]]:
        transfers = Transfers(session)
        out = []
        for _ in range(3):
            out += [transfers.words(s, 500)[0] for s in (0, 1)] + transfers.digits(0, 40, 1) + transfers.bits(1, 16, 2)
            transfers.work_ahead(2, most=700)
        return out

    for sender, (mine, its) in zip((0, 1, 0, 1) * 3, zip(*apart(body), strict=True), strict=True):
        has, got = (mine, its) if sender == 0 else (its, mine)
        assert isinstance(got, Choice)
        if isinstance(has, Pair) and has.zero.dtype == torch.int64:
            assert torch.equal(got.pad, torch.where(got.choice == 1, has.one, has.zero))


def test_what_was_made_in_inference_mode_may_be_written_to_later(session: Session) -> None:
    transfers = Transfers(session)
    transfers.words(0, 100)
    with torch.inference_mode():
        transfers.work_ahead(1)

    for entry in transfers.words(0, 100):
        for t in entry:
            t.fill_(1)


def test_after_an_interrupt_there_is_no_more(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    transfers = Transfers(session)
    asked(transfers)

    def interrupted(*operands: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfers._ways, "take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transfers.work_ahead(1)

    for ask in (lambda: transfers.work_ahead(1), lambda: transfers.words(0, 1)):
        with pytest.raises(TacitError, match="begin a new session"):
            ask()


# --- as a program sees it ---------------------------------------------------------------------------------------------


def test_a_program_may_work_ahead_by_any_scheme() -> None:
    results = []
    for arguments in ({"roles": ["alice", "bob"]}, {}, {"protocol": "plain"}):
        with tacit.session(**arguments) as session:
            x = tacit.share(torch.linspace(-2, 2, 24), owner="alice") + tacit.share(torch.ones(24), owner="bob")
            (x + 0).relu()
            assert session.prepare_ahead(2) is False
            before = session.meter.cost
            results.append(tacit.reveal((x + 0).relu(), to="all"))
            spent = session.meter.cost - before
            assert not any(spent.prepared.values())
            for wrong in ((0,), (-1,), (1.5,), (True,), (1, 0), (1, 2.0)):
                with pytest.raises(ConfigError, match="one step or more"):
                    session.prepare_ahead(*wrong)
        with pytest.raises(TacitError, match="ended"):
            session.prepare_ahead()

    for result in results:
        assert torch.equal(result, (torch.linspace(-2, 2, 24) + 1).relu()) or (result - results[1]).abs().max() < 1e-4
