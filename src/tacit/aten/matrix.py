"""Matrix products: each is one opening of what is not open yet, and one truncation when its result is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish
from tacit.functions.linear import apply_public, times_public
from tacit.protocols.number import Number, factors
from tacit.ring import kernels
from tacit.ring.fixed_point import encode_public
from tacit.tensor import SecretTensor
from tacit.tensor.operands import number, result_dtype
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any


def product(x: Operand, y: Operand, op: Callable[[Tensor, Tensor], Tensor] = kernels.matmul) -> Number | Tensor:
    """op(x, y) for a bilinear operation, where either may be public: a public operand costs no opening."""
    a, b = number(x), number(y)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return op(a.to(torch.float64), b.to(torch.float64))
    if isinstance(a, Tensor):
        return _with_public(b, a, lambda t, ring: op(ring, t))  # type: ignore[arg-type]
    if isinstance(b, Tensor):
        return _with_public(a, b, op)
    a, b = factors(a, b)
    return a.protocol.bilinear(a, b, op)


def _with_public(x: Number, v: Tensor, op: Callable[[Tensor, Tensor], Tensor]) -> Number:
    x = x.summable(v.numel())
    ring, frac_bits = encode_public(v, name="a public factor")
    if frac_bits and x.frac_bits > x.protocol.factor_bits:
        x = x.settle()
    out = apply_public(x, ring, op)
    out.declare(frac_bits=x.frac_bits + frac_bits)
    return out


@implements(
    aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default, aten.vdot.default, aten.matmul.default
)
def matmul(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """The product of matrices, batches of them, or vectors."""
    return finish(product(x, y), result_dtype(x, y), x, y)


@implements(aten.addmm.default, aten.baddbmm.default, aten.addmv.default)
def addmm(func: Any, bias: Operand, x: Operand, y: Operand, *, beta: float = 1, alpha: float = 1) -> SecretTensor:
    """beta bias + alpha x y; the sum is made before the truncation."""
    result = product(x, y)
    if alpha != 1:
        result = result * alpha if isinstance(result, Tensor) else times_public(result, torch.tensor(alpha))
    dtype = result_dtype(x, y)
    if beta == 0:
        return finish(result, dtype, bias, x, y)
    base = bias if beta == 1 else finish(combine(0.0, bias, beta), dtype, bias, x, y)
    if isinstance(result, Tensor):
        total: Number | Tensor = combine(base, result)
    else:
        total = combine(base, SecretTensor(result, dtype))
    return finish(total, dtype, bias, x, y)


@implements(aten.ger.default, aten.outer.default)
def outer(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x yᵀ."""
    return finish(product(x, y, torch.outer), result_dtype(x, y), x, y)


@implements(aten._trilinear.default)
def trilinear(
    func: Any,
    a: Operand,
    b: Operand,
    c: Operand,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    sumdim: list[int],
    unroll_dim: int = 1,
) -> Tensor:
    """Σ a b c over `sumdim`, each spread over dimensions of its own: what `nn.Bilinear` is made of."""
    letters = "abcdefgh"[: a.dim() + len(expand1)]

    def of(left_out: list[int]) -> str:
        return "".join(letter for k, letter in enumerate(letters) if k not in left_out)

    return torch.einsum(f"{of(expand1)},{of(expand2)},{of(expand3)}->{of(sumdim)}", a, b, c)


@implements(aten.addbmm.default)
def addbmm(func: Any, x: Operand, left: Operand, right: Operand, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha Σ of a batch of matrix products, which are one product of longer rows."""
    rows, columns = left.transpose(0, 1).flatten(1), right.flatten(0, 1)
    return torch.addmm(x, rows, columns, beta=beta, alpha=alpha)
