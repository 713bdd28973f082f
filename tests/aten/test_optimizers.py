"""Steps of PyTorch's optimizers at the ends of the range of gradients where they are right, and what lies beyond."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import tacit
from tacit.aten.arithmetic import LARGEST_FACTOR
from tacit.tensor import SecretTensor

pytestmark = pytest.mark.unchecked  # gradients beyond 512 are clipped

Optimizer = Callable[..., optim.Optimizer]

DIVIDING: dict[str, tuple[Optimizer, float]] = {
    "Adam": (partial(optim.Adam, lr=0.01), 0.05),
    "Adam of short memory": (partial(optim.Adam, lr=0.01, betas=(0.5, 0.9)), 0.02),
    "AdamW": (partial(optim.AdamW, lr=0.01), 0.05),
    "AMSGrad": (partial(optim.Adam, lr=0.01, amsgrad=True), 0.05),
    "NAdam": (partial(optim.NAdam, lr=0.01), 0.06),
    "Adagrad": (partial(optim.Adagrad, lr=0.1), 0.02),
    "RMSprop": (partial(optim.RMSprop, lr=0.01), 0.02),
    "RMSprop, centered": (partial(optim.RMSprop, lr=0.01, centered=True, momentum=0.5), 0.02),
    "Adamax": (partial(optim.Adamax, lr=0.01), 0.005),
    "Rprop": (partial(optim.Rprop, lr=0.01), 0.01),
}
"""Optimizers whose step does not depend on the scale of gradients, and how far off steps may be for gradients of 1e-4,
as a part of the largest: 0.004 from 1e-3 on."""

OTHERS: dict[str, Optimizer] = {
    "Adadelta": partial(optim.Adadelta, lr=16.0),
    "ASGD": partial(optim.ASGD, lr=0.01, t0=1),
    "SGD": partial(optim.SGD, lr=0.01, momentum=0.9),
}
SHAPES = [(3, 4), (5,), (1,)]
CLIP = {"Adadelta", *DIVIDING}


def fine(x: Tensor) -> SecretTensor:
    """A secret with the 32 fractional bits of a product that was not truncated, as gradients have them."""
    return SecretTensor(tacit.share(x * 2.0**16).share.rescaled(32), torch.float32)


def gradients(size: float, steps: int) -> list[list[Tensor]]:
    """For each step one for each parameter: of a size, of either sign, and some of them change it."""
    torch.manual_seed(7)
    signs = [torch.randint(0, 2, shape) * 2.0 - 1 for shape in SHAPES]
    return [
        [
            size * s * (torch.rand(shape) + 0.5) * (1 - 2 * (torch.rand(shape) < 0.2).float())
            for s, shape in zip(signs, SHAPES, strict=True)
        ]
        for _ in range(steps)
    ]


def distance(make: Optimizer, grads: Sequence[Sequence[Tensor]], clip: float | None = None, **kwargs: Any) -> float:
    """The largest difference to plain PyTorch's parameters after some steps, as a part of the largest parameter."""
    plain = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in SHAPES]
    secret = [nn.Parameter(tacit.share(torch.zeros(shape))) for shape in SHAPES]
    theirs, ours = make(plain, foreach=False), make(secret, **kwargs)
    for step in grads:
        for p, q, g in zip(plain, secret, step, strict=True):
            p.grad, q.grad = g.double(), fine(g)
        if clip is not None:
            nn.utils.clip_grad_value_(plain, clip)
        theirs.step()
        ours.step()
    want = torch.cat([p.detach().flatten() for p in plain])
    got = torch.cat([tacit.reveal(q.detach()).flatten() for q in secret])
    return float((got - want).abs().max() / want.abs().max())


