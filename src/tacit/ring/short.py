"""Ring elements that are kept for long, in half the memory where all of them are small."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.ring.ring import RING

__all__ = ["SHORT", "shortened", "widened"]

SHORT = torch.int32
"""Numbers below 2^15 at 16 fractional bits, and weights below 2^11 at their 20."""

EDGE = 1 << 31


def shortened(x: Tensor) -> Tensor:
    """The same numbers in memory of their own, in four bytes each if all of them fit.

    Whether they do is known to whoever has them: for what stays in one process, and is widened before it is used.
    """
    low, high = x.aminmax() if x.numel() else (0, 0)
    return x.to(SHORT) if int(low) >= -EDGE and int(high) < EDGE else x.clone()


def widened(x: Tensor) -> Tensor:
    """Ring elements of what `shortened` has made."""
    return x.to(RING.dtype)
