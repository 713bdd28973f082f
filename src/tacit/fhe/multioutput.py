"""scikit-learn's regressors of several targets, on ciphertexts."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import multioutput as sk

from tacit.errors import DataError
from tacit.fhe.compile.linear import regression_head
from tacit.fhe.estimator import quantized
from tacit.fhe.scores import ScoreModel, Scores, of_coefficients

__all__ = ["MultiOutputRegressor"]


@quantized(n_bits=None)
class MultiOutputRegressor(ScoreModel, sk.MultiOutputRegressor):
    """One linear regressor for each target, on ciphertexts."""

    def _head(self) -> Any:
        return regression_head(exponential=False, flat=False)

    def _scores(self) -> Scores:
        for member in self.estimators_:
            if not hasattr(member, "coef_") or hasattr(member, "link") or hasattr(member, "power"):
                raise DataError(f"several targets on ciphertexts take linear models, not {type(member).__name__}")
        parts = [of_coefficients(member) for member in self.estimators_]
        return Scores(np.concatenate([p.linear for p in parts]), np.concatenate([p.constant for p in parts]))
