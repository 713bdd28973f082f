"""What a module would cost on secrets, and what of it does not work there."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tacit
from tacit.check.report import Link, estimated, total
from tacit.errors import DataError
from tacit.profile import Row
from tacit.protocols.additive.scheme import PRODUCER, SCHEME
from tacit.session.meter import Cost

PARTIES = ("alice", "bob", "carol")


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x).real


class Positions(nn.Module):
    def forward(self, x):
        return x + x.nonzero().sum()


class Nested(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.encoder = body

    def forward(self, inputs, scale=1):
        return self.encoder(inputs["x"][0]) * scale


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def mlp():
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def line_of(cls):
    lines, first = inspect.getsourcelines(cls)
    return f"{__file__}:{first + len(lines) - 1}"


def counts(cost):
    return cost.rounds, cost.online, cost.producer


@pytest.mark.priced
@pytest.mark.parametrize("parties", [PARTIES[:2], PARTIES])
def test_the_estimate_of_a_training_step_is_what_the_meter_counts(parties):
    x, y = torch.randn(16, 12), torch.randint(0, 5, (16,))
    with tacit.session(parties=parties) as session:
        model, secret = tacit.share(mlp()), tacit.share(x)  # nobody knows them: an owner would open its own for less
        optimizer = sgd(model.parameters())
        before = session.meter.cost
        F.cross_entropy(model(secret), y).backward()
        optimizer.step()
        cost = session.meter.cost - before

    report = tacit.check(
        mlp(),
        (16, 12),
        train=True,
        loss=F.cross_entropy,
        target=y,
        public_inputs=["target"],
        optimizer=sgd,
        parties=parties,
    )

    assert report.ok
    assert report.unsupported == []
    assert counts(report.cost) == counts(cost)
    assert sum(row.rounds for row in report.rows) == cost.rounds
    assert sum(row.online for row in report.rows) == cost.online["alice"]
    assert sum(row.producer for row in report.rows) == cost.producer


@pytest.mark.priced
def test_inference_costs_what_the_meter_counts():
    with tacit.session() as session:
        model, x = tacit.share(mlp()), tacit.share(torch.randn(16, 12))
        before = session.meter.cost
        with torch.no_grad():
            model(x)
        cost = session.meter.cost - before

    report = tacit.check(mlp(), (16, 12))

    assert counts(report.cost) == counts(cost)
    assert {row.phase for row in report.rows} == {"forward"}


def test_everything_unsupported_is_reported_at_once_with_its_module_and_line():
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(Spectrum()), Positions(), nn.ReLU())

    report = tacit.check(model, (4, 8))

    assert not report.ok
    assert report.stopped is None
    found = [(one.operator, one.module, one.line) for one in report.unsupported]
    assert found == [
        ("a Fourier transform", "1.0", line_of(Spectrum)),
        ("torch.nonzero", "2", line_of(Positions)),
    ]
    assert "use a mask" in report.unsupported[1].instead
    relu = [row for row in report.rows if row.operator == "aten.relu.default"]
    assert [(row.module, row.rounds) for row in relu] == [("3", 3)]  # it went on to the end


def test_what_only_the_backward_pass_needs_is_reported_at_the_forward_line():
    report = tacit.check(nn.Sequential(nn.Linear(8, 8), Spectrum()), (4, 8), train=True)

    backward = [one for one in report.unsupported if one.phase == "backward"]
    assert backward
    assert {(one.module, one.line) for one in backward} == {("1", line_of(Spectrum))}


def test_a_branch_on_a_secret_is_reported_and_ends_the_check():
    report = tacit.check(nn.Sequential(Positions(), Branch(), Positions()), (4, 8))

    assert [one.module for one in report.unsupported] == ["0", "1"]
    assert report.unsupported[1].line == line_of(Branch)
    assert "tacit.reveal" in report.unsupported[1].instead
    assert report.stopped is not None
    assert line_of(Branch) in report.stopped


def test_a_transformer_layer_is_estimated_layer_by_layer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    report = tacit.check(layer, (2, 3, 8), train=True)

    assert report.ok, report
    assert {"self_attn", "linear1", "linear2", "norm1", "norm2"} <= {row.module for row in report.rows if row.rounds}
    assert {row.phase for row in report.rows if row.module == "norm1" and row.rounds} == {"forward", "backward"}


@pytest.mark.parametrize("kind", ["values", "meta", "secret", "nested"])
def test_inputs_may_have_values_or_not(kind):
    wanted = counts(tacit.check(mlp(), (4, 12)).cost)
    model, x = mlp(), torch.randn(4, 12)
    if kind == "meta":
        model, x = mlp().to("meta"), x.to("meta")

    if kind == "secret":
        with tacit.session():
            report = tacit.check(tacit.share(model), tacit.share(x))
    elif kind == "nested":
        report = tacit.check(Nested(model), {"x": [x]}, kwargs={"scale": 1})
    else:
        report = tacit.check(model, x)

    assert report.ok
    assert counts(report.cost) == wanted


def test_public_operands_cost_less():
    secret = tacit.check(nn.Linear(12, 8), (4, 12)).cost
    public_model = tacit.check(nn.Linear(12, 8), (4, 12), public_module=True).cost
    public_input = tacit.check(nn.Linear(12, 8), torch.randn(4, 12), public_inputs=[0]).cost

    assert counts(secret)[0] == 1
    assert counts(public_model) == counts(public_input) == (0, {"alice": 0, "bob": 0}, 0)


def test_seconds_are_work_and_the_links():
    link = Link(latency=0.01, bandwidth=8e6)
    rows = [
        Row("Net", "a", "forward", "x", 1, 3, 1000, {"producer": 5000}, 0.4),
        Row("Net", "b", "forward", "y", 1, 2, 0, {"producer": 0}, 0.2),
    ]

    over_link, sent = estimated(rows, link, parties=2), {"alice": 1000, "bob": 1000}
    cost = total(Cost(5, {**sent, PRODUCER: 5000}, SCHEME.helpers, 0.7), over_link, link)
    starved = total(Cost(5, {**sent, PRODUCER: 5_000_000}, SCHEME.helpers, 0.7), over_link, link)

    assert [row.seconds for row in over_link] == pytest.approx([0.2 + 0.03 + 0.001, 0.1 + 0.02])
    assert cost.seconds == pytest.approx(0.351)
    assert starved.seconds == pytest.approx(5.0)  # the parties wait for the producer


def test_a_slow_link_is_in_the_estimate():
    report = tacit.check(mlp(), (4, 12), latency=1.0)

    assert report.cost.seconds >= report.cost.rounds


def test_a_check_leaves_everything_as_it_was():
    model, x = mlp(), torch.randn(4, 12)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with tacit.session() as session:
        cost, operators, state = session.meter.cost, session.transcript.count, torch.get_rng_state()

        with tacit.profile() as p:
            tacit.check(model, x, train=True, optimizer=sgd)

        assert p.rows == []
        assert tacit.current_session() is session
        assert counts(session.meter.cost) == counts(cost)
        assert session.transcript.count == operators
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_launched_role_checks_without_its_peers(monkeypatch, tmp_path):
    monkeypatch.setenv("TACIT_CONFIG", str(tmp_path / "missing.json"))
    monkeypatch.setenv("TACIT_ROLE", "alice")

    assert tacit.check(mlp(), (4, 12)).ok


def test_mistakes_that_plain_pytorch_refuses_are_refused():
    with pytest.raises(RuntimeError, match="shape"):
        tacit.check(mlp(), (4, 13))
    with pytest.raises(DataError, match="bandwidth"):
        tacit.check(mlp(), (4, 12), bandwidth=0)


def test_a_report_prints_problems_costs_and_a_verdict():
    good = str(tacit.check(mlp(), (4, 12)))
    bad = str(tacit.check(nn.Sequential(mlp(), Positions()), (4, 12)))

    assert "All of it works on secrets: 5 rounds" in good
    assert "relu" in good
    assert "Not on secrets" in bad
    assert "nonzero" in bad
    assert "use a mask" in bad
    assert "test_check.py" in bad


def test_real_inputs_give_the_numbers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 3))
    inputs, target = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])

    before = torch.get_rng_state()
    report = tacit.check(model, inputs, train=True, loss=F.cross_entropy, target=target)

    assert report.ok, report
    assert torch.equal(torch.get_rng_state(), before)
    rows = {(d.place.module, d.operator): d for d in report.deviations}
    assert 0 < rows["", "outputs"].largest < 2**-12
    assert 0 < rows["2", "aten.tanh.default"].largest <= rows["2", "aten.tanh.default"].allowed
    assert ("3", "aten.addmm.default") in rows
    assert "Largest deviations from PyTorch" in str(report)


def test_wrong_numbers_of_real_inputs_are_in_the_report() -> None:
    class Steep(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.exp()

    report = tacit.check(Steep(), torch.tensor([1.0, 40.0]))

    assert not report.ok
    assert len(report.wrong) == 1
    assert "aten.exp.default in Steep" in report.wrong[0]
    assert "what to do" in str(report)


def test_without_real_inputs_there_are_no_numbers() -> None:
    report = tacit.check(nn.Linear(3, 2), (4, 3))

    assert report.ok
    assert not report.deviations


def test_a_module_is_priced_by_the_scheme_that_is_named() -> None:
    helped = tacit.check(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (2, 4))
    alone = tacit.check(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (2, 4), protocol="two-party")

    assert (helped.ok, alone.ok) == (True, True)
    assert helped.cost.producer > 0
    assert (alone.cost.producer, alone.cost.helped) == (0, {})
    assert sum(alone.cost.prepared.values()) > 0
    assert "prepared" in str(alone)
    assert alone.cost.seconds > 0


def test_training_by_two_parties_alone_is_priced_as_if_nobody_knew_anything() -> None:
    layer = nn.Linear(4, 4)
    network = nn.Sequential(layer, nn.ReLU(), nn.BatchNorm1d(4), layer)
    arguments = {"train": True, "optimizer": lambda p: torch.optim.SGD(p, lr=0.1), "protocol": "two-party"}

    report = tacit.check(network, torch.randn(6, 4), **arguments)

    assert report.ok, report
    with tacit.session(protocol="two-party"), tacit.profile() as profile, torch.no_grad():
        tacit.share(nn.Linear(4, 4))(tacit.share(torch.randn(6, 4)))
    assert profile.cost.rounds == 0  # what is public, or one party's, it computes by itself
    assert report.cost.rounds > 10
