"""The four networks by which the field measures secure training, for images of 28×28 pixels."""

from __future__ import annotations

from torch import nn


def a() -> nn.Module:
    """784-128-128-10."""
    hidden = [nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))


def b() -> nn.Module:
    """MiniONN's convolutional network."""
    return nn.Sequential(*convolutions(16, 16), nn.Linear(256, 100), nn.ReLU(), nn.Linear(100, 10))


def c() -> nn.Module:
    """LeNet."""
    return nn.Sequential(*convolutions(20, 50), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def d() -> nn.Module:
    """One convolution with a stride, and two linear layers."""
    convolution = [nn.Conv2d(1, 5, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*convolution, nn.Linear(980, 100), nn.ReLU(), nn.Linear(100, 10))


def convolutions(first: int, second: int) -> list[nn.Module]:
    """Two convolutions of 5×5, each with a ReLU and the largest of 2×2."""
    return [
        nn.Conv2d(1, first, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    ]  # fmt: skip


NETWORKS = {"A": a, "B": b, "C": c, "D": d}
