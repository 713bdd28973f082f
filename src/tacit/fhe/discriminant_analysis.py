"""scikit-learn's discriminant analysis on ciphertexts."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import discriminant_analysis as sk

from tacit.fhe.estimator import WithDecision, WithProba, quantized
from tacit.fhe.scores import ClassScores, Scores, of_coefficients

__all__ = ["LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis"]


@quantized(n_bits=None)
class LinearDiscriminantAnalysis(WithProba, WithDecision, ClassScores, sk.LinearDiscriminantAnalysis):
    """Linear discriminant analysis on ciphertexts."""

    def _scores(self) -> Scores:
        return of_coefficients(self)


@quantized(n_bits=None)
class QuadraticDiscriminantAnalysis(WithProba, WithDecision, ClassScores, sk.QuadraticDiscriminantAnalysis):
    """Quadratic discriminant analysis on ciphertexts: the client sends the products of its columns."""

    usual_bits = 7

    def _scores(self) -> Scores:
        square, linear, constant = [], [], []
        parts: Any = zip(self.rotations_, self.scalings_, self.means_, self.priors_, strict=True)
        for rotation, scaling, mean, prior in parts:
            inverse = (rotation / scaling) @ rotation.T
            square.append(-0.5 * inverse)
            linear.append(inverse @ mean)
            constant.append(-0.5 * (mean @ inverse @ mean + np.log(scaling).sum()) + np.log(prior))
        return Scores(np.stack(linear), np.array(constant), np.stack(square)).contrast
