"""scikit-learn's kernel ridge regression with a linear kernel, on ciphertexts."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import kernel_ridge as sk

from tacit.errors import DataError
from tacit.fhe.compile.linear import regression_head
from tacit.fhe.estimator import quantized
from tacit.fhe.scores import ScoreModel, Scores, dense

__all__ = ["KernelRidge"]


@quantized(n_bits=None)
class KernelRidge(ScoreModel, sk.KernelRidge):
    """Kernel ridge regression, on ciphertexts."""

    def _head(self) -> Any:
        return regression_head(exponential=False, flat=np.ndim(self.dual_coef_) == 1)

    def _scores(self) -> Scores:
        if self.kernel != "linear":
            raise DataError(
                f"kernel ridge regression with kernel={self.kernel!r} takes non-linear functions of secrets: use "
                "kernel='linear', or predict in MPC with a tacit.Client"
            )
        weights = np.atleast_2d(np.asarray(self.dual_coef_).T) @ dense(self.X_fit_)
        return Scores(weights, np.zeros(len(weights)))
