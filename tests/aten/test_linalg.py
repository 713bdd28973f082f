"""Linear algebra of small secret matrices, beside PyTorch's: results, gradients, public operands, refusals."""

from __future__ import annotations

import pytest
import torch
from torch.linalg import LinAlgError

import tacit
from tacit.errors import UnsupportedOperator

L = torch.linalg
aten = torch.ops.aten
COVERS = {
    *(getattr(aten, name).default for name in ("_linalg_det", "_linalg_slogdet", "_linalg_solve_ex", "cholesky")),
    *(getattr(aten, name).default for name in ("cholesky_inverse", "cholesky_solve", "linalg_cholesky_ex")),
    *(getattr(aten, name).default for name in ("linalg_inv_ex", "linalg_lstsq", "linalg_lu_solve")),
    aten.linalg_pinv.atol_rtol_tensor,
    aten.linalg_solve_triangular.default,
}


@pytest.fixture(scope="module", autouse=True)
def session():
    with tacit.session(seed=1) as opened:
        yield opened


@pytest.fixture
def random(request):
    return torch.Generator().manual_seed(sum(map(ord, request.node.name)))


def drawn(random, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=random)


def regular(random, *shape: int) -> torch.Tensor:
    """Of a condition number that is not large."""
    u, _ = L.qr(drawn(random, *shape))
    v, _ = L.qr(drawn(random, *shape[:-2], shape[-1], shape[-1]))
    return (u * torch.linspace(0.5, 2, shape[-1])) @ v


def definite(random, *shape: int) -> torch.Tensor:
    a = drawn(random, *shape)
    return a @ a.mT / shape[-1] + 0.5 * torch.eye(shape[-1])


CALLS = {
    "inv": (L.inv, lambda g: [regular(g, 2, 3, 3)]),
    "inv of a number": (L.inv, lambda g: [torch.tensor([[4.0]])]),
    "inv of a transposed": (lambda a: L.inv(a.mT), lambda g: [regular(g, 4, 4)]),
    "torch.inverse": (torch.inverse, lambda g: [regular(g, 3, 3)]),
    "matrix_power": (lambda a: L.matrix_power(a, -2), lambda g: [regular(g, 3, 3)]),
    "solve": (L.solve, lambda g: [regular(g, 4, 4), drawn(g, 4, 2)]),
    "solve a vector": (L.solve, lambda g: [regular(g, 4, 4), drawn(g, 4)]),
    "solve batches": (L.solve, lambda g: [regular(g, 2, 3, 3), drawn(g, 2, 3)]),
    "solve from the right": (lambda a, b: L.solve(a, b, left=False), lambda g: [regular(g, 3, 3), drawn(g, 2, 3)]),
    "solve a transposed": (lambda a, b: L.solve(a.mT, b), lambda g: [regular(g, 3, 3), drawn(g, 3, 2)]),
    "cholesky": (L.cholesky, lambda g: [definite(g, 2, 3, 3)]),
    "cholesky, upper": (lambda a: L.cholesky(a, upper=True), lambda g: [definite(g, 3, 3)]),
    "cholesky_solve": (
        lambda b, a: torch.cholesky_solve(b, L.cholesky(a)),
        lambda g: [drawn(g, 3, 2), definite(g, 3, 3)],
    ),
    "cholesky_inverse": (lambda a: torch.cholesky_inverse(L.cholesky(a)), lambda g: [definite(g, 3, 3)]),
    "solve_triangular": (
        lambda a, b: L.solve_triangular(a + 2 * torch.eye(5), b, upper=True),
        lambda g: [drawn(g, 5, 5).triu() / 2, drawn(g, 5, 2)],
    ),
    "solve_triangular, lower, from the right": (
        lambda a, b: L.solve_triangular(a, b, upper=False, left=False, unitriangular=True),
        lambda g: [drawn(g, 3, 3).tril() / 2, drawn(g, 2, 3)],
    ),
    "lstsq": (lambda a, b: L.lstsq(a, b).solution, lambda g: [regular(g, 9, 3), drawn(g, 9, 1)]),
    "lstsq of few rows": (lambda a, b: L.lstsq(a, b).solution, lambda g: [regular(g, 6, 2).mT, drawn(g, 2, 1)]),
    "pinv": (L.pinv, lambda g: [regular(g, 6, 3)]),
    "pinv of few rows": (L.pinv, lambda g: [regular(g, 6, 3).mT.clone()]),
    "det": (L.det, lambda g: [drawn(g, 2, 4, 4)]),
    "det of a singular matrix": (L.det, lambda g: [torch.tensor([[1.0, 2.0], [2.0, 4.0]])]),
    "slogdet": (lambda a: L.slogdet(a)[1], lambda g: [regular(g, 3, 3)]),
}
WITHOUT_GRADIENT = {"det of a singular matrix"}


