"""scikit-learn's partial least squares on ciphertexts."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import cross_decomposition as sk

from tacit.fhe.compile.linear import regression_head
from tacit.fhe.estimator import quantized
from tacit.fhe.scores import ScoreModel, Scores

__all__ = ["PLSRegression"]


@quantized(n_bits=None)
class PLSRegression(ScoreModel, sk.PLSRegression):
    """Partial least squares regression, on ciphertexts."""

    def _head(self) -> Any:
        return regression_head(exponential=False, flat=bool(self._predict_1d))

    def _scores(self) -> Scores:
        weights = np.atleast_2d(self.coef_)
        return Scores(weights, np.atleast_1d(self.intercept_) - weights @ self._x_mean)
