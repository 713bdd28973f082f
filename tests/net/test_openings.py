"""Three parties compare what they open: one that tells two others two things is found out before it is revealed."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from tacit.errors import TacitError, UnequalOpenings
from tacit.net.tcp import Tcp
from tacit.net.transcript import Transcript
from tacit.net.transport import Parcel
from tacit.protocols.schemes import protocol_of
from tacit.session.launch import Launch, connect
from tacit.session.session import Session

from .conftest import Net

ROLES = ("alice", "bob", "carol", "crypto-producer")
X = torch.arange(40).view(4, 10)


def play(session: Session, role: str) -> torch.Tensor | None:
    """A product of two owners' numbers, times itself, and its reveal to all parties."""
    protocol = protocol_of(session)
    session.transcript.record("share")
    x = protocol.share(X if role == "carol" else None, "carol", X.shape, 0)
    session.transcript.record("product")
    y = protocol.multiply(x, protocol.share(X if role == "alice" else None, "alice", X.shape, 0))
    session.transcript.record("square")
    z = protocol.multiply(y, y)
    session.transcript.record("reveal")
    return protocol.reveal(z, session.parties)


def together(net: Net, monkeypatch: pytest.MonkeyPatch, lie_at: int | None) -> dict[str, Any]:
    """What each role ends with, where carol's tensor number `lie_at` to bob is not the one that alice gets."""
    config = net.config(ROLES)
    told = {"carol to bob": 0}
    real = Tcp.exchange

    def exchange(self: Tcp, sends: list[Parcel], receives: list[Parcel]) -> None:
        changed = []
        for parcel in sends:
            if (parcel.source, parcel.destination) == ("carol", "bob"):
                if told["carol to bob"] == lie_at:
                    parcel = parcel._replace(tensor=parcel.tensor.clone().add_(1))
                told["carol to bob"] += 1
            changed.append(parcel)
        real(self, changed, receives)

    monkeypatch.setattr(Tcp, "exchange", exchange)
    results: dict[str, Any] = {}

    def run(role: str) -> None:
        session = Session(connect(Launch(config, role, ""), Transcript()), config)
        try:
            results[role] = play(session, role)
            session.close()
        except TacitError as error:
            results[role] = error
            session.end(error)

    threads = [threading.Thread(target=run, args=(role,)) for role in ROLES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_parties_that_are_told_the_same_reveal_what_it_is(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    results = together(net, monkeypatch, None)

    for role in ROLES[:3]:
        assert torch.equal(results[role], X**4), results[role]


@pytest.mark.parametrize(("lie_at", "operator"), [(0, "1, `share`"), (1, "3, `square`"), (2, "4, `reveal`")])
def test_a_party_that_tells_two_others_two_things_is_found_out(
    net: Net, monkeypatch: pytest.MonkeyPatch, lie_at: int, operator: str
) -> None:
    """Of an input, of an opening, and of a share of what is revealed to all."""
    results = together(net, monkeypatch, lie_at)

    for role in ("alice", "bob", "carol"):
        assert isinstance(results[role], TacitError), results[role]
    texts = [str(results[role]) for role in ("alice", "bob") if isinstance(results[role], UnequalOpenings)]
    assert texts, results
    assert all(f"after operator {operator}" in text and "two others two things" in text for text in texts), texts
