"""Costs by module and operator, forward and backward, as a table and as a trace."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as hooks

import tacit
from tacit.cli.local import launch_local
from tacit.errors import TacitError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.body(x))


class Broken(nn.Module):
    def forward(self, x):
        return x * (1 / 0)


@pytest.fixture
def session():
    with tacit.session(seed=1) as opened:
        yield opened


def step(model, x, y, optimizer=None):
    F.cross_entropy(model(x), y).backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()


def data():
    return tacit.share(torch.randn(4, 6)), torch.tensor([0, 2, 1, 0])


def costly(profile, **wanted):
    return {
        (row.module, row.phase, row.operator)
        for row in profile.rows
        if row.rounds and all(getattr(row, key) == value for key, value in wanted.items())
    }


@pytest.mark.priced
def test_every_operator_is_counted_at_its_module_forward_and_backward(session):
    model, (x, y) = tacit.share(Net()), data()

    with tacit.profile() as p:
        step(model, x, y)

    assert costly(p, root="Net") == {
        ("body.0", "forward", "aten.addmm.default"),
        ("body.1", "forward", "aten.relu.default"),
        ("body.1", "backward", "aten.threshold_backward.default"),
        ("head", "forward", "aten.addmm.default"),
        ("head", "backward", "aten.mm.default"),
    }  # the first layer's gradient takes what the rectifier leaves as it is, see `additive/spread.py`
    assert {phase for _, phase, _ in costly(p, root="")} == {"backward"}  # the loss, whose value nobody asked for


def test_the_rows_add_up_to_the_meter(session):
    model, (x, y) = tacit.share(Net()), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = session.meter.cost

    with tacit.profile() as p:
        for _ in range(3):
            step(model, x, y, optimizer)
        tacit.reveal(model.head.bias, to="alice")

    cost = session.meter.cost - before
    assert p.cost.rounds == cost.rounds == sum(row.rounds for row in p.rows)
    assert p.cost.online == cost.online
    assert p.cost.producer == cost.producer == sum(row.producer for row in p.rows)
    assert 0 < sum(row.seconds for row in p.rows) <= p.cost.seconds


def test_optimizers_and_reveals_have_rows_of_their_own(session):
    model, (x, y) = tacit.share(Net()), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    with tacit.profile() as p:
        step(model, x, y, optimizer)
        tacit.reveal(model.head.bias, to="alice")

    (revealed,) = [row for row in p.rows if row.operator == "tacit.reveal"]
    assert (revealed.root, revealed.module, revealed.calls, revealed.rounds, revealed.online) == ("", "", 1, 1, 8 * 3)
    assert costly(p, root="SGD") == {("", "step", "aten._foreach_add_.List")}


def test_gradients_that_add_up_belong_to_their_parameters_module(session):
    model, (x, y) = tacit.share(Net()), data()
    step(model, x, y)

    with tacit.profile() as p:
        step(model, x, y)

    assert {row.module for row in p.rows if row.operator == "aten.add_.Tensor"} == {"body.0", "head"}


def test_what_pytorch_defines_by_other_operators_is_shown_by_these(session):
    x = tacit.share(torch.randn(3, 8))

    with tacit.profile() as p:
        nn.Mish()(x)

    operators = {row.operator for row in p.rows}
    assert "aten.tanh.default" in operators
    assert "aten.mish.default" not in operators


def test_models_of_one_class_are_told_apart_and_loss_modules_come_and_go(session):
    first, second, (x, y) = tacit.share(Net()), tacit.share(Net()), data()

    with tacit.profile() as p:
        for _ in range(3):
            nn.CrossEntropyLoss()(first(x) + second(x), y).backward()

    assert {row.root for row in p.rows} == {"Net", "Net (2)", "CrossEntropyLoss", ""}


def test_profiling_changes_nothing():
    def train(profiled):
        with tacit.session(seed=5) as session:
            model, (x, y) = tacit.share(Net()), data()
            optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
            with tacit.profile() if profiled else torch.enable_grad():
                for _ in range(2):
                    step(model, x, y, optimizer)
            return tacit.reveal(model).state_dict(), session.transcript.digest, session.meter.cost

    plain, digest, cost = train(profiled=False)
    watched, watched_digest, watched_cost = train(profiled=True)

    assert all(torch.allclose(plain[key], watched[key], atol=1e-2) for key in plain)
    assert digest == watched_digest
    assert (cost.rounds, cost.online, cost.producer) == (
        watched_cost.rounds,
        watched_cost.online,
        watched_cost.producer,
    )


@pytest.mark.priced
def test_nothing_is_left_behind_after_an_error(session):
    x = tacit.share(torch.randn(4, 6))
    model = tacit.share(nn.Sequential(nn.Linear(6, 5), Broken()))
    left = len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)

    with pytest.raises(ZeroDivisionError), tacit.profile() as p:
        model(x)
    rows = p.rows
    x.relu()

    assert (len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)) == left
    assert p.rows == rows
    assert costly(p) == {("0", "forward", "aten.addmm.default")}


def test_a_profile_needs_a_session_and_serves_one_block():
    with pytest.raises(TacitError, match="there is no session"), tacit.profile():
        pass

    with tacit.session():
        p = tacit.profile()
        with p:
            pass
        with pytest.raises(TacitError, match="for one block"), p:
            pass


@pytest.mark.priced
def test_the_table_sums_modules_up(session):
    model, (x, y) = tacit.share(Net()), data()

    with tacit.profile() as p:
        step(model, x, y)

    lines = str(p).splitlines()
    total = next(line.split() for line in lines if line.split()[:1] == ["total"])
    assert total[2] == str(p.cost.rounds)
    assert any("├ body" in line or "└ body" in line for line in lines)
    assert "addmm" in str(p)
    assert "forward" in str(p)


def test_a_trace_has_a_bar_for_each_operator_inside_of_its_module(session, tmp_path):
    x = torch.full((4, 6), 1234.5678)
    model = tacit.share(Net())
    with tacit.profile() as p:
        step(model, tacit.share(x), torch.tensor([0, 2, 1, 0]))

    p.to_trace(tmp_path / "trace.json")

    text = (tmp_path / "trace.json").read_text()
    trace = json.loads(text)
    named, *events = trace["traceEvents"]
    assert named["ph"] == "M"
    assert named["args"] == {"name": "embedded"}
    assert all(set(event) == {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} for event in events)
    assert all(event["ph"] == "X" and event["dur"] >= 0 for event in events)
    assert {event["cat"] for event in events} == {"forward", "backward", "module"}
    assert sum(event["args"].get("rounds", 0) for event in events) == p.cost.rounds
    (head,) = [event for event in events if event["name"] == "head"]
    inside = [e for e in events if e["cat"] == "forward" and e["args"]["module"] == "Net.head"]
    assert inside
    assert all(head["ts"] <= e["ts"] and e["ts"] + e["dur"] <= head["ts"] + head["dur"] + 1 for e in inside)
    assert "1234.56" not in text


def test_launched_roles_count_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(
        """
