"""scikit-learn's one-vs-rest classifier of linear models, on ciphertexts."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import multiclass as sk
from sklearn.utils.metaestimators import available_if

from tacit.errors import DataError
from tacit.fhe.compile.linear import classification_head
from tacit.fhe.encode import Float
from tacit.fhe.estimator import Mode, WithDecision, quantized
from tacit.fhe.joint_heads import pair_head
from tacit.fhe.scores import ScoreModel, Scores, of_coefficients

__all__ = ["OneVsOneClassifier", "OneVsRestClassifier"]


def _sigmoids(model: Any) -> bool:
    members = getattr(model, "estimators_", None) or [model.estimator]
    named = [(type(member).__name__, getattr(member, "loss", "")) for member in members]
    return all(name.startswith("LogisticRegression") or loss == "log_loss" for name, loss in named)


@quantized(n_bits=None)
class OneVsOneClassifier(WithDecision, ScoreModel, sk.OneVsOneClassifier):
    """One linear classifier for each pair of classes, on ciphertexts. The client learns the score of each pair."""

    def _scores(self) -> Scores:
        return _stacked(self.estimators_, "one-vs-one")

    def _head(self) -> Any:
        return pair_head(self.classes_, 1.0, by_confidence=True, pairs=False)


def _stacked(members: Any, kind: str) -> Scores:
    for member in members:
        if not hasattr(member, "coef_"):
            raise DataError(f"{kind} on ciphertexts takes linear models, not {type(member).__name__}")
    parts = [of_coefficients(member) for member in members]
    return Scores(np.concatenate([p.linear for p in parts]), np.concatenate([p.constant for p in parts]))


@quantized(n_bits=None)
class OneVsRestClassifier(WithDecision, ScoreModel, sk.OneVsRestClassifier):
    """One linear classifier a class, on ciphertexts."""

    def _scores(self) -> Scores:
        if self.multilabel_:
            raise DataError("a classifier of several labels a row cannot be compiled: train one for each label")
        return _stacked(self.estimators_, "one-vs-rest")

    def _head(self) -> Any:
        return classification_head(self.classes_, "one-vs-rest" if _sigmoids(self) else "none")

    @available_if(_sigmoids)
    def predict_proba(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return class probabilities (of logistic models); see `predict` for `fhe`."""
        return self._proba(super().predict_proba, X, fhe)
