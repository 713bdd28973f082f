"""Vectors of numbers, and of ring elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Ring"]

Floats = npt.NDArray[np.float64]
Ring = npt.NDArray[np.unsignedinteger[Any]]
"""Unsigned integers whose sums wrap."""
