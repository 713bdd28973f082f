"""The network of this example, and its data: feature layers that find strokes, and a classifier that knows digits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import tacit.nn

sys.path.insert(0, str(Path(__file__).parents[1] / "secure_classification"))
from handwriting import SIZE, digits

OLD, NEW = range(5), range(5, 10)
"""The digits that everybody may see, and those that nobody may."""

INPUT = (1, SIZE, SIZE)


class Act(tacit.nn.FourierSigmoid):
    """The sigmoid of one round, around zero: with a mean of 1/2 it would drive all weights behind it in one direction,
    and training stands still.
    """

    def __init__(self) -> None:
        super().__init__(centred=True)


def features(width: int = 32, act: Callable[[], nn.Module] = Act, pool: type[nn.Module] = nn.AvgPool2d) -> nn.Module:
    """Two convolutions and a pooling: [n, 1, 28, 28] -> [n, width, 12, 12]."""
    return nn.Sequential(nn.Conv2d(1, width, 3), act(), nn.Conv2d(width, width, 3), act(), pool(2))


def classifier(classes: int, width: int = 32, act: Callable[[], nn.Module] = Act) -> nn.Module:
    """Two layers: [n, width, 12, 12] -> [n, classes]."""
    hidden = nn.Sequential(nn.Dropout(0.25), nn.Flatten(), nn.Linear(width * 144, 128), act())
    return hidden.extend([nn.Dropout(0.5), nn.Linear(128, classes)])


def draw(count: int, seed: int, of: Sequence[int] = range(10)) -> tuple[Tensor, Tensor]:
    """So many images of these digits [count, 1, 28, 28], and which one of them each is, counted from zero."""
    images, labels = digits(count * 10 // len(of) * 2, seed)
    mine = torch.from_numpy(labels - of[0])
    chosen = ((mine >= 0) & (mine < len(of))).nonzero()[:count, 0]
    return torch.from_numpy(images)[chosen].unsqueeze(1), mine[chosen]
