"""Training on secrets ends at the weights of the same PyTorch program on plain data, and pays for each thing once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.session.meter import Cost
from tacit.session.session import Session

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Loss = Callable[[Tensor, Tensor], Tensor]

FEATURES = 6
ROWS = 48


@pytest.fixture
def session() -> Iterator[Session]:
    with tacit.session(seed=1) as opened:
        yield opened


def people(seed: int = 3) -> tuple[Tensor, Tensor]:
    """Features, and a score that depends on them."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, FEATURES, generator=random)
    return x, x[:, :1] * 1.5 - x[:, 1:2] + 0.3 * torch.randn(ROWS, 1, generator=random)


def linear() -> nn.Module:
    return nn.Linear(FEATURES, 1)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))


def deep() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(FEATURES, 8),
        nn.Tanh(),
        nn.Dropout(0.25),
        nn.Linear(8, 4),
        nn.Sigmoid(),
        nn.Linear(4, 1),
    )


def fit(model: nn.Module, optimizer: Optimizer, loss: Loss, x: Any, y: Any, clip: float | None = None) -> list[Tensor]:
    """Two epochs in batches of 16; the last loss of each."""
    torch.manual_seed(11)
    steps = optimizer(model.parameters())
    losses = []
    for _ in range(2):
        for start in range(0, ROWS, 16):
            steps.zero_grad()
            value = loss(model(x[start : start + 16]), y[start : start + 16])
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            steps.step()
        losses.append(value.detach())
    return losses


def both(
    make: Callable[[], nn.Module], optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, clip: float | None = None
) -> tuple[nn.Module, nn.Module, list[Tensor], list[Tensor]]:
    """Train a plain model and its secret twin; both come back plain, with their losses."""
    torch.manual_seed(5)
    plain = make()
    secret = tacit.share(copy.deepcopy(plain))
    want = fit(plain, optimizer, loss, x, y, clip)
    got = fit(secret, optimizer, loss, tacit.share(x, owner=_owner()), tacit.share(y, owner=_owner()), clip)
    return plain, tacit.reveal(secret), want, [tacit.reveal(v) for v in got]


def _owner() -> str:
    return tacit.current_session().parties[-1]


def distance(a: nn.Module, b: nn.Module) -> float:
    """The largest difference of two weights."""
    return max(float((v - w).detach().abs().max()) for v, w in zip(a.parameters(), b.parameters(), strict=True))


SGD: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.2),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "nesterov and decay": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "dampening, ascending": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, dampening=0.1, maximize=True),
}
ADAM: dict[str, Optimizer] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.02),
    "adam and decay": lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.02, amsgrad=True),
}
TASKS: dict[str, tuple[Callable[[], nn.Module], Loss, bool]] = {
    "linear regression": (linear, F.mse_loss, False),
    "logistic regression": (linear, F.binary_cross_entropy_with_logits, True),
    "perceptron": (perceptron, F.binary_cross_entropy_with_logits, True),
    "deep": (deep, F.mse_loss, False),
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("optimizer", SGD)
def test_descent_ends_at_the_weights_of_plain_training(optimizer, task, session):
    make, loss, binary = TASKS[task]
    x, y = people()

    plain, secret, want, got = both(make, SGD[optimizer], loss, x, (y > 0).float() if binary else y)

    assert distance(plain, secret) < 2e-3
    torch.testing.assert_close(torch.stack(got), torch.stack(want), atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("optimizer", ADAM)
def test_adam_ends_at_the_predictions_of_plain_training(optimizer, task, session):
    """A vanishing gradient of unlucky sign moves a weight by a whole step, so weights are not compared one by one."""
    make, loss, binary = TASKS[task]
    x, y = people()

    plain, secret, want, got = both(make, ADAM[optimizer], loss, x, (y > 0).float() if binary else y)

    with torch.no_grad():
        plain.eval(), secret.eval()
        torch.testing.assert_close(secret(x), plain(x), atol=0.1, rtol=0)
    torch.testing.assert_close(torch.stack(got), torch.stack(want), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("frac_bits", "parties"), [(12, 2), (20, 2), (16, 3), (16, 5)])
def test_scale_and_number_of_parties_change_nothing_but_precision(frac_bits, parties):
    x, y = people()
    with tacit.session(seed=1, parties=[f"p{i}" for i in range(parties)], frac_bits=frac_bits):
        for make, loss, target in (
            (linear, F.mse_loss, y),
            (perceptron, F.binary_cross_entropy_with_logits, (y > 0).float()),
        ):
            plain, secret, _, _ = both(make, SGD["momentum"], loss, x, target)
            other, adamant, _, _ = both(make, ADAM["adam"], loss, x, target)

            assert distance(plain, secret) < 1e-2
            with torch.no_grad():
                torch.testing.assert_close(adamant(x), other(x), atol=0.3 if frac_bits == 12 else 0.1, rtol=0)


def test_bce_of_probabilities_and_clipped_gradients(session):
    x, y = people()

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 1), nn.Sigmoid())

    plain, secret, _, _ = both(make, SGD["sgd"], F.binary_cross_entropy, x, (y > 0).float(), clip=0.1)

    assert distance(plain, secret) < 1e-2


