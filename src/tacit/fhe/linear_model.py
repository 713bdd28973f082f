"""scikit-learn's linear models, predicting on ciphertexts. `n_bits` quantises inputs and weights (None:
as finely as costs nothing)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn import linear_model as sk
from sklearn.utils.metaestimators import available_if

from tacit.errors import DataError
from tacit.fhe.compile.linear import classification_head, regression_head
from tacit.fhe.encode import Float
from tacit.fhe.estimator import Mode, WithDecision, WithProba, quantized
from tacit.fhe.scores import ScoreModel, Scores, dense, of_coefficients

__all__ = [
    "ARDRegression",
    "BayesianRidge",
    "ElasticNet",
    "ElasticNetCV",
    "GammaRegressor",
    "HuberRegressor",
    "Lars",
    "LarsCV",
    "Lasso",
    "LassoCV",
    "LassoLars",
    "LassoLarsCV",
    "LassoLarsIC",
    "LinearRegression",
    "LogisticRegression",
    "LogisticRegressionCV",
    "MultiTaskElasticNet",
    "MultiTaskElasticNetCV",
    "MultiTaskLasso",
    "MultiTaskLassoCV",
    "OrthogonalMatchingPursuit",
    "OrthogonalMatchingPursuitCV",
    "Perceptron",
    "PoissonRegressor",
    "QuantileRegressor",
    "RANSACRegressor",
    "Ridge",
    "RidgeCV",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "SGDClassifier",
    "SGDOneClassSVM",
    "SGDRegressor",
    "TheilSenRegressor",
    "TweedieRegressor",
]


class LinearScores(ScoreModel):
    """Compiles `coef_` and `intercept_`."""

    coef_: Any
    intercept_: Any

    def _scores(self) -> Scores:
        return of_coefficients(self)


class _Regression(LinearScores):
    def _head(self) -> Any:
        return regression_head(exponential=False, flat=np.ndim(self.coef_) == 1)


class _Inliers(_Regression):
    estimator_: Any

    def _scores(self) -> Scores:
        if not hasattr(self.estimator_, "coef_"):
            raise DataError(f"RANSAC on ciphertexts takes a linear model, not {type(self.estimator_).__name__}")
        return of_coefficients(self.estimator_)

    def _head(self) -> Any:
        return regression_head(exponential=False, flat=np.ndim(self.estimator_.coef_) == 1)


class _Path(_Regression):
    """Models whose `fit` gives all their hyper-parameters to a function of scikit-learn, which knows no n_bits."""

    _fitting: bool = False

    def fit(self, X: Any, y: Any, *args: Any, **kwargs: Any) -> Self:  # noqa: N803
        """Train as scikit-learn does."""
        self._fitting = True
        try:
            parent: Any = super()
            fitted: Self = parent.fit(X, y, *args, **kwargs)
        finally:
            del self._fitting
        return fitted

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the hyper-parameters."""
        parent: Any = super()
        params: dict[str, Any] = parent.get_params(deep)
        return {name: value for name, value in params.items() if not (self._fitting and name == "n_bits")}


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
class ARDRegression(_Regression, sk.ARDRegression):
    """Bayesian regression with relevance determination, on ciphertexts."""


@quantized(n_bits=None)
class BayesianRidge(_Regression, sk.BayesianRidge):
    """Bayesian ridge regression, on ciphertexts."""


@quantized(n_bits=None)
class ElasticNetCV(_Path, sk.ElasticNetCV):
    """Elastic net with its penalty cross-validated, on ciphertexts."""


@quantized(n_bits=None)
class HuberRegressor(_Regression, sk.HuberRegressor):
    """Regression robust to outliers, on ciphertexts."""


@quantized(n_bits=None)
class Lars(_Regression, sk.Lars):
    """Least-angle regression, on ciphertexts."""


@quantized(n_bits=None)
class LarsCV(_Regression, sk.LarsCV):
    """Least-angle regression, cross-validated, on ciphertexts."""


@quantized(n_bits=None)
class LassoCV(_Path, sk.LassoCV):
    """Lasso with its penalty cross-validated, on ciphertexts."""


@quantized(n_bits=None)
class LassoLars(_Regression, sk.LassoLars):
    """Lasso by least-angle regression, on ciphertexts."""


