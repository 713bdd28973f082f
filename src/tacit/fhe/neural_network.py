"""Perceptrons that predict on ciphertexts: one hidden layer, whose activation is the square.

The hyper-parameters have scikit-learn's names and defaults where it has them; training is PyTorch's Adam, with the very
activation that runs on ciphertexts, on columns that are standardised inside. A square needs no approximation, so
`fhe="execute"` differs from the float network by quantisation only.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.nn import functional

from tacit.errors import DataError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.linear import classification_head, regression_head
from tacit.fhe.compile.quadratic import compile_quadratic
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, WithProba

__all__ = ["MLPClassifier", "MLPRegressor"]


class _SquareNetwork(BaseEstimator):
    """Training and the clear forward pass: out = V (W x + b)^2 + c, kept as scikit-learn keeps it (coefs_,
    intercepts_)."""

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] | int = (100,),
        *,
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        random_state: Any = None,
        tol: float = 0.0001,
        n_iter_no_change: int = 10,
        n_bits: int | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.random_state = random_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.n_bits = n_bits

    @abstractmethod
    def _loss(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch."""

    def _train(self, x: Float, target: torch.Tensor, outputs: int) -> None:
        """Fit the network to standardised columns, then fold the standardisation into its first layer."""
        sizes = np.atleast_1d(self.hidden_layer_sizes)
        if sizes.size != 1 or int(sizes[0]) < 1:
            raise DataError("a perceptron on ciphertexts has one hidden layer: hidden_layer_sizes=(units,)")
        mean, spread = x.mean(axis=0), x.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        rows = torch.from_numpy((x - mean) / spread)
        draw = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(1 << 31)))
        shapes = [(x.shape[1], int(sizes[0])), (int(sizes[0]), outputs)]
        weights = [torch.randn(s, generator=draw, dtype=torch.float64) / s[0] ** 0.5 for s in shapes]
        weights[1] = weights[1] * 0.1  # squares have mean one and long tails: begin near zero
        biases = [torch.zeros(s[1], dtype=torch.float64) for s in shapes]
        self.loss_curve_ = self._descend([w.requires_grad_() for w in (*weights, *biases)], rows, target, draw)
        self.n_iter_ = len(self.loss_curve_)
        (w, v), (b, c) = [[p.detach().numpy() for p in pair] for pair in (weights, biases)]
        self.coefs_ = [w / spread[:, None], v]
        self.intercepts_ = [b - (mean / spread) @ w, c]

    def _descend(
        self, parameters: list[torch.Tensor], rows: torch.Tensor, target: torch.Tensor, draw: torch.Generator
    ) -> list[float]:
        """Run Adam until the loss no longer falls by `tol`, as scikit-learn does, and return the loss of each epoch."""
        w, v, b, c = parameters
        size = min(200, len(rows)) if self.batch_size == "auto" else int(self.batch_size)
        adam = torch.optim.Adam(parameters, lr=self.learning_rate_init)
        curve: list[float] = []
        best, waited = np.inf, 0
        for _ in range(self.max_iter):
            total = 0.0
            for batch in torch.split(torch.randperm(len(rows), generator=draw), size):
                adam.zero_grad()
                loss = self._loss((rows[batch] @ w + b) ** 2 @ v + c, target[batch])
                penalty = self.alpha / 2 * ((w**2).sum() + (v**2).sum()) / len(batch)
                (loss + penalty).backward()
                adam.step()
                total += float(loss.detach() + penalty.detach()) * len(batch)
            curve.append(total / len(rows))
            waited = 0 if curve[-1] < best - self.tol else waited + 1
            best = min(best, curve[-1])
            if waited > self.n_iter_no_change:
                break
        return curve

    def _forward(self, X: Any) -> Float:  # noqa: N803
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=np.float64)
        out: Float = (x @ self.coefs_[0] + self.intercepts_[0]) ** 2 @ self.coefs_[1] + self.intercepts_[1]
        return out


class _SquareClassifier(ClassifierMixin, _SquareNetwork):
    def _loss(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if out.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(out[:, 0], target.double())
        return functional.cross_entropy(out, target)

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train the network."""
        x, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier needs at least two classes; the data has 1 class: {self.classes_[0]!r}")
        self._train(x, torch.from_numpy(codes), 1 if len(self.classes_) == 2 else len(self.classes_))
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Return the class of each row."""
        out = self._forward(X)
        return self.classes_[(out[:, 0] > 0).astype(int) if out.shape[1] == 1 else out.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Float:  # noqa: N803
        """Return class probabilities."""
        out = self._forward(X)
        if out.shape[1] > 1:
            return np.asarray(softmax(out, axis=1))
        one = expit(out[:, 0])
        return np.stack([1 - one, one], axis=1)


class _SquareRegressor(RegressorMixin, _SquareNetwork):
    def _loss(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(out[:, 0], target) / 2

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train the network on the standardised target."""
        x, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        mean, spread = float(np.mean(y)), float(np.std(y)) or 1.0
        self._train(x, torch.from_numpy((np.asarray(y, dtype=np.float64) - mean) / spread), 1)
        self.coefs_[1] = self.coefs_[1] * spread
        self.intercepts_[1] = self.intercepts_[1] * spread + mean
        return self

    def predict(self, X: Any) -> Float:  # noqa: N803
        """Return the target of each row."""
        return self._forward(X)[:, 0]


class _Quadratic(FheModel):
    """Compiles coefs_ and intercepts_."""

    usual_bits: ClassVar[int] = 7
    coefs_: list[Float]
    intercepts_: list[Float]

    @abstractmethod
    def _head(self) -> Any:
        """Return a maker of heads."""

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        (w, v), (b, c) = self.coefs_, self.intercepts_
        return compile_quadratic((w.T, b), (v.T, c), x, n_bits, before, self._head())


class MLPClassifier(WithProba, _Quadratic, _SquareClassifier):
    """A perceptron for classes, on ciphertexts."""

    def _head(self) -> Any:
        return classification_head(self.classes_, "logistic" if len(self.classes_) == 2 else "softmax")


class MLPRegressor(_Quadratic, _SquareRegressor):
    """A perceptron for numbers, on ciphertexts."""

    def _head(self) -> Any:
        return regression_head(exponential=False, flat=True)
