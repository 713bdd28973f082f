"""A session that checks the range of its numbers: stops a run that has left it, and tells one bit otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tacit
from tacit.api import embedded
from tacit.cli.local import launch_local
from tacit.errors import ConfigError, PrecisionError, RevealError
from tacit.session.config import Config
from tacit.watch.range import SUMS


def model() -> nn.Module:
    torch.manual_seed(0)
    return tacit.share(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)))


def steps(rate: float, count: int) -> None:
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    for _ in range(count):
        loss = F.mse_loss(net(tacit.share(x)), tacit.share(y))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.priced
def test_a_step_costs_three_checks_of_five_rounds_and_three_bits():
    costs = []
    for check in (False, True):
        with tacit.session(seed=1, range_check=check) as session:
            steps(0.1, 1)
            before = session.meter.cost
            steps(0.1, 1)
            costs.append(session.meter.cost - before)
            names = [entry.name for entry in session.ledger.entries]
            assert names == ["within range"] * (6 if check else 0)
            assert all(e.receivers == session.transport.roles and e.shape == () for e in session.ledger.entries)

    assert costs[1].rounds - costs[0].rounds == 3 * 5 + 1  # of few; gradients have three scales: see `Range._within`
    assert costs[1].online["alice"] - costs[0].online["alice"] <= 3 * 4 * SUMS * 16
    assert costs[1].producer - costs[0].producer <= 3 * 22_000  # a round less for few


def test_a_run_that_diverges_is_stopped_with_its_step():
    with (
        tacit.session(seed=1, range_check=True),
        pytest.raises(
            PrecisionError, match=r"((gradients|parameters) of SGD (before|after) step|outputs of Sequential, call) \d"
        ),
    ):
        steps(300.0, 12)


@pytest.mark.parametrize("size", [1, 5, 100_000])
@pytest.mark.parametrize("frac_bits", [12, 16, 20])
def test_one_number_out_of_range_is_found_among_others(size, frac_bits):
    bound = 2.0 ** (31 - frac_bits)
    with tacit.session(seed=1, frac_bits=frac_bits, range_check=True) as session:
        x = torch.zeros(size)
        identity = nn.Identity()
        identity(tacit.share(x))
        for bad in (bound, -bound, 2.0 ** (61 - frac_bits)):
            x[size // 2] = bad
            with pytest.raises(PrecisionError, match="outputs of Identity"):
                identity(tacit.share(x))
        assert session.guard is not None


def test_numbers_in_range_and_what_is_no_number_pass():
    with tacit.session(seed=1, range_check=True) as session:
        identity = nn.Identity()
        identity(tacit.share(torch.full((1000,), 80.0)))  # a norm of 2,530
        identity({"a": tacit.share(torch.tensor([2**40])), "b": [tacit.share(torch.tensor([True])), None, 3]})
        identity(torch.full((3,), 1e30))
        identity(torch.zeros_like(tacit.share(torch.ones(3))) + 1e5)

        assert len(session.ledger.entries) == 1


def test_the_bound_can_be_chosen():
    with tacit.session(seed=1, range_check=2**20):
        nn.Identity()(tacit.share(torch.tensor([60_000.0])))
        with pytest.raises(PrecisionError, match=r"1\.04858e"):
            nn.Identity()(tacit.share(torch.tensor([2.0**20])))


def test_the_parameter_group_is_named():
    with tacit.session(seed=1, range_check=True):
        a, b = (nn.Parameter(tacit.share(torch.ones(2))) for _ in range(2))
        a.grad, b.grad = tacit.share(torch.ones(2)), tacit.share(torch.tensor([1.0, 1e6]))
        optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.1}], lr=0.2)

        with pytest.raises(PrecisionError, match="gradients of parameter group 1 of SGD before step 1"):
            optimizer.step()


def test_a_loss_that_has_been_computed_is_checked_and_one_that_waits_is_left_alone():
    with tacit.session(seed=1, range_check=True) as session:
        x = tacit.share(torch.tensor([300.0])).requires_grad_()
        F.mse_loss(x, torch.zeros(1)).backward()
        assert not session.ledger.entries

        with pytest.raises(PrecisionError, match="a loss at its backward pass"):
            (x * x).sum().backward()


def test_a_policy_is_asked():
    config = Config.embedded(range_check=True, reveal=[{"name": "weight*", "to": ["all"]}])

    with embedded(config), pytest.raises(RevealError, match="\"name\": 'within range'"):
        nn.Identity()(tacit.share(torch.ones(3)))


def test_nothing_is_looked_at_after_the_session():
    with tacit.session(seed=1, range_check=True):
        pass
    with tacit.session(seed=1) as session:
        nn.Identity()(tacit.share(torch.ones(3)))

        assert not session.ledger.entries


@pytest.mark.parametrize("value", ["yes", -1, 1e18, float("nan")])
def test_a_setting_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match="range_check' must be true, false or a magnitude"):
        Config.embedded(range_check=value)


PROGRAM = """
import sys, torch, tacit
from torch import nn
with tacit.session({argument}) as session:
    torch.manual_seed(0)
    net = tacit.share(nn.Linear(3, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x = tacit.share(torch.ones(4, 3) if tacit.is_role("alice") else None, owner="alice", shape=(4, 3))
    net(x).square().mean().backward()
    optimizer.step()
    print(len(session.ledger.entries), session.meter.cost.rounds, flush=True)
    net(x * 1e5)
"""


@pytest.mark.parametrize(
    ("argument", "settings"),
    [
        ("range_check=True", {}),
        pytest.param("", {"range_check": True}, marks=pytest.mark.slow),
    ],
)
def test_all_roles_stop_together(argument: str, settings: dict[str, object], tmp_path: Path) -> None:
    script, lines = tmp_path / "program.py", {}
    script.write_text(PROGRAM.format(argument=argument))

    code = launch_local(script, settings=settings, on_line=lambda role, line: lines.setdefault(role, []).append(line))

    assert code == 1
    assert len({role_lines[0] for role_lines in lines.values()}) == 1, lines
    assert lines["alice"][0].startswith("4 ")
    for role in ("alice", "bob", "crypto-producer"):
        assert "outputs of Linear, call 2 of an outermost module" in " ".join(lines[role]), lines
