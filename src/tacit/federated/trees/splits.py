"""The best split of a node, from the sums of its rows' derivatives in each bin of each feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tacit.federated.trees.settings import Boosting
from tacit.federated.vectors import Floats

__all__ = ["Split", "best", "leaf"]

LEAST = 1e-6
"""A split has to gain more, as in XGBoost."""
ALIKE = 1e-7
"""Gains that differ by less, relative to the best, are the same: of these the first split is taken, as XGBoost does."""


@dataclass(frozen=True)
class Split:
    """A split, and what is on both sides of it."""

    gain: float
    feature: int
    cut: int
    """Rows of this bin and below go left."""
    missing_left: bool
    left: Floats
    right: Floats
    """The sums of g and h."""


def leaf(sums: Floats, settings: Boosting) -> float:
    """Return -eta soft(G) / (H + lambda), of one of the trees that stand side by side."""
    g, h = sums
    if h < settings.min_child_weight or h <= 0:
        return 0.0
    return float(-settings.eta * _soft(g, settings.alpha) / (h + settings.lambda_) / settings.num_parallel_tree)


def best(sums: Floats, widths: Sequence[int], features: Sequence[int], settings: Boosting) -> Split | None:
    """Return the best split, or none if none gains.

        gain = score(L) + score(R) - score(L + R),   score(G, H) = soft(G)^2 / (H + lambda)

    `sums` has a row for each bin of each feature and, after them, for the rows that have no number there.
    """
    found: list[Split] = []
    at = 0
    for feature, width in enumerate(widths):
        bins, missing = sums[at : at + width], sums[at + width]
        at += width + 1
        if feature in features:
            found += _of_feature(feature, bins, missing, settings)
    gains = np.array([split.gain for split in found])
    if not len(found) or gains.max() <= LEAST:
        return None
    split = found[int(np.argmax(gains >= gains.max() * (1 - ALIKE)))]
    return split if split.gain >= settings.gamma else None


def _of_feature(feature: int, bins: Floats, missing: Floats, settings: Boosting) -> list[Split]:
    """Return the best split of a feature with the missing rows on the right, and that with them on the left."""
    total, below = bins.sum(axis=0) + missing, np.cumsum(bins, axis=0)
    some = abs(missing[1]) > 1e-9 * max(abs(total[1]), 1e-30)
    found = []
    for goes_left in (False, True) if some else (False,):
        left = below + missing if goes_left else below
        right = total - left
        gains = _score(left, settings) + _score(right, settings) - _score(total, settings)
        least = np.maximum(settings.min_child_weight, 1e-12 * abs(total[1]))
        gains[(left[:, 1] < least) | (right[:, 1] < least)] = -np.inf
        if not np.isfinite(gains).any():
            continue
        cut = int(np.argmax(gains >= gains.max() - abs(gains.max()) * ALIKE))
        found.append(Split(float(gains[cut]), feature, cut, goes_left, left[cut], right[cut]))
    return found


def _score(sums: Floats, settings: Boosting) -> Floats:
    g, h = sums[..., 0], np.maximum(sums[..., 1], 0.0)
    score: Floats = _soft(g, settings.alpha) ** 2 / np.maximum(h + settings.lambda_, 1e-30)
    return score


def _soft(g: Floats, alpha: float) -> Floats:
    """Return g moved towards zero by alpha."""
    soft: Floats = np.sign(g) * np.maximum(np.abs(g) - alpha, 0.0)
    return soft
