"""Operators on lists of tensors, and the optimizers that use them: plain results, in the rounds of one parameter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

import tacit
from tacit.tensor.registry import HANDLERS

SHAPES = [(3, 4), (4,), (), (2, 1, 3)]
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": partial(optim.SGD, lr=0.1),
    "SGD with all it has": partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "SGD that maximizes": partial(optim.SGD, lr=0.01, momentum=0.9, dampening=0.1, maximize=True),
    "Adam": partial(optim.Adam, lr=0.01),
    "AdamW, AMSGrad": partial(optim.AdamW, lr=0.01, amsgrad=True),
    "RMSprop": partial(optim.RMSprop, lr=0.01, momentum=0.5),
    "Adadelta": optim.Adadelta,
    "Adamax": partial(optim.Adamax, lr=0.01),
    "NAdam": partial(optim.NAdam, lr=0.01),
    "ASGD": partial(optim.ASGD, lr=0.1),
    "Rprop": optim.Rprop,
    "Adagrad": partial(optim.Adagrad, lr=0.1),
    "RAdam": partial(optim.RAdam, lr=0.01),
}

aten = torch.ops.aten
LISTS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda x, y, z: torch._foreach_add(x, y, alpha=0.3),
    "add a number": lambda x, y, z: torch._foreach_add(x, 2.5),
    "add numbers": lambda x, y, z: torch._foreach_add(x, [1.0, 2.0, 1.0, -1.0]),
    "sub": lambda x, y, z: torch._foreach_sub(x, y),
    "mul": lambda x, y, z: torch._foreach_mul(x, y),
    "square": lambda x, y, z: torch._foreach_mul(x, x),
    "mul a number": lambda x, y, z: torch._foreach_mul(x, 0.3),
    "mul numbers": lambda x, y, z: torch._foreach_mul(x, [0.1, 0.1, 3.0, 0.5]),
    "mul a tensor": lambda x, y, z: torch._foreach_mul(x, z[2]),
    "div": lambda x, y, z: torch._foreach_div(x, z),
    "div a number": lambda x, y, z: torch._foreach_div(x, 3),
    "neg": lambda x, y, z: torch._foreach_neg(x),
    "abs": lambda x, y, z: torch._foreach_abs(x),
    "sqrt": lambda x, y, z: torch._foreach_sqrt(z),
    "rsqrt": lambda x, y, z: torch._foreach_rsqrt(z),
    "reciprocal": lambda x, y, z: torch._foreach_reciprocal(z),
    "pow": lambda x, y, z: torch._foreach_pow(x, 2),
    "maximum": lambda x, y, z: torch._foreach_maximum(x, y),
    "clamp_max": lambda x, y, z: torch._foreach_clamp_max(x, 0.5),
    "lerp": lambda x, y, z: torch._foreach_lerp(x, y, 0.25),
    "addcmul": lambda x, y, z: torch._foreach_addcmul(x, y, z, value=0.5),
    "addcmul, numbers": lambda x, y, z: torch._foreach_addcmul(x, y, z, [0.5, 0.5, 1.0, -1.0]),
    "addcdiv": lambda x, y, z: torch._foreach_addcdiv(x, y, z, value=-0.5),
    "addcdiv, a tensor of numbers": lambda x, y, z: torch._foreach_addcdiv(x, y, z, torch.tensor([1.0, 1.0, 2.0, 0.5])),
    "norm": lambda x, y, z: torch._foreach_norm(x),
    "norm of order 1": lambda x, y, z: torch._foreach_norm(x, 1),
    "in place": lambda x, y, z: _then(torch._foreach_add(x, 0.0), lambda c: torch._foreach_mul_(c, y)),
    "copy": lambda x, y, z: _then(torch._foreach_add(x, 0.0), lambda c: torch._foreach_copy_(c, y)),
    "zero": lambda x, y, z: _then(torch._foreach_add(x, 0.0), torch._foreach_zero_),
}


def _then(x: Any, change: Callable[[Any], Any]) -> Any:
    change(x)
    return x


def drawn(count: int) -> list[list[Tensor]]:
    return [[torch.randn(shape) for shape in SHAPES] for _ in range(count - 1)] + [
        [torch.rand(shape) + 0.5 for shape in SHAPES]
    ]


@pytest.mark.parametrize("name", LISTS)
def test_lists_give_what_plain_tensors_give(name, session):
    lists = drawn(3)
    want = LISTS[name](*lists)

    got = LISTS[name](*([tacit.share(t) for t in column] for column in lists))

    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        assert (tacit.reveal(g) - w).abs().max() < 1e-3


OPERATORS = sorted((overload for overload in HANDLERS if overload.__name__.startswith("_foreach_")), key=str)
UNSCALE = aten._amp_foreach_non_finite_check_and_unscale_.default
COVERS = [*OPERATORS, UNSCALE]
POSITIVE = ("sqrt", "rsqrt", "reciprocal", "log")


def arguments(overload: Any) -> list[Any]:
    """A list for each list of tensors, with divisors and roots' arguments above zero, and a number for each number."""
    positive = any(f"_foreach_{name}" in (overload.__name__.split(".")[0].rstrip("_"),) for name in POSITIVE)
    x, y, z = drawn(3)
    lists = iter([z, y, x] if positive else [x, y, z] if "addc" in overload.__name__ else [x, z, y])
    numbers = {"Scalar": 0.5, "Scalar[]": [0.5, 0.5, 1.5, 2.0], "number": 0.5, "List[number]": [0.5, 0.5, 1.5, 2.0]}
    out: list[Any] = []
    for argument in overload._schema.arguments:
        kind = str(argument.type)
        if kind == "List[Tensor]":
            out.append(next(lists))
        elif kind == "Tensor":
            out.append(torch.tensor([0.5, 0.5, 1.5, 2.0]) if "addc" in overload.__name__ else torch.tensor(0.5))
        elif not argument.kwarg_only and argument.name in ("scalar", "scalars", "other", "weight", "exponent"):
            out.append(numbers[kind])
    return [2 if overload.__name__.startswith("_foreach_pow") and a == 0.5 else a for a in out]


