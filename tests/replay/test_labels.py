"""Class labels in a compiled step: their owner checks them, spreads them into rows, and shares these at each call."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.replay.test_boundary import run as run_looking
from tests.replay.test_boundary import secret, use
from tests.replay.test_compile import Program, check
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.errors import DataError
from tacit.net.in_process import InProcess
from tacit.replay import tape
from tacit.session.session import Session

BATCH, FEATURES, CLASSES, CALLS = 4, 3, 5, 9


@pytest.fixture(autouse=True)
def same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions draw alike, so that shares can be compared."""
    monkeypatch.setattr(
        InProcess, "pair_key", lambda _, a, b: hashlib.sha256("|".join(sorted((a, b))).encode()).digest()
    )


def table(owner: str = "bob", dtype: torch.dtype = torch.int64, calls: int = CALLS) -> tuple[Tensor, Tensor]:
    """Rows, and their labels."""
    x = tacit.share(torch.randn(calls * BATCH, FEATURES), owner="alice")
    return x, tacit.share(torch.randint(CLASSES, (len(x),)).to(dtype), owner=owner)


def training(loss: Callable[[Tensor, Tensor], Tensor], make: Callable[[], tuple[Tensor, Tensor]] = table) -> Program:
    """A program that trains by a loss of scores and labels."""

    def program(compiler: Any, session: Session) -> list[Tensor]:
        x, y = make()
        model = tacit.share(nn.Linear(FEATURES, CLASSES), owner="alice")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        @compiler
        def step(x: Tensor, y: Tensor) -> Tensor:
            optimizer.zero_grad()
            found = loss(model(x), y)
            found.backward()
            optimizer.step()
            return found.detach()

        losses = [step(x[k : k + BATCH], y[k : k + BATCH]) for k in range(0, len(x), BATCH)]
        return [*model.parameters(), *losses]

    return program


