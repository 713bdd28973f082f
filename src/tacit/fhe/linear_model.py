"""scikit-learn's linear models, predicting on ciphertexts. `n_bits` quantises inputs and weights (None:
as finely as costs nothing)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import linear_model as sk
from sklearn.utils.metaestimators import available_if

from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.linear import classification_head, compile_linear, quantizer, regression_head
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, Mode, WithDecision, WithProba, quantized

__all__ = [
    "ElasticNet",
    "GammaRegressor",
    "Lasso",
    "LinearRegression",
    "LogisticRegression",
    "PoissonRegressor",
    "Ridge",
    "SGDClassifier",
    "SGDRegressor",
    "TweedieRegressor",
]


def dense(coefficients: Any) -> Float:
    """Return coefficients as a dense matrix, a row for each output."""
    array = coefficients.toarray() if hasattr(coefficients, "toarray") else np.asarray(coefficients, dtype=np.float64)
    return np.atleast_2d(array).astype(np.float64)


class LinearScores(FheModel):
    """Compiles `coef_` and `intercept_`."""

    coef_: Any
    intercept_: Any
    n_bits: int | None

    def _head(self) -> Any:
        raise NotImplementedError

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        weights = dense(self.coef_)
        bias: Float = np.broadcast_to(np.asarray(self.intercept_, dtype=np.float64), len(weights))
        if before is not None:  # W (A x + c) + b is linear again: the map stays on the server
            weights, bias = weights @ before.matrix, bias + weights @ before.offset
        return compile_linear(weights, bias, quantizer(x, n_bits), n_bits, self._head())


class _Regression(LinearScores):
    def _head(self) -> Any:
        return regression_head(exponential=False, flat=np.ndim(self.coef_) == 1)


class _LogLink(LinearScores):
    def _head(self) -> Any:
        return regression_head(exponential=True, flat=True)


@quantized(n_bits=None)
class LinearRegression(_Regression, sk.LinearRegression):
    """Ordinary least squares on ciphertexts."""


@quantized(n_bits=None)
class Ridge(_Regression, sk.Ridge):
    """Ridge regression on ciphertexts."""


@quantized(n_bits=None)
class Lasso(_Regression, sk.Lasso):
    """Lasso on ciphertexts."""


@quantized(n_bits=None)
class ElasticNet(_Regression, sk.ElasticNet):
    """Elastic net on ciphertexts."""


@quantized(n_bits=None)
class SGDRegressor(_Regression, sk.SGDRegressor):
    """Linear regression by stochastic gradient descent, on ciphertexts."""


@quantized(n_bits=None)
class PoissonRegressor(_LogLink, sk.PoissonRegressor):
    """Poisson regression on ciphertexts: the client takes the exponential."""


@quantized(n_bits=None)
class GammaRegressor(_LogLink, sk.GammaRegressor):
    """Gamma regression on ciphertexts: the client takes the exponential."""


@quantized(n_bits=None)
class TweedieRegressor(LinearScores, sk.TweedieRegressor):
    """Tweedie regression on ciphertexts, with the identity or the log link."""

    def _head(self) -> Any:
        log = self.link == "log" or (self.link == "auto" and self.power > 0)
        return regression_head(exponential=log, flat=True)


@quantized(n_bits=None)
class LogisticRegression(WithProba, WithDecision, LinearScores, sk.LogisticRegression):
    """Logistic regression on ciphertexts, two classes or many."""

    def _head(self) -> Any:
        old = getattr(self, "multi_class", "deprecated")  # scikit-learn before 1.8
        one_vs_rest = old == "ovr" or self.solver == "liblinear"
        proba = "logistic" if len(self.classes_) == 2 else "one-vs-rest" if one_vs_rest else "softmax"
        return classification_head(self.classes_, proba)


_SGD_PROBA = {"log_loss": "one-vs-rest", "modified_huber": "modified-huber"}


def _has_proba(model: Any) -> bool:
    if model.loss not in _SGD_PROBA:
        raise AttributeError(f"probability estimates are not available for loss={model.loss!r}")
    return True


@quantized(n_bits=None)
class SGDClassifier(WithDecision, LinearScores, sk.SGDClassifier):
    """A linear classifier by stochastic gradient descent, on ciphertexts."""

    def _head(self) -> Any:
        return classification_head(self.classes_, _SGD_PROBA.get(self.loss, "none"))

    @available_if(_has_proba)
    def predict_proba(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return class probabilities (losses "log_loss" and "modified_huber"); see `predict` for `fhe`."""
        return self._proba(super().predict_proba, X, fhe)
