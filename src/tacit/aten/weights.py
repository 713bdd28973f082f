"""Weights that a module makes of other parameters at every pass: `weight_norm`, parametrized or old."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.tensor.above_autograd import before_autograd

aten = torch.ops.aten


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """v g / ‖v‖, the norm over all dimensions but one; autograd differentiates it as it stands."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


before_autograd(aten._weight_norm.default, weight_norm)