@pytest.mark.parametrize("overload", [o for o in OPERATORS if "pow" not in str(o) or "List" not in str(o)], ids=str)
def test_every_operator_on_lists_gives_what_it_gives_on_plain_tensors(overload, session):
    plain = arguments(overload)
    secret = [[tacit.share(t) for t in a] if isinstance(a, list) and isinstance(a[0], Tensor) else a for a in plain]

    got, want = overload(*secret), overload(*plain)

    got, want = (secret[0], plain[0]) if want is None else (got, want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        assert (tacit.reveal(g) - w).abs().max() < 2e-3 * max(1.0, float(w.abs().max()))


@pytest.mark.parametrize("scale", [64.0, 2.0**10, 2.0**11])
def test_gradients_are_unscaled_and_a_scale_that_is_too_large_is_an_overflow(scale, session):
    x = drawn(1)[0]
    secret, overflow = [tacit.share(t * scale) for t in x], torch.zeros(1)

    UNSCALE(secret, overflow, torch.tensor([1 / scale]))

    assert float(overflow) == (scale > 2.0**10)
    for got, want in zip(secret, x, strict=True):
        assert (tacit.reveal(got) - want).abs().max() <= 2.0**-16


def test_powers_by_list_are_whole_numbers_of_their_own(session):
    x = [torch.rand(3) + 0.5, torch.rand(2)]

    got = torch._foreach_pow([tacit.share(t) for t in x], [2, 3])

    for g, w in zip(got, torch._foreach_pow(x, [2, 3]), strict=True):
        assert (tacit.reveal(g) - w).abs().max() < 1e-3


def test_some_lists_are_public(session):
    x, y, _ = drawn(3)

    got = torch._foreach_mul(x, [tacit.share(t) for t in y])

    for g, a, b in zip(got, x, y, strict=True):
        assert (tacit.reveal(g) - a * b).abs().max() < 1e-3


@pytest.mark.priced
def test_a_product_keeps_its_premask_in_a_list(session):
    a, b, c = (torch.randn(8, 8) for _ in range(3))
    z, other = tacit.share(a) @ tacit.share(b), tacit.share(c)
    before = session.meter.cost

    scaled = torch._foreach_mul([z, other], 0.3)

    scaled = [s.share.settle() for s in scaled]
    cost = session.meter.cost - before
    assert cost.rounds == 1
    assert (tacit.reveal(tacit.SecretTensor(scaled[0], torch.float32)) - 0.3 * a @ b).abs().max() < 1e-3


# --- optimizers -----------------------------------------------------------------------------------------------------


def fit(model: nn.Module, optimizer: Any, x: Any, y: Any, session: Any = None, clip: float | None = None) -> list[int]:
    """Some steps; the rounds of each."""
    steps = optimizer(model.parameters())
    rounds = []
    for _ in range(4):
        steps.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        before = session.meter.cost.rounds if session else 0
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        steps.step()
        rounds.append(session.meter.cost.rounds - before if session else 0)
    return rounds


def networks(depth: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(depth)
    hidden = [nn.Linear(4, 4) for _ in range(depth)]
    plain = nn.Sequential(*hidden, nn.Linear(4, 1))
    return plain, tacit.share(copy.deepcopy(plain))


def agree(plain: nn.Module, secret: nn.Module, tolerance: float) -> None:
    for want, got in zip(plain.parameters(), secret.parameters(), strict=True):
        assert (tacit.reveal(got.detach()) - want).abs().max() < tolerance


@pytest.mark.priced
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_takes_the_rounds_of_one_parameter(name, session):
    x, y = torch.randn(16, 4), 10 * torch.randn(16, 1)
    rounds = []
    for depth in (0, 3):
        plain, secret = networks(depth)

        rounds.append(fit(secret, OPTIMIZERS[name], tacit.share(x), tacit.share(y), session))

        fit(plain, OPTIMIZERS[name], x, y)
        agree(plain, secret, 2e-3)
    assert rounds[1] == rounds[0]


@pytest.mark.priced
@pytest.mark.parametrize("foreach", [True, False])
def test_the_user_decides(foreach, session):
    x, y = torch.randn(16, 4), 10 * torch.randn(16, 1)
    plain, secret = networks(2)
    optimizer = partial(optim.SGD, lr=0.1, momentum=0.9, foreach=foreach)

    rounds = fit(secret, optimizer, tacit.share(x), tacit.share(y), session)

    fit(plain, optimizer, x, y)
    agree(plain, secret, 1e-3)
    assert (max(rounds) <= 3) == foreach


@pytest.mark.priced
def test_gradients_are_clipped_in_the_rounds_of_one(session):
    x, y = torch.randn(16, 4), 10 * torch.randn(16, 1)
    sgd = partial(optim.SGD, lr=0.1)
    rounds = []
    for depth in (1, 3):
        plain, secret = networks(depth)

        rounds.append(fit(secret, sgd, tacit.share(x), tacit.share(y), session, clip=0.1))

        fit(plain, sgd, x, y, clip=0.1)
        agree(plain, secret, 1e-3)
    assert rounds[0] == rounds[1]
