"""Models whose predictions are read off scores x' Q_k x + L_k x + c_k: one mechanism for many classes.

A class says its scores (`_scores`) and what they mean (`_head`); what is left is done here. Without Q the steps of a
pipeline are folded into the forms; with Q the client applies them, and sends the products (a diagonal Q: the squares)
of its columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.metaestimators import available_if

from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.linear import classification_head, compile_linear, quantizer, regression_head
from tacit.fhe.compile.quadratic import compile_forms
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, Mode


@dataclass(frozen=True)
class Scores:
    """Forms x' Q_k x + L_k x + c_k, a row for each; Q is (k, d, d), or (k, d) where it is diagonal, or nothing."""

    linear: Float
    constant: Float
    square: Float | None = None

    @property
    def contrast(self) -> Scores:
        """The second score less the first where there are two: its sign decides, and nothing else is told."""
        if len(self.linear) != 2:
            return self
        square = None if self.square is None else _left(self.square[1:] - self.square[:1], self.square)
        return Scores(self.linear[1:] - self.linear[:1], self.constant[1:] - self.constant[:1], square)

    @property
    def relative(self) -> Scores:
        """The scores less their mean, which decides nothing and would take bits; of two, their difference."""
        if len(self.linear) == 2:
            return self.contrast
        square = None if self.square is None else _left(self.square - self.square.mean(axis=0), self.square)
        return Scores(self.linear - self.linear.mean(axis=0), self.constant - self.constant.mean(), square)


def _left(difference: Float, square: Float) -> Float | None:
    """Return a difference of quadratic parts, or nothing where they are the same (one covariance for all classes)."""
    return difference if np.abs(difference).max() > 1e-12 * np.abs(square).max() else None


class ScoreModel(FheModel):
    """Compiles whatever `_scores` returns."""

    def _scores(self) -> Scores:
        raise NotImplementedError

    def _head(self) -> Any:
        raise NotImplementedError

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        scores = self._scores()
        weights, bias = scores.linear, scores.constant
        if scores.square is not None:
            return compile_forms(scores.square, weights, bias, x, n_bits, before, self._head())
        if before is not None:  # W (A x + c) + b is linear again: the map stays on the server
            weights, bias = weights @ before.matrix, bias + weights @ before.offset
        return compile_linear(weights, bias, quantizer(x, n_bits), n_bits, self._head())


class ClassScores(ScoreModel):
    """Scores that are log-probabilities of the classes, up to what all classes share."""

    classes_: Any

    def _head(self) -> Any:
        return classification_head(self.classes_, "logistic" if len(self.classes_) == 2 else "softmax")


class Projection(ScoreModel):
    """A transformer whose output is linear in its columns: `transform` takes `fhe=`."""

    def _head(self) -> Any:
        return regression_head(exponential=False, flat=False)

    def transform(self, X: Any, fhe: Mode = "disable") -> Any:  # noqa: N803
        """Return the projected rows; see `predict` of the models for `fhe`."""
        if fhe == "disable":
            parent: Any = super()
            return parent.transform(X)
        return self._compiled().client_spec.head.predict(*self._values(X, fhe))

    def _clear(self, x: Any) -> Any:
        return np.asarray(self.transform(x))

    @available_if(lambda self: False)
    def predict(self, X: Any) -> Any:  # noqa: N803
        """Transformers have none."""


def dense(coefficients: Any) -> Float:
    """Return coefficients as a dense matrix, a row for each output."""
    array = coefficients.toarray() if hasattr(coefficients, "toarray") else np.asarray(coefficients, dtype=np.float64)
    return np.atleast_2d(array).astype(np.float64)


def of_coefficients(model: Any) -> Scores:
    """Return the scores of a model that has `coef_` and `intercept_`."""
    weights = dense(model.coef_)
    bias = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), len(weights))
    return Scores(weights, np.array(bias, dtype=np.float64))


def of_centres(centres: Any, scale: Any = 1.0, offset: Any = 0.0) -> Scores:
    """Return scores that are largest for the nearest centre: -|(x - m) / s|^2 + |x / s|^2 = 2 m'x / s^2 - |m / s|^2."""
    points = dense(centres)
    return Scores(2 * points / np.square(scale), offset - (np.square(points / scale)).sum(axis=1))
