"""Variances, products, and running products, maxima and sums of exponentials."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tacit.aten.reduction import Pair
from tacit.errors import DataError
from tacit.functions.squares import Squares
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, as_secret, public_secret, secret
from tacit.tensor.registry import implements

aten = torch.ops.aten
Dims = Any


def _deviations(x: SecretTensor, dim: Dims, correction: float | None, keepdim: bool) -> tuple[Squares, float, Tensor]:
    """Σ (x - mean)², n - correction, and the mean."""
    if not x.is_floating_point():
        raise DataError(f"the variance of {x.dtype} numbers: write x.float().var()")
    dims = list(range(x.dim())) if dim is None or dim == [] else [dim] if isinstance(dim, int) else list(dim)
    count = math.prod(x.shape[d] for d in dims)
    freedom = count - (1 if correction is None else correction)
    if freedom <= 0:
        raise DataError(f"the variance of {count} elements with correction {correction} is not a number")
    mean = x.mean(dims, keepdim=True)
    squares = Squares.of(arithmetic(as_secret(x - mean)), dims, keepdim=keepdim)
    return squares, freedom, mean if keepdim or not dims else mean.squeeze(tuple(dims))


@implements(aten.var_mean.correction)
def var_mean(
    func: Any, x: SecretTensor, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """Σ (x - mean)² / (n - correction), and the mean. 7 rounds; see `functions.squares`."""
    squares, freedom, mean = _deviations(x, dim, correction, keepdim)
    return secret(squares.total(1 / freedom), x.dtype), mean


@implements(aten.var.correction)
def var(
    func: Any, x: SecretTensor, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> Tensor:
    """The variance; see `var_mean`."""
    return var_mean(func, x, dim, correction=correction, keepdim=keepdim)[0]


@implements(aten.std_mean.correction)
def std_mean(
    func: Any, x: SecretTensor, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """√variance, and the mean. 10 rounds; see `functions.squares`."""
    squares, freedom, mean = _deviations(x, dim, correction, keepdim)
    return secret(squares.root(1 / math.sqrt(freedom)), x.dtype), mean


@implements(aten.std.correction)
def std(
    func: Any, x: SecretTensor, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False
) -> Tensor:
    """√variance; see `std_mean`."""
    return std_mean(func, x, dim, correction=correction, keepdim=keepdim)[0]


@implements(aten.prod.default, aten.prod.dim_int)
def prod(
    func: Any, x: SecretTensor, dim: int | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    """The product of all elements, by a tree: 2 rounds for each of log2 n levels.  |every partial product| < 2^30."""
    y = _numbers(x, dtype)
    if dim is None:
        y, dim = y.reshape(-1), 0
    dim %= max(y.dim(), 1)
    y = y.reshape(1) if not y.dim() else y
    if not y.shape[dim]:
        return public_secret(x._protocol, torch.ones(y.sum(dim, keepdim=keepdim).shape, dtype=y.dtype))
    if y.shape[dim] == 1:
        y = y.clone()  # a result, not a view of x
    while (count := y.shape[dim]) > 1:
        half = count // 2
        pairs = y.narrow(dim, 0, half) * y.narrow(dim, half, half)
        y = torch.cat([pairs, y.narrow(dim, 2 * half, count % 2)], dim) if count % 2 else pairs
    return y if keepdim and x.dim() else y.squeeze(dim)


def _numbers(x: SecretTensor, dtype: torch.dtype | None) -> Tensor:
    """x as PyTorch multiplies it: bits and small integers as int64."""
    return x.to(dtype or (x.dtype if x.is_floating_point() else torch.int64))


def scan(x: Tensor, dim: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Running results of an associative operation, in log2 n steps over all elements.   Ref: [HS86]."""
    step = 1
    if x.shape[dim] <= 1:
        return x.clone()
    while step < x.shape[dim]:
        rest = x.shape[dim] - step
        joined = combine(x.narrow(dim, 0, rest), x.narrow(dim, step, rest))
        x = torch.cat([x.narrow(dim, 0, step), joined], dim)
        step *= 2
    return x


@implements(aten.cumprod.default)
def cumprod(func: Any, x: SecretTensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Running products. 2 rounds for each of log2 n steps."""
    y = _numbers(x, dtype)
    return scan(y, dim, torch.mul) if y.dim() else y.clone()


@implements(aten.logcumsumexp.default)
def logcumsumexp(func: Any, x: SecretTensor, dim: int) -> Tensor:
    """Running log Σ exp, by  log(exp a + exp b) = b + softplus(a - b). 4 rounds for each of log2 n steps."""
    return scan(x, dim, lambda a, b: b + torch.nn.functional.softplus(a - b)) if x.dim() else x.clone()


@implements(aten.cummax.default, aten.cummin.default)
def cumulative_extremum(func: Any, x: SecretTensor, dim: int) -> Pair:
    """Running maxima (minima), and the last index where each is. 4 rounds for each of log2 n steps."""
    if not x.dim():
        return Pair(as_secret(x.clone()), public_secret(x._protocol, torch.zeros((), dtype=torch.int64)))
    dim %= x.dim()
    places = torch.arange(x.shape[dim]).view(-1, *[1] * (x.dim() - dim - 1)).expand(x.shape)
    values: Tensor = x.clone()
    indices: Tensor = public_secret(x._protocol, places.contiguous())
    step = 1
    while step < x.shape[dim]:
        rest = x.shape[dim] - step
        a, b = (values.narrow(dim, start, rest) for start in (0, step))
        i, j = (indices.narrow(dim, start, rest) for start in (0, step))
        earlier = a > b if func is aten.cummax.default else a < b
        values = torch.cat([values.narrow(dim, 0, step), torch.where(earlier, a, b)], dim)
        indices = torch.cat([indices.narrow(dim, 0, step), torch.where(earlier, i, j)], dim)
        step *= 2
    return Pair(as_secret(values), as_secret(indices))


@implements(aten.xlogy.Tensor, aten.xlogy.Scalar_Self, aten.xlogy.Scalar_Other)
def xlogy(func: Any, x: Any, y: Any) -> Tensor:
    """x log y, and 0 where x is: the logarithm of a secret is finite, even of zero. 11 rounds."""
    return torch.mul(torch.as_tensor(y).log(), x)
