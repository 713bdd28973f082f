"""Sums, means, variances, products, and the largest and smallest elements."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.aten.logic import truth
from tacit.errors import DataError
from tacit.functions.linear import times_public
from tacit.functions.maximum import Maximum
from tacit.functions.squares import Squares
from tacit.protocols.number import Number
from tacit.protocols.scale import SLACK_BITS
from tacit.protocols.values import Bits
from tacit.tensor import SecretTensor
from tacit.tensor.deferred import deferring
from tacit.tensor.operands import arithmetic, as_secret, bits, places, plain, public_secret, secret
from tacit.tensor.registry import implements

aten = torch.ops.aten
Dims = Any


@deferring(aten.sum.default, aten.sum.dim_IntList)
def total(
    func: Any, x: SecretTensor, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> SecretTensor:
    """The sum, before any truncation. Local; bits are counted, at one round."""
    dtype = dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)
    known = plain(x)
    if known is not None:
        return public_secret(x._protocol, known.sum(_dims(x, dim), keepdim=keepdim).to(dtype))
    return secret(sum_over(arithmetic(x), _dims(x, dim), keepdim), dtype)


def sum_over(x: Number, dims: list[int], keepdim: bool) -> Number:
    """The sum of shares over dimensions."""
    return x.sum(dims, keepdim=keepdim)


@deferring(aten.mean.default, aten.mean.dim)
def mean(
    func: Any, x: SecretTensor, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> SecretTensor:
    """The sum times 1/n. That of rows of squares, whose root is taken, keeps as many bits more as it is smaller by."""
    dims = _dims(x, dim)
    count = 1
    for d in dims:
        count *= x.shape[d]
    dtype = dtype or x.dtype
    if not dtype.is_floating_point:
        raise DataError(f"the mean of {dtype} numbers: write x.float().mean()")
    if not count:
        raise DataError("the mean of no elements is not a number")
    known = plain(x)
    if known is not None:
        return public_secret(x._protocol, known.mean(dims, keepdim=keepdim, dtype=dtype))
    total = sum_over(arithmetic(x), dims, keepdim)
    mean = _fine_mean(total, count) if len(dims) < x.dim() else None
    return secret(times_public(total, torch.tensor(1 / count)) if mean is None else mean, dtype)


def _fine_mean(total: Number, count: int) -> Number | None:
    """A sum of squares times 1/n, unless that is a power of two, which truncates nothing."""
    scale, protocol = total.scale, total.protocol
    fine = protocol.frac_bits + min(SLACK_BITS, count.bit_length() - 1)
    if not scale.positive or scale.precise or total.frac_bits <= max(fine, protocol.factor_bits):
        return None
    out = protocol.scale(total, 1 / count, fine) if count & (count - 1) else None
    if out is not None:
        out.declare(wide=True)
    return out


@implements(aten.linalg_vector_norm.default)
def vector_norm(
    func: Any, x: SecretTensor, order: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> SecretTensor:
    """The Euclidean norm, √Σx², and those of other orders, m (Σ|x/m|^p)^(1/p) with m = max |x|.

    Domain: Σx² < 2^46 at 16 fractional bits; see `functions.squares`.
    """
    dims = _dims(x, dim)
    if dtype is not None and dtype != x.dtype:
        x = x.to(dtype)  # type: ignore[assignment]
    if order == 2 and x.numel():
        return secret(Squares.of(arithmetic(x), dims, keepdim=keepdim).root(), x.dtype)
    if order == 0:
        return (x != 0).sum(dims, keepdim).to(x.dtype)  # type: ignore[return-value]
    size = x.abs()
    if math.isinf(order):
        return size.amax(dims, keepdim) if order > 0 else size.amin(dims, keepdim)  # type: ignore[return-value]
    if order == 1 or not x.numel():  # the sum of nothing is 0, which has no logarithm
        return size.sum(dims, keepdim)  # type: ignore[return-value]
    largest = size.amax(dims, keepdim=True)  # whose power need not fit
    powers = ((size / largest) ** order).sum(dims, keepdim) ** (1 / order)
    return powers * (largest if keepdim else largest.squeeze(dims))  # type: ignore[return-value]


def _dims(x: Tensor, dim: Dims) -> list[int]:
    if dim is None or dim == []:
        return list(range(x.dim()))
    return [d % max(x.dim(), 1) for d in ([dim] if isinstance(dim, int) else dim)] if x.dim() else []


class Pair(NamedTuple):
    """PyTorch's result of a reduction along a dimension."""

    values: SecretTensor
    indices: SecretTensor


