"""Shapes of results. `torch.broadcast_shapes` takes 10 to 30 µs, and a small operator asks for several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["broadcast"]


def broadcast(x: Sequence[int], y: Sequence[int]) -> torch.Size:
    """The shape that tensors of these two shapes have together. Raises what PyTorch raises where there is none."""
    if x == y:
        return torch.Size(x)
    try:
        return torch.Size(np.broadcast_shapes(tuple(x), tuple(y)))
    except ValueError:
        shape: torch.Size = torch.broadcast_shapes(tuple(x), tuple(y))
        return shape
