"""scikit-learn's linear support vector machines, predicting on ciphertexts."""

from __future__ import annotations

from typing import Any

from sklearn import svm as sk

from tacit.fhe.compile.linear import classification_head, regression_head
from tacit.fhe.estimator import WithDecision, quantized
from tacit.fhe.linear_model import LinearScores

__all__ = ["LinearSVC", "LinearSVR"]


@quantized(n_bits=None)
class LinearSVC(WithDecision, LinearScores, sk.LinearSVC):
    """Linear support vector classification on ciphertexts."""

    def _head(self) -> Any:
        return classification_head(self.classes_, "none")


@quantized(n_bits=None)
class LinearSVR(LinearScores, sk.LinearSVR):
    """Linear support vector regression on ciphertexts."""

    def _head(self) -> Any:
        return regression_head(exponential=False, flat=True)
