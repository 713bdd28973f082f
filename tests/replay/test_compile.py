"""`tacit.compile`: what is replayed is bit for bit what would have run, and what has changed is never overlooked."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, dropout

import tacit
from tacit.errors import TacitError
from tacit.net.in_process import InProcess
from tacit.replay import Compiled, tape
from tacit.session.session import Session

BATCH, FEATURES = 4, 3

Program = Callable[[Any, Session], list[Tensor]]


@pytest.fixture(autouse=True)
def same_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions draw alike, so that shares can be compared."""
    monkeypatch.setattr(
        InProcess, "pair_key", lambda _, a, b: hashlib.sha256("|".join(sorted((a, b))).encode()).digest()
    )


def left(program: Program, compiler: Any, parties: tuple[str, ...]) -> dict[str, Any]:
    """All that is left of a program: shares of every role, its transcript, and what it cost."""
    with tacit.session(seed=3, parties=parties) as session:
        torch.manual_seed(1)
        found = program(compiler, session)
        cost = session.meter.cost
        out: dict[str, Any] = {
            "transcript": session.transcript.count,
            "cost": (cost.rounds, cost.sent),
            "held": [[t.clone() for t in x.share.content.held] for x in found],
            "scales": [x.share.scale for x in found],
            "writes": [x.share.storage.version for x in found],
        }
        out["values"] = [tacit.reveal(x.detach()) for x in found]
        return out


def check(
    program: Program, *, replayed: int | None, parties: tuple[str, ...] = ("alice", "bob"), quiet: bool = True
) -> Any:
    """Run a program compiled with and without replays, and compare; at least so many calls were replayed, or none."""
    compiled: list[Compiled] = []

    def never(function: Callable[..., Any]) -> Compiled:
        out = tacit.compile(function)
        out._replays = False
        return out

    def compiler(function: Callable[..., Any]) -> Compiled:
        compiled.append(tacit.compile(function))
        return compiled[-1]

    with warnings.catch_warnings():
        warnings.simplefilter("error" if quiet else "ignore")
        plain = left(program, never, parties)
        fast = left(program, compiler, parties)

    for key in plain if replayed else ("cost", "scales", "writes"):
        assert same(plain[key], fast[key]), key
    for one, other in zip(plain["values"], fast["values"], strict=True):
        assert torch.allclose(one.float(), other.float(), atol=1e-2)
    count = sum(c.replayed for c in compiled)
    assert count == 0 if not replayed else count >= replayed, [c.why_not for c in compiled]
    return compiled[0]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def data(rows: int = 12 * BATCH) -> tuple[Tensor, Tensor]:
    x = tacit.share(torch.randn(rows, FEATURES), owner="alice")
    return x, tacit.share((torch.rand(rows, 1) > 0.5).float(), owner="bob")


def batches(x: Tensor, y: Tensor, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    return ((x[k : k + size], y[k : k + size]) for k in range(0, len(x) - size + 1, size))


def pairs(x: Tensor, y: Tensor) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    return enumerate(batches(x, y))


def trainer(model: nn.Module, optimizer: Any) -> Callable[[Tensor, Tensor], None]:
    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()

    return step


def network(*widths: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(FEATURES, (widths or (1,))[0])]
    for one, other in pairwise(widths):
        layers += [nn.ReLU(), nn.Linear(one, other)]
    return tacit.share(nn.Sequential(*layers), owner="bob")


# --- what is replayed is what would have run --------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(1,), pytest.param((5, 1), marks=pytest.mark.slow)], ids=["line", "network"])
@pytest.mark.parametrize(
    "parties",
    [("alice", "bob"), pytest.param(("alice", "bob", "carol"), marks=pytest.mark.slow)],
    ids=["two", "three"],
)
@pytest.mark.parametrize("native", [True, False], ids=["native", "by-calls"])
def test_training_and_predictions_are_bit_for_bit_the_same(
    widths: tuple[int, ...], parties: tuple[str, ...], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tape, "NATIVE", native)

    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(*widths)
        step = compiler(trainer(model, torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)))
        x, y = data()
        for batch, target in batches(x, y):
            step(batch, target)

        @compiler
        def predict(x: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                scores = model(x)
                return scores, scores > 0

        found = [predict(x[k : k + 2]) for k in range(8)]
        gradients = [p.grad for p in model.parameters()]
        return [*model.parameters(), *gradients, *(scores for scores, _ in found), *(choice for _, choice in found)]

    check(program, replayed=6, parties=parties)


@pytest.mark.slow
def test_batches_of_a_large_table_and_large_weights() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        x = tacit.share(torch.randn(10, 3400), owner="alice")  # from 2^15 elements on, shares are not written out
        model = tacit.share(nn.Linear(3400, 10), owner="bob")

        @compiler
        def predict(x: Tensor) -> Tensor:
            with torch.no_grad():
                return model(x)

        return [predict(x[k : k + 1]) for k in range(10)]

    check(program, replayed=3)


def test_convolutions_are_replayed() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = tacit.share(nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(75, 1)), owner="bob")
        step = compiler(trainer(model, torch.optim.SGD(model.parameters(), lr=0.1)))
        x = tacit.share(torch.randn(16, 2, 5, 5), owner="alice")
        y = tacit.share((torch.rand(16, 1) > 0.5).float(), owner="bob")
        for batch, target in batches(x, y, 2):
            step(batch, target)
        return list(model.parameters())

    check(program, replayed=3)


