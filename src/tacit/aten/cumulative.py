"""Running sums, products, maxima and sums of exponentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tacit.aten.reduction import Pair, numbers
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, as_secret, public_secret, secret
from tacit.tensor.registry import implements

aten = torch.ops.aten


@implements(aten.cumsum.default, aten.unfold_backward.default)
def linear(func: Any, x: SecretTensor, *args: Any, dtype: torch.dtype | None = None) -> SecretTensor:
    """Sums of elements, by an operator that is linear and has no counterpart above. Local."""
    dtype = dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)
    return secret(arithmetic(x).summable(x.numel()).linear(lambda t: func(t, *args)), dtype)


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
    y = numbers(x, dtype)
    return scan(y, dim, torch.mul) if y.dim() else y.clone()


@implements(aten.logcumsumexp.default)
def logcumsumexp(func: Any, x: SecretTensor, dim: int) -> Tensor:
    """Running log Σ exp, by  log(exp a + exp b) = b + softplus(a - b). 4 rounds for each of log2 n steps."""
    return scan(x, dim, lambda a, b: b + torch.nn.functional.softplus(a - b)) if x.dim() else x.clone()


@implements(aten.cummax.default, aten.cummin.default)
def running_maximum(func: Any, x: SecretTensor, dim: int) -> Pair:
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