def test_gradients_are_clipped_by_value(session):
    model = tacit.share(linear())
    x, y = people()
    F.mse_loss(model(tacit.share(x)), tacit.share(y) * 10).backward()

    nn.utils.clip_grad_value_(model.parameters(), 0.5)

    assert all(tacit.reveal(p.grad).abs().max() <= 0.5 for p in model.parameters())


def test_public_batches_train_secret_weights_and_secret_batches_public_weights(session):
    x, y = people()
    torch.manual_seed(5)
    plain = linear()
    secret, public = tacit.share(copy.deepcopy(plain)), copy.deepcopy(plain)

    loss = F.mse_loss(plain(x), y)
    loss.backward()
    F.mse_loss(secret(x), y).backward()
    F.mse_loss(public(tacit.share(x)), tacit.share(y)).backward()

    for p, s, u in zip(plain.parameters(), secret.parameters(), public.parameters(), strict=True):
        torch.testing.assert_close(tacit.reveal(s.grad), p.grad, atol=1e-3, rtol=0)
        torch.testing.assert_close(tacit.reveal(u.grad), p.grad, atol=1e-3, rtol=0)


# --- what training pays for -------------------------------------------------------------------------------------------


def cost_of(session: Session, work: Callable[[], Any]) -> Cost:
    before = session.meter.cost
    work()
    return session.meter.cost - before


@pytest.mark.priced
def test_a_linear_layer_opens_input_and_weight_once_for_forward_and_both_gradients(session):
    rows, inputs, outputs = 10, 5, 3
    layer = tacit.share(nn.Linear(inputs, outputs))
    before = session.meter.cost
    x = tacit.share(torch.randn(rows, inputs), owner="alice").requires_grad_()
    given = session.meter.cost - before

    forward = cost_of(session, lambda: layer(x))
    out = layer(x)
    backward = cost_of(session, lambda: out.backward(torch.ones(rows, outputs)))

    assert (given.rounds, given.online) == (1, {"alice": 8 * rows * inputs, "bob": 0})
    assert (forward.rounds, forward.online["alice"]) == (1, 8 * inputs * outputs)
    assert (backward.rounds, backward.online["alice"]) == (0, 0)  # the gradient that comes in is public here


@pytest.mark.priced
def test_a_secret_gradient_is_opened_once_for_both_gradients_of_a_layer(session):
    rows, inputs, outputs = 10, 5, 3
    layer = tacit.share(nn.Linear(inputs, outputs))
    x = tacit.share(torch.randn(rows, inputs), owner="alice").requires_grad_()
    out = layer(x)

    backward = cost_of(session, lambda: out.backward(tacit.share(torch.randn(rows, outputs), owner="alice")))

    assert (backward.rounds, backward.online["alice"]) == (1, 8 * rows * outputs)


@pytest.mark.priced
def test_relu_compares_nothing_on_the_way_back(session):
    count = 64
    x = tacit.share(torch.randn(count), owner="alice").requires_grad_()

    out = x.relu()
    back = cost_of(session, lambda: out.backward(tacit.share(torch.randn(count), owner="alice")))

    assert back.rounds == 1
    assert back.online["alice"] == 8 * count  # the incoming gradient, to be selected by a bit that is masked already


@pytest.mark.priced
@pytest.mark.parametrize("loss", [F.mse_loss, F.binary_cross_entropy_with_logits])
def test_a_loss_that_is_only_differentiated_costs_nothing(loss, session):
    x = tacit.share(torch.randn(8), owner="alice").requires_grad_()
    y = tacit.share(torch.rand(8), owner="bob")

    kept: list[Tensor] = []
    computed = cost_of(session, lambda: kept.append(loss(x, y)))
    kept[0].backward()
    revealed = cost_of(session, lambda: tacit.reveal(kept[0].detach()))

    assert (computed.rounds, computed.producer) == (0, 0)
    assert revealed.rounds > 1


