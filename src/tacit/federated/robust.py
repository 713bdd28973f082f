"""What computing parties can do with updates that nobody sees: clip each one, take a median, trim outliers.

Plain PyTorch, a row for each client: the same functions run on secrets and on plain tensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ClippedMean", "Median", "Rule", "TrimmedMean"]


class Rule(ABC):
    """How rows become one."""

    @abstractmethod
    def fewest(self) -> int:
        """Return the smallest number of rows that makes sense."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return one row."""


@dataclass(frozen=True)
class ClippedMean(Rule):
    """The mean of all rows, each scaled down to Euclidean norm `norm` if it is longer: none can do more than that."""

    norm: float

    def fewest(self) -> int:
        """Two: the mean of one is no secret."""
        return 2

    def __call__(self, x: Tensor) -> Tensor:
        """Return mean_i x_i / sqrt(max(1, |x_i|^2 / norm^2)). Dividing first keeps the squares within fixed point."""
        longer = (x / self.norm).square().sum(dim=1, keepdim=True).clamp(min=1.0)
        return (x * torch.rsqrt(longer)).mean(dim=0)


@dataclass(frozen=True)
class Median(Rule):
    """The median of each coordinate; of an even number of rows, the mean of the middle two."""

    def fewest(self) -> int:
        """Three: of two rows it would be the mean."""
        return 3

    def __call__(self, x: Tensor) -> Tensor:
        """Return the middle row of the sorted columns."""
        rows, n = x.sort(dim=0).values, len(x)
        return rows[n // 2] if n % 2 else (rows[n // 2 - 1] + rows[n // 2]) / 2


@dataclass(frozen=True)
class TrimmedMean(Rule):
    """The mean of each coordinate without its `trim` smallest and its `trim` largest values."""

    trim: int

    def fewest(self) -> int:
        """Two rows must be left."""
        return 2 * self.trim + 2

    def __call__(self, x: Tensor) -> Tensor:
        """Return the mean of the inner rows of the sorted columns."""
        return x.sort(dim=0).values[self.trim : len(x) - self.trim].mean(dim=0)
