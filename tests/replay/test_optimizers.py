"""Steps of optimizers inside of a compiled step: averages, counters, and numbers that are others at each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn.functional import binary_cross_entropy_with_logits

import tacit
from tacit.replay import tape
from tacit.session.session import Session

from .test_compile import BATCH, batches, check, data, network, same_keys, trainer

__all__ = ["same_keys"]

Make = Callable[[Any], optim.Optimizer]


def kept(optimizer: optim.Optimizer) -> tuple[list[Tensor], list[float]]:
    """The averages of an optimizer, and what it has counted."""
    states = optimizer.state_dict()["state"].values()
    values = [x for state in states for x in state.values() if x is not None]
    secret = [x for x in values if isinstance(x, tacit.SecretTensor)]
    return secret, [float(x) for x in values if not isinstance(x, tacit.SecretTensor)]


def training(make: Make, *widths: int, rows: int = 9 * BATCH, between: Any = None) -> Any:
    """A program that trains, and tells what its optimizer has counted."""
    counts: list[list[float]] = []

    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(*widths or (1,))
        optimizer = make(model.parameters())
        step = compiler(trainer(model, optimizer))
        x, y = data(rows)
        for k, (batch, target) in enumerate(batches(x, y)):
            step(batch, target)
            if between is not None:
                between(k, optimizer)
        averages, counted = kept(optimizer)
        counts.append(counted)
        return [*model.parameters(), *averages]

    return program, counts


MOMENTUM: dict[str, Make] = {
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "dampening": lambda p: optim.SGD(p, lr=0.1, momentum=0.6, dampening=0.1, maximize=True),
}
ADAM: dict[str, Make] = {
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.01),
    "one by one": lambda p: optim.Adam(p, lr=0.01, foreach=False),
    "power of two": lambda p: optim.Adam(p, lr=0.125, betas=(0.0, 0.5)),
}


@pytest.mark.parametrize("how", [pytest.param(k, marks=[] if k == "momentum" else pytest.mark.slow) for k in MOMENTUM])
def test_momentum_is_kept_as_by_a_plain_step(how: str) -> None:
    program, _ = training(MOMENTUM[how], rows=9 * BATCH)

    check(program, replayed=2)


@pytest.mark.parametrize("how", [pytest.param(k, marks=[] if k == "adam" else pytest.mark.slow) for k in ADAM])
def test_averages_and_counters_go_on_as_by_a_plain_step(how: str) -> None:
    program, counts = training(ADAM[how], rows=9 * BATCH)

    check(program, replayed=2 if how != "power of two" else 1)

    assert counts[0] == counts[1]
    assert set(counts[0]) == {9.0}


@pytest.mark.slow
@pytest.mark.parametrize("make", [MOMENTUM["momentum"], ADAM["adam"]], ids=["momentum", "adam"])
def test_a_tape_does_the_same_call_by_call(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "NATIVE", False)
    program, _ = training(make, 5, 1)

    check(program, replayed=2)


@pytest.mark.slow
@pytest.mark.parametrize("make", [MOMENTUM["momentum"], ADAM["adam"]], ids=["momentum", "adam"])
def test_a_network_of_several_parameters(make: Make) -> None:
    program, counts = training(make, 5, 1, rows=12 * BATCH)

    check(program, replayed=4)

    assert counts[0] == counts[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda p: optim.SGD(p, lr=0.1), MOMENTUM["momentum"], ADAM["adam"]], ids=["sgd", "momentum", "adam"]
)
def test_a_rate_that_changes_each_step_is_followed(make: Make) -> None:
    def between(k: int, optimizer: optim.Optimizer) -> None:
        optimizer.param_groups[0]["lr"] *= 0.99

    program, _ = training(make, rows=16 * BATCH, between=between)

    check(program, replayed=4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.1), ADAM["adamw"]], ids=["sgd", "adamw"])
def test_a_schedule_outside_of_the_step(make: Make) -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(1)
        optimizer = make(model.parameters())
        schedule = optim.lr_scheduler.StepLR(optimizer, step_size=9, gamma=0.9)
        step = compiler(trainer(model, optimizer))
        x, y = data(18 * BATCH)
        for batch, target in batches(x, y):
            step(batch, target)
            assert optimizer._opt_called
            optimizer._opt_called = False
            schedule.step()
        return list(model.parameters())

    check(program, replayed=4, quiet=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["counter", "counter of one", "loaded", "written", "opened", "beta", "plain step", "gone"]
)
def test_what_is_done_to_an_optimizer_between_steps_counts(what: str) -> None:
    def between(k: int, optimizer: optim.Optimizer) -> None:
        states = list(optimizer.state.values())
        if k != 6:
            return
        if what == "counter":
            for state in states:
                state["step"].fill_(100.0)
        elif what == "counter of one":
            states[0]["step"].fill_(3.0)
        elif what == "loaded":
            optimizer.load_state_dict(optimizer.state_dict())
        elif what == "written":
            with torch.no_grad():
                states[0]["exp_avg"].mul_(2)
        elif what == "opened":
            (states[0]["exp_avg"] > 0).float().sum().share.settle()
            (states[1]["exp_avg_sq"] * states[1]["exp_avg"]).share.settle()
        elif what == "beta":
            optimizer.param_groups[0]["betas"] = (0.8, 0.99)
        elif what == "plain step":
            optimizer.step()
        elif what == "gone":
            optimizer.state.clear()

    program, counts = training(ADAM["adam"], rows=14 * BATCH, between=between)

    check(program, replayed=4, quiet=False)

    assert counts[0] == counts[1]


@pytest.mark.slow
def test_an_optimizer_that_steps_twice_in_a_step() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(1)
        model[0].weight.requires_grad_(False)
        optimizer = optim.Adam([model[0].bias], lr=0.01)

        @compiler
        def step(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(model(x), y).backward()
            for _ in range(2):
                optimizer.step()

        x, y = data(10 * BATCH)
        for batch, target in batches(x, y):
            step(batch, target)
        assert kept(optimizer)[1] == [20.0]
        return [*model.parameters(), *kept(optimizer)[0]]

    check(program, replayed=2)


@pytest.mark.slow
def test_a_parameter_that_begins_later_and_a_frozen_one() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(4, 3, 1)
        model[0].weight.requires_grad_(False)
        model[2].bias.requires_grad_(False)
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        step = compiler(trainer(model, optimizer))
        x, y = data(20 * BATCH)
        for k, (batch, target) in enumerate(batches(x, y)):
            if k == 8:
                model[0].weight.requires_grad_(True)
            step(batch, target)
        return [*model.parameters(), *kept(optimizer)[0]]

    check(program, replayed=3, quiet=False)


@pytest.mark.slow
def test_a_rate_of_zero_is_not_taken_for_another() -> None:
    def between(k: int, optimizer: optim.Optimizer) -> None:
        optimizer.param_groups[0]["lr"] = 0.0 if k < 6 else 0.3

    program, _ = training(lambda p: optim.SGD(p, lr=0.0), rows=14 * BATCH, between=between)

    check(program, replayed=3, quiet=False)


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.3), ADAM["adam"]], ids=["sgd", "adam"])
def test_a_rate_that_changes_for_a_gradient_that_is_public(make: Make) -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        critic = network(1)
        optimizer = make(critic.parameters())

        @compiler
        def step(x: Tensor) -> None:
            optimizer.zero_grad()
            (-critic(x).mean()).backward()
            optimizer.step()

        x, _ = data(14 * BATCH)
        for k in range(14):
            step(x[k * BATCH : (k + 1) * BATCH])
            if k == 7:
                optimizer.param_groups[0]["lr"] *= 0.1
        return list(critic.parameters())

    check(program, replayed=3, quiet=False)


@pytest.mark.slow
def test_optimizers_that_share_their_counters() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(1)
        model[0].weight.requires_grad_(False)
        one, other = (optim.Adam([model[0].bias], lr=0.01) for _ in range(2))

        @compiler
        def step(x: Tensor, y: Tensor) -> None:
            one.zero_grad()
            binary_cross_entropy_with_logits(model(x), y).backward()
            one.step()
            other.step()

        x, y = data(11 * BATCH)
        for k, (batch, target) in enumerate(batches(x, y)):
            step(batch, target)
            if k == 1:
                other.load_state_dict(one.state_dict())
        assert kept(one)[1] == kept(other)[1] == [20.0]
        return [*model.parameters(), *kept(one)[0]]

    check(program, replayed=1, quiet=False)


@pytest.mark.slow
def test_a_group_without_gradients_has_a_rate_that_changes() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(1)
        model[0].weight.requires_grad_(False)
        optimizer = optim.SGD([{"params": [model[0].weight], "lr": 0.01}, {"params": [model[0].bias], "lr": 0.1}])
        schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        step = compiler(trainer(model, optimizer))
        x, y = data(12 * BATCH)
        for batch, target in batches(x, y):
            step(batch, target)
            schedule.step()
        return list(model.parameters())

    check(program, replayed=3, quiet=False)


@pytest.mark.slow
def test_groups_of_different_rates() -> None:
    def program(compiler: Any, session: Session) -> list[Tensor]:
        model = network(3, 1)
        groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters(), "lr": 0.1}]
        optimizer = optim.SGD(groups, momentum=0.6)
        step = compiler(trainer(model, optimizer))
        x, y = data(16 * BATCH)
        for k, (batch, target) in enumerate(batches(x, y)):
            if k == 7:
                optimizer.param_groups[1]["lr"] = 0.3
            step(batch, target)
        return list(model.parameters())

    check(program, replayed=4, quiet=False)


@pytest.mark.slow
def test_one_tape_serves_many_steps_of_adam() -> None:
    with tacit.session():
        model = tacit.share(nn.Linear(3, 1), owner="alice")
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        step = tacit.compile(trainer(model, optimizer))
        x, y = data(BATCH)
        for _ in range(40):
            step(x, y)

        assert step.replayed >= 33
        assert len(step._entries) <= 2