@pytest.mark.parametrize("name", CALLS)
def test_results_and_gradients_are_those_of_pytorch(name, random):
    call, make = CALLS[name]
    plain = [x.clone().requires_grad_() for x in make(random)]
    hidden = [tacit.share(x.detach()).requires_grad_() for x in plain]

    want, got = call(*plain), call(*hidden)
    torch.testing.assert_close(tacit.reveal(got.detach()), want.detach(), atol=2**-9, rtol=2**-9)
    if name in WITHOUT_GRADIENT:
        return
    grad = drawn(random, *want.shape)
    want.backward(grad)
    got.backward(grad)

    for ours, theirs in zip(hidden, plain, strict=True):
        torch.testing.assert_close(tacit.reveal(ours.grad), theirs.grad, atol=2**-8, rtol=2**-8)


@pytest.mark.parametrize("rows", [40, 3])
def test_a_public_operand_stays_public(rows, random):
    a, b = regular(random, rows, 3), drawn(random, rows, 1)
    square, right = regular(random, 3, 3), drawn(random, 3, 1)

    for left, other in ((a, tacit.share(b)), (tacit.share(a), b)):
        got = tacit.reveal(L.lstsq(left, other).solution)
        torch.testing.assert_close(got, L.lstsq(a, b).solution, atol=2**-9, rtol=0)
    for left, other in ((square, tacit.share(right)), (tacit.share(square), right)):
        torch.testing.assert_close(tacit.reveal(L.solve(left, other)), L.solve(square, right), atol=2**-9, rtol=0)


def test_an_inverse_is_as_good_as_its_rounded_matrix_up_to_the_end_of_the_domain(random):
    u, v = (L.qr(drawn(random, 8, 8))[0] for _ in range(2))
    a = (u * torch.logspace(0, -8, 8, base=2)) @ v
    rounded = (a.double() * 2**16).round() / 2**16

    got = tacit.reveal(L.inv(tacit.share(a)))

    off = float((got - L.inv(rounded)).abs().max() / L.inv(rounded).abs().max())
    assert off < 2**-12


def test_singular_public_matrices_and_wrong_shapes_are_refused():
    with pytest.raises(LinAlgError, match="singular"):
        L.solve(torch.ones(2, 2), tacit.share(torch.ones(2, 1)))
    with pytest.raises((ValueError, RuntimeError), match="square"):
        L.inv(tacit.share(torch.ones(2, 3)))
    with pytest.raises((ValueError, RuntimeError)):
        L.solve(tacit.share(torch.eye(3)), tacit.share(torch.ones(2, 1)))


def test_a_logarithm_of_a_determinant_that_may_be_no_number_says_what_to_write():
    with pytest.raises(UnsupportedOperator, match="slogdet"):
        torch.logdet(tacit.share(torch.eye(2)))


def test_a_single_number_has_a_gradient_and_foreign_factors_are_refused(random):
    a = tacit.share(torch.tensor([[4.0]])).requires_grad_()
    L.solve(a, torch.tensor([[2.0]])).sum().backward()
    assert float(tacit.reveal(a.grad)) == pytest.approx(-0.125, abs=2**-12)

    factors, pivots = L.lu_factor(regular(random, 3, 3))
    with pytest.raises(UnsupportedOperator, match=r"torch\.linalg\.solve"):
        L.lu_solve(tacit.share(factors), pivots, torch.ones(3, 1))


@pytest.mark.filterwarnings("ignore:torch.cholesky is deprecated")
@pytest.mark.parametrize("upper", [False, True])
def test_the_older_name_of_cholesky(random, upper):
    a = definite(random, 3, 3)

    torch.testing.assert_close(
        tacit.reveal(torch.cholesky(tacit.share(a), upper)), L.cholesky(a, upper=upper), atol=1e-3, rtol=0
    )