@pytest.mark.slow
def test_a_loss_that_is_returned_is_computed() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x, _ = data(7 * BATCH)
        y = tacit.share(torch.eye(3)[torch.randint(3, (7 * BATCH,))], owner="alice")

        @compiler
        def step(x: Tensor, y: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return [*model.parameters(), *(step(*pair) for _, pair in pairs(x, y))]

    check(program, replayed=2)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), marks=pytest.mark.slow),
        pytest.param(lambda p: torch.optim.Adam(p, lr=0.01), marks=pytest.mark.slow),
        pytest.param(lambda p: torch.optim.AdamW(p, lr=0.01), marks=pytest.mark.slow),
    ],
    ids=["momentum", "adam", "adamw"],
)
def test_an_optimizer_with_averages_steps_outside(make: Any) -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(1)
        optimizer = make(model.parameters())

        @compiler
        def gradients(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(model(x), y).backward()

        x, y = data(10 * BATCH)
        for batch, target in batches(x, y):
            gradients(batch, target)
            optimizer.step()
        return list(model.parameters())

    check(program, replayed=3, quiet=False)


@pytest.mark.slow
def test_a_session_goes_on_as_after_a_plain_step() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(1)
        step = compiler(trainer(model, torch.optim.SGD(model.parameters(), lr=0.1)))
        x, y = data()
        kept = []
        for k, (batch, target) in enumerate(batches(x, y)):
            step(batch, target)
            kept += [(batch @ batch.t()).sum(), model[0].weight.grad.clone()]
            if k == 7:
                kept.append(model(batch).detach())
        return [*model.parameters(), *kept]

    check(program, replayed=6)


# --- what has changed -------------------------------------------------------------------------------------------------


def changes(what: str) -> Program:
    """A program that changes something half way."""

    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(4, 1)
        weight, shift = 1.0, (2, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        @compiler
        def step(x: Tensor, y: Tensor, factor: float = 1.0) -> None:
            optimizer.zero_grad()
            scores = model(x) * weight * factor + shift[1]
            binary_cross_entropy_with_logits(scores, y).backward()
            optimizer.step()

        x, y = data(13 * BATCH)
        size, more = BATCH, ()
        with torch.no_grad():
            for k in range(12):
                batch, target = x[k * BATCH : k * BATCH + size], y[k * BATCH : k * BATCH + size]
                if k == 6:
                    if what == "rate":
                        optimizer.param_groups[0]["lr"] = 0.01
                    elif what == "rate of few bits":
                        optimizer.param_groups[0]["lr"] = 0.125
                    elif what == "no rate":
                        optimizer.param_groups[0]["lr"] = 0.0
                    elif what == "decay":
                        optimizer.param_groups[0]["weight_decay"] = 0.01
                    elif what == "frozen":
                        model[0].weight.requires_grad_(False)
                    elif what == "size":
                        size = BATCH + 1
                    elif what == "setting":
                        weight = 2.0
                    elif what == "deep setting":
                        shift = (2, 5)
                    elif what == "parameter in place":
                        model[0].weight.mul_(2)
                    elif what == "part of a parameter":
                        model[0].weight[0, 0] = 1
                    elif what == "parameter":
                        model[0].weight = nn.Parameter(model[0].weight.detach().clone())
                        optimizer.param_groups[0]["params"][0] = model[0].weight
                    elif what == "data of a parameter":
                        model[0].weight.data = model[0].weight.detach() * 3
                    elif what == "loaded":
                        model.load_state_dict({n: p.clone() * 2 for n, p in model.state_dict().items()})
                    elif what == "layer":
                        model[1] = nn.Tanh()
                    elif what == "argument":
                        more = (2.0,)
                    elif what == "hook":
                        model[0].register_forward_hook(lambda module, args, out: out * 2)
                    elif what == "gradient's hook":
                        model[0].weight.register_hook(lambda g: g * 2)
                    elif what == "learned more":
                        (model[0].weight > 0).float().sum().share.settle()
                    elif what == "data in place":
                        x.mul_(2)
                with torch.enable_grad():
                    step(batch, target, *more)
        return list(model.parameters())

    return program


CHANGES = (
    *(
        "rate",
        "rate of few bits",
        "no rate",
        "decay",
        "frozen",
        "size",
        "setting",
        "deep setting",
        "parameter in place",
    ),
    *("part of a parameter", "parameter", "data of a parameter", "loaded", "layer", "argument", "hook"),
    *("gradient's hook", "learned more", "data in place"),
)


@pytest.mark.slow
@pytest.mark.parametrize("what", CHANGES)
def test_a_change_between_steps_counts(what: str) -> None:
    check(changes(what), replayed=1, quiet=False)


@pytest.mark.slow
def test_a_change_is_told() -> None:
    with pytest.warns(UserWarning, match=r"param_groups.*decay.* has changed, which it reads, so it is recorded again"):
        left(changes("decay"), tacit.compile, ("alice", "bob"))


@pytest.mark.slow
def test_two_functions_take_turns() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        one, other = network(1), network(3, 1)
        steps = [compiler(trainer(m, torch.optim.SGD(m.parameters(), lr=0.1))) for m in (one, other)]
        same_model = compiler(trainer(one, torch.optim.SGD(one.parameters(), lr=0.5)))
        x, y = data()
        for batch, target in batches(x, y):
            for step in (*steps, same_model):
                step(batch, target)
        return [*one.parameters(), *other.parameters()]

    check(program, replayed=12)


@pytest.mark.slow
def test_one_argument_twice_is_not_two() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        multiply = compiler(lambda x, y: x * y + 1)
        x, _ = data(20)
        rows = [x[k] for k in range(16)]
        twice = [multiply(row, row) for row in rows[:5]]
        apart = [multiply(one, other) for one, other in pairwise(rows[5:11])]
        kept = [multiply(x[11], x[11]), multiply(x[12:13].view(-1), x[12])]
        return [*twice, *apart, *kept, *(multiply(row, row) for row in rows[13:])]

    check(program, replayed=3, quiet=False)


@pytest.mark.slow
def test_results_outlive_later_calls() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(4, 2)
        scale = compiler(lambda x: [model(x).detach() * 3, x.sum()])
        x, _ = data()
        return [y for k in range(8) for y in scale(x[k : k + 2])]

    check(program, replayed=4)


# --- what is not replayed ---------------------------------------------------------------------------------------------


def counting() -> Any:
    total = 0

    def step(x: Tensor) -> Tensor:
        nonlocal total
        total += 1
        return x * total

    return step


def appending() -> Any:
    found: list[Any] = []

    def step(x: Tensor) -> Tensor:
        found.append(x * 2)
        return found[-1] + 1

    return step


def printing(x: Tensor) -> Tensor:
    print("a step")
    return x * 2


def dropping(x: Tensor) -> Tensor:
    return dropout(x, 0.5) * 2


def revealing(x: Tensor) -> Tensor:
    return x * float(tacit.reveal(x.sum()))


def sharing(x: Tensor) -> Tensor:
    return x * tacit.share(torch.ones(1), owner="alice")


def writing(x: Tensor) -> Tensor:
    return x.mul_(2) + 1


def returning(x: Tensor) -> Tensor:
    return x


def extending(x: Tensor, kept: list[Tensor] | None = None) -> Tensor:
    if kept is not None:
        kept += [x * 2]
    return x * 3


def test_a_list_that_grows_is_not_replayed() -> None:
    with tacit.session():
        x, kept = tacit.share(torch.ones(3), owner="alice"), []
        step = tacit.compile(extending)
        with pytest.warns(UserWarning, match="changes a list"):
            step(x, kept)
        for _ in range(3):
            step(x, kept)

        assert len(kept) == 4


def shuffling(x: Tensor) -> Tensor:
    return x[torch.randperm(len(x))] * 2


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (counting, "Nonlocal"),
        (appending, "found"),
        (lambda: printing, "print"),
        (lambda: dropping, "is not among the functions"),
        (lambda: revealing, "tacit.reveal"),
        (lambda: sharing, "tacit.share"),
        (lambda: writing, "writes to an argument"),
        (lambda: returning, "returns what it was given"),
        (lambda: shuffling, "torch.randperm"),
    ],
    ids=["counter", "list", "print", "dropout", "reveal", "share", "in place", "argument", "shuffle"],
)
def test_what_no_replay_does_runs_as_it_is_written(make: Any, why: str) -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        step = compiler(make())
        x, _ = data(8)
        rows = [x[k] for k in range(8)]
        return [step(row) for row in [*rows, *rows]]

    compiled = check(program, replayed=None, quiet=False)

    assert why in compiled.why_not


