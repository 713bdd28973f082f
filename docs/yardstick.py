"""The four networks by which the field measures secure training on 28×28 pixels, and what a step of each costs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.profile import Profile
from tacit.protocols.additive.scheme import PRODUCER, SCHEME
from tacit.session.meter import Cost


def a() -> nn.Module:
    """784-128-128-10."""
    hidden = [nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))


def b() -> nn.Module:
    """MiniONN's convolutional network."""
    return nn.Sequential(*convolutions(16, 16), nn.Linear(256, 100), nn.ReLU(), nn.Linear(100, 10))


def c() -> nn.Module:
    """LeNet."""
    return nn.Sequential(*convolutions(20, 50), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def d() -> nn.Module:
    """One convolution with a stride, and two linear layers."""
    convolution = [nn.Conv2d(1, 5, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*convolution, nn.Linear(980, 100), nn.ReLU(), nn.Linear(100, 10))


def convolutions(first: int, second: int) -> list[nn.Module]:
    """Two convolutions of 5×5, each with a ReLU and the largest of 2×2."""
    return [
        nn.Conv2d(1, first, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    ]  # fmt: skip


NETWORKS = {"A": a, "B": b, "C": c, "D": d}
BATCH = 128
OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "Adam": partial(torch.optim.Adam, lr=0.001),
}
PHASES = ("forward", "backward", "step")


def step(model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of training."""
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def costs(name: str, optimizer: str, round_bytes: int | None = None) -> dict[str, Cost]:
    """Return what each phase of a later step costs: on images not seen before, and weights and momentum not new."""
    with tacit.session(seed=1, round_bytes=round_bytes):
        torch.manual_seed(0)
        model = tacit.share(NETWORKS[name]())
        state = OPTIMIZERS[optimizer](model.parameters())
        for _ in range(2):
            x, y = tacit.share(torch.rand(BATCH, 1, 28, 28)), tacit.share(torch.randint(10, (BATCH,)))
            with tacit.profile() as profile:
                step(model, x, y, state)
    return {phase: _of(profile, phase) for phase in PHASES}


def _of(profile: Profile, phase: str) -> Cost:
    rows = [row for row in profile.rows if row.phase == phase]
    sent = {"each party": sum(row.online for row in rows), PRODUCER: sum(row.producer for row in rows)}
    return Cost(sum(row.rounds for row in rows), sent, SCHEME.helpers)


WORTHS = (0, 200_000, 1_750_000)
"""Bytes that a round may be worth: nothing, the default, and what it is at 40 ms and 350 Mbit/s."""
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "`TransformerEncoderLayer`": lambda: nn.TransformerEncoderLayer(64, 4, 128, activation="gelu", batch_first=True),
    "`LSTM`, a step": lambda: nn.LSTM(64, 64),
}


def layer(name: str, round_bytes: int) -> Cost:
    """What a later prediction of a layer costs, from 32 rows of 64 columns, or for a batch of as many."""
    with tacit.session(seed=1, round_bytes=round_bytes) as session, torch.no_grad():
        torch.manual_seed(0)
        model = tacit.share(LAYERS[name]().eval(), owner="bob")
        for _ in range(2):
            x = tacit.share(torch.randn(1, 32, 64), owner="alice")
            before = session.meter.cost
            model(x)
            cost = session.meter.cost - before
    return Cost(cost.rounds, {"each party": cost.online["alice"], PRODUCER: cost.producer}, SCHEME.helpers)


UPDATES = {
    "SGD(lr=0.01)": partial(torch.optim.SGD, lr=0.01),
    "SGD(lr=0.01, momentum=0.9)": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "Adam(lr=0.001)": partial(torch.optim.Adam, lr=0.001),
    "AdamW(lr=0.001)": partial(torch.optim.AdamW, lr=0.001),
    "RMSprop(lr=0.01)": partial(torch.optim.RMSprop, lr=0.01),
    "Adagrad(lr=0.01)": partial(torch.optim.Adagrad, lr=0.01),
}
NUMBERS, TENSORS = 100, 2


def update(name: str) -> tuple[int, float, float]:
    """Rounds of a later step of an optimizer on two parameters, and bytes for each number of them."""
    with tacit.session(seed=1) as session:
        parameters = [nn.Parameter(tacit.share(torch.randn(NUMBERS))) for _ in range(TENSORS)]
        optimizer = UPDATES[name](parameters)
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = tacit.share(torch.randn(NUMBERS))
            before = session.meter.cost
            optimizer.step()
            for parameter in parameters:
                parameter.share.settle()
            cost = session.meter.cost - before
    each = NUMBERS * TENSORS
    return cost.rounds, cost.online["alice"] / each, cost.producer / each
