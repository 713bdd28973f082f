"""Dropout: its mask is public."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import finish, multiply
from tacit.tensor import SecretTensor
from tacit.tensor.registry import implements

aten = torch.ops.aten


@implements(aten.native_dropout.default)
def native_dropout(func: Any, x: SecretTensor, p: float, train: bool | None) -> tuple[SecretTensor, Tensor]:
    """x / (1 - p) where a public random mask is set, and the mask."""
    mask = torch.rand(tuple(x.shape)) >= (p if train else 0.0)
    scale = 1 / (1 - p) if train and p < 1 else float(not train)
    return finish(multiply(x, mask * scale), x.dtype, x), mask
