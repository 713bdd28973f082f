"""scikit-learn's projections on ciphertexts: `transform` of rows that the server does not see."""

from __future__ import annotations

import numpy as np
from sklearn import decomposition as sk

from tacit.fhe.estimator import quantized
from tacit.fhe.scores import Projection, Scores

__all__ = ["PCA", "TruncatedSVD"]


@quantized(n_bits=None)
class PCA(Projection, sk.PCA):
    """Principal component analysis on ciphertexts."""

    def _scores(self) -> Scores:
        scale = np.sqrt(self.explained_variance_) if self.whiten else np.ones(len(self.components_))
        weights = self.components_ / np.maximum(scale, np.finfo(np.float64).eps)[:, None]
        return Scores(weights, -weights @ self.mean_)


@quantized(n_bits=None)
class TruncatedSVD(Projection, sk.TruncatedSVD):
    """Truncated singular value decomposition on ciphertexts."""

    def _scores(self) -> Scores:
        return Scores(self.components_, np.zeros(len(self.components_)))