@pytest.mark.parametrize(
    "parties",
    [("alice", "bob"), pytest.param(("alice", "bob", "carol"), marks=pytest.mark.slow)],
    ids=["two", "three"],
)
@pytest.mark.parametrize("owner", ["alice", "bob"])
@pytest.mark.parametrize("native", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["native", "by-calls"])
def test_training_by_labels_is_bit_for_bit_the_same(
    parties: tuple[str, ...], owner: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tape, "NATIVE", native)

    check(training(F.cross_entropy, lambda: table(owner, calls=4 + 3 * len(parties))), replayed=4, parties=parties)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: F.cross_entropy(x, y, reduction="sum"),
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
        lambda x, y: F.cross_entropy(x, y, ignore_index=2),
        lambda x, y: F.nll_loss(F.log_softmax(x, 1), y),
        lambda x, y: F.cross_entropy(x.reshape(2, 2, CLASSES), F.one_hot(y, CLASSES).reshape(2, 2, CLASSES).float()),
        lambda x, y: F.cross_entropy(x.reshape(2, CLASSES, 2), y.view(2, 2)),
        lambda x, y: (x * F.one_hot(y, CLASSES)).mean(),
        lambda x, y: F.cross_entropy(x, y.long()),
    ],
    ids=["sum", "smoothing", "ignored class", "nll", "rows", "plane", "one-hot", "long"],
)
def test_losses_of_labels_are_replayed(loss: Any) -> None:
    check(training(loss), replayed=4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_labels_of_several_types_are_replayed(dtype: torch.dtype) -> None:
    check(training(F.cross_entropy, lambda: table(dtype=dtype)), replayed=4)


@pytest.mark.slow
def test_embeddings_of_what_a_party_owns_are_replayed() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        _, words = table("alice")
        _, y = table("bob")
        model = tacit.share(nn.Sequential(nn.Embedding(CLASSES, FEATURES), nn.Linear(FEATURES, CLASSES)), owner="bob")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        @compiler
        def step(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

        for k in range(0, len(y), BATCH):
            step(words[k : k + BATCH], y[k : k + BATCH])
        return list(model.parameters())

    check(program, replayed=4)


@pytest.mark.slow
def test_labels_that_are_ignored_are_so_in_a_replay() -> None:
    """How many these are is another number in each batch; in some, all are."""

    def make() -> tuple[Tensor, Tensor]:
        x, _ = table()
        y = torch.randint(-3, CLASSES, (len(x),)).clamp(min=-1)
        y[-BATCH:] = y[4 * BATCH : 5 * BATCH] = -1
        return x, tacit.share(torch.where(y < 0, -100, y), owner="bob")

    check(training(F.cross_entropy, make), replayed=4)


@pytest.mark.slow
def test_the_same_labels_again_are_spread_again() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        x, y = table()
        model = tacit.share(nn.Linear(FEATURES, CLASSES), owner="alice")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        @compiler
        def step(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

        losses = []
        for k in range(8):
            step(x, y)
            if k == 5:  # an evaluation by the same labels, which spreads them itself
                with torch.no_grad():
                    losses.append(F.cross_entropy(model(x), y))
        return [*model.parameters(), *losses]

    check(program, replayed=3)


@pytest.mark.slow
def test_labels_that_a_step_reads_are_spread_at_each_call() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        x, y = table()
        model = tacit.share(nn.Linear(FEATURES, CLASSES), owner="alice")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        y = y[:BATCH].clone()

        @compiler
        def step(x: Tensor) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

        for k in range(0, len(x), BATCH):
            step(x[k : k + BATCH])
        return list(model.parameters())

    check(program, replayed=4)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["settings", "labels' owner", "number of classes", "training"])
def test_a_change_of_a_step_by_labels_counts(change: str) -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        x, y = table()
        other = tacit.share(torch.randint(CLASSES, (len(x),)), owner="alice")
        model = nn.Sequential(nn.Linear(FEATURES, 4), nn.ReLU(), nn.Linear(4, CLASSES))
        model = tacit.share(model, owner="alice")
        loss = nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        @compiler
        def step(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

        for k in range(12):
            at = slice(k % CALLS * BATCH, k % CALLS * BATCH + BATCH)
            if k == 6 and change == "settings":
                loss.ignore_index = 1
            if k == 6 and change == "labels' owner":
                y = other
            if k == 6 and change == "number of classes":
                model[2] = tacit.share(nn.Linear(4, CLASSES + 1), owner="alice")
                optimizer.param_groups[0]["params"][2:] = list(model[2].parameters())
            if k == 6 and change == "training":
                model[0].weight.requires_grad_(False)
            step(x[at], y[at])
        return [p.detach() for p in model.parameters()]

    check(program, replayed=5, quiet=False)


# --- labels that are none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [CLASSES, -1, 1 << 40])
def test_a_label_that_is_none_is_refused_as_without_a_replay(bad: int) -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        y = torch.randint(CLASSES, (CALLS * BATCH,))
        wrong = 6 * BATCH + 2
        x, y = tacit.share(torch.randn(len(y), FEATURES), owner="alice"), y.index_fill(0, torch.tensor([wrong]), bad)
        y = tacit.share(y, owner="bob")
        model = tacit.share(nn.Linear(FEATURES, CLASSES), owner="alice")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        @compiler
        def step(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

        for k in range(CALLS):
            at = slice(k * BATCH, (k + 1) * BATCH)
            if k == 6:
                with pytest.raises(DataError, match=f"at index 2 that is none of 0 to {CLASSES - 1}"):
                    step(x[at], y[at])
                assert model.weight.grad is None
            else:
                step(x[at], y[at])
        return [p.detach() for p in model.parameters()]

    check(program, replayed=4)


PROGRAM = """
import sys, torch, tacit
from torch import nn
from torch.nn import functional as F

with tacit.session() as session:
    alice, bob = session.parties
    plain = nn.Linear(5, 3)
    x, y = torch.randn(320, 5), torch.randint(-1, 3, (320,))
    y = torch.where(y < 0, -100, y)
    y[int(sys.argv[2]) :] = int(sys.argv[3])
    model = tacit.share(plain, owner=alice)
    rows, labels = tacit.share(x, owner=alice), tacit.share(y, owner=session.parties[int(sys.argv[1])])
    mine, other = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, plain)]

    def train(model, optimizer, x, y):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    step = tacit.compile(lambda x, y: train(model, mine, x, y), strict=True)
    for k in range(0, 320, 16):
        print(session.role, "at", k, step.replayed, flush=True)
        step(rows[k : k + 16], labels[k : k + 16])
        train(plain, other, x[k : k + 16], y[k : k + 16])
    found = tacit.reveal(model.weight.detach(), to="all")
    assert step.replayed > 12, step.why_not
    assert (found - plain.weight).abs().max() < 1e-3
    print(session.role, "has replayed")
"""


def run(folder: Path, owner: int, where: int, label: int) -> subprocess.CompletedProcess[str]:
    """Run it by all roles, with all labels from a place on as given."""
    script = folder / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-m", "tacit", "local", str(script), str(owner), str(where), str(label)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("owner", [0, 1])
def test_every_role_replays_steps_by_labels(tmp_path: Path, owner: int) -> None:
    done = run(tmp_path, owner, 320, 0)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("has replayed") == 3


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "where"), [(0, 0), (1, 200), (0, 200)])
def test_every_role_refuses_a_label_that_is_none(tmp_path: Path, owner: int, where: int) -> None:
    done = run(tmp_path, owner, where, 3)

    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "has replayed" not in said
    assert "that is none of 0 to 2, nor -100" in said
    replayed = [int(n) for n in re.findall(r"at \d+ (\d+)", done.stdout)]
    assert max(replayed) >= 8 if where else max(replayed) == 0


# --- masks ------------------------------------------------------------------------------------------------------------


def by_labels(compiler: Any) -> None:
    weight = nn.Parameter(secret("alice"))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    @compiler
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    x, y = secret("bob", 36, 4), tacit.share(torch.randint(4, (36,)), owner="bob")
    same = tacit.share(torch.randint(4, (4,)), owner="alice")
    for k in range(9):
        rows, labels = x[4 * k : 4 * k + 4], y[4 * k : 4 * k + 4] if k % 2 else same
        loss = step(rows, labels)
        use(loss, rows, labels.float() - 1, F.one_hot(labels, 4).float() * 0.5, weight.grad)


@pytest.mark.parametrize("replays", [True, False])
def test_rows_of_labels_are_masked_anew(monkeypatch: pytest.MonkeyPatch, replays: bool) -> None:
    seen, replayed = run_looking(monkeypatch, by_labels, replays=replays)

    assert bool(replayed) == replays
    assert not seen.suspicious()
