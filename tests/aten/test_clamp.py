"""Clamping at the ends of what ends may be: crossed, equal, infinite, out of reach."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch.nn import functional as F

import tacit
from tacit.errors import EncodingError

X = torch.tensor([-5.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0])
ENDS = (None, -1e20, -3.0, 0.0, 1.0, 2.0, 3.0, 1e20, torch.finfo(torch.float32).max)
LARGEST = 2.0**46


def agree(call, x=X):
    """Values and gradients are those of PyTorch."""
    plain, secret = x.clone().requires_grad_(), tacit.share(x).requires_grad_()
    want, got = call(plain), call(secret)
    weights = torch.arange(1.0, 1 + x.numel())
    for y in (want, got):
        if y.requires_grad:
            (y * weights).sum().backward()
    torch.testing.assert_close(tacit.reveal(got.detach()), want.detach(), atol=1e-4, rtol=0)
    assert (secret.grad is None) == (plain.grad is None)
    if plain.grad is not None:
        torch.testing.assert_close(tacit.reveal(secret.grad), plain.grad, atol=1e-3, rtol=0)


def test_clamp_between_any_ends(session):
    for low, high in product(ENDS, ENDS):
        if low is None and high is None:
            continue
        beyond = (low is not None and low > LARGEST) or (high is not None and high < -LARGEST)
        if beyond:
            if low is None or high is None or low <= high:  # what it would give cannot be held
                with pytest.raises(EncodingError, match=r"torch\.clamp to"):
                    tacit.share(X).clamp(low, high)
            continue
        agree(lambda x, low=low, high=high: x.clamp(low, high))


@pytest.mark.parametrize(("low", "high"), [(3, 1), (2, 2), (-1, 2)])
def test_clamp_of_integers_and_in_place_and_by_tensors(low, high, session):
    whole = torch.arange(-4, 5)
    assert torch.equal(tacit.reveal(tacit.share(whole).clamp(low, high)), whole.clamp(low, high))
    agree(lambda x: x.clone().clip_(low, high))
    agree(lambda x: x.clamp(torch.tensor(float(low)), torch.tensor(float(high))))
    agree(lambda x: x.clamp(torch.full_like(X, low), torch.full_like(X, high)))


@pytest.mark.parametrize("end", [math.inf, -math.inf, math.nan])
def test_an_end_that_would_be_the_result_is_refused(end, session):
    if end != math.inf:
        with pytest.raises(EncodingError, match=f"torch.clamp to {end}"):
            tacit.share(X).clamp(max=end)
    if end != -math.inf:
        with pytest.raises(EncodingError, match=f"torch.clamp to {end}"):
            tacit.share(X).clamp(min=end)


def test_clamp_of_a_product_by_more_than_its_scale_holds(session):
    x = torch.tensor([1.5, -2.0])

    got = tacit.reveal((tacit.share(x) * tacit.share(x)).clamp(min=2.0**40))

    assert got.tolist() == [2.0**40, 2.0**40]


@pytest.mark.parametrize("ends", [(2.0, 2.0), (0.0, 0.0), (-1.0, 1.0)])
def test_hardtanh_passes_no_gradient_between_equal_ends(ends, session):
    agree(lambda x: F.hardtanh(x, *ends))


@pytest.mark.parametrize("name", ["relu6", "hardsigmoid", "hardswish"])
def test_activations_that_clamp(name, session):
    agree(getattr(F, name))


@pytest.mark.parametrize("threshold", [-math.inf, -1e30, 0.0, 1.0, 1e30])
def test_thresholds_that_no_number_reaches(threshold, session):
    agree(lambda x: F.threshold(x, threshold, 7.0))
