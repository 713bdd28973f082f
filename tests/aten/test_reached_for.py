"""Operators that people reach for now and then: masks, pairs, histograms, angles, grids, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import tacit
from tacit.errors import UnsupportedOperator

F = nn.functional
aten = torch.ops.aten
ANGLES = ("acos", "acosh", "asin", "asinh", "atan", "atanh")
COVERS = {
    *(getattr(aten, f"{name}{end}").default for name in (*ANGLES, "atan2") for end in ("", "_")),
    *(getattr(getattr(aten, f"copysign{end}"), kind) for end in ("", "_") for kind in ("Scalar", "Tensor")),
    *(
        getattr(aten, f"_upsample_{kind}2d_aa{end}").default
        for kind in ("bilinear", "bicubic")
        for end in ("", "_backward")
    ),
    *(getattr(aten, name).default for name in ("_pdist_forward", "_pdist_backward", "angle", "signbit", "histc")),
    *(getattr(aten, name).default for name in ("masked_select", "masked_scatter", "masked_scatter_")),
    *(getattr(aten, name).default for name in ("masked_scatter_backward", "diagonal_scatter", "as_strided_scatter")),
    *(getattr(aten, name).default for name in ("is_pinned", "_pin_memory", "dense_dim", "sparse_dim")),
    *(getattr(aten, name).default for name in ("_has_same_storage_numel", "_new_zeros_with_same_feature_meta")),
    aten.grid_sampler_2d_backward.default,
    aten.histogram.bin_ct,
    aten.histogram.bins_tensor,
}
MASK = torch.tensor([[True, False, True], [False, False, True]])
GRID = torch.rand((2, 3, 4, 2), generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1


@pytest.fixture(scope="module", autouse=True)
def session():
    with tacit.session(seed=1) as opened:
        yield opened


def real(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).mul(256).round() / 256


def grid(**options):
    return lambda x: F.grid_sample(x, GRID, **options)


CALLS = {
    "masked_select": (lambda x: x.masked_select(MASK), [real(2, 3)]),
    "masked_select, spread": (lambda x: x.masked_select(MASK[:, :1]), [real(2, 3)]),
    "masked_scatter": (lambda x, y: x.masked_scatter(MASK, y), [real(2, 3), real(5)]),
    "masked_scatter into public": (lambda y: torch.ones(2, 3).masked_scatter(MASK, y), [real(5)]),
    "masked_scatter, spread": (lambda x, y: x.masked_scatter(MASK[:, :1], y), [real(2, 3), real(5)]),
    "masked_scatter_": (lambda x, y: x.clone().masked_scatter_(MASK, y), [real(2, 3), real(5)]),
    "diagonal_scatter": (torch.diagonal_scatter, [real(2, 3), real(2)]),
    "combinations": (torch.combinations, [real(4)]),
    "vander": (lambda x: torch.vander(x.detach(), 3), [real(4)]),
    "pdist": (F.pdist, [real(4, 3)]),
    "pdist of order 1": (lambda x: F.pdist(x, 1), [real(4, 3)]),
    "pdist, the largest": (lambda x: F.pdist(x, math.inf), [real(4, 3)]),
    "histc": (lambda x: torch.histc(x.detach(), 4, -1, 1), [torch.tensor([-1.0, 1.0, 0.5, 0.25, -3.0, 2.0, 0.0])]),
    "histogram": (lambda x: torch.histogram(x.detach(), torch.tensor([-1.0, 0.0, 2.0]))[0], [real(9)]),
    "interpolate smoothly": (
        lambda x: F.interpolate(x, size=(3, 4), mode="bilinear", antialias=True),
        [real(1, 2, 6, 5)],
    ),
    "interpolate smoothly, cubic": (
        lambda x: F.interpolate(x, scale_factor=0.6, mode="bicubic", antialias=True, align_corners=False),
        [real(1, 2, 6, 5)],
    ),
    **{
        f"grid_sample, {p}": (grid(padding_mode=p, align_corners=False), [real(2, 2, 6, 5)])
        for p in ("zeros", "border")
    },
    "grid_sample, nearest": (grid(mode="nearest", align_corners=True), [real(2, 2, 6, 5)]),
    "asin": (torch.asin, [torch.linspace(-0.95, 0.95, 9)]),
    "acos": (torch.acos, [torch.linspace(-0.95, 0.95, 9)]),
    "atan": (torch.atan, [torch.tensor([-500.0, -2.0, -0.5, 0.0, 0.25, 1.0, 30.0])]),
    "atan2": (torch.atan2, [torch.tensor([1.0, -1.0, 2.0, -0.5]), torch.tensor([0.5, 0.25, -3.0, -0.5])]),
    "asinh": (torch.asinh, [torch.tensor([-100.0, -2.0, 0.0, 0.5, 30.0])]),
    "acosh": (torch.acosh, [torch.tensor([1.25, 2.0, 30.0])]),
    "atanh": (torch.atanh, [torch.linspace(-0.9, 0.9, 7)]),
    "copysign": (lambda x: torch.copysign(x, -2.0), [real(5)]),
    "signbit": (lambda x: torch.signbit(x.detach()), [real(5)]),
}


@pytest.mark.parametrize("name", CALLS)
def test_results_and_gradients_are_those_of_pytorch(name):
    call, operands = CALLS[name]
    plain = [x.clone().requires_grad_() for x in operands]
    hidden = [tacit.share(x).requires_grad_() for x in operands]

    want, got = call(*plain), call(*hidden)
    assert got.dtype == want.dtype
    torch.testing.assert_close(tacit.reveal(got.detach()), want.detach(), atol=2**-13, rtol=2**-13)
    if not want.requires_grad:
        return
    grad = real(*want.shape)
    want.backward(grad)
    got.backward(tacit.share(grad))

    for ours, theirs in zip(hidden, plain, strict=True):
        torch.testing.assert_close(tacit.reveal(ours.grad), theirs.grad, atol=2**-11, rtol=2**-11)


def test_a_secret_grid():
    image, got = real(1, 2, 3, 4), F.grid_sample(real(1, 2, 3, 4), tacit.share(GRID[:1]), align_corners=True)

    torch.testing.assert_close(
        tacit.reveal(got), F.grid_sample(image, GRID[:1], align_corners=True), atol=2**-9, rtol=0
    )


def test_angles_on_the_axes():
    y, x = torch.tensor([0.0, 0.0, 0.0, 1.0, -1.0]), torch.tensor([0.0, 1.0, -1.0, 0.0, 0.0])
    ends = torch.tensor([-1.0, 1.0])

    torch.testing.assert_close(
        tacit.reveal(torch.atan2(tacit.share(y), tacit.share(x))), torch.atan2(y, x), atol=2**-13, rtol=0
    )
    torch.testing.assert_close(tacit.reveal(torch.asin(tacit.share(ends))), ends.asin(), atol=2**-7, rtol=0)


@pytest.mark.parametrize("dim", [0, 1])
def test_secret_indices_along_a_dimension(dim):
    x, i = real(2, 3), torch.tensor([[0, 1, -1]]) if dim == 0 else torch.tensor([[0, -1], [2, 0]])
    i = i.clamp(-2, 1) if dim == 0 else i

    got = torch.take_along_dim(tacit.share(x), tacit.share(i), dim)

    assert torch.equal(tacit.reveal(got), torch.take_along_dim(x, i, dim))


@pytest.mark.parametrize("limit", [1.0, math.inf])
def test_clipping_asks_whether_norms_are_finite(limit):
    model = tacit.share(nn.Linear(3, 2))
    model(tacit.share(torch.ones(2, 3))).sum().backward()

    norm = nn.utils.clip_grad_norm_(model.parameters(), limit, error_if_nonfinite=True)

    assert float(tacit.reveal(norm)) == pytest.approx(math.sqrt(32), abs=2**-8)
    assert float(tacit.reveal(model.bias.grad)[0]) == pytest.approx(2 * min(1, limit / math.sqrt(32)), abs=2**-8)


def test_a_check_that_is_public_by_itself_may_decide():
    x = tacit.share(real(3))

    assert not torch.isnan(x).any()
    with pytest.raises(tacit.TacitError, match="reveal"):
        bool((x > 0).any())


REFUSED = {
    "a secret mask": (lambda x: x.masked_scatter(x > 0, x), "torch.where"),
    "a range that is secret": (lambda x: torch.histc(x, 4), "min and max"),
    "bins without a range": (lambda x: torch.histogram(x, 4), "range="),
    "LBFGS": (lambda x: torch.optim.LBFGS([nn.Parameter(x)]).step(lambda: x.sum()), "lstsq"),
    "CTC": (
        lambda x: F.ctc_loss(x.view(3, 1, 3), torch.tensor([[1]]), torch.tensor([3]), torch.tensor([1])),
        "logsumexp",
    ),
    "the gradient of a secret grid": (
        lambda x: (
            F.grid_sample(torch.ones(1, 1, 2, 2), x.view(1, 3, 3, 1)[..., [0, 0]].requires_grad_(), align_corners=True)
            .sum()
            .backward()
        ),
        "public grid",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_to_write(name):
    call, instead = REFUSED[name]

    with pytest.raises(UnsupportedOperator, match=instead):
        call(tacit.share(real(3, 3)))


@pytest.mark.parametrize("name", ANGLES)
def test_angles_in_place(name):
    x = torch.tensor([0.5, -0.25, 0.75]) + (1.5 if name == "acosh" else 0)
    secret = tacit.share(x)

    returned = getattr(secret, f"{name}_")()

    assert returned is secret
    torch.testing.assert_close(tacit.reveal(secret), getattr(torch, name)(x), atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", ["atan2", "copysign"])
@pytest.mark.parametrize("public", [False, True])
def test_signs_and_angles_of_two(name, public):
    x, y = torch.tensor([0.5, -0.25, 0.75, -2.0]), torch.tensor([1.5, 0.5, -0.25, -1.0])
    secret, other = tacit.share(x), y if public else tacit.share(y)

    torch.testing.assert_close(
        tacit.reveal(getattr(torch, name)(secret, other)), getattr(torch, name)(x, y), atol=2e-4, rtol=0
    )
    getattr(secret, f"{name}_")(other)
    torch.testing.assert_close(tacit.reveal(secret), getattr(torch, name)(x, y), atol=2e-4, rtol=0)


def test_signs_of_a_number_and_angles_of_reals():
    x = torch.tensor([0.5, -0.25, 0.0, -2.0])

    assert tacit.reveal(torch.copysign(tacit.share(x), -1.0)).tolist() == torch.copysign(x, -1.0).tolist()
    assert tacit.reveal(tacit.share(x).copysign_(1.0)).tolist() == torch.copysign(x, 1.0).tolist()
    torch.testing.assert_close(tacit.reveal(torch.angle(tacit.share(x))), torch.angle(x), atol=2e-4, rtol=0)


def test_a_part_of_a_strided_tensor_is_replaced():
    x, part = real(3, 4), real(2, 2)

    got = torch.as_strided_scatter(tacit.share(x), tacit.share(part), (2, 2), (4, 1), 1)

    assert torch.equal(tacit.reveal(got), torch.as_strided_scatter(x, part, (2, 2), (4, 1), 1))


def test_questions_about_memory_have_the_answers_of_a_dense_tensor():
    x = tacit.share(real(2, 3))

    assert (x.dense_dim(), x.sparse_dim(), x.is_pinned()) == (2, 0, False)
    with pytest.raises(RuntimeError, match="accelerator"):  # PyTorch's own words, where there is none
        x.pin_memory()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # PyTorch imports it
def test_forward_derivatives():
    x, v = real(4), real(4).flip(0)

    with forward_ad.dual_level():
        dual = forward_ad.make_dual(tacit.share(x), tacit.share(v))
        value, tangent = forward_ad.unpack_dual((dual * dual).sum())

    torch.testing.assert_close(tacit.reveal(value), (x * x).sum(), atol=1e-3, rtol=0)
    torch.testing.assert_close(tacit.reveal(tangent), 2 * (x * v).sum(), atol=1e-3, rtol=0)
