"""XGBoost's and LightGBM's models, and those that were trained on secrets, predicting on ciphertexts.

::

    model = from_xgboost_model(trained, X_calibration)      # an XGBClassifier or XGBRegressor
    model = from_lightgbm_model(trained, X_calibration)     # an LGBMClassifier or LGBMRegressor
    model = from_tacit_model(trained, X_calibration)        # what tacit.ensemble.to_plain reveals to a server
    model.predict(X, fhe="execute")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from tacit.errors import FheError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.foreign_trees import lightgbm_forest, refuse_codes, tacit_forest, xgboost_forest
from tacit.fhe.compile.forest import Forest, Hiding, compile_forest
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, Mode
from tacit.fhe.read import Labels
from tacit.fhe.table import Front

__all__ = ["BoostedModel", "from_lightgbm_model", "from_tacit_model", "from_xgboost_model"]


class BoostedModel(FheModel, BaseEstimator):
    """A boosted forest trained elsewhere. In clear it is the original model; it cannot be trained again here."""

    def __init__(
        self,
        trained: Any,
        lower: Callable[[Any, Float], Forest],
        n_bits: int,
        hide_thresholds: bool,
        hide_structure: bool = True,
    ) -> None:
        self.trained = trained
        self.lower = lower
        self.n_bits = n_bits
        self.hide_thresholds = hide_thresholds
        self.hide_structure = hide_structure

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Refuse: these models are trained by their own library."""
        raise FheError("train this model with its own library, then import it again")

    def _front(self, x: Any) -> tuple[Front, Affine | None, Float]:
        booster = self.trained.get_booster() if hasattr(self.trained, "get_booster") else None
        if booster is not None and not hasattr(booster, "get_categories"):
            refuse_codes(_categories(x))  # before XGBoost 3.1 a model does not know its categories: these rows do
        return super()._front(x)

    def _allows_missing(self) -> bool:
        return self.lower is not tacit_forest

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        seen = x if before is None else before(x)
        hide = Hiding(n_bits, self.hide_thresholds, self.hide_structure)
        return compile_forest(self.lower(self.trained, seen), x, hide, before)

    def predict(self, X: Any, *args: Any, fhe: Mode = "disable", **kwargs: Any) -> Labels:  # noqa: N803
        """Predict in clear with the original model, or as every model of tacit.fhe does."""
        if fhe == "disable":
            return np.asarray(self.trained.predict(X, *args, **kwargs))
        return super().predict(X, fhe=fhe)

    def predict_proba(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return class probabilities; see `predict` for `fhe`."""
        return self._proba(self.trained.predict_proba, X, fhe)


def _categories(x: Any) -> Iterator[Any]:
    """Yield the categories of a data frame's columns that have some."""
    for dtype in getattr(x, "dtypes", ()) if hasattr(x, "columns") else ():
        if hasattr(dtype, "categories"):
            yield list(dtype.categories)


def from_xgboost_model(
    trained: Any, x: Any, n_bits: int = 8, hide_thresholds: bool = False, hide_structure: bool = True
) -> BoostedModel:
    """Return a trained XGBoost model that predicts on ciphertexts, compiled with the representative rows x."""
    return BoostedModel(trained, xgboost_forest, n_bits, hide_thresholds, hide_structure).compile(x)


def from_lightgbm_model(
    trained: Any, x: Any, n_bits: int = 8, hide_thresholds: bool = False, hide_structure: bool = True
) -> BoostedModel:
    """Return a trained LightGBM model that predicts on ciphertexts, compiled with the representative rows x."""
    return BoostedModel(trained, lightgbm_forest, n_bits, hide_thresholds, hide_structure).compile(x)


def from_tacit_model(
    trained: Any, x: Any, n_bits: int = 8, hide_thresholds: bool = False, hide_structure: bool = True
) -> BoostedModel:
    """Return a model that `tacit.ensemble.to_plain` revealed, for ciphertexts, compiled with the rows x."""
    return BoostedModel(trained, tacit_forest, n_bits, hide_thresholds, hide_structure).compile(x)
