"""Linear algebra of small matrices: inverses, solutions, determinants, triangular factors, and least squares.

PyTorch differentiates them by formulas of products and of these operators again. Where its formulas read factors that
its own solver keeps, an LU decomposition, ours keep what `linalg_lu_solve` makes of it: the inverse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.functions.matrices import SMALLEST, newton_schulz
from tacit.protocols.number import Number
from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import above_autograd
from tacit.tensor.operands import arithmetic, as_secret, plain, protocol_of, public_secret, secret
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Tensor
"""Public or secret."""

CONDITION = 2.0**8
"""The condition number that an inverse is made for. Larger: two steps more for each factor of 4."""

OURS = 1
"""Stands for every pivot where an inverse is kept. In a decomposition the last of n pivots is n, so a single row, whose
pivot is 1, keeps itself."""

GRAM_BITS, NORM_BITS = 28, 24
"""Fractional bits of a matrix and of the inverse of its norm, whose product is at most 1. Larger: less rounding, but a
matrix must stay below 2^34."""


def _check_square(name: str, a: Tensor) -> None:
    if a.dim() < 2 or a.shape[-1] != a.shape[-2]:
        raise DataError(f"torch.linalg.{name}: the matrix must be square, and it is {tuple(a.shape)}")


def inverse(a: Operand) -> Tensor:
    """A^-1 = r (r A)^-1 for r = 1 / √Σa², from X = (r A)ᵀ on; a public matrix is inverted in public.

    Domain: condition numbers up to 2^8, with 16 rows; entries of A^-1 below 2^11; Σa² as `functions.rsqrt`.
    Error: about n 2^-24 of the largest element, times the condition number.   Cost: 16 rounds and 60.
    """
    known = plain(a)
    if known is not None:
        return _public_inverse(known)
    if not a.numel():
        return a.clone()
    norm = _share((a * a).sum((-2, -1), keepdim=True).rsqrt())
    b = _scaled(_share(a), norm)
    x = newton_schulz(b, b.move(lambda t: t.transpose(-2, -1), view=False), _smallest(a))
    return _times(x, norm, a.dtype)


def gram_inverse(g: Tensor) -> Tensor:
    """About G^-1 = (G / t)^-1 / t for a positive definite G, t its trace, from X = 1 on; a refinement has to follow."""
    norm = _share(g.diagonal(0, -2, -1).sum(-1)[..., None, None].reciprocal())
    b = _scaled(_share(g), norm)
    x = arithmetic(public_secret(protocol_of(g), torch.eye(g.shape[-1]).expand(g.shape).contiguous()))
    return _times(newton_schulz(b, x, _smallest(g), 1 / SMALLEST), norm, g.dtype)


def _smallest(a: Tensor) -> float:
    return max(SMALLEST, 1 / (a.shape[-1] * CONDITION**2))


def _share(x: Tensor) -> Number:
    return arithmetic(as_secret(x))


def _scaled(x: Number, norm: Number) -> Number:
    """x / its norm, at most 1."""
    x.protocol.together(*(v for v, most in ((x, GRAM_BITS), (norm, NORM_BITS)) if v.frac_bits > most))
    return x.protocol.multiply(x.settle(GRAM_BITS), norm.settle(NORM_BITS))


def _times(x: Number, norm: Number, dtype: torch.dtype) -> SecretTensor:
    return secret(x.protocol.multiply(x, norm.settle(NORM_BITS)).settle(NORM_BITS), dtype)


def _public_inverse(a: Tensor) -> Tensor:
    """Gauss-Jordan with pivots, in sums and products that are the same on every machine, and no library's."""
    rows = torch.cat([a.to(torch.float64), torch.eye(a.shape[-1], dtype=torch.float64).expand(a.shape)], -1)
    n = a.shape[-1]
    out = []
    for matrix in rows.reshape(-1, n, 2 * n).unbind(0) if a.numel() else ():
        m = matrix.clone()
        for k in range(n):
            pivot = k + int(m[k:, k].abs().argmax())
            m[[k, pivot]] = m[[pivot, k]]
            if m[k, k] == 0:
                raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
                    f"the public matrix is singular: its pivot {k + 1} is zero"
                )
            m[k] = m[k] / m[k, k]
            factors = m[:, k].clone()
            factors[k] = 0
            m = m - factors[:, None] * m[k]
        out.append(m[:, n:])
    return torch.stack(out).reshape(a.shape) if out else a.clone()


def _pivots(a: Tensor) -> Tensor:
    """What stands for the pivots that were not chosen."""
    return torch.full(a.shape[:-1], OURS, dtype=torch.int32)


def _no_error(a: Tensor) -> Tensor:
    return torch.zeros(a.shape[:-2], dtype=torch.int32)


def _kept(a: Tensor, compute: Callable[[], Tensor]) -> SecretTensor:
    """What stands for an LU decomposition in a determinant's gradient; computed when needed."""
    return SecretTensor(lambda: _share(compute()), a.dtype, protocol=protocol_of(a), shape=a.shape)


# --- inverses and solutions -------------------------------------------------------------------------------------------


