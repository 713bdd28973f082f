"""First and second derivatives of XGBoost's losses by the margin, one pair for each row and output."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tacit.federated.errors import UpdateError
from tacit.federated.vectors import Floats

__all__ = ["OBJECTIVES", "check_labels", "gradients"]


def _logistic(margins: Floats, y: Floats) -> tuple[Floats, Floats]:
    """g = p - y, h = p (1 - p), with p = 1 / (1 + e^-m)."""
    p = 1 / (1 + np.exp(-np.clip(margins, -80, 80)))
    return p - y[:, None], np.maximum(p * (1 - p), 1e-16)


def _squares(margins: Floats, y: Floats) -> tuple[Floats, Floats]:
    """g = m - y, h = 1."""
    return margins - y[:, None], np.ones_like(margins)


def _softmax(margins: Floats, y: Floats) -> tuple[Floats, Floats]:
    """g_k = p_k - [y = k], h_k = 2 p_k (1 - p_k), with p = softmax(m)."""
    p = np.exp(margins - margins.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p - (y[:, None] == np.arange(margins.shape[1])), np.maximum(2 * p * (1 - p), 1e-16)


OBJECTIVES: dict[str, Callable[[Floats, Floats], tuple[Floats, Floats]]] = {
    "binary:logistic": _logistic,
    "reg:logistic": _logistic,
    "reg:squarederror": _squares,
    "multi:softprob": _softmax,
    "multi:softmax": _softmax,
}


def gradients(objective: str, margins: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return g and h of each row and output, times the row's weight."""
    g, h = OBJECTIVES[objective](margins, y)
    return g * weights[:, None], h * weights[:, None]


def check_labels(objective: str, y: Floats, classes: int) -> None:
    """Raise `UpdateError` for labels that the objective has no loss for."""
    if not np.isfinite(y).all():
        raise UpdateError("a label is NaN or infinite; no histogram is sent")
    if objective.endswith(":logistic") and ((y < 0) | (y > 1)).any():
        raise UpdateError(f"labels of {objective} must be from 0 to 1")
    if objective.startswith("multi:") and ((y < 0) | (y >= classes) | (y != np.rint(y))).any():
        raise UpdateError(f"labels of {objective} must be whole numbers from 0 to {classes - 1}")
