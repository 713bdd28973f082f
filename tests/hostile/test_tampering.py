"""Whatever a role sends in place of what it should, the others end with a result or with one of Tacit's errors.

A result may be wrong: roles that deviate can make it so. But nothing crashes, hangs, or takes memory without bound.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.api.running import _activate
from tacit.errors import TacitError
from tacit.session.config import Config
from tacit.session.session import Session

from .tampering import Tampering

SEED = int(os.environ.get("TACIT_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
SECONDS = float(os.environ.get("TACIT_FUZZ_SECONDS", "20"))
SCHEMES = {
    "two parties": ("alice", "bob"),
    "a producer": ("alice", "bob", "crypto-producer"),
    "three parties": ("alice", "bob", "carol", "crypto-producer"),
}


def owned(*shape: int, owner: str = "alice") -> Tensor:
    return tacit.share(torch.randn(*shape), owner=owner, shape=shape)


def both(*shape: int) -> Tensor:
    """What two parties have a part of."""
    return owned(*shape) + owned(*shape, owner="bob")


def arithmetic(folder: Path) -> None:
    x, y = both(4, 5), both(4, 5)
    tacit.reveal((x * y).sum() + (x / (y * y + 1)).mean())


def many_products(folder: Path) -> None:
    x, y = both(3000), both(3000)
    tacit.reveal((x * y)[:5])


def matrices(folder: Path) -> None:
    x, w = both(6, 7), both(7, 5)
    w @ w.t()
    tacit.reveal(x @ w)
    tacit.reveal((x @ w) * 0.5, to="bob")


def whole_numbers(folder: Path) -> None:
    x = tacit.share(torch.arange(20).view(4, 5), owner="alice", shape=(4, 5), dtype=torch.int64)
    y = tacit.share(torch.arange(20).view(5, 4), owner="bob", shape=(5, 4), dtype=torch.int64)
    tacit.reveal(x @ y)


def comparisons(folder: Path) -> None:
    x, y = both(40), both(40)
    tacit.reveal(torch.where(x > y, x, y.relu()).max())
    tacit.reveal(x.argmax())


def orders(folder: Path) -> None:
    x = both(9)
    tacit.reveal(x.sort().values)
    tacit.reveal(x.topk(3).values)


def series(folder: Path) -> None:
    x = both(30)
    tacit.reveal(torch.sigmoid(x) + torch.tanh(x) + torch.exp(x.clamp(-2, 2)))
    tacit.reveal(torch.softmax(x.view(3, 10), 1).log().sum())


def convolutions(folder: Path) -> None:
    x, w = both(2, 1, 8, 8), both(2, 1, 3, 3)
    y = nn.functional.conv2d(x, w, padding=1)
    tacit.reveal(nn.functional.max_pool2d(y, 2).mean())


def training(folder: Path) -> None:
    x, y = both(8, 3), tacit.share((torch.rand(8, 1) > 0.5).float(), owner="bob", shape=(8, 1))
    net = tacit.share(nn.Linear(3, 1), owner="alice")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()
    tacit.reveal(net.weight)


def kept(folder: Path) -> None:
    x = both(6)
    tacit.save({"x": x, "bits": x > 0}, folder / "kept")
    again = tacit.load(folder / "kept")
    tacit.reveal(again["x"] * again["bits"])


def ahead(folder: Path) -> None:
    x = both(30)
    tacit.reveal(x.relu().sum())
    tacit.api.active_protocol().session.prepare_ahead(2)
    tacit.reveal(x.abs().sum())


PROGRAMS: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        arithmetic, many_products, matrices, whole_numbers, comparisons, orders, series, convolutions, training, kept,
        ahead,
    )
}  # fmt: skip

PATIENCE = 30.0
"""Seconds for a program, on a machine that does other things, too."""


@contextmanager
def hostile(roles: tuple[str, ...], draws: random.Random, rate: float) -> Iterator[Tampering]:
    transport = Tampering(roles, draws, rate)
    session = _activate(Session(transport, Config.embedded(roles=roles)))
    try:
        yield transport
    finally:
        session.end(TacitError("it is over"))


def tried(scheme: str, name: str, seed: object, folder: Path) -> int:
    """Run a program of which a role sends something else; return how many messages were spoilt."""
    draws = random.Random(f"{seed} {scheme} {name}")
    torch.manual_seed(draws.randrange(1 << 32))
    rate, since = draws.choice((0.02, 0.1, 0.5, 1.0)), time.monotonic()
    with hostile(SCHEMES[scheme], draws, rate) as transport:
        try:
            PROGRAMS[name](folder)
        except TacitError:
            pass
        except BaseException as error:
            raise AssertionError(f"{name}, {scheme}, {seed}: {type(error).__name__}: {error}") from error
    assert time.monotonic() - since < PATIENCE, f"{name}, {scheme}, {seed}"
    return transport.spoilt


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_roles_send_is_refused_or_ends_in_a_result(scheme: str, name: str, tmp_path: Path) -> None:
    tried(scheme, name, SEED, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_much_of_what_roles_send_is_refused_or_ends_in_a_result(scheme: str, tmp_path: Path) -> None:
    began, done, spoilt = time.monotonic(), 0, 0
    while time.monotonic() - began < SECONDS:
        name = list(PROGRAMS)[done % len(PROGRAMS)]
        spoilt += tried(scheme, name, f"{SEED} {done}", tmp_path / str(done))
        done += 1
    assert spoilt > done > 5