@pytest.mark.slow
def test_a_schedule_inside_of_a_step_is_seen() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        plain = trainer(model, optimizer)

        def step(x: Tensor, y: Tensor) -> None:
            plain(x, y)
            schedule.step()

        step = compiler(step)
        x, y = data(16 * BATCH)
        for batch, target in batches(x, y):
            step(batch, target)
        return list(model.parameters())

    check(program, replayed=None, quiet=False)


@pytest.mark.slow
def test_a_step_by_gradients_from_outside_is_seen() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        update = compiler(lambda: optimizer.step())
        x, y = data()
        for batch, target in batches(x, y):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(model(batch), target).backward()
            update()
            update()
        return list(model.parameters())

    check(program, replayed=None, quiet=False)


@pytest.mark.parametrize(
    "how", [{"protocol": "plain"}, {"check": True}, {"range_check": True}, {"protocol": "two-party"}]
)
def test_other_sessions_run_a_step_as_it_is_written(how: dict[str, Any]) -> None:
    with tacit.session(**how):
        x = tacit.share(torch.ones(3), owner="alice")
        double = tacit.compile(lambda x: x * 2)
        with pytest.warns(UserWarning, match="it runs as it is written"):
            found = [double(x) for _ in range(5)]

        assert all(torch.equal(tacit.reveal(y), torch.full((3,), 2.0)) for y in found)
        assert double.replayed == 0


