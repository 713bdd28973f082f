"""scikit-learn's projections on ciphertexts: `transform` of rows that the server does not see."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import decomposition as sk

from tacit.fhe.estimator import quantized
from tacit.fhe.scores import Projection, Scores

__all__ = ["PCA", "FactorAnalysis", "FastICA", "IncrementalPCA", "TruncatedSVD"]


class _Components(Projection):
    whiten: bool
    explained_variance_: Any
    components_: Any
    mean_: Any

    def _scores(self) -> Scores:
        scale = np.sqrt(self.explained_variance_) if self.whiten else np.ones(len(self.components_))
        weights = self.components_ / np.maximum(scale, np.finfo(np.float64).eps)[:, None]
        return Scores(weights, -weights @ self.mean_)


@quantized(n_bits=None)
class PCA(_Components, sk.PCA):
    """Principal component analysis on ciphertexts."""


@quantized(n_bits=None)
class IncrementalPCA(_Components, sk.IncrementalPCA):
    """Principal component analysis by batches, on ciphertexts."""


@quantized(n_bits=None)
class FastICA(Projection, sk.FastICA):
    """Independent component analysis on ciphertexts."""

    def _scores(self) -> Scores:
        mean = self.mean_ if self.whiten else np.zeros(self.components_.shape[1])
        return Scores(self.components_, -self.components_ @ mean)


@quantized(n_bits=None)
class FactorAnalysis(Projection, sk.FactorAnalysis):
    """Factor analysis on ciphertexts: the expected factors of a row."""

    def _scores(self) -> Scores:
        scaled = self.components_ / self.noise_variance_
        weights = np.linalg.inv(np.eye(len(self.components_)) + scaled @ self.components_.T).T @ scaled
        return Scores(weights, -weights @ self.mean_)


@quantized(n_bits=None)
class TruncatedSVD(Projection, sk.TruncatedSVD):
    """Truncated singular value decomposition on ciphertexts."""

    def _scores(self) -> Scores:
        return Scores(self.components_, np.zeros(len(self.components_)))