@pytest.mark.priced
def test_every_epoch_but_the_first_finds_the_data_open(session):
    x, y = people()
    model = tacit.share(linear())
    before = session.meter.cost
    data, target = tacit.share(x, owner="alice"), tacit.share(y, owner="bob")
    given = (session.meter.cost - before).online
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def epoch() -> None:
        for start in range(0, ROWS, 16):
            optimizer.zero_grad()
            F.mse_loss(model(data[start : start + 16]), target[start : start + 16]).backward()
            optimizer.step()

    costs = [cost_of(session, epoch).online["alice"] for _ in range(3)]

    assert given == {"alice": 8 * ROWS * FEATURES, "bob": 8 * ROWS}
    assert costs[0] == costs[1] == costs[2]
    assert costs[1] < 8 * ROWS * FEATURES


@pytest.mark.priced
def test_a_fixed_model_is_opened_once_for_all_predictions(session):
    model = tacit.share(nn.Linear(100, 1)).requires_grad_(False)

    first = cost_of(session, lambda: model(tacit.share(torch.randn(2, 100), owner="alice")))
    second = cost_of(session, lambda: model(tacit.share(torch.randn(2, 100), owner="alice")))

    assert first.online["alice"] == 8 * (200 + 100)
    assert second.online["alice"] == 8 * 200


def images(batch: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(4)
    return torch.rand(batch, 1, 10, 10, generator=random), torch.randint(5, (batch,), generator=random)


def convolutional() -> nn.Module:
    torch.manual_seed(6)
    features = [nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Dropout(0.25)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(72, 64), nn.Tanh(), nn.Dropout(), nn.Linear(64, 5))


def gradients(model: nn.Module, x: Any, y: Any, scale: float = 1) -> list[Tensor]:
    """Of the mean over the batch, times a scale."""
    torch.manual_seed(2)
    (F.cross_entropy(model(x), y) * scale).backward()
    return [p.grad for p in model.parameters() if p.dim() > 1]  # type: ignore[misc]


@pytest.mark.parametrize(("batch", "scale"), [(32, 1), (30, 1), (4, 1), (4, 64)])
def test_gradients_of_a_mean_keep_as_many_digits_as_those_of_a_sum(batch, scale, session):
    x, y = images(batch)
    wanted = gradients(convolutional(), x, y)

    found = gradients(tacit.share(convolutional()), tacit.share(x), tacit.share(y), scale)

    for want, got in zip(wanted, found, strict=True):
        assert (tacit.reveal(got) / scale - want).norm() < 4e-3 * want.norm()


def test_gradients_of_a_mean_have_the_range_of_a_sum(session):
    x = torch.full((64, 1), 2.0**12)
    weight = tacit.share(torch.zeros(1, 1)).requires_grad_()

    F.mse_loss(tacit.share(x) @ weight, tacit.share(torch.full((64, 1), -(2.0**10)))).backward()

    assert float(tacit.reveal(weight.grad)) == 2.0**23  # the sum of 64 of them is 2^29


def test_norms_of_gradients_have_the_range_of_other_norms(session):
    weight = tacit.share(torch.zeros(64, 1)).requires_grad_()

    (tacit.share(1000 * 8 * torch.eye(64)) @ weight).mean().backward()
    norm = nn.utils.clip_grad_norm_([weight], 1.0)

    assert abs(float(tacit.reveal(norm)) - 1000) < 1e-2
    assert (tacit.reveal(weight.grad) - 1 / 8).abs().max() < 3e-3


def test_a_gradient_scaler_scales_and_unscales_and_ends_at_a_scale_that_fits(session):
    x, y = images(16)
    plain = convolutional().eval()
    secret = tacit.share(copy.deepcopy(plain))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    kept = []

    for model, a, b in ((plain, x, y), (secret, tacit.share(x), tacit.share(y))):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        for step in range(4):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(a), b)
            if model is plain:
                if step < 2:
                    loss.backward()
                    optimizer.step()
                continue
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            kept.append(scaler.get_scale())

    assert kept == [2.0**11, 2.0**10, 2.0**10, 2.0**10]  # two steps were left out
    for got, want in zip(secret.parameters(), plain.parameters(), strict=True):
        assert (tacit.reveal(got.detach()) - want).abs().max() < 1e-3
