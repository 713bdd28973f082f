"""A session that checks itself: silent about what is right, and loud about what is not, at no cost."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.errors import ConfigError, PrecisionError
from tacit.session.config import Config
from tacit.tensor.registry import HANDLERS

aten = torch.ops.aten


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, 3),
    )


def train() -> None:
    """Three steps, and what is revealed of them."""
    torch.manual_seed(5)
    x, y = tacit.share(torch.randn(6, 1, 4, 4), owner="alice"), torch.tensor([0, 1, 2, 0, 1, 2])
    model = tacit.share(network())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    tacit.reveal(loss.detach(), to="alice", name="loss")
    tacit.reveal(model)


def test_a_checked_program_costs_reveals_and_draws_what_it_does_unchecked():
    seen = []
    for check in (False, True):
        with tacit.session(seed=1, check=check) as session:
            train()
            cost, entries = session.meter.cost, [(e.name, e.shape, e.receivers, e.line) for e in session.ledger.entries]
            seen.append((cost.rounds, cost.online, cost.producer, entries, torch.rand(3).tolist()))

    assert seen[0] == seen[1]


@pytest.mark.unchecked
def test_a_session_that_is_not_checked_has_no_shadows(session_of_all):
    x = tacit.share(torch.ones(3))

    assert (x + 1).share.shadow is None


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a label beyond the classes": (
        lambda: F.cross_entropy(tacit.share(torch.randn(3, 4)), tacit.share(torch.tensor([1, 4, 2]))),
        "out of bounds",
    ),
    "a position beyond the table": (
        lambda: tacit.share(torch.randn(4, 2)).gather(0, tacit.share(torch.tensor([[4, 0]]))),
        "out of bounds",
    ),
    "a class beyond the last": (lambda: F.one_hot(tacit.share(torch.tensor([1, 5])), 3), "smaller than num_classes"),
    "a product beyond the ring": (lambda: tacit.share(torch.tensor([50_000.0])).square(), "too large"),
    "an exponential that saturates": (lambda: tacit.share(torch.tensor([1.0, 40.0])).exp(), "aten.exp"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_finds(name):
    program, word = WRONG[name]

    with tacit.session(seed=1, check=True), pytest.raises(PrecisionError, match=word) as error:
        tacit.reveal(program())

    assert "test_precision.py:" in str(error.value)
    assert "operands: " in str(error.value)
    assert "what to do: " in str(error.value)


def test_a_message_has_operator_module_line_ranges_domain_deviation_and_place():
    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.exp()

    model = nn.Sequential(nn.Identity(), Steep())
    with tacit.session(seed=1, check=True), pytest.raises(PrecisionError) as error:
        model(tacit.share(torch.tensor([[1.0, 40.0]])))

    text = str(error.value)
    for part in ("aten.exp.default", "Sequential.1", "test_precision.py", "1 … 40", "Domain: ", "(0, 1)", "off by"):
        assert part in text


def test_a_warning_lets_the_program_go_on():
    with tacit.session(seed=1, check="warn"):
        x = tacit.share(torch.tensor([1.0, 40.0]))
        with pytest.warns(UserWarning, match="PyTorch"):
            y = x.exp()

        assert tacit.reveal(y)[0] == pytest.approx(math.e, abs=1e-3)


def test_what_is_changed_behind_a_secret_s_back_is_found():
    with tacit.session(seed=1, check=True):
        x = tacit.share(torch.ones(3))
        y = x[1:]
        x.share.content.parts()[0].add_(1 << 20)

        with pytest.raises(PrecisionError, match="has changed since"):
            y + 1


def test_a_public_value_remembered_wrongly_is_found():
    with tacit.session(seed=1, check=True):
        x = tacit.share(torch.zeros(3))
        x.copy_(torch.ones(3))
        x.share.facts.public.fill_(100)

        with pytest.raises(PrecisionError, match="written to from a plain tensor"):
            x + 1


def test_a_view_that_is_none_and_a_copy_that_is_one_are_found(monkeypatch):
    def copied(func, x, *args):
        return x.clone() * 1

    monkeypatch.setitem(HANDLERS, aten.t.default, copied)
    with tacit.session(seed=1, check=True):
        x = tacit.share(torch.ones(2, 2))
        x.t().mul_(3)

        with pytest.raises(PrecisionError, match="has changed since"):
            x + 1


def test_writing_to_views_is_no_fault():
    with tacit.session(seed=1, check=True):
        x = tacit.share(torch.zeros(3, 4))
        row, column = x[1], x.t()[2]
        row.fill_(2.5)
        column.mul_(3).add_(1)
        x.transpose_(0, 1)
        x[0, :2] = tacit.share(torch.tensor([0.3, 0.7]))

        want = torch.zeros(3, 4)
        want[1] = 2.5
        want.t()[2].mul_(3).add_(1)
        want.transpose_(0, 1)
        want[0, :2] = torch.tensor([0.3, 0.7])
        torch.testing.assert_close(tacit.reveal(x), want, atol=1e-4, rtol=0)
        assert tacit.reveal(row.sum()) is not None


def test_where_pytorch_has_nan_only_looking_is_an_error():
    with tacit.session(seed=1, check=True):
        x = tacit.share(torch.tensor([-1.0, 1.0]))
        y = x.log()

        assert tacit.reveal(torch.where(x > 0, y, x)).tolist() == [-1, 0]
        with pytest.raises(PrecisionError, match=r"NaN or infinite, first from aten\.log"):
            tacit.reveal(y)


def test_masked_scores_near_ties_and_public_randomness_are_no_faults():
    with tacit.session(seed=1, check=True):
        scores = tacit.share(torch.randn(4, 6))
        mask = torch.rand(4, 6) < 0.3
        mask[:, 0] = False
        (scores.masked_fill(mask, -torch.inf).softmax(-1) @ torch.randn(6, 2)).sum()
        (scores + torch.zeros(4, 6).masked_fill(mask, -torch.inf)).softmax(-1)
        x = tacit.share(torch.randn(3, 50)) * tacit.share(torch.randn(3, 50))
        x.sort(-1), x.argmax(-1), x.topk(5, -1), x > x.roll(1, -1), x.max(), F.dropout(x, 0.4), torch.rand_like(x)


def test_a_loss_is_compared_when_somebody_looks_at_it():
    with tacit.session(seed=1, check=True) as session:
        x = tacit.share(torch.tensor([[3.0, 1.0], [0.5, 2.0]])).requires_grad_()
        loss = F.cross_entropy(x, torch.tensor([0, 1])) + 0.5 * F.mse_loss(x, torch.zeros(2, 2))
        before = session.meter.cost.rounds
        assert session.meter.cost.rounds == before

        loss.backward()
        assert tacit.reveal(loss.detach()) is not None


def test_gradients_that_an_optimizer_clips_are_named():
    with tacit.session(seed=1, check=True):
        weight = nn.Parameter(tacit.share(torch.ones(3)))
        weight.grad = tacit.share(torch.tensor([1.0, 2000.0, -3.0]))

        with pytest.raises(PrecisionError, match="clipped by value at 512"):
            torch.optim.Adam([weight]).step()


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_integers_and_bools_are_exact(dtype):
    with tacit.session(seed=1, check=True):
        x = tacit.share(torch.tensor([1, 0, 1]).to(dtype))
        y = tacit.share(torch.tensor([1, 1, 0]).to(dtype))

        x | y if dtype == torch.bool else x * y - 3
        x == y, x.sum(), x.float() * 0.5, x.clone(), torch.cat([x, y])


def test_it_is_refused_where_shares_are_apart(tmp_path):
    config = Config.parse('{"a": "127.0.0.1:1", "b": "127.0.0.1:2", "crypto-producer": "127.0.0.1:3"}', tmp_path)

    with pytest.raises(ConfigError, match=r"one process.*'a'.*leave `check` out"):
        tacit.session(config, "a", check=True)
    with pytest.raises(ConfigError, match="True, False or"):
        tacit.session(check="loud")
