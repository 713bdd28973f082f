"""Gradients that add up over the calls of a compiled step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.replay.test_boundary import run as run_looking
from tests.replay.test_boundary import secret, use
from tests.replay.test_compile import Program, batches, check, data, network
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import tacit
from tacit.net.in_process import InProcess
from tacit.replay import tape
from tacit.session.session import Session

BATCH = 4


@pytest.fixture(autouse=True)
def same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions draw alike, so that shares can be compared."""
    monkeypatch.setattr(
        InProcess, "pair_key", lambda _, a, b: hashlib.sha256("|".join(sorted((a, b))).encode()).digest()
    )


def adding(between: Callable[[int, nn.Module, Any], Any], *, to_none: bool | None = None, calls: int = 16) -> Program:
    """A program whose step adds to gradients; `to_none` says how it drops them first, if it does."""

    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def plain(x: Tensor, y: Tensor) -> None:
            binary_cross_entropy_with_logits(model(x), y).backward()

        def zeroing(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad(set_to_none=False)
            binary_cross_entropy_with_logits(model(x), y).backward()
            optimizer.step()

        step = compiler(plain if to_none is None else zeroing)
        kept: list[Tensor] = []
        x, y = data(calls * BATCH)
        for k, (batch, target) in enumerate(batches(x, y)):
            step(batch, target)
            kept += between(k, model, optimizer) or []
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        return [*model.parameters(), *gradients, *kept]

    return program


def nothing(k: int, model: nn.Module, optimizer: Any) -> None:
    """Gradients add up for good."""


def every_second(k: int, model: nn.Module, optimizer: Any) -> None:
    """An optimizer steps after each second call, and drops them."""
    if k % 2:
        optimizer.step()
        optimizer.zero_grad()


def zeros(k: int, model: nn.Module, optimizer: Any) -> None:
    """It sets them to zero instead."""
    if k % 2:
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def looking(k: int, model: nn.Module, optimizer: Any) -> list[Tensor]:
    """They are used between the calls, and parts and copies of them are kept."""
    g = model[0].weight.grad
    return [] if k % 3 else [g.clone(), g * g, g[0] + 1, g.detach()[1:]]


def clipping(k: int, model: nn.Module, optimizer: Any) -> None:
    """Their norm is bounded, by which they are opened."""
    if k % 2:
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)


def turning(k: int, model: nn.Module, optimizer: Any) -> None:
    """They are others, or other objects, than the call has left."""
    if k % 4 == 1:
        model[0].weight.grad.neg_()
    if k % 2:
        model[2].weight.grad = model[2].weight.grad.clone()


@pytest.mark.parametrize(
    ("between", "replayed"),
    [
        (nothing, 8),
        *(pytest.param(f, n, marks=pytest.mark.slow) for f, n in [(every_second, 6), (zeros, 4), (looking, 4)]),
        *(pytest.param(f, n, marks=pytest.mark.slow) for f, n in [(clipping, 4), (turning, 2)]),
    ],
)
@pytest.mark.parametrize("native", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["native", "by-calls"])
def test_gradients_that_add_up_are_bit_for_bit_the_same(
    between: Any, replayed: int, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tape, "NATIVE", native)

    check(adding(between), replayed=replayed)


@pytest.mark.slow
def test_gradients_that_are_set_to_zero_in_a_step_are_replayed() -> None:
    check(adding(nothing, to_none=False), replayed=6)


@pytest.mark.slow
def test_gradients_of_three_parties_add_up() -> None:
    check(adding(every_second, calls=24), replayed=6, parties=("alice", "bob", "carol"))


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["frozen", "in one place"])
def test_gradients_that_are_parts_or_of_what_is_frozen_are_those_of_a_plain_run(kept: str) -> None:
    def change(k: int, model: nn.Module, optimizer: Any) -> None:
        if k == 8 and kept == "frozen":
            model[0].weight.requires_grad_(False)
        if k == 8 and kept == "in one place":
            both = torch.zeros(6) * tacit.share(torch.ones(6), owner="alice")
            model[0].bias.grad, model[2].weight.grad = both[:3], both[3:].view(1, 3)

    check(adding(change), replayed=2, quiet=False)


# --- masks ------------------------------------------------------------------------------------------------------------


def sums(compiler: Any) -> None:
    one, other = nn.Parameter(secret("alice")), nn.Parameter(secret("alice"))

    @compiler
    def step(z: Tensor, y: Tensor) -> None:
        out = (one + other) * z - y
        (out.square().mean() + other.square().mean()).backward()

    z, y = secret("alice"), secret("bob")
    before: list[Tensor] = []
    for k in range(14):
        step(z, y)
        use(one.grad, other.grad, one.grad - other.grad, *(one.grad - g for g in before))
        before = [one.grad.clone(), other.grad.detach()[:2].clone()] if k % 2 else []
        before = [g for g in before if g.shape == one.grad.shape]
        if k % 4 == 3:
            one.grad = other.grad = None


@pytest.mark.parametrize("replays", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_sums_of_gradients_are_masked_anew(monkeypatch: pytest.MonkeyPatch, replays: bool) -> None:
    seen, replayed = run_looking(monkeypatch, sums, replays=replays)

    assert bool(replayed) == replays
    assert not seen.suspicious()
