"""Positions of largest elements and the like, which rounding may choose otherwise among elements that are as good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["same_choice"]

ALONG = (
    *("max", "min", "argmax", "argmin", "sort", "argsort", "topk"),
    *("cummax", "cummin", "kthvalue", "median", "nanmedian"),
)
"""Operators whose positions are along a dimension, or in the flattened tensor without one."""

WINDOWS = {
    f"{name}{count}d{rest}": count
    for name, rest in (("max_pool", "_with_indices"), ("adaptive_max_pool", ""))
    for count in (2, 3)
}
"""Operators whose positions are in a plane of so many dimensions."""


def same_choice(func: Any, values: Mapping[str, Any], got: Tensor, want: Tensor, near: float) -> Tensor:
    """Where two positions are those of elements that differ by no more than `near`."""
    name = func.__name__.partition(".")[0].removeprefix("_")
    x = values.get("self")
    if got.dtype == torch.bool or not isinstance(x, Tensor) or name not in (*ALONG, *WINDOWS) or not x.numel():
        return torch.zeros(got.shape, dtype=torch.bool)
    one, other = (_chosen(name, x, t.to(torch.int64), values) for t in (got, want))
    return (one - other).abs() <= near


def _chosen(name: str, x: Tensor, places: Tensor, values: Mapping[str, Any]) -> Tensor:
    """The elements at positions, NaN where there are none."""
    if name in WINDOWS:
        count = WINDOWS[name]
        return _gathered(x.flatten(-count), -1, places.flatten(-count)).view(places.shape)
    dim = values.get("dim")
    if dim is None and name in ("argmax", "argmin", "median", "max", "min"):
        return _gathered(x.flatten(), 0, places.reshape(1)).view(places.shape)
    dim = -1 if dim is None else dim
    if not x.dim():
        return x.expand(places.shape)
    if places.dim() < x.dim():
        return _gathered(x, dim, places.unsqueeze(dim)).squeeze(dim)
    return _gathered(x, dim, places)


def _gathered(x: Tensor, dim: int, places: Tensor) -> Tensor:
    inside = (places >= 0) & (places < x.shape[dim])
    return torch.where(inside, x.gather(dim, places.clamp(0, x.shape[dim] - 1)), torch.nan)
