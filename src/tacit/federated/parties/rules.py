"""What computing parties can do with updates that nobody sees: clip each one, take a median, trim or reject outliers.

Plain PyTorch, a row for each client: the same functions run on secrets and on plain tensors.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ClippedMean", "Median", "NormFilter", "Rule", "TrimmedMean"]

SQUARES = 2.0**15
"""Rows up to this norm have a square below 2^30, so that it is exact in fixed point until its one truncation."""

LONGER = 2.0**10
"""How many times longer than the norm a row may be to be clipped: 1 / sqrt(x) is for x below 2^20."""


class Rule(ABC):
    """How rows become one. The mean of a rule is its total over its weight."""

    @abstractmethod
    def fewest(self) -> int:
        """Return the smallest number of rows that makes sense."""

    def longest(self) -> float:
        """Return the largest norm of a row for which the rule is exact under computation."""
        return math.inf

    def bound(self, count: int, limit: float) -> float:
        """Return the magnitude to which each of `count` coordinates is held, so that no row is longer than that."""
        return min(limit, 0.99 * self.longest() / math.sqrt(max(count, 1)))

    @abstractmethod
    def __call__(self, x: Tensor, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Return total and weight of rows x, of shape [n, d], from clients with so many examples each, [n, 1]."""


@dataclass(frozen=True)
class ClippedMean(Rule):
    """The weighted mean of all rows, each scaled down to Euclidean norm `norm` if it is longer."""

    norm: float

    def __post_init__(self) -> None:
        if not 0 < self.norm < math.inf:
            raise ValueError(f"a norm is positive and finite, not {self.norm}")

    def fewest(self) -> int:
        """Two: the mean of one is no secret."""
        return 2

    def longest(self) -> float:
        """Return what squares, and the reciprocal root of their sum, are for."""
        return min(SQUARES, LONGER * self.norm)

    def clip(self, x: Tensor) -> Tensor:
        """Return x_i / sqrt(max(1, |x_i|^2 / norm^2))."""
        return x * (_squares(x) * self.norm**-2).clamp(min=1.0).rsqrt()

    def __call__(self, x: Tensor, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Return sum_i n_i clip(x_i) and sum_i n_i."""
        return (examples.t() @ self.clip(x)).squeeze(0), examples.sum()


@dataclass(frozen=True)
class NormFilter(Rule):
    """The weighted mean of the rows that are at most `factor` times as long as the median row; the others are left out.

    Nobody learns which, but the weight of those that are kept is revealed.
    """

    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"a factor is positive and finite, not {self.factor}")

    def fewest(self) -> int:
        """Three: of two rows none is the outlier."""
        return 3

    def longest(self) -> float:
        """Return what squares are for."""
        return SQUARES

    def __call__(self, x: Tensor, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Return sum_i k_i n_i x_i and sum_i k_i n_i, with k_i = [|x_i|^2 <= factor^2 median_j |x_j|^2]."""
        squares = _squares(x)
        kept = examples * (squares <= squares.median(dim=0, keepdim=True).values * self.factor**2)
        return (kept.t() @ x).squeeze(0), kept.sum()


@dataclass(frozen=True)
class Median(Rule):
    """The median of each coordinate; of an even number of rows, the mean of the middle two.

    Each client counts once: if they counted by their examples, one that lies about these would be the median.
    """

    def fewest(self) -> int:
        """Three: of two rows it would be the mean."""
        return 3

    def __call__(self, x: Tensor, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the middle row of the sorted columns."""
        import torch

        rows, n = x.sort(dim=0).values, len(x)
        return rows[n // 2] if n % 2 else (rows[n // 2 - 1] + rows[n // 2]) / 2, torch.ones(())


@dataclass(frozen=True)
class TrimmedMean(Rule):
    """The mean of each coordinate without its `trim` smallest and `trim` largest values; each client counts once."""

    trim: int

    def __post_init__(self) -> None:
        if type(self.trim) is not int or self.trim < 0:  # -1 would leave one row, a client's
            raise ValueError(f"trim is how many values to leave out at each end, not {self.trim!r}")

    def fewest(self) -> int:
        """Two rows must be left."""
        return 2 * self.trim + 2

    def __call__(self, x: Tensor, examples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of the inner rows of the sorted columns."""
        import torch

        return x.sort(dim=0).values[self.trim : len(x) - self.trim].mean(dim=0), torch.ones(())


def _squares(x: Tensor) -> Tensor:
    """Return |x_i|^2, of shape [n, 1], as one product each, which is rounded once."""
    return (x.unsqueeze(1) @ x.unsqueeze(2)).squeeze(2)