@quantized(n_bits=None)
class LassoLarsCV(_Regression, sk.LassoLarsCV):
    """Lasso by least-angle regression, cross-validated, on ciphertexts."""


@quantized(n_bits=None)
class LassoLarsIC(_Regression, sk.LassoLarsIC):
    """Lasso by least-angle regression and an information criterion, on ciphertexts."""


@quantized(n_bits=None)
class MultiTaskElasticNet(_Regression, sk.MultiTaskElasticNet):
    """Elastic net for several targets, on ciphertexts."""


@quantized(n_bits=None)
class MultiTaskElasticNetCV(_Path, sk.MultiTaskElasticNetCV):
    """Elastic net for several targets, cross-validated, on ciphertexts."""


@quantized(n_bits=None)
class MultiTaskLasso(_Regression, sk.MultiTaskLasso):
    """Lasso for several targets, on ciphertexts."""


@quantized(n_bits=None)
class MultiTaskLassoCV(_Path, sk.MultiTaskLassoCV):
    """Lasso for several targets, cross-validated, on ciphertexts."""


@quantized(n_bits=None)
class OrthogonalMatchingPursuit(_Regression, sk.OrthogonalMatchingPursuit):
    """Orthogonal matching pursuit, on ciphertexts."""


@quantized(n_bits=None)
class OrthogonalMatchingPursuitCV(_Regression, sk.OrthogonalMatchingPursuitCV):
    """Orthogonal matching pursuit, cross-validated, on ciphertexts."""


@quantized(n_bits=None)
class QuantileRegressor(_Regression, sk.QuantileRegressor):
    """Linear regression of a quantile, on ciphertexts."""


@quantized(n_bits=None)
class RANSACRegressor(_Inliers, sk.RANSACRegressor):
    """Linear regression of the rows that agree, on ciphertexts."""


@quantized(n_bits=None)
class RidgeCV(_Regression, sk.RidgeCV):
    """Ridge regression with its penalty cross-validated, on ciphertexts."""


@quantized(n_bits=None)
class TheilSenRegressor(_Regression, sk.TheilSenRegressor):
    """Theil-Sen regression, on ciphertexts."""


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


class _Logistic(WithProba, WithDecision, LinearScores):
    classes_: Any
    solver: str

    def _head(self) -> Any:
        old = getattr(self, "multi_class", "deprecated")  # scikit-learn before 1.8
        one_vs_rest = old == "ovr" or self.solver == "liblinear"
        proba = "logistic" if len(self.classes_) == 2 else "one-vs-rest" if one_vs_rest else "softmax"
        return classification_head(self.classes_, proba)


@quantized(n_bits=None)
class LogisticRegression(_Logistic, sk.LogisticRegression):
    """Logistic regression on ciphertexts, two classes or many."""


@quantized(n_bits=None)
class LogisticRegressionCV(_Logistic, sk.LogisticRegressionCV):
    """Logistic regression with its penalty cross-validated, on ciphertexts."""


class _Signs(WithDecision, LinearScores):
    classes_: Any

    def _head(self) -> Any:
        if len(dense(self.coef_)) != (1 if len(self.classes_) == 2 else len(self.classes_)):
            raise DataError("a classifier of several labels a row cannot be compiled: train one for each label")
        return classification_head(self.classes_, "none")


@quantized(n_bits=None)
class RidgeClassifier(_Signs, sk.RidgeClassifier):
    """Ridge regression of class indicators, on ciphertexts."""


@quantized(n_bits=None)
class RidgeClassifierCV(_Signs, sk.RidgeClassifierCV):
    """Ridge regression of class indicators with its penalty cross-validated, on ciphertexts."""


@quantized(n_bits=None)
class Perceptron(_Signs, sk.Perceptron):
    """The perceptron on ciphertexts."""


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


@quantized(n_bits=None)
class SGDOneClassSVM(WithDecision, LinearScores, sk.SGDOneClassSVM):
    """A linear one-class support vector machine: which rows are anomalies, on ciphertexts."""

    def _scores(self) -> Scores:
        return Scores(dense(self.coef_), -np.atleast_1d(np.asarray(self.offset_, dtype=np.float64)))

    def _head(self) -> Any:
        return classification_head(np.array([-1, 1]), "none")
