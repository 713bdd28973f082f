"""What kernels are tested with."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from tacit.protocols.additive.kernels import Reference


def native_kernels() -> Reference:
    """The native kernels of the additive scheme, or the test is skipped."""
    kernels: Reference = pytest.importorskip("tacit.protocols.additive.kernels.native").Native()
    return kernels


def ring(*shape: int) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape)


def octets(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def bits(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape, dtype=torch.uint8)


def names(kind: type) -> set[str]:
    """The kernels that a class has, inherited ones too."""
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def written(kind: type) -> set[str]:
    """The kernels that a backend has of its own."""
    return {name for name in names(kind) if getattr(kind, name) is not getattr(Reference, name)}
