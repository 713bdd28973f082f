"""Distances between rows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tacit.tensor import SecretTensor
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Tensor
"""Public or secret."""


@implements(aten._cdist_forward.default)
def distances(func: Any, x: Operand, y: Operand, p: float, compute_mode: int | None) -> Tensor:
    """Distances of all pairs of rows; the Euclidean ones by √(Σx² + Σy² - 2 x yᵀ)."""
    if p != 2:
        norms: Tensor = (x.unsqueeze(-2) - y.unsqueeze(-3)).norm(p, -1)
        return norms
    squares = (x * x).sum(-1, keepdim=True) + (y * y).sum(-1).unsqueeze(-2)
    return (squares - 2 * (x @ y.transpose(-2, -1))).clamp(min=0).sqrt()


@implements(aten._cdist_backward.default)
def distances_backward(func: Any, grad: Operand, x: Operand, y: Operand, p: float, distance: Operand) -> Tensor:
    """Σ_j g_ij (x_i - y_j) / d_ij for Euclidean distances; the signs of the differences for sums of them."""
    difference = x.unsqueeze(-2) - y.unsqueeze(-3)
    if p == 1:
        return (grad.unsqueeze(-1) * difference.sign()).sum(-2)
    if p == math.inf:
        chosen = difference.abs() == distance.unsqueeze(-1)
        return (chosen * (grad.unsqueeze(-1) * difference.sign())).sum(-2)
    if p != 2:
        raise unsupported(f"the gradient of distances of order {p}", "orders 1, 2 and inf have one")
    share = grad / distance
    return share.sum(-1, keepdim=True) * x - share @ y


@implements(aten._pdist_forward.default)
def distances_within(func: Any, x: SecretTensor, p: float = 2) -> Tensor:
    """The distances of all pairs of rows, each pair once."""
    found: Tensor = torch.linalg.vector_norm(_differences(x), p, -1)
    return found


def _differences(x: Tensor) -> Tensor:
    i, j = torch.triu_indices(x.shape[0], x.shape[0], 1).unbind(0)
    return x[i] - x[j]


@implements(aten._pdist_backward.default)
def distances_within_backward(func: Any, grad: Operand, x: Operand, p: float, distance: Operand) -> Tensor:
    """The slope of each distance goes to its first row, and with a minus to its second; see `distances_backward`."""
    i, j = torch.triu_indices(x.shape[0], x.shape[0], 1).unbind(0)
    difference, grad = _differences(x), grad.unsqueeze(-1)
    if p == 1:
        slope = grad * difference.sign()
    elif p == math.inf:
        slope = (difference.abs() == distance.unsqueeze(-1)) * (grad * difference.sign())
    elif p == 2:
        slope = grad / distance.unsqueeze(-1) * difference
    else:
        raise unsupported(f"the gradient of distances of order {p}", "orders 1, 2 and inf have one")
    zeros = torch.zeros(x.shape, dtype=x.dtype)
    return torch.index_add(zeros, 0, i, slope) - torch.index_add(zeros, 0, j, slope)
