"""Ctrl-C in the middle of a primitive, where both ends of a session are in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import tacit
from tacit.errors import TacitError
from tacit.protocols.matching import Match
from tacit.protocols.schemes import matcher_of
from tacit.protocols.series import Harmonics, Polynomial

from .world import World

Primitive = Callable[[World], object]


def _numbers(w: World) -> Any:
    return w.share(torch.randn(3000))


PRIMITIVES: dict[str, Primitive] = {
    "product": lambda w: w.protocol.multiply(_numbers(w), _numbers(w)),
    "matrices": lambda w: w.protocol.bilinear(w.share(torch.randn(4, 5)), w.share(torch.randn(5, 6)), torch.matmul),
    "truncation": lambda w: _numbers(w).rescaled(32).settle(16),
    "scaling": lambda w: w.protocol.scale(_numbers(w), 0.3),
    "comparison": lambda w: w.protocol.less(_numbers(w), [0]),
    "series": lambda w: w.protocol.harmonics(_numbers(w), Harmonics(32, sine=(1.0,))),
    "polynomial": lambda w: w.protocol.polynomials(_numbers(w), [Polynomial(64, (1.0, 2.0, 1.0))]),
    "reveal": lambda w: w.protocol.reveal(_numbers(w), w.parties),
}


def interrupted(world: World, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int) -> None:
    """Let a method be broken off at one of its calls, after it has done what it does."""
    whole, calls = getattr(owner, name), 0

    def one(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        done = whole(*args, **kwargs)
        if calls == at:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(owner, name, one)


@pytest.mark.parametrize("scheme", ["additive", "two-party"])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_what_breaks_off_in_the_middle_ends_the_use_of_a_session(
    scheme: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(2, scheme)
    before, primitive = _numbers(world), PRIMITIVES[name]
    primitive(world)  # keys are there
    place = "stream" if name in ("truncation", "reveal") else "exchange"
    owner = world.session if place == "stream" else world.session.transport

    with monkeypatch.context() as patch:
        interrupted(world, patch, owner, place, 1)
        with pytest.raises(KeyboardInterrupt):
            primitive(world)

    for what in (lambda: world.protocol.reveal(before, world.parties), lambda: primitive(world)):
        with pytest.raises(TacitError, match="begin a new session"):
            what()


def matched(world: World, reveal: str, how: str) -> Match:
    first, second = world.parties
    digests = torch.arange(12).view(6, 2)
    tables = {first: digests[:4], second: digests[2:]}
    return matcher_of(world.protocol).match([first, second], [4, 4], tables, left=how == "left", reveal=reveal)


STEPS: dict[str, Callable[[Match], object]] = {
    "told": lambda match: match.told(),
    "picked from the first": lambda match: match.picked("party0", torch.arange(8).view(4, 2), 2, 16),
    "picked from the second": lambda match: match.picked("party1", torch.arange(8).view(4, 2), 2, 16),
    "weight": lambda match: match.weight(16),
    "presence": lambda match: match.presence("party1", 16),
}
MATCHES = [
    *(("additive", *rest) for rest in (("members", "inner", ["told"]), ("size", "left", ["picked from the second"]))),
    ("additive", "nothing", "inner", ["picked from the first", "picked from the second", "weight"]),
    ("two-party", "members", "inner", ["told"]),
    ("two-party", "nothing", "inner", ["picked from the first", "picked from the second", "weight"]),
    ("two-party", "size", "left", ["presence"]),
]


@pytest.mark.parametrize(("scheme", "reveal", "how", "steps"), MATCHES, ids=str)
def test_matches_that_break_off_end_the_use_of_a_session(
    scheme: str, reveal: str, how: str, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a producer at each message; without one at some, for a session of theirs takes long to begin."""
    for name in ["match", *steps]:
        broken, at = 0, 1
        while True:
            world = World(2, scheme)
            before = _numbers(world)
            match = None if name == "match" else matched(world, reveal, how)
            with monkeypatch.context() as patch:
                interrupted(world, patch, world.session.transport, "exchange", at)
                try:
                    matched(world, reveal, how) if match is None else STEPS[name](match)
                    break
                except KeyboardInterrupt:
                    broken += 1
            with pytest.raises(TacitError, match="begin a new session"):
                world.protocol.reveal(before, world.parties)
            if scheme == "two-party":
                break
            at += 1

        assert broken, name


def test_masks_that_are_dealt_for_what_lacks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with tacit.session() as session:
        x, y = tacit.share(torch.randn(50), owner="alice"), tacit.share(torch.randn(50), owner="bob")
        short, whole = x * y, tacit.share(torch.randn(50), owner="alice")
        with monkeypatch.context() as patch:
            interrupted(World(2, "plain"), patch, short._protocol._source, "withheld", 1)
            with pytest.raises(KeyboardInterrupt):
                short.share.content.parts()

        with pytest.raises(TacitError, match="broke off in the middle"):
            tacit.reveal(whole)
        assert session.steps


def test_the_lattice_broken_off_between_its_hops(monkeypatch: pytest.MonkeyPatch) -> None:
    with tacit.session(protocol="two-party") as session:
        x, y = tacit.share(torch.randn(50, 40), owner="alice"), tacit.share(torch.randn(40, 3), owner="bob")
        with monkeypatch.context() as patch:
            interrupted(World(2, "plain"), patch, session.transport, "exchange", 2)
            with pytest.raises(KeyboardInterrupt):
                x @ y

        with pytest.raises(TacitError, match="broke off in the middle"):
            tacit.reveal(x)


@pytest.mark.parametrize("scheme", ["additive", "two-party", "plain"])
def test_what_is_refused_leaves_a_session_as_it_was(scheme: str) -> None:
    world = World(2, scheme)
    x = _numbers(world)
    for refused in (
        lambda: world.protocol.polynomials(x, [Polynomial(2, (0.0, 2.0**31))]),
        lambda: world.protocol.harmonics(x, Harmonics(3, sine=(1.0,))),
    ):
        with pytest.raises(ValueError, match=r"reaches|a period of 3"):
            refused()

    assert world.protocol.reveal(x, world.parties) is not None


@pytest.mark.parametrize("scheme", ["additive", "two-party"])
def test_operands_that_do_not_fit_leave_a_session_as_it_was(scheme: str) -> None:
    with tacit.session(protocol=scheme):
        x = torch.randn(3, 4)
        secret = tacit.share(x, owner="alice")
        for wrong in (lambda: secret @ secret, lambda: secret * secret.t(), lambda: secret.view(5), lambda: secret[7]):
            with pytest.raises((RuntimeError, IndexError)):
                wrong()

        assert torch.allclose(tacit.reveal(secret), x, atol=1e-4)