import tacit, torch
with tacit.session() as session:
    model = tacit.share(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()), owner="alice")
    x = tacit.share(torch.ones(4, 3) if tacit.is_role("bob") else None, owner="bob", shape=(4, 3))
    with tacit.profile() as p:
        model(x).sum().backward()
    p.to_trace(f"{session.role}.json")
    print([(r.module, r.phase, r.operator, r.calls, r.rounds, r.online, r.producer) for r in p.rows])
"""
    )
    lines = {}

    code = launch_local(script, on_line=lambda role, line: lines.setdefault(role, []).append(line))

    assert code == 0, lines
    assert set(lines) == {"alice", "bob", "crypto-producer"}
    assert lines["alice"] == lines["bob"] == lines["crypto-producer"]
    assert "('1', 'forward', 'aten.relu.default', 1, 3, " in lines["alice"][0]
    names = [json.loads((tmp_path / f"{role}.json").read_text())["traceEvents"][0]["args"]["name"] for role in lines]
    assert names == list(lines)


def test_what_was_prepared_has_a_column_of_its_own_if_there_is_any(tmp_path):
    with tacit.session() as session, tacit.profile() as p:
        x = tacit.share(torch.ones(3))
        before = str(p)
        session.meter.ahead({"alice": 5000, "bob": 6000})
        session.meter.worked_ahead(0.0625)
        tacit.reveal(x)

    p.to_trace(tmp_path / "trace.json")

    assert "prepared" not in before
    assert "to prepare" not in before
    assert sum(row.ahead_seconds for row in p.rows) == 0.0625
    assert sum(row.prepared for row in p.rows) == 6000
    (total,) = (line for line in str(p).splitlines() if "total" in line)
    heading = next(line for line in str(p).splitlines() if "bytes a party" in line)
    assert heading.index("prepared") > heading.index("bytes a party")
    assert "6 kB" in total
    assert heading.split()[-2:] == ["to", "prepare"]
    assert total.endswith("0.0625")
    assert '"prepared_bytes": {"alice": 5000, "bob": 6000}' in (tmp_path / "trace.json").read_text()
    assert not any(row.local for row in p.rows if row.prepared)
