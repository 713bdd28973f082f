"""GELU as models write it out is one function where nobody asks for a gradient, and as it is written elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tacit
from tacit.session.session import Session

OUTER = math.sqrt(2 / math.pi)
WRITTEN: dict[str, Callable[[Tensor], Tensor]] = {
    "half first": lambda x: 0.5 * x * (1.0 + torch.tanh(OUTER * (x + 0.044715 * torch.pow(x, 3.0)))),
    "half last": lambda x: x * (torch.tanh((x**3 * 0.044715 + x) * 0.7978845608) + 1) * 0.5,
    "half in the middle": lambda x: x * (0.5 * (1 + torch.tanh(OUTER * (x + 0.044715 * x**3)))),
}
OTHERWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "another factor": lambda x: 0.5 * x * (1 + torch.tanh(OUTER * (x + 0.05 * x**3))),
    "another inner factor": lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.044715 * x**3))),
    "another summand": lambda x: 0.5 * x * (1 + torch.tanh(OUTER * (2 * x + 0.044715 * x**3))),
    "another half": lambda x: 0.25 * x * (1 + torch.tanh(OUTER * (x + 0.044715 * x**3))),
    "of another": lambda x: 0.5 * (x + 1) * (1 + torch.tanh(OUTER * (x + 0.044715 * x**3))),
    "less one": lambda x: 0.5 * x * (torch.tanh(OUTER * (x + 0.044715 * x**3)) - 1),
    "the cube": lambda x: x**3,
    "a difference": lambda x: x - 0.044715 * x**3,
    "twice": lambda x: x + 2 * (0.044715 * x**3),
}


@pytest.fixture
def x(random: torch.Generator) -> Tensor:
    """Numbers of all sizes that the formula, computed as it is written, has room for."""
    return torch.cat([torch.linspace(-6, 6, 40), torch.randn(40, generator=random) * 3])


@pytest.mark.parametrize("form", WRITTEN)
def test_the_formula_is_one_function(form: str, x: Tensor, session: Session) -> None:
    secret = tacit.share(x)
    before = session.meter.cost

    with torch.no_grad():
        out = WRITTEN[form](secret)
        out.share  # noqa: B018 - whatever waits is computed
    rounds = (session.meter.cost - before).rounds

    F.gelu(tacit.share(x), approximate="tanh")
    whole = (session.meter.cost - before).rounds - rounds
    assert rounds == whole
    torch.testing.assert_close(tacit.reveal(out), F.gelu(x, approximate="tanh"), atol=2.0**-15, rtol=0)


@pytest.mark.parametrize("form", WRITTEN)
def test_it_has_the_range_of_the_function(form: str, session: Session) -> None:
    large = torch.tensor([-(2.0**28), -1e6, -200.0, 0.0, 200.0, 1e6, 2.0**28])

    with torch.no_grad():
        out = tacit.reveal(WRITTEN[form](tacit.share(large)))

    torch.testing.assert_close(out, large.clamp(min=0), atol=2.0**-15, rtol=0)


@pytest.mark.parametrize("form", OTHERWISE)
def test_what_is_nearly_the_formula_is_computed_as_written(form: str, x: Tensor, session: Session) -> None:
    with torch.no_grad():
        out = tacit.reveal(OTHERWISE[form](tacit.share(x)))

    torch.testing.assert_close(out, OTHERWISE[form](x), atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("when", range(4))
def test_what_is_overwritten_meanwhile_is_computed_as_it_was(when: int, x: Tensor, session: Session) -> None:
    def run(x: Tensor) -> Tensor:
        half = 0.5 * x
        if when == 0:
            x += 1
        cube = x**3
        if when == 1:
            x += 1
        gate = 1.0 + torch.tanh(OUTER * (x + 0.044715 * cube))
        if when == 2:
            x += 1
        if when == 3:
            half += 1
        return half * gate

    with torch.no_grad():
        out = tacit.reveal(run(tacit.share(x)))

    torch.testing.assert_close(out, run(x.clone()), atol=2e-3, rtol=1e-4)


def test_what_waits_for_a_cube_is_computed_of_it_as_it_was(x: Tensor, session: Session) -> None:
    secret = tacit.share(x)

    with torch.no_grad():
        cube = secret**3
        third = 0.044715 * cube
        inner = secret + third
        cube.view(-1).add_(1)
        third.zero_()

    torch.testing.assert_close(tacit.reveal(cube), x**3 + 1, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(tacit.reveal(third), torch.zeros_like(x), atol=0, rtol=0)
    torch.testing.assert_close(tacit.reveal(inner), x + 0.044715 * x**3, atol=1e-3, rtol=1e-4)


def test_a_gradient_with_a_cube_in_it_can_be_overwritten(x: Tensor, session: Session) -> None:
    secret = tacit.share(x.clamp(-3, 3)).requires_grad_()
    (secret**4).sum().backward()

    twice = secret.grad * 2.0
    secret.grad.mul_(0.5)

    torch.testing.assert_close(tacit.reveal(secret.grad), 2 * x.clamp(-3, 3) ** 3, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(tacit.reveal(twice), 8 * x.clamp(-3, 3) ** 3, atol=4e-3, rtol=1e-4)


def test_what_everybody_knows_is_computed_as_it_is_written(session: Session) -> None:
    secret = tacit.share(torch.randn(3))

    with torch.no_grad():
        out = [WRITTEN[form](torch.ones_like(secret)) for form in WRITTEN]

    for found in out:
        torch.testing.assert_close(tacit.reveal(found), F.gelu(torch.ones(3), approximate="tanh"), atol=1e-4, rtol=0)


def test_parts_of_it_can_be_looked_at(x: Tensor, session: Session) -> None:
    secret = tacit.share(x)

    with torch.no_grad():
        inner = OUTER * (secret + 0.044715 * secret**3)
        gate = 1.0 + torch.tanh(inner)
        out = 0.5 * secret * gate

    torch.testing.assert_close(tacit.reveal(out), F.gelu(x, approximate="tanh"), atol=2.0**-15, rtol=0)
    torch.testing.assert_close(tacit.reveal(inner), OUTER * (x + 0.044715 * x**3), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(tacit.reveal(gate), 1 + (OUTER * (x + 0.044715 * x**3)).tanh(), atol=1e-3, rtol=0)


def test_its_gradient_is_that_of_the_formula(x: Tensor, session: Session) -> None:
    x = x.clamp(-3, 3)
    plain, secret = x.clone().requires_grad_(), tacit.share(x).requires_grad_()

    for v in (plain, secret):
        WRITTEN["half first"](v).sum().backward()

    torch.testing.assert_close(tacit.reveal(secret.grad), plain.grad, atol=5e-3, rtol=0)


@pytest.mark.priced
def test_the_formula_is_one_function_after_a_product(random: torch.Generator, session: Session) -> None:
    w, v = torch.randn(8, 6, generator=random) / 3, torch.randn(4, 8, generator=random)
    weights, rows = tacit.share(w, owner="bob"), tacit.share(v, owner="alice")
    with torch.no_grad():
        product = rows @ weights
        before = session.meter.cost.rounds
        out = WRITTEN["half first"](product)

    assert session.meter.cost.rounds - before <= 4
    torch.testing.assert_close(tacit.reveal(out), F.gelu(v @ w, approximate="tanh"), atol=2.0**-10, rtol=0)
