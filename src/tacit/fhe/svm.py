"""scikit-learn's linear support vector machines, predicting on ciphertexts."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import svm as sk

from tacit.errors import DataError
from tacit.fhe.compile.linear import classification_head, regression_head
from tacit.fhe.estimator import WithDecision, quantized
from tacit.fhe.joint_heads import pair_head
from tacit.fhe.linear_model import LinearScores
from tacit.fhe.scores import Scores, of_coefficients

__all__ = ["SVC", "SVR", "LinearSVC", "LinearSVR", "NuSVC", "NuSVR", "OneClassSVM"]


class _Kernel(LinearScores):
    kernel: Any

    def _scores(self) -> Scores:
        if self.kernel != "linear":
            raise DataError(
                f"a support vector machine with kernel={self.kernel!r} takes exponentials or powers of secrets: use "
                "kernel='linear' (behind a Nystroem or RBFSampler step of a pipeline, say), or predict in MPC with a "
                "tacit.Client"
            )
        return of_coefficients(self)


class _Votes(WithDecision, _Kernel):
    classes_: Any
    break_ties: bool
    decision_function_shape: str

    def _head(self) -> Any:
        if len(self.classes_) == 2:
            return classification_head(self.classes_, "none")
        return pair_head(
            self.classes_, -1.0, by_confidence=self.break_ties, pairs=self.decision_function_shape == "ovo"
        )


class _Quantity(_Kernel):
    def _head(self) -> Any:
        return regression_head(exponential=False, flat=True)


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


@quantized(n_bits=None)
class SVC(_Votes, sk.SVC):
    """Support vector classification with a linear kernel, on ciphertexts."""


@quantized(n_bits=None)
class NuSVC(_Votes, sk.NuSVC):
    """Nu support vector classification with a linear kernel, on ciphertexts."""


@quantized(n_bits=None)
class SVR(_Quantity, sk.SVR):
    """Support vector regression with a linear kernel, on ciphertexts."""


@quantized(n_bits=None)
class NuSVR(_Quantity, sk.NuSVR):
    """Nu support vector regression with a linear kernel, on ciphertexts."""


@quantized(n_bits=None)
class OneClassSVM(WithDecision, _Kernel, sk.OneClassSVM):
    """A one-class support vector machine with a linear kernel: which rows are anomalies, on ciphertexts."""

    def _head(self) -> Any:
        return classification_head(np.array([-1, 1]), "none")