@implements(aten.linalg_inv_ex.default)
def linalg_inv(func: Any, a: SecretTensor, *, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """A^-1, see `inverse`; a singular matrix is not noticed."""
    _check_square("inv", a)
    return as_secret(inverse(a), a), _no_error(a)


@implements(aten._linalg_solve_ex.default)
def linalg_solve(
    func: Any, a: Operand, b: Operand, *, left: bool = True, check_errors: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A^-1 B, or B A^-1; see `inverse`. A singular matrix is not noticed."""
    _check_square("solve", a)
    inverted = inverse(a)
    vector = b.dim() == 1 or (b.dim() == a.dim() - 1 and b.shape == a.shape[:-1])
    columns = (b.unsqueeze(-1) if vector else b).to(inverted.dtype)  # a public inverse is in float64
    x = inverted @ columns if left else columns @ inverted
    out = as_secret(x.squeeze(-1) if vector else x, a, b).to(torch.promote_types(a.dtype, b.dtype))
    kept = inverted if a.shape[-1] > 1 else a
    return out, kept.to(a.dtype).clone(), _pivots(a), _no_error(a)


@implements(aten.linalg_lu_solve.default)
def lu_solve(
    func: Any, kept: Operand, pivots: Tensor, b: Operand, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """What gradients ask for: a product with the inverse that the operators of this file keep for LU."""
    if isinstance(pivots, SecretTensor) or not bool((pivots == OURS).all()):
        raise unsupported("torch.linalg.lu_solve of factors", "write torch.linalg.solve with the matrix itself")
    if kept.shape[-1] == 1:
        return b / kept
    inverted = kept.mT if adjoint else kept
    return inverted @ b if left else b @ inverted


@above_autograd(aten.linalg_lu_solve.default)
def foreign_factors(
    kept: Operand, pivots: Tensor, b: Operand, *, left: bool = True, adjoint: bool = False
) -> Tensor | None:
    """Secret pivots are none of ours: PyTorch would find fault with the zeros that stand for them."""
    if isinstance(pivots, SecretTensor):
        raise unsupported("torch.linalg.lu_solve of factors", "write torch.linalg.solve with the matrix itself")
    return None


@implements(aten.linalg_solve_triangular.default)
def solve_triangular(
    func: Any, a: Operand, b: Operand, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """A^-1 B for a triangular A = D (1 - N):  (1 + N^(2^k)) … (1 + N^2) (1 + N) D^-1 B, as N^n is zero.

    Cost: one reciprocal, and log2 n products.
    """
    _check_square("solve_triangular", a)
    if not left:
        return solve_triangular(func, a.mT, b.mT, upper=not upper, unitriangular=unitriangular).mT.clone()
    strict = a.triu(1) if upper else a.tril(-1)
    if unitriangular:
        power, x = -strict, b
    else:
        inverted = a.diagonal(0, -2, -1).reciprocal().unsqueeze(-1)
        power, x = -(inverted * strict), inverted * b
    reach = 1
    while reach < a.shape[-1]:
        x = x + power @ x
        reach *= 2
        if reach < a.shape[-1]:
            power = power @ power
    return as_secret(x.expand(*_batch(a, b), *b.shape[-2:]).clone(), a, b)


def _batch(a: Tensor, b: Tensor) -> torch.Size:
    return torch.Size(torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]))


# --- factors ----------------------------------------------------------------------------------------------------------


@implements(aten.linalg_cholesky_ex.default)
def linalg_cholesky(
    func: Any, a: SecretTensor, *, upper: bool = False, check_errors: bool = False
) -> tuple[Tensor, Tensor]:
    """L with L Lᵀ = A, column by column; what is not positive definite is not noticed.

    Domain: pivots, the squares of L's diagonal, as `functions.rsqrt`.   Error: about n 2^-16 / the smallest pivot.
    Cost: 14 rounds a column.
    """
    _check_square("cholesky", a)
    n = a.shape[-1]
    rest: Tensor = a.mT if upper else a
    columns = []
    for k in range(n):
        column = rest[..., :, 0] * rest[..., 0, :1].rsqrt()
        columns.append(torch.nn.functional.pad(column, (k, 0)))
        below = column[..., 1:]
        rest = rest[..., 1:, 1:] - below.unsqueeze(-1) * below.unsqueeze(-2)
    lower = torch.stack(columns, -1) if columns else a.clone()
    return as_secret(lower.mT.clone() if upper else lower), _no_error(a)


@implements(aten.cholesky.default)
def cholesky(func: Any, a: SecretTensor, upper: bool = False) -> Tensor:
    """See `linalg_cholesky`."""
    return linalg_cholesky(aten.linalg_cholesky_ex.default, a, upper=upper)[0]


@implements(aten.cholesky_solve.default)
def cholesky_solve(func: Any, b: Operand, factor: Operand, upper: bool = False) -> Tensor:
    """(L Lᵀ)^-1 B by two triangular solutions."""
    lower = factor.mT if upper else factor
    y = torch.linalg.solve_triangular(lower, b, upper=False)
    x: Tensor = torch.linalg.solve_triangular(lower.mT, y, upper=True)
    return x


@implements(aten.cholesky_inverse.default)
def cholesky_inverse(func: Any, factor: SecretTensor, upper: bool = False) -> Tensor:
    """(L Lᵀ)^-1."""
    return cholesky_solve(func, torch.eye(factor.shape[-1], dtype=factor.dtype).expand(factor.shape), factor, upper)


# --- determinants -----------------------------------------------------------------------------------------------------


def _leverrier(a: Tensor) -> tuple[Tensor, Tensor]:
    """The determinant and the adjugate, by M <- A M + c, c = -tr(A M) / k: no division by a secret, no pivot.

    This is the method of Faddeev and Leverrier.   Domain: the n-th power of a norm of A below 2^30.
    Cost: n products, one after the other.
    """
    n = a.shape[-1]
    identity = torch.eye(n, dtype=a.dtype)
    adjugate: Tensor = identity.expand(a.shape)
    c: Tensor = torch.ones(a.shape[:-2])
    for k in range(1, n + 1):
        product = a @ adjugate if k > 1 else a
        c = product.diagonal(0, -2, -1).sum(-1) / -k
        if k < n:
            adjugate = product + c[..., None, None] * identity
    sign = -1 if n % 2 else 1
    return c * sign, adjugate * -sign


@implements(aten._linalg_det.default)
def det(func: Any, a: SecretTensor) -> tuple[Tensor, Tensor, Tensor]:
    """The determinant; see `_leverrier`."""
    _check_square("det", a)
    if not a.shape[-1]:
        raise unsupported("torch.linalg.det of matrices without rows", "it is 1")
    found, adjugate = _leverrier(a)
    return found, _kept(a, lambda: _inverse_of(a, found, adjugate)), _pivots(a)


@implements(aten._linalg_slogdet.default)
def slogdet(func: Any, a: SecretTensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sign and logarithm of the determinant, which must be in the domain of `functions.log`."""
    found, kept, pivots = det(func, a)
    return found.sign(), found.abs().log(), kept, pivots


def _inverse_of(a: Tensor, found: Tensor, adjugate: Tensor) -> Tensor:
    """A^-1; PyTorch factors Aᵀ where that is the cheaper one in memory, and its gradients mean the inverse of that."""
    if a.shape[-1] == 1:
        return a
    inverted = adjugate / found[..., None, None]
    return inverted.mT.clone() if a.is_contiguous() else inverted


# --- least squares ----------------------------------------------------------------------------------------------------


def pseudo_inverse(a: Tensor) -> Tensor:
    """(AᵀA)^-1 Aᵀ, or Aᵀ (A Aᵀ)^-1 where A has fewer rows than columns; products are divided by the longer side.

    A step of Newton-Schulz by A itself makes up for what the square of its condition number has cost.

    Domain: full rank, condition numbers up to 2^6.   Error: about 2^-13 for a condition of 4, 2^-8 for 16, relative.
    Cost: as `inverse`, and 6 rounds.
    """
    rows, columns = a.shape[-2:]
    if rows < columns:
        return pseudo_inverse(a.mT).mT.clone()
    x = gram_inverse(a.mT @ a / rows) @ (a.mT / rows)
    return 2 * x - (x @ a) @ x


@implements(aten.linalg_pinv.atol_rtol_tensor)
def pinv(func: Any, a: SecretTensor, **tolerances: Any) -> Tensor:
    """The pseudo-inverse of a matrix of full rank; see `pseudo_inverse`."""
    if a.shape[-1] == a.shape[-2]:
        return as_secret(inverse(a))
    return pseudo_inverse(a)


@implements(aten.linalg_lstsq.default)
def lstsq(
    func: Any, a: Operand, b: Operand, rcond: float | None = None, *, driver: str | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The X of least |A X - B|, of least norm where there are many:  (AᵀA / m)^-1 (Aᵀ B / m).   See `pseudo_inverse`.

    Rank is said to be full. Residuals and singular values are empty, as they are by PyTorch's default driver.
    """
    rows, columns = a.shape[-2:]
    vector = b.dim() == a.dim() - 1
    target = b.unsqueeze(-1) if vector else b
    if not isinstance(a, SecretTensor):
        gram = a.to(torch.float64)
        x: Tensor = (_public_pseudo_inverse(gram) @ target.to(torch.float64)).to(b.dtype)
    elif rows < columns:
        x = pseudo_inverse(a) @ target
    else:
        inverted = gram_inverse(a.mT @ a / rows)
        x = inverted @ (a.mT @ target / rows)
        x = x + inverted @ (a.mT @ (target - a @ x) / rows)
    out = as_secret(x.squeeze(-1) if vector else x, a, b)
    rank = torch.full(a.shape[:-2], min(rows, columns))
    return out, torch.empty(0), rank, torch.empty(0)


def _public_pseudo_inverse(a: Tensor) -> Tensor:
    if a.shape[-2] < a.shape[-1]:
        return _public_pseudo_inverse(a.mT).mT
    return _public_inverse(a.mT @ a) @ a.mT
