"""scikit-learn's `Pipeline` with a model of `tacit.fhe` at its end and public steps before it.

Steps that are one affine map (scalers, PCA, column selection) are folded into the weights of a linear model, and stay
on the server; in front of any other model the client applies that map before it encodes. All other steps (encoders,
imputers, vectorizers) are written into the client's file, and the client runs them in clear.
"""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from sklearn.pipeline import Pipeline as SkPipeline
from sklearn.utils.metaestimators import available_if

from tacit.errors import DataError
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, Mode, adopt, counterpart, representative, winner
from tacit.fhe.steps import Steps
from tacit.fhe.table import Front, names_of, numbers, trained_names

AGREEMENT = 1e-9
"""How closely, relative to the largest value, the steps must be an affine map on the representative rows. Rounding in
double precision stays below; a step that cuts off, bins or takes logarithms does not."""

FAR = 1e3
"""How many times further out than the representative rows the steps must be the same map: a step that cuts off there
is none."""


def _final_has(name: str) -> Any:
    return lambda pipeline: hasattr(pipeline.steps[-1][1], name)


class Pipeline(FheModel, SkPipeline):
    """A pipeline that predicts on ciphertexts."""

    @property
    def n_bits(self) -> int | None:  # type: ignore[override]
        """The final model's."""
        return self._model().n_bits

    @property
    def usual_bits(self) -> int:  # type: ignore[override]
        """The final model's."""
        return self._model().usual_bits

    def _model(self) -> FheModel:
        model = self.steps[-1][1]
        if not isinstance(model, FheModel):
            raise DataError(
                f"the last step of this pipeline must be a model of tacit.fhe, not {type(model).__name__}: "
                "Pipeline.from_sklearn_model(trained, X) takes over one of scikit-learn"
            )
        return model

    @classmethod
    def from_sklearn_model(cls, trained: Any, x: Any, n_bits: int | None = None) -> Self:
        """Return the encrypted counterpart of a trained scikit-learn pipeline, compiled with the representative rows
        x."""
        trained = winner(trained)
        if not isinstance(trained, SkPipeline):
            raise DataError(f"Pipeline takes a trained scikit-learn Pipeline, not a {type(trained).__name__}")
        name, last = trained.steps[-1]
        model = adopt(counterpart(last), last, n_bits)
        return cls([*trained.steps[:-1], (name, model)]).compile(x)

    def _compiled_name(self) -> str:
        return f"Pipeline({type(self._model()).__name__})"

    def _front(self, x: Any) -> tuple[Front, Affine | None, Float]:
        """Return the steps before the model: the public ones that a client runs, or one affine map."""
        self._model()
        names = trained_names(self) or names_of(x)
        if len(self.steps) == 1:
            front = Front(names)
            return front, None, representative(front(x), self._model()._allows_missing())
        steps = SkPipeline(self.steps[:-1])
        affine = affine_of(steps, x, names, missing=self._model()._allows_missing())
        if affine is not None:
            front = Front(names)
            return front, affine, representative(front(x), self._model()._allows_missing())
        front = Front(names, Steps.of(steps))
        return front, None, representative(front(x), self._model()._allows_missing())

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Any:
        return self._model()._lower(x, before, n_bits)

    @available_if(_final_has("predict_proba"))
    def predict_proba(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return class probabilities; see `predict` for `fhe`."""
        return self._proba(super().predict_proba, X, fhe)

    @available_if(_final_has("decision_function"))
    def decision_function(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return the scores; see `predict` for `fhe`."""
        return self._decision(super().decision_function, X, fhe)


def affine_of(steps: SkPipeline, x: Any, names: tuple[str, ...], *, missing: bool = False) -> Affine | None:
    """Return the steps as one affine map, or None: read off the unit vectors, and checked on the rows of x, on rows
    between and far beyond them, and on a row of missing values (which an affine map cannot fill).

    In front of a model that knows `missing` values it must also send each where the steps send it.
    """
    try:
        rows = numbers(x)
        if rows.ndim != 2 or not np.isfinite(rows).all():
            return None
        offset = _applied(steps, np.zeros((1, rows.shape[1])), x, names)[0]
        matrix = (_applied(steps, np.eye(rows.shape[1]), x, names) - offset).T
        affine = Affine(np.ascontiguousarray(matrix), offset)
        between = 0.7183 * rows[:20] + 0.3141  # no whole numbers, which rounding leaves as they are
        probes = (rows, between, FAR * rows[:20] + FAR, -FAR * rows[:20] - FAR)
        if not all(_agree(affine(probe), _applied(steps, probe, x, names)) for probe in probes):
            return None
    except (ValueError, TypeError, KeyError, IndexError):  # a step that takes other things than any numbers
        return None
    holes = np.concatenate([np.full((1, rows.shape[1]), np.nan), np.where(np.eye(rows.shape[1]) > 0, np.nan, 0.0)])
    try:
        filled = _applied(steps, holes if missing else holes[:1], x, names)
    except (ValueError, TypeError):
        return affine
    if missing and affine.by_column:
        mapped = affine(holes)
        known = ~np.isnan(mapped)
        same = bool((known == ~np.isnan(filled)).all()) and _agree(mapped[known], filled[known])
        return affine if same else None
    return None if np.abs(affine.matrix)[np.isfinite(filled[0])].any() else affine


def _agree(mapped: Float, seen: Float) -> bool:
    return bool(np.abs(mapped - seen).max(initial=0.0) <= AGREEMENT * max(1.0, float(np.abs(seen).max(initial=0.0))))


def _applied(steps: SkPipeline, rows: Float, like: Any, names: tuple[str, ...]) -> Float:
    """Return what the steps make of rows, given as the kind of table that `like` is."""
    table: Any = rows
    if names and names_of(like):
        table = type(like)(rows, columns=list(names)) if hasattr(like, "iloc") else type(like)(rows, schema=list(names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names, overflow and missing values: probes are no rows of the user's
        out = steps.transform(table)
    return np.asarray(out.toarray() if hasattr(out, "toarray") else out, dtype=np.float64)
