"""Variances, products, running results, and further functions of numbers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import tacit
from tacit.errors import DataError

from .rows import A, X, bits, natural, positive, real, row, unit, whole
from .test_operators import agree, agree_on_gradients, draw, secretly, variants

aten = torch.ops.aten
P = positive(*A)

ROWS = [
    *(row(overload, real(2, 3, 4), dim, correction=correction, keepdim=keepdim, tolerance=2**-9)
      for overload in (aten.var.correction, aten.std.correction, aten.var_mean.correction, aten.std_mean.correction)
      for dim, correction, keepdim in ((None, None, False), ([1], 0, True), ([0, -1], 2, False))),
    row(aten.prod.default, real(2, 3), tolerance=2**-9),
    row(aten.prod.default, real(0)),
    row(aten.prod.default, real()),
    row(aten.prod.default, whole(5)),
    row(aten.prod.default, bits(4)),
    *(row(aten.prod.dim_int, real(3, n), -1, n % 2 == 0, tolerance=2**-9) for n in (1, 2, 5)),
    row(aten.cumprod.default, P, 1, tolerance=2**-5),
    row(aten.cumprod.default, natural(4), 0),
    row(aten.logcumsumexp.default, X, 1, tolerance=2**-9),
    row(aten.logcumsumexp.default, real(), 0),
    *(row(overload, x, dim) for overload in (aten.cummax.default, aten.cummin.default)
      for x, dim in ((real(3, 5), 1), (real(5, 2), 0), (whole(7), 0), (real(), 0))),
    row(aten.xlogy.Tensor, real(*A), P, tolerance=2**-9),
    row(aten.xlogy.Scalar_Self, 2.0, P, tolerance=2**-9),
    row(aten.xlogy.Scalar_Other, X, 3.0, tolerance=2**-10),
    row(aten.pow.Tensor_Tensor, P, real(*A), tolerance=2**-8),
    row(aten.pow.Tensor_Tensor, P, torch.tensor([2.0, -1.5, 0.5, 3.0]), tolerance=2**-6),
    row(aten.pow.Tensor_Tensor, real(*A), torch.full((4,), 3.0), tolerance=2**-7, constants=(1,)),
    row(aten.pow.Tensor_Tensor, torch.tensor([2.0, 0.5, 3.0, 1.0]), real(*A), tolerance=2**-8),
    *(row(overload, X, tolerance=2**-8) for overload in (aten.sinh.default, aten.cosh.default)),
    row(aten.tan.default, unit(*A), tolerance=2**-8),
    row(aten.hypot.default, P, real(4), tolerance=2**-9),
    *(row(overload, X, real(4)) for overload in (aten.fmax.default, aten.fmin.default)),
    row(aten.addbmm.default, real(3, 5), real(2, 3, 4), real(2, 4, 5), beta=0.5, alpha=2.0, tolerance=2**-9),
    row(aten.put.default, X, torch.tensor([[0, 5], [11, 3]]), real(2, 2)),
    row(aten.put.default, X, torch.tensor([5, 5]), real(2), True),
    *(row(aten._cdist_forward.default, real(2, 3, 4), real(2, 5, 4), p, None, tolerance=2**-8)
      for p in (2.0, 1.0, float("inf"))),
    row(aten._trilinear.default, real(3, 4), real(2, 4, 5), real(3, 5), [1, 3], [0], [1, 2], [2, 3], tolerance=2**-9),
    *(row(overload, real(*A), real(*A), 0.5, grad=False)
      for overload in (aten.softshrink_backward.default, aten.hardshrink_backward.default)),
]  # fmt: skip

IN_PLACE = [
    row(aten.cumprod_.default, P, 1, tolerance=2**-5),
    row(aten.hypot_.default, P, real(4), tolerance=2**-9),
    row(aten.xlogy_.Tensor, X, positive(4), tolerance=2**-9),
    row(aten.xlogy_.Scalar_Other, X, 3.0, tolerance=2**-9),
    row(aten.sinh_.default, X, tolerance=2**-8),
    row(aten.cosh_.default, X, tolerance=2**-8),
    row(aten.tan_.default, unit(*A), tolerance=2**-8),
    row(aten.addbmm_.default, real(3, 5), real(2, 3, 4), real(2, 4, 5), tolerance=2**-9),
    row(aten.put_.default, X, torch.tensor([0, 5]), real(2)),
]

ROUNDINGS = (torch.floor, torch.ceil, torch.round, torch.trunc)

COVERS = {
    *(r.overload for r in [*ROWS, *IN_PLACE]),
    *(getattr(aten, f.__name__ + twin).default for f in ROUNDINGS for twin in ("", "_")),
    aten._cdist_backward.default,
    aten.multi_margin_loss_backward.default,
    aten.multilabel_margin_loss_forward.default,
    aten.multilabel_margin_loss_backward.default,
}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operator_agrees_with_pytorch(row, session, random):
    for public in variants(row):
        args = draw(row, random)
        secrets = secretly(row, args, public)

        got = row.overload(*secrets, **row.kwargs)

        agree(got, row.overload(*args, **row.kwargs), row.tolerance)
        if row.grad:
            agree_on_gradients(row.overload, (args, row.kwargs), (secrets, row.kwargs), row.tolerance, row.constants)


@pytest.mark.parametrize("row", IN_PLACE, ids=str)
def test_operator_in_place_agrees_with_pytorch(row, session, random):
    for public in variants(row, first_secret=True):
        args = draw(row, random)
        secrets = secretly(row, args, public)

        result = row.overload(*secrets, **row.kwargs)

        assert result is secrets[0]
        agree(secrets[0], row.overload(*args, **row.kwargs), row.tolerance)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 1.5, float("inf"), -float("inf")])
def test_norms_of_any_order_agree(order, session, random):
    x = torch.randn(3, 4, generator=random)

    def norm(x):
        return torch.linalg.vector_norm(x, order, 1)

    agree(norm(tacit.share(x)), norm(x), 2**-9)
    if order != 0:
        agree_on_gradients(norm, ([x], {}), ([tacit.share(x)], {}), 2**-8)


@pytest.mark.parametrize("exponent", [3, 5, 7, 9, 2.5, -1.3, 0.7])
def test_powers_agree_where_others_fail(exponent, session):
    x = torch.linspace(0.25, 2.5, 40)
    if exponent % 2 == 1:
        x = torch.cat([-x, x])

    agree(tacit.share(x) ** exponent, x**exponent, 2**-10)
    agree_on_gradients(lambda x: x**exponent, ([x], {}), ([tacit.share(x)], {}), 2**-10)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 1.0, 2.0, 1.5])])
def test_margin_losses_agree(p, weight, session, random):
    x, target = torch.randn(3, 4, generator=random), torch.tensor([1, 0, 3])

    def loss(x):
        return F.multi_margin_loss(x, target, p=p, weight=weight)

    agree(loss(tacit.share(x)), loss(x), 2**-10)
    agree_on_gradients(loss, ([x], {}), ([tacit.share(x)], {}), 2**-10)


@pytest.mark.parametrize("p", [2.0, 1.0, float("inf")])
def test_distances_have_gradients(p, session, random):
    x, y = torch.randn(3, 4, generator=random), torch.randn(5, 4, generator=random)

    agree_on_gradients(lambda x, y: torch.cdist(x, y, p), ([x, y], {}), ([tacit.share(x), tacit.share(y)], {}), 2**-8)


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_rounding_of_what_is_public_stays_public(rounding, session):
    public = torch.full_like(tacit.share(torch.tensor([1.5])), 1.25)

    agree(rounding(public), rounding(torch.tensor([1.25])), 0)


def test_variances_that_are_not_numbers_are_refused(session):
    with pytest.raises(DataError, match="not a number"):
        tacit.share(torch.ones(1)).var()
    with pytest.raises(RuntimeError, match="only support floating point"):
        torch.ops.aten.var.correction(tacit.share(torch.arange(3)), None)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_margins_of_several_labels_agree_with_pytorch(reduction, session, random):
    x = torch.randn(5, 4, generator=random)
    target = torch.tensor([[0, 2, -1, 1], [1, -1, 0, 0], [3, 2, 1, 0], [-1, -1, -1, -1], [2, 2, -1, 0]])

    def loss(x, target):
        return F.multilabel_margin_loss(x, target, reduction=reduction)

    agree(loss(tacit.share(x), target), loss(x, target), 2**-12)
    agree_on_gradients(loss, ([x, target], {}), ([tacit.share(x), target], {}), 2**-12)
    agree(loss(tacit.share(x[0]), target[0]), loss(x[0], target[0]), 2**-12)
