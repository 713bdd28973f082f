"""How many elements fall into which part of a range."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.tensor import SecretTensor
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Tensor
"""Public or secret."""


@implements(aten.histc.default)
def histc(func: Any, x: SecretTensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements are in each of equal parts of [min, max], which includes both ends: sums of comparisons."""
    if bins < 1:
        raise DataError(f"torch.histc: bins must be positive, and it is {bins}")
    if min == max:
        raise unsupported("torch.histc without a range", "the range of secrets is secret: give min and max")
    if min > max:
        raise DataError(f"torch.histc: min {min} is larger than max {max}")
    return _counted(x, _edges(bins, min, max)).to(x.dtype)


def _edges(bins: int, low: float, high: float) -> list[float]:
    return [low + (high - low) * k / bins for k in range(bins)] + [high]


def _counted(x: Tensor, edges: list[float], weight: Operand | None = None) -> Tensor:
    """How many are in each half-open part, the last one closed; all comparisons from one opening."""
    flat = x.reshape(-1)
    below = [(flat < e).to(torch.int64) for e in edges[:-1]] + [(flat <= edges[-1]).to(torch.int64)]
    columns = torch.stack(below)
    sums: Tensor = columns.sum(1) if weight is None else columns.to(weight.dtype) @ weight.reshape(-1)
    return sums[1:] - sums[:-1]


@implements(aten.histogram.bin_ct, aten.histogram.bins_tensor)
def histogram(
    func: Any,
    x: Operand,
    bins: Any = 100,
    *,
    range: Any = None,
    weight: Operand | None = None,
    density: bool = False,
) -> tuple[Tensor, Tensor]:
    """See `histc`; with weights, sums of those, and with `density` parts of one divided by the widths."""
    if isinstance(bins, SecretTensor) or (isinstance(bins, int) and range is None):
        raise unsupported("torch.histogram without a public range", "give range=(low, high), or bins as a plain tensor")
    edges = _edges(bins, *range) if isinstance(bins, int) else bins.tolist()
    counts = _counted(x, edges, weight).to(x.dtype)
    if density:
        counts = counts / counts.sum() / torch.tensor(edges).diff()
    return counts, torch.tensor(edges, dtype=x.dtype)
