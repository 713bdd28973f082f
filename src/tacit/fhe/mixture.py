"""scikit-learn's Gaussian mixtures on ciphertexts: which component a row belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import digamma
from sklearn import mixture as sk

from tacit.errors import DataError
from tacit.fhe.compile.linear import classification_head
from tacit.fhe.encode import Float
from tacit.fhe.estimator import WithProba, quantized
from tacit.fhe.scores import ScoreModel, Scores

__all__ = ["BayesianGaussianMixture", "GaussianMixture"]


class _Mixture(WithProba, ScoreModel):
    """Scores log w_k + log N(x; m_k, C_k), up to what all components share."""

    usual_bits = 7
    means_: Float
    covariance_type: str
    precisions_cholesky_: Float

    def _constants(self, log_det: Float) -> Float:
        raise NotImplementedError

    def _head(self) -> Any:
        count = len(self.means_)
        return classification_head(np.arange(count), "logistic" if count == 2 else "softmax")

    def _scores(self) -> Scores:
        count, d = self.means_.shape
        if count == 1:
            raise DataError("a mixture of one component takes every row: there is nothing to predict")
        root = self.precisions_cholesky_
        if self.covariance_type in ("diag", "spherical"):
            flat = np.broadcast_to(root if root.ndim == 2 else root[:, None], (count, d))
            pull, log_det = flat**2 * self.means_, np.log(flat).sum(axis=1)
            square = -0.5 * flat**2
        else:
            full = np.broadcast_to(root, (count, d, d))
            precision = full @ full.transpose(0, 2, 1)
            pull = (precision @ self.means_[:, :, None])[:, :, 0]
            log_det = np.log(np.diagonal(full, axis1=1, axis2=2)).sum(axis=1)
            square = -0.5 * precision
        constant = self._constants(log_det) - 0.5 * (pull * self.means_).sum(axis=1)
        return Scores(pull, constant, square).relative


@quantized(n_bits=None)
class GaussianMixture(_Mixture, sk.GaussianMixture):
    """A mixture of Gaussians, on ciphertexts."""

    def _constants(self, log_det: Float) -> Float:
        out: Float = log_det + np.log(self.weights_)
        return out


@quantized(n_bits=None)
class BayesianGaussianMixture(_Mixture, sk.BayesianGaussianMixture):
    """A mixture of Gaussians with priors, on ciphertexts."""

    def _constants(self, log_det: Float) -> Float:
        d, freedom = self.means_.shape[1], np.broadcast_to(self.degrees_of_freedom_, len(self.means_))
        spread = d * np.log(2) + digamma(0.5 * (freedom - np.arange(d)[:, None])).sum(axis=0)
        more = 0.5 * (spread - d / self.mean_precision_) - 0.5 * d * np.log(freedom)
        out: Float = log_det + more + self._estimate_log_weights()
        return out