@pytest.mark.parametrize("foreach", [None, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("size", [1e-4, 1e-3, 300.0])
@pytest.mark.parametrize("name", DIVIDING)
def test_steps_are_right_for_gradients_of_many_sizes(name, size, foreach, session):
    make, tolerance = DIVIDING[name]
    kwargs = {} if foreach is None else {"foreach": foreach}
    steps = 1 if name == "Adagrad" and size == 300 else 3  # its sums end at 2^18

    off = distance(make, gradients(size, steps), **kwargs)

    assert off < (tolerance if size == 1e-4 else 4e-3)


@pytest.mark.parametrize("foreach", [None, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("name", sorted(CLIP))
def test_larger_gradients_are_clipped_by_value(name, foreach, session):
    make = DIVIDING[name][0] if name in DIVIDING else OTHERS[name]
    kwargs = {} if foreach is None else {"foreach": foreach}
    grads = [[g * 10.0 ** torch.randint(-2, 5, g.shape) for g in step] for step in gradients(1.0, 3)]
    steps = 1 if name == "Adagrad" else 3

    off = distance(make, grads[:steps], clip=LARGEST_FACTOR, **kwargs)

    assert off < (0.06 if name == "Adadelta" else 0.005)  # it divides by roots of averages that begin at 1e-6


@pytest.mark.parametrize("name", [*DIVIDING, *OTHERS])
def test_tiny_gradients_move_nothing_far(name, session):
    make = DIVIDING[name][0] if name in DIVIDING else OTHERS[name]

    secret = [nn.Parameter(tacit.share(torch.zeros(200)))]
    ours = make(secret)
    for _ in range(3):
        secret[0].grad = fine(torch.randn(200) * 10.0 ** (-4 - 2 * torch.rand(200)))
        ours.step()

    want = 0.1 if name == "Adagrad" else 0.01
    assert tacit.reveal(secret[0].detach()).abs().max() < 4 * 3 * want * (10 if "RMSprop" in name else 1)


@pytest.mark.parametrize("size", [0.1, 100.0, 1e5])
@pytest.mark.parametrize("foreach", [None, False], ids=["at once", "one by one"])
def test_radam_is_right_before_and_after_it_divides(size, foreach, session):
    kwargs = {} if foreach is None else {"foreach": foreach}

    off = distance(partial(optim.RAdam, lr=0.1 / size), gradients(size, 7), **kwargs)

    assert off < 5e-3


@pytest.mark.parametrize("size", [1.0, 1e4])
@pytest.mark.parametrize("name", OTHERS)
def test_steps_of_the_size_of_gradients_are_right(name, size, session):
    if name == "Adadelta" and size > LARGEST_FACTOR:
        pytest.skip("it is among those that clip")

    off = distance(OTHERS[name], gradients(size, 3))

    assert off < 5e-3


def test_the_gradients_of_a_program_and_its_parameters_stay_its_own(session):
    model = tacit.share(nn.Linear(3, 2))
    optimizer = optim.Adagrad(model.parameters(), lr=0.1)
    before = list(model.parameters())
    model(tacit.share(torch.randn(4, 3) * 1e4)).sum().backward()
    had = [p.grad for p in before]

    optimizer.step()

    assert all(a is b for a, b in zip(before, optimizer.param_groups[0]["params"], strict=True))
    assert all(p.grad is g for p, g in zip(before, had, strict=True))
    assert set(optimizer.state) == set(before)
    assert all(optimizer.state[p]["sum"].shape == p.shape for p in before)
    assert optimizer.param_groups[0]["foreach"] is None
    assert tacit.reveal(had[0]).abs().max() > LARGEST_FACTOR


def test_a_closure_has_its_gradients_clipped(session):
    x, y = torch.randn(8, 3) * 100, torch.randn(8, 1)
    plain = nn.Linear(3, 1)
    secret = tacit.share(copy.deepcopy(plain))

    for model, a, b in ((plain, x, y), (secret, tacit.share(x), tacit.share(y))):
        optimizer = optim.RMSprop(model.parameters(), lr=0.01)

        def closure(model: nn.Module = model, a: Any = a, b: Any = b, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(a), b)
            loss.backward()
            return loss

        optimizer.step(closure)

    assert (tacit.reveal(secret.weight.detach()) - plain.weight).abs().max() < 1e-3


def test_sums_of_squares_stop_growing(session):
    p = nn.Parameter(tacit.share(torch.zeros(4)))
    optimizer = optim.Adagrad([p], lr=0.1)

    for _ in range(6):
        p.grad = fine(torch.full((4,), 500.0))
        optimizer.step()

    total = tacit.reveal(optimizer.state[p]["sum"])
    way = sum(0.1 * 500 / min(k * 500**2, 2**18 + 500**2) ** 0.5 for k in range(1, 7))
    assert (total - (2**18 + 500**2)).abs().max() < 1
    assert (tacit.reveal(p.detach()) + way).abs().max() < 1e-3


def test_a_state_that_was_joined_is_saved_and_goes_on(session, tmp_path):
    model = tacit.share(nn.Linear(3, 2))
    twin = tacit.share(nn.Linear(3, 2))
    optimizers = [optim.Adagrad(m.parameters(), lr=0.1) for m in (model, twin)]
    x = torch.randn(4, 3)

    def step(k: int) -> None:
        optimizers[k].zero_grad()
        (model, twin)[k](x).square().sum().backward()
        optimizers[k].step()

    step(0)
    twin.load_state_dict(model.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    step(0)
    step(1)

    assert (tacit.reveal(model.weight.detach()) - tacit.reveal(twin.weight.detach())).abs().max() < 1e-3
