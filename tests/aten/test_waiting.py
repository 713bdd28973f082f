"""Losses that nobody reveals cost nothing, in however many operators PyTorch takes them apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tacit

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "probabilities": lambda x, p: F.cross_entropy(x, p.softmax(1)),
    "sums of them": lambda x, p: F.cross_entropy(x, p.softmax(1), reduction="sum"),
    "weights and smoothing": lambda x, p: F.cross_entropy(x, p.argmax(1), torch.ones(5), label_smoothing=0.1),
    "two losses and a constant": lambda x, p: 1 - 0.5 * F.mse_loss(x, p) + F.cross_entropy(x, p.argmax(1)) / 3,
    "a penalty": lambda x, p: F.binary_cross_entropy_with_logits(x, (p > 0).float()) + 0.1 * (x * x).sum(),
    "each row's": lambda x, p: (F.cross_entropy(x, p.argmax(1), reduction="none") * p[:, 0]).mean(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_in_parts_is_what_pytorch_computes(name, session, random):
    loss = LOSSES[name]
    x, p = (torch.randn(6, 5, generator=random) for _ in range(2))
    want, got = x.clone().requires_grad_(), tacit.share(x).requires_grad_()

    plain, secret = loss(want, p), loss(got, p)
    plain.backward()
    secret.backward()

    torch.testing.assert_close(tacit.reveal(got.grad), want.grad, atol=2**-9, rtol=2**-9)
    torch.testing.assert_close(tacit.reveal(secret.detach()), plain.detach(), atol=2**-6, rtol=2**-6)


@pytest.mark.priced
def test_a_loss_that_nobody_reveals_costs_nothing(session, random):
    x, p = tacit.share(torch.randn(6, 5, generator=random)), tacit.share(torch.rand(6, 5, generator=random))
    before = session.meter.cost

    loss = F.cross_entropy(x, p) * 2 + F.mse_loss(x, p) - 1

    assert (session.meter.cost - before).rounds == 0
    assert tacit.reveal(loss).isfinite()
    assert (session.meter.cost - before).rounds > 0


def test_what_waits_is_computed_of_the_operands_as_they_were(session, random):
    x, p = (torch.randn(6, 5, generator=random) for _ in range(2))
    secret, factor = tacit.share(x), tacit.share(torch.tensor(2.0))

    loss = F.mse_loss(secret, p) * factor
    secret.zero_()
    factor.zero_()

    torch.testing.assert_close(tacit.reveal(loss), 2 * F.mse_loss(x, p), atol=2**-10, rtol=0)


@pytest.mark.parametrize("first", [True, False], ids=["the loss first", "the other first"])
def test_what_waits_for_a_loss_is_computed_of_it_as_it_was(first, session):
    loss = F.mse_loss(tacit.share(torch.full((3,), 2.0)), torch.zeros(3))
    other = loss + 1
    if not first:
        assert tacit.reveal(other) == 5

    loss *= 2
    later = loss + 1
    loss *= 2

    assert tacit.reveal(loss) == 16
    assert tacit.reveal(other) == 5
    assert tacit.reveal(later) == 9


def test_a_running_sum_of_losses_is_computed_now_and_then(session):
    total: object = 0.0

    for k in range(300):
        total = total + F.mse_loss(tacit.share(torch.full((2,), float(k % 3))), torch.zeros(2))

    assert tacit.reveal(total) == 500
