"""Operators on numbers of ordinary sizes: incomes, counts and norms in the thousands, and what is tiny."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tacit

SALARIES = torch.tensor([31000.0, 47500.0, 60000.0, 52000.0, 45000.0])
TABLE = torch.tensor([[31000.0, 21.0], [47500.0, 35.0], [60000.0, 40.0], [52000.0, 28.0]])

OF_LARGE = {
    "norm": lambda x: x.norm(),
    "norm of columns": lambda x: x.norm(dim=0),
    "norm of order 3": lambda x: x.norm(p=3, dim=1),
    "norm of order 1": lambda x: x.norm(p=1, dim=1),
    "norm of order 0.5": lambda x: x[:, :1].norm(p=0.5, dim=1),
    "largest": lambda x: torch.linalg.vector_norm(x, math.inf),
    "std": lambda x: x.std(0),
    "var": lambda x: x.var(0),
    "var_mean": lambda x: torch.var_mean(x, 0, correction=0)[0],
    "std of many": lambda x: x.repeat(200, 1).std(0),
    "distances": lambda x: torch.cdist(x[:1], x[1:]),
    "pairwise distance": lambda x: F.pairwise_distance(x[:2], x[2:]),
    "root of a mean square": lambda x: ((x[:, 0] - 40000) ** 2).mean().sqrt(),
    "log": lambda x: (x * 20).log(),
    "log1p": lambda x: x.log1p(),
    "log2": lambda x: x.log2(),
    "log10": lambda x: x.log10(),
    "hypot": lambda x: torch.hypot(x[:, 0], x[:, 1]),
    "quotient": lambda x: x / x.flip(0),
    "of columns": lambda x: x / x.sum(0),
    "in thousands": lambda x: 1e9 / x,
    "reciprocal": lambda x: 1e6 * (x / 1000).reciprocal(),
    "min-max": lambda x: (x - x.amin(0)) / (x.amax(0) - x.amin(0)),
    "standardised": lambda x: (x - x.mean(0)) / x.std(0),
    "normalize": lambda x: F.normalize(x),
    "cosine": lambda x: F.cosine_similarity(x[:2], x[2:]),
    "root": lambda x: (x * 10000).sqrt(),
    "coefficient": lambda x: 1000 * x.std(0) / x.mean(0),
    "logsumexp": lambda x: x.logsumexp(1),
    "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
    "square root as a power": lambda x: x**0.5,
    "a power": lambda x: x**1.7,
}


COARSE = {"batch norm": 2e-3}
"""Beyond a variance of 2^14, where its domain ends: 1 / σ has 24 fractional bits there, and x has up to 2^15."""


@pytest.mark.parametrize("name", OF_LARGE)
def test_numbers_in_the_thousands(name, session):
    got = tacit.reveal(OF_LARGE[name](tacit.share(TABLE, owner="alice")))

    bound = COARSE.get(name, 2e-4)
    torch.testing.assert_close(got, OF_LARGE[name](TABLE), rtol=bound, atol=bound)


def test_means_of_secret_groups(session):
    group = torch.tensor([1, 0, 1, 0, 1])
    s, g = tacit.share(SALARIES, owner="alice"), tacit.share(group, owner="bob")
    labels = torch.arange(50000) % 2
    predicted = (torch.arange(50000) % 10 > 0).long()
    y, p = tacit.share(labels, owner="alice"), tacit.share(predicted, owner="bob")

    mean = tacit.reveal((s * g).sum() / g.sum())
    precision = tacit.reveal(((y == 1) & (p == 1)).sum() / (p == 1).sum())
    ratio = tacit.reveal(s / tacit.share(30000))

    torch.testing.assert_close(mean, (SALARIES * group).sum() / group.sum(), rtol=1e-6, atol=0)
    assert precision.item() == pytest.approx(25000 / 45000, abs=2e-5)
    torch.testing.assert_close(ratio, SALARIES / 30000, rtol=0, atol=2e-5)


@pytest.mark.parametrize("order", [2.0, 1.0, math.inf, 3.0])
@pytest.mark.parametrize("size", [1e-2, 30000.0])
def test_clipping_of_gradients(order, size, session):
    shapes = [(2,), (3, 2)]
    gradients = [torch.randn(s) * size for s in shapes]
    plain, secret = ([nn.Parameter(torch.zeros(s)) for s in shapes] for _ in range(2))
    hidden = [nn.Parameter(tacit.share(p.detach())) for p in secret]
    for p, h, g in zip(plain, hidden, gradients, strict=True):
        p.grad, h.grad = g.clone(), tacit.share(g)

    norm = nn.utils.clip_grad_norm_(plain, 1.0, order)
    found = nn.utils.clip_grad_norm_(hidden, 1.0, order)

    torch.testing.assert_close(tacit.reveal(found), norm, rtol=1e-3, atol=2e-5)
    off = 2e-4 + 2**-24 * max(float(g.abs().max()) for g in gradients)  # the factor is off by 2^-24
    for p, h in zip(plain, hidden, strict=True):
        torch.testing.assert_close(tacit.reveal(h.grad), p.grad, rtol=2e-3, atol=off)


@pytest.mark.parametrize("exponent", [-1, -2, -3, -4, -6, -0.5, -1.5, -1.3, 0.5, 0.7])
def test_negative_and_broken_powers_of_small_numbers(exponent, session):
    x = torch.tensor([0.0625, 0.125, 0.2, 0.75, 1.5, 3.0] + ([0.01, 0.0125] if exponent > -4 else []))
    held = tacit.reveal(tacit.share(x)).double()

    got = tacit.reveal(tacit.share(x) ** exponent)

    torch.testing.assert_close(got.double(), held**exponent, rtol=1e-4, atol=2**-14)


def test_powers_of_secret_and_public_exponents(session):
    x = torch.tensor([8.7, 100.0, 1000.0, 0.25, 0.0])
    n = torch.tensor([8.0, 4.5, 2.25, 3.0, 2.0])
    whole = torch.tensor([2.0, 3.0, -1.0, 0.0, 2.0])
    signed = torch.tensor([-3.0, -2.0, 4.0, -5.0, 0.0])

    torch.testing.assert_close(tacit.reveal(tacit.share(x) ** tacit.share(n)), x**n, rtol=2e-5, atol=2e-4)
    torch.testing.assert_close(tacit.reveal(tacit.share(x) ** n), x**n, rtol=2e-5, atol=2e-4)
    torch.testing.assert_close(tacit.reveal(tacit.share(signed) ** whole), signed**whole, rtol=2e-5, atol=2e-4)
    torch.testing.assert_close(tacit.reveal(x[:4] ** tacit.share(n[:4])), x[:4] ** n[:4], rtol=2e-5, atol=2e-4)
    torch.testing.assert_close(tacit.reveal(10.0 ** tacit.share(n[2:])), 10.0 ** n[2:], rtol=2e-5, atol=2e-4)


def test_exponentials_up_to_what_the_ring_holds(session):
    x = torch.tensor([-40.0, -1.0, 0.0, 10.0, 11.5, 20.0, 22.5, 30.0, 31.5])

    got = tacit.reveal(tacit.share(x).exp())

    torch.testing.assert_close(got, x.exp(), rtol=2e-6, atol=2**-15)
    torch.testing.assert_close(tacit.reveal(tacit.share(x[1:]).sinh()), x[1:].sinh(), rtol=2e-6, atol=2**-14)


def test_a_number_over_a_large_secret_keeps_its_digits(session):
    x = torch.tensor([1e6, -4e8, 3.0, 0.0001])
    held = tacit.reveal(tacit.share(x))

    torch.testing.assert_close(tacit.reveal(5e7 / tacit.share(x[:3])), 5e7 / held[:3], rtol=2e-6, atol=2e-5)
    torch.testing.assert_close(tacit.reveal(3 / tacit.share(x)), 3 / held, rtol=2e-6, atol=2e-5)
    torch.testing.assert_close(
        tacit.reveal(7 / tacit.share(torch.tensor([2, -4000]))), torch.tensor([3.5, -0.00175]), rtol=0, atol=2e-5
    )


def test_a_large_root_times_a_number_fits(session):
    x = tacit.share(SALARIES)

    got = tacit.reveal(x.std() * 100000), tacit.reveal(x.std() * x), tacit.reveal((x / 5) * x)

    for found, want in zip(
        got, (SALARIES.std() * 100000, SALARIES.std() * SALARIES, SALARIES / 5 * SALARIES), strict=True
    ):
        torch.testing.assert_close(found, want, rtol=1e-5, atol=0)


WRITTEN = {
    "neg_": lambda t: t.neg_(),
    "an element": lambda t: t.__setitem__(0, -2.0),
    "fill_": lambda t: t.fill_(-2.0),
    "sub_": lambda t: t.sub_(5.0),
    "sub_ of a view": lambda t: t[:1].sub_(5.0),
    "copy_": lambda t: t.copy_(torch.tensor([-1.0, -2.0])),
    "index_put_": lambda t: t.index_put_((torch.tensor([0]),), torch.tensor([-8.0])),
    "mul_": lambda t: t.mul_(-1.5),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_root_that_is_written_to_may_be_negative(name, session):
    plain = torch.tensor([4.0, 9.0]).sqrt()
    secret = tacit.share(torch.tensor([4.0, 9.0])).sqrt()

    for t in (plain, secret):
        WRITTEN[name](t)

    torch.testing.assert_close(tacit.reveal(5 / secret), 5 / plain, rtol=1e-5, atol=2e-5)


@pytest.mark.unchecked  # an epsilon below a unit is zero, and zero by zero is what the check stops at
def test_zero_rows_stay_zero(session):
    rows = torch.zeros(3000, 32)
    weight = tacit.share(torch.randn(16, 32) / 6)

    got = tacit.reveal(F.normalize(F.linear(tacit.share(rows, owner="alice"), weight)))
    similar = tacit.reveal(F.cosine_similarity(tacit.share(rows[:8]), tacit.share(torch.ones(8, 32))))

    assert got.norm(dim=1).max() <= 1e-3
    assert similar.abs().max() == 0
