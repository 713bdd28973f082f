"""The model that `tacit bench serve` asks: a small convolutional network for images of digits, with random weights."""

from __future__ import annotations

import torch
from torch import nn

import tacit

INPUT = (1, 28, 28)


def load() -> nn.Module:
    """Return the network as a secret."""
    return tacit.share(network(), owner="server0")


def network() -> nn.Module:
    """Make the network."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Flatten())
    classifier = nn.Sequential(nn.Linear(16 * 12 * 12, 100), nn.ReLU(), nn.Linear(100, 10))
    return nn.Sequential(features, classifier)
