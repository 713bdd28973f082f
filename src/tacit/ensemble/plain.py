"""A secret model in the clear, for who is to have all of it: a server that predicts on ciphertexts, an auditor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.api import reveal
from tacit.ensemble.boosting import GradientBoostingClassifier
from tacit.ensemble.forest import RandomForestClassifier
from tacit.ensemble.missing import BELOW, MISSING, flagged, sides
from tacit.ensemble.regression import GradientBoostingRegressor
from tacit.errors import DataError, TacitError
from tacit.protocols.number import Number
from tacit.tensor.operands import arithmetic, secret

__all__ = ["PlainTrees", "to_plain"]

Float = NDArray[np.float64]
NAME = "the model"


@dataclass(frozen=True)
class PlainTrees:
    """Trees of full depth, which predict what the secret ones do, up to roundings.

    Node i has the children 2 i + 1 and 2 i + 2; a row goes left where x[column] <= threshold, and everywhere where the
    column is -1.
    """

    kind: str
    """"boosted classes", "boosted numbers" or "forest of classes"."""
    columns: NDArray[np.int64]
    """[trees, inner nodes]."""
    thresholds: Float
    """[trees, inner nodes], half a unit of fixed point above the secret ones: x is rounded before it is compared."""
    leaves: Float
    """[trees, outputs, leaves]: of a forest each class's share, or that of class 1 alone where there are two."""
    start: Float
    """[outputs]."""
    n_features_in_: int
    classes_: tuple[int, ...]
    """Empty for numbers."""
    missing_left: NDArray[np.bool_] | None = None
    """[trees, inner nodes]: whether rows go left whose number is missing, as NaN or `MISSING`; None if none may be."""

    def decision_function(self, X: Any) -> Float:
        """The scores F of each row, [rows] or [rows, classes]; of a forest the mean over its trees."""
        x = np.asarray(X, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.n_features_in_:
            raise DataError(f"X has shape {x.shape}, but the model was fitted to {self.n_features_in_} columns")
        gone = np.isnan(x) | (x == MISSING)
        if self.missing_left is None and gone.any():
            raise DataError("a number of X is missing, and the model was not fitted with missing=True")
        outputs = len(self.start)
        trees, _, leaves = self.leaves.shape
        total = np.zeros((len(x), max(outputs, self.leaves.shape[1]))) + self.start
        for k in range(trees):
            node = np.zeros(len(x), dtype=np.int64)
            while node[0] < leaves - 1:
                column = self.columns[k, node]
                left = (column < 0) | (x[np.arange(len(x)), column] <= self.thresholds[k, node])
                if self.missing_left is not None:
                    left = np.where((column >= 0) & gone[np.arange(len(x)), column], self.missing_left[k, node], left)
                node = 2 * node + np.where(left, 1, 2)
            value = self.leaves[k][:, node - (leaves - 1)].T
            if self.kind == "forest of classes":
                total += value / trees
            else:
                total[:, k % outputs] += value[:, 0]
        found: Float = total[:, 0] if total.shape[1] == 1 else total
        return found

    def predict_proba(self, X: Any) -> Float:
        """The probability of each class."""
        if not self.classes_:
            raise TacitError("this model predicts numbers, and no probabilities")
        scores = self.decision_function(X)
        if scores.ndim == 1:
            one = scores if self.kind == "forest of classes" else 1 / (1 + np.exp(-scores))
            pair: Float = np.stack([1 - one, one], 1)
            return pair
        if self.kind == "forest of classes":
            return scores
        shifted: Float = np.exp(scores - scores.max(1, keepdims=True))
        found: Float = shifted / shifted.sum(1, keepdims=True)
        return found

    def predict(self, X: Any) -> NDArray[Any]:
        """The number, or the likeliest class, of each row."""
        if not self.classes_:
            return self.decision_function(X)
        likeliest: NDArray[Any] = self.predict_proba(X).argmax(1)
        return likeliest


def to_plain(
    model: GradientBoostingClassifier | GradientBoostingRegressor | RandomForestClassifier, to: str | Sequence[str]
) -> PlainTrees | None:
    """Reveal a secret model, all of it, to some role: a `PlainTrees` there, None at the others.

    `tacit.fhe.boosted.from_tacit_model` makes it predict on ciphertexts.

    Reveals: splits, thresholds and leaves, to that role, under the name "the model", if the policy allows it.
    """
    if not hasattr(model, "trees_"):
        raise TacitError(f"this {type(model).__name__} has not been fitted yet: call fit first")
    trees = model.trees_
    order = torch.arange(1, trees.columns + 1).view(-1, 1, 1)
    numbered = trees.features.linear(lambda t: (t * order.to(t.device)).sum(0)).plus(torch.tensor(-1))
    bits = trees.leaves.protocol.frac_bits
    fitted = model.state_dict()["fitted"]
    numbers: list[Number] = [trees.thresholds, trees.leaves]
    numbers += [arithmetic(fitted[name]) for name in ("start", "mean", "spread") if name in fitted]
    columns = reveal(secret(numbered, torch.int64), to=to, name=NAME)
    found = [reveal(secret(x.fork(), torch.float64), to=to, name=NAME) for x in numbers]
    if columns is None:
        return None
    thresholds, leaves, *rest = (t.numpy().astype(np.float64) for t in found if t is not None)
    start, kind = np.zeros(1), "forest of classes"
    if isinstance(model, GradientBoostingClassifier):
        start, kind = rest[0].reshape(-1), "boosted classes"
    elif isinstance(model, GradientBoostingRegressor):
        start, kind = rest[0].reshape(-1), "boosted numbers"
        leaves = leaves * float(rest[1].reshape(()))
    classes = () if isinstance(model, GradientBoostingRegressor) else tuple(model.classes_)
    half = 2.0 ** -(bits + 1)
    flags = flagged(model.missing, model.n_features_in_)
    origin, side = np.array([*sides(flags), (-1, 0)]).T  # the last is that of no split, -1
    places = columns.numpy()
    left = side[places] == BELOW if any(flags) else None
    return PlainTrees(kind, origin[places], thresholds + half, leaves, start, len(flags), classes, left)
