"""The network of `served`, for a server that computes with its clients: its weights are plain, and only there."""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from served import INPUT, network

__all__ = ["INPUT", "load"]


def load() -> nn.Module:
    """Return the network."""
    return network()
