"""What a step of training leaves behind is freed when it ends, and not when Python looks for circles of references."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.protocols.remembered import Facts
from tacit.protocols.values import Value
from tacit.tensor import SecretTensor


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3)
        self.inner, self.padded = nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(self.norm(self.first(x)).relu())
        return self.last(self.padded(self.second(x)).flatten(1))


class Recurrent(nn.Module):
    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.layer, self.last = layer(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(x).mean(1))


class Case(NamedTuple):
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


CASES = {
    "mlp": Case(lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), (4, 6)),
    "cnn": Case(Convolutions, (4, 1, 12, 12)),
    "lstm": Case(lambda: Recurrent(nn.LSTM), (4, 3, 3)),
    "gru": Case(lambda: Recurrent(nn.GRU), (4, 3, 3)),
    "transformer": Case(Encoder, (4, 3, 4)),
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}
FAST = {"additive": ("mlp", "cnn", "lstm", "transformer"), "two-party": ("mlp", "cnn")}
"""The models that are tried with Adam at every run of the tests."""
EVERY = [
    pytest.param(*case, marks=() if case[1] in FAST[case[0]] and case[2] == "adam" else pytest.mark.slow)
    for case in product(FAST, CASES, OPTIMIZERS)
]


def left_in_circles(act: Callable[[], object]) -> list[object]:
    """The secrets, and what is known of some, that only Python's collector would find after an action."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        act()
        gc.collect()
        return [x for x in gc.garbage if isinstance(x, SecretTensor | Value | Facts)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(("protocol", "name", "optimizer"), EVERY)
def test_a_step_of_training_leaves_no_circles(protocol: str, name: str, optimizer: str) -> None:
    make, shape = CASES[name]
    with tacit.session(protocol=protocol):
        model, labels = tacit.share(make()), tacit.share(torch.tensor([0, 1, 2, 0]))
        optim, rows = OPTIMIZERS[optimizer](model.parameters()), tacit.share(torch.randn(shape))

        def step() -> None:
            optim.zero_grad()
            nn.functional.cross_entropy(model(rows), labels).backward()
            optim.step()

        def predict() -> None:
            with torch.no_grad():
                model(rows).max(1)

        step()
        assert not left_in_circles(step)
        assert not left_in_circles(predict)


def test_a_loss_that_is_looked_at_leaves_no_circles() -> None:
    with tacit.session():
        x = tacit.share(torch.randn(4, 3)).requires_grad_()
        y = tacit.share(torch.tensor([0, 1, 2, 0]))

        def look() -> None:
            scores = nn.functional.log_softmax(x, 1)
            loss = nn.functional.nll_loss(scores, y)
            tacit.reveal(loss.detach())
            tacit.reveal(scores.detach().max(1).indices)
            loss.backward()

        look()
        assert not left_in_circles(look)


def test_places_of_maxima_that_are_used_leave_no_circles() -> None:
    with tacit.session():
        x = tacit.share(torch.randn(2, 1, 6, 6)).requires_grad_()

        def look() -> None:
            values, places = nn.functional.max_pool2d(x, 3, 2, return_indices=True)
            tacit.reveal(places)
            values.sum().backward()

        look()
        assert not left_in_circles(look)