def test_plain_tensors_need_no_session() -> None:
    double = tacit.compile(lambda x: x * 2)

    with pytest.warns(UserWarning, match="an argument is a Tensor"):
        assert torch.equal(double(torch.ones(3)), torch.full((3,), 2.0))


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_outlive_later_calls() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(1)
        step = compiler(trainer(model, torch.optim.SGD(model.parameters(), lr=0.1)))
        x, y = data()
        gradients = []
        for batch, target in batches(x, y):
            step(batch, target)
            gradients.append(model[0].weight.grad)
        return gradients

    check(program, replayed=6)


def test_a_replay_that_breaks_off_ends_the_use_of_its_session() -> None:
    session = tacit.session()
    x, _ = data(8)
    model = network(1)
    predict = tacit.compile(lambda x: (model(x) > 0).detach())
    for k in range(5):
        predict(x[k])
    assert predict.replayed

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    for entry in predict._entries.values():
        entry.tape.calls.insert(len(entry.tape.calls) // 2, interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(x[6])

    with pytest.raises(TacitError, match="broke off in the middle"):
        x + 1
    with pytest.raises(TacitError):
        predict(x[7])
    session.end(KeyboardInterrupt())


def test_what_recording_replaces_is_put_back() -> None:
    from tacit.ring import _native, memory
    from tacit.ring.kernels import native
    from tacit.ring.prg import Stream

    before = dict(vars(Tensor)), Stream.bytes, memory.SINGLE, memory.HUGE_BYTES, native.memory

    with tacit.session() as session:
        x, _ = data(8)
        double = tacit.compile(lambda x: x * 2)
        for k in range(4):
            double(x[k])
        assert double.replayed
        with pytest.raises(RuntimeError):
            tacit.compile(lambda x: x @ x.t()[:1])(x[0])
        assert "exchange" not in vars(session.transport)

    assert (dict(vars(Tensor)), Stream.bytes, memory.SINGLE, memory.HUGE_BYTES, native.memory) == before
    assert native._native is _native


def test_only_functions_are_compiled() -> None:
    with pytest.raises(TypeError, match="takes a function"):
        tacit.compile(3)  # type: ignore[arg-type]
