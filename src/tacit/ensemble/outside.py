"""Plain models of scikit-learn, XGBoost and LightGBM as secret ones, whose trees are filled up to one depth.

The owner of the model reads it; the others learn what kind it is, and how many trees, levels, columns and classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import torch

from tacit.api import current_session, share
from tacit.ensemble.boosting import GradientBoostingClassifier
from tacit.ensemble.estimator import DEEPEST
from tacit.ensemble.forest import RandomForestClassifier
from tacit.ensemble.missing import EDGE
from tacit.ensemble.readers import Read, read
from tacit.ensemble.regression import GradientBoostingRegressor
from tacit.ensemble.trees import Trees
from tacit.errors import DataError
from tacit.ring.fixed_point import VALUE_BITS
from tacit.tensor.operands import arithmetic

__all__ = ["from_model"]

Model = GradientBoostingClassifier | GradientBoostingRegressor | RandomForestClassifier
KINDS: dict[str, Callable[[], Model]] = {
    "boosted classes": GradientBoostingClassifier,
    "boosted numbers": GradientBoostingRegressor,
    "forest of classes": RandomForestClassifier,
}


def from_model(model: Any, owner: str | None = None, *, missing: bool = False) -> Model:
    """Make a secret model of a fitted plain one.

    Args:
        model: scikit-learn's boosting, histogram-based or not, its random forests, extra trees and single trees, for
            classes or numbers; XGBoost's XGBClassifier, XGBRegressor and their forests; LightGBM's LGBMClassifier or
            LGBMRegressor. All columns numeric, and one output.
        owner: the party that has the model; the others pass None. Without one, all roles have it.
        missing: whether rows to predict may have `MISSING` in the place of a number; they go where the model sends NaN.

    Reveals: the kind of model, and the numbers of its trees, levels, columns and classes, to all roles.

    Raises:
        DataError: at the owner, for a model that is none of these, a tree of more than ten levels, or options under
            which a secret model would say something else: other losses and boosters, columns of categories, linear
            leaves, numbers that stand for a missing one.
    """
    session = current_session()
    hosted = owner is None or owner in session.transport.hosted
    found = read(model) if hosted else None
    facts: list[Any] = []
    if found is not None:
        depth = max(1, *(tree.depth() for tree in found.trees))
        if depth > DEEPEST:
            raise DataError(f"a tree of this model has {depth} levels, and a secret one has at most {DEEPEST}")
        facts = [found.kind, found.columns, found.classes, len(found.trees), depth, len(found.start)]
    if owner is not None:
        facts = _announced(owner, session.announce(owner, json.dumps(facts).encode() if facts else None))
    kind, columns, classes, count, depth, outputs = facts
    inner = (1 << depth) - 1
    width = classes if kind == "forest of classes" and classes > 2 else 1
    looked = columns * (1 + missing)
    shapes = ((looked, count, inner), (count, inner), (count, width, inner + 1), (1, outputs))
    tensors = [None] * 4 if found is None else _filled(found, depth, width, missing=missing)
    secrets = [
        arithmetic(share(t, owner, shape=s, dtype=d) if owner else share(t))
        for t, s, d in zip(tensors, shapes, (torch.int64, torch.float64, torch.float64, torch.float64), strict=True)
    ]
    features, thresholds, leaves, start = secrets
    out = KINDS[kind]()
    out.missing, out.n_estimators, out.max_depth = missing, count // max(1, outputs), depth
    zeros = leaves.protocol.public(torch.zeros(count, inner, dtype=torch.int64), leaves.frac_bits)
    out._grown(Trees(features, thresholds, zeros, leaves), columns)
    out.take_over(start, classes)
    return out


def _announced(owner: str, message: bytes) -> list[Any]:
    """Check what a model's owner announced: it may be anything."""
    try:
        kind, *numbers = json.loads(message)
        sound = kind in KINDS and len(numbers) == 5 and all(type(n) is int and 1 <= n < 1 << 24 for n in numbers)
    except (ValueError, TypeError, RecursionError):
        sound = False
    if not sound or numbers[3] > DEEPEST or numbers[2] * numbers[0] << numbers[3] > 1 << 32:
        raise DataError(f"{owner} announced a model of an impossible kind or size")
    return [kind, *numbers]


def _filled(read: Read, depth: int, width: int, *, missing: bool) -> list[Any]:
    """One-hot columns, thresholds, leaves and where to start from, of trees that are full.

    With two columns for each where numbers may be missing, see `missing.sides`.
    """
    inner, count = (1 << depth) - 1, len(read.trees)
    features = torch.zeros(read.columns * (1 + missing), count, inner, dtype=torch.int64)
    thresholds = torch.ones(count, inner, dtype=torch.float64)
    leaves = torch.zeros(count, width, inner + 1, dtype=torch.float64)
    unit = 2.0 ** -current_session().config.frac_bits
    far = EDGE if missing else 2.0**VALUE_BITS * unit
    for k, tree in enumerate(read.trees):
        level = [tree]
        for d in range(depth):
            following = []
            for place, node in enumerate(level):
                if node.left is None or node.right is None:
                    following += [node, node]
                    continue
                at = (1 << d) - 1 + place
                following += [node.left, node.right]
                if abs(node.threshold) >= far:  # beyond all numbers, as histogram-based models write "any number"
                    thresholds[k, at] = math.copysign(EDGE if missing else 1.0, node.threshold)
                else:
                    steps = math.ceil(node.threshold / unit) - 1 if node.strict else math.floor(node.threshold / unit)
                    thresholds[k, at] = steps * unit
                if missing or abs(node.threshold) < far:
                    features[2 * node.column + node.missing_left if missing else node.column, k, at] = 1
            level = following
        leaves[k] = torch.tensor([node.values for node in level], dtype=torch.float64).t()
    return [features, thresholds, leaves, torch.tensor([read.start], dtype=torch.float64)]
