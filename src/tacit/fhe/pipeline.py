"""scikit-learn's `Pipeline` with a model of `tacit.fhe` at its end and linear steps (StandardScaler, PCA, ...) before
it.

In front of a linear model the steps are folded into its weights, and stay on the server. In front of any other model
they are a public map that the client applies before it encodes.
"""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from sklearn.pipeline import Pipeline as SkPipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from tacit.errors import DataError
from tacit.fhe.compile.assemble import assemble
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, Mode, representative

AGREEMENT = 1e-9
"""How closely, relative to the largest value, the steps must be an affine map on the representative rows. Rounding in
double precision stays below; a step that cuts off, bins or takes logarithms does not."""


def _final_has(name: str) -> Any:
    return lambda pipeline: hasattr(pipeline.steps[-1][1], name)


class Pipeline(FheModel, SkPipeline):
    """A pipeline that predicts on ciphertexts."""

    @property
    def n_bits(self) -> int:  # type: ignore[override]
        """The final model's."""
        return self._model().n_bits

    def _model(self) -> FheModel:
        model = self.steps[-1][1]
        if not isinstance(model, FheModel):
            raise DataError(f"the last step of this pipeline must be a model of tacit.fhe, not {type(model).__name__}")
        return model

    def compile(self, x: Any) -> Self:
        """Fix quantisation and encryption parameters from representative rows, as each model's `compile` does."""
        check_is_fitted(self)
        matrix = representative(x, self.n_bits)
        lowered = self._model()._lower(matrix, self._before(matrix))
        self._keep(assemble(f"Pipeline({type(self._model()).__name__})", lowered))
        return self

    def _before(self, x: Float) -> Affine | None:
        """Return the steps before the model as one affine map: read off the unit vectors, checked on the rows of x."""
        if len(self.steps) == 1:
            return None
        steps = self[:-1]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            offset = _dense(steps.transform(np.zeros((1, x.shape[1]))))[0]
            matrix = (_dense(steps.transform(np.eye(x.shape[1]))) - offset).T
            seen = _dense(steps.transform(x))
        affine = Affine(np.ascontiguousarray(matrix), offset)
        if np.abs(affine(x) - seen).max() > AGREEMENT * max(
            1.0, float(np.abs(seen).max()), float(np.abs(offset).max())
        ):
            raise DataError("the steps before the model must be affine maps (scalers, PCA, column selection)")
        return affine

    def _lower(self, x: Float, before: Affine | None) -> Any:
        raise DataError("a tacit.fhe.Pipeline cannot be a step of another one")

    @available_if(_final_has("predict_proba"))
    def predict_proba(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return class probabilities; see `predict` for `fhe`."""
        return self._proba(super().predict_proba, X, fhe)

    @available_if(_final_has("decision_function"))
    def decision_function(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return the scores; see `predict` for `fhe`."""
        return self._decision(super().decision_function, X, fhe)


def _dense(x: Any) -> Float:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float64)
