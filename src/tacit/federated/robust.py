"""What computing parties can do with updates that nobody sees: clip each one, take a median, trim outliers.

Plain PyTorch, a row for each client: the same functions run on secrets and on plain tensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ClippedMean", "Median", "Rule", "TrimmedMean", "sort_rows"]


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
        rows, n = sort_rows(x), len(x)
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
        rows = sort_rows(x)
        return torch.stack(rows[self.trim : len(rows) - self.trim]).mean(dim=0)


def sort_rows(x: Tensor) -> list[Tensor]:
    """Return rows such that each column ascends: Batcher's odd-even merge sort. Ref: [Bat68].

    The places compared do not depend on the values. Layers: log n (log n + 1) / 2, each one comparison deep.
    """
    rows = list(x)
    for layer in _layers(len(rows)):
        low, high = torch.stack([rows[i] for i, _ in layer]), torch.stack([rows[j] for _, j in layer])
        smaller = torch.minimum(low, high)
        larger = low + high - smaller
        for at, (i, j) in enumerate(layer):
            rows[i], rows[j] = smaller[at], larger[at]
    return rows


def _layers(n: int) -> list[list[tuple[int, int]]]:
    layers = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            layer = [
                (i + j, i + j + k)
                for j in range(k % p, n - k, 2 * k)
                for i in range(min(k, n - j - k))
                if (i + j) // (2 * p) == (i + j + k) // (2 * p)
            ]
            if layer:
                layers.append(layer)
            k //= 2
        p *= 2
    return layers