@implements(aten.max.dim, aten.min.dim)
def maximum_along(func: Any, x: SecretTensor, dim: int, keepdim: bool = False) -> Pair:
    """The largest (smallest) element along a dimension, and the first index where it is; see `functions.maximum`."""
    keepdim = keepdim and x.dim() > 0
    found = _maximum(x, dim, func is aten.max.dim)
    values, indices = _keep(found.values, dim, keepdim), _keep(found.indices, dim, keepdim)
    return Pair(secret(values, x.dtype), places(indices, x.shape[dim] if x.dim() else 1))


@implements(aten.amax.default, aten.amin.default)
def maximum_over(func: Any, x: SecretTensor, dim: Dims = (), keepdim: bool = False) -> SecretTensor:
    """The largest (smallest) element over dimensions."""
    share = arithmetic(x) if x.dim() else arithmetic(x).fork()
    largest = func is aten.amax.default
    for d in sorted(_dims(x, list(dim)), reverse=True):
        share = _keep(_along(share, d, largest).values, d, keepdim)
    return secret(share, x.dtype)


@implements(aten.max.default, aten.min.default)
def maximum_of_all(func: Any, x: SecretTensor) -> SecretTensor:
    """The largest (smallest) element."""
    flat = SecretTensor(arithmetic(x).move(lambda t: t.reshape(-1), view=False), x.dtype)
    return secret(_maximum(flat, 0, func is aten.max.default).values, x.dtype)


@implements(aten.argmax.default, aten.argmin.default)
def position(func: Any, x: SecretTensor, dim: int | None = None, keepdim: bool = False) -> SecretTensor:
    """The first index of the largest (smallest) element."""
    largest = func is aten.argmax.default
    if dim is None:
        x, dim = SecretTensor(arithmetic(x).move(lambda t: t.reshape(-1), view=False), x.dtype), 0
    found = _maximum(x, dim, largest)
    return places(_keep(found.indices, dim, keepdim and x.dim() > 0), x.shape[dim] if x.dim() else 1)


def _maximum(x: SecretTensor, dim: int, largest: bool) -> Maximum:
    share = arithmetic(x)
    if not x.dim():
        return Maximum(share.fork().move(lambda t: t.unsqueeze(0), view=False))
    return _along(share, dim % x.dim(), largest)


def _along(x: Number, dim: int, largest: bool) -> Maximum:
    if not x.shape[dim]:
        raise IndexError("max() and min() need at least one element along the dimension")
    x = x if x.shape[dim] > 1 else x.fork()  # the only one wins as it is
    found = Maximum(x.move(lambda t: t.movedim(dim, 0), view=False), largest=largest)
    found.values.declare(positive=x.scale.positive)
    return found


def _keep(x: Number, dim: int, keepdim: bool) -> Number:
    """Put the reduced dimension back, with one element."""
    if not keepdim:
        return x
    place = dim % (len(x.shape) + 1)
    return x.move(lambda t: t.unsqueeze(place), view=False)


@implements(aten.all.default, aten.any.default, aten.all.dim, aten.any.dim)
def quantify(func: Any, x: SecretTensor, dim: int | None = None, keepdim: bool = False) -> SecretTensor:
    """Whether all (any) of the bits are set, or of numbers not zero, by a tree of conjunctions."""
    universal = "all" in func.__name__
    known = plain(x) if x.numel() else torch.zeros(tuple(x.shape), dtype=x.dtype)
    if known is not None:
        return public_secret(x._protocol, func(known) if dim is None else func(known, dim, keepdim))
    set_bits = bits(truth(x))
    b = set_bits if universal else set_bits.invert()
    if not x.dim():
        dim = None
    if dim is None:
        b, place = b.move(lambda t: t.reshape(-1), view=False), 0
    else:
        place = dim % max(x.dim(), 1)
    while b.shape[place] > 1:
        half = b.shape[place] // 2
        first, second, rest = (
            _part(b, place, s, n) for s, n in ((0, half), (half, half), (2 * half, b.shape[place] % 2))
        )
        b = (first & second).joined(rest, place)
    b = b.move(lambda t: t if keepdim and dim is not None else t.squeeze(place), view=False)
    return secret(b.fork() if universal else b.invert())


def _part(x: Bits, dim: int, start: int, count: int) -> Bits:
    return x.move(lambda t: t.narrow(dim, start, count), view=False)


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
    y = numbers(x, dtype)
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


def numbers(x: SecretTensor, dtype: torch.dtype | None) -> Tensor:
    """x as PyTorch multiplies it: bits and small integers as int64."""
    return x.to(dtype or (x.dtype if x.is_floating_point() else torch.int64))
