"""Sorting, the k largest, the k-th smallest, medians, and places among sorted boundaries."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tacit.aten.reduction import Pair
from tacit.functions.linear import fractional
from tacit.functions.sorting import Sorted, count_below, ranked
from tacit.functions.sorting import sort as sort_shares
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, places, plain, public_secret, secret
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

__all__ = ["DISTINCT"]

aten = torch.ops.aten
DISTINCT: Remembered[bool] = Remembered("positions of which no two are the same, by dimension")


def _pair(found: Sorted, dtype: torch.dtype, count: int) -> Pair:
    return Pair(secret(found.values, dtype), places(found.indices, count))


def _rows(x: SecretTensor) -> Number:
    """The share of x, with a dimension to sort along."""
    share = arithmetic(x)
    return share if x.dim() else share.move(lambda t: t.reshape(1), view=False)


def _shaped(found: Sorted, x: SecretTensor, dtype: torch.dtype) -> Pair:
    """The result, without a dimension that x does not have."""
    if not x.dim():
        found = Sorted(*(v.move(lambda t: t.reshape(()), view=False) for v in found))
    return _pair(found, dtype, max((1, *x.shape)))


def _distinct(found: Pair, dim: int) -> Pair:
    """The same, of places that differ along a dimension: who differentiates it need not look."""
    DISTINCT.keep(found.indices.share, True, dim)
    return found


@implements(aten.sort.default)
def sort(func: Any, x: SecretTensor, dim: int = -1, descending: bool = False) -> Pair:
    """Values in order and their places; equal ones keep theirs. See `functions.sorting`."""
    rows = _rows(x)
    dim %= len(rows.shape)
    return _distinct(_shaped(sort_shares(rows, dim, descending=descending), x, x.dtype), dim)


@implements(aten.sort.stable)
def stable_sort(
    func: Any, x: SecretTensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> Pair:
    """The same: all sorting is stable."""
    return sort(func, x, dim, descending)


@implements(aten.topk.default)
def topk(func: Any, x: SecretTensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Pair:
    """The first k of the order. 8 rounds for up to 48 elements."""
    rows = _rows(x)
    dim %= len(rows.shape)
    return _distinct(_shaped(_first(rows, range(k), dim, descending=largest), x, x.dtype), dim)


def _first(x: Number, ranks: range, dim: int, *, descending: bool = False) -> Sorted:
    """The elements of some ranks."""
    if ranks.stop > x.shape[dim] or ranks.start < 0:
        raise IndexError(f"there are {x.shape[dim]} elements along the dimension, fewer than asked for")
    if x.shape[dim] <= x.protocol.prices.few:
        return ranked(x, dim, ranks, descending=descending)
    found = sort_shares(x, dim, descending=descending)
    return Sorted(*(v.move(lambda t: t.narrow(dim, ranks.start, len(ranks)), view=False) for v in found))


@implements(aten.kthvalue.default)
def kthvalue(func: Any, x: SecretTensor, k: int, dim: int = -1, keepdim: bool = False) -> Pair:
    """The k-th smallest, and its place."""
    rows = _rows(x)
    dim %= len(rows.shape)
    found = _first(rows, range(k - 1, k), dim)
    if x.dim() and not keepdim:
        found = Sorted(*(v.move(lambda t: t.squeeze(dim), view=False) for v in found))
    return _shaped(found, x, x.dtype)


@implements(aten.median.dim, aten.nanmedian.dim)
def median_along(func: Any, x: SecretTensor, dim: int = -1, keepdim: bool = False) -> Pair:
    """The lower median, and its place."""
    return kthvalue(func, x, (_rows(x).shape[dim] + 1) // 2, dim, keepdim)


@implements(aten.median.default, aten.nanmedian.default)
def median(func: Any, x: SecretTensor) -> SecretTensor:
    """The lower median of all elements."""
    return kthvalue(func, x.reshape(-1), (x.numel() + 1) // 2).values  # type: ignore[arg-type]


@implements(aten.bucketize.Tensor)
def bucketize(
    func: Any, x: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> SecretTensor:
    """The number of public boundaries below x, or below and at it. 4 rounds."""
    known = plain(boundaries)
    if known is None or not isinstance(x, SecretTensor):
        raise unsupported("places among secret boundaries", "compare with each of them and add up")
    dtype = torch.int32 if out_int32 else torch.int64
    if plain(x) is not None:
        return public_secret(x._protocol, func(plain(x), known, out_int32=out_int32, right=right))
    share = fractional(arithmetic(x)) if known.is_floating_point() else arithmetic(x)
    up = [float(b) * 2**share.frac_bits for b in known]
    thresholds = [math.ceil(b) if right else math.floor(b) + 1 for b in up]
    if not thresholds:
        return public_secret(x._protocol, torch.zeros(tuple(x.shape), dtype=dtype))
    return secret(count_below(share, thresholds), dtype)


@implements(aten.searchsorted.Tensor)
def searchsorted(
    func: Any,
    boundaries: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> SecretTensor:
    """Where x belongs among public boundaries of one dimension."""
    if sorter is not None or boundaries.dim() != 1:
        raise unsupported("torch.searchsorted with a sorter or with rows of boundaries", "sort them, and go row by row")
    return bucketize(aten.bucketize.Tensor, x, boundaries, out_int32=out_int32, right=right or side == "right")
