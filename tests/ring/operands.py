"""What kernels are tested with."""

from __future__ import annotations

import inspect
import random

import pytest
import torch
from torch import Tensor

from tacit.protocols.additive.kernels import Reference
from tacit.ring.kernels import Places


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


def axis(count: int, step: int) -> Tensor:
    """Places along an axis: neighbours, with a step or none, backwards, in runs, or anywhere."""
    kinds = (
        torch.arange(count) * step,
        torch.arange(count).flip(0) * step,
        torch.zeros(count, dtype=torch.int64),
        (torch.arange(count) + torch.arange(count) // 11 * 3) * step,
        torch.randperm(count) * step,
    )
    return random.choice(kinds)


def places(batch: int, rows: int, columns: int) -> Places:
    """Places of matrices that may lie over one another, rows beside one another or columns."""
    steps = (1, 2 * rows) if random.random() < 0.5 else (2 * columns, 1)
    return Places(axis(batch, 7), axis(rows, steps[0]), axis(columns, steps[1]))


def apart(batch: int, rows: int, columns: int) -> Places:
    """Places of matrices that do not."""
    order = random.choice([torch.arange(columns), torch.randperm(columns), torch.arange(columns).flip(0)])
    steps = (columns, 1) if random.random() < 0.5 else (1, rows)
    return Places(
        torch.randperm(batch) * rows * columns, torch.randperm(rows) * steps[0], (order * steps[1]).contiguous()
    )


def enough(at: Places) -> Tensor:
    return ring(1 + sum(int(a.max()) for a in at))


def names(kind: type) -> set[str]:
    """The kernels that a class has, inherited ones too."""
    return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def written(kind: type) -> set[str]:
    """The kernels that a backend has of its own."""
    return {name for name in names(kind) if getattr(kind, name) is not getattr(Reference, name)}
