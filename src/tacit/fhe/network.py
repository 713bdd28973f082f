"""Small networks from PyTorch, on ciphertexts: affine layers and products, hence polynomials of the columns.

The client makes the products of columns that occur (in clear, of its own row), quantises and encrypts them; the
server's part is one linear form for each output. So depth costs no multiplication of ciphertexts, but products: a
network of one activation has those of two columns that one unit sees, one of two activations those of four.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score, r2_score
from torch import nn

from tacit.errors import DataError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.linear import classification_head, compile_linear, ranges, regression_head
from tacit.fhe.compile.polynomial import Polynomials
from tacit.fhe.compile.torch_graph import double_copy, outputs, polynomials
from tacit.fhe.encode import Affine, Float, Monomials, Quantizer
from tacit.fhe.estimator import FheModel, Mode
from tacit.fhe.fingerprint import fingerprint
from tacit.fhe.read import Labels

__all__ = ["Network", "from_torch"]

MOST_PRODUCTS = 1 << 15
"""Products that a client sends: eight ciphertexts and more. A convolution of 5 x 5 on 28 x 28 needs 27,000."""

MOST_NUMBERS = 1 << 25
"""Products times rows that ranges are read off: 256 MB. More rows than fit are thinned evenly."""

AGREEMENT = 1e-6
"""How closely, relative to the largest output, the polynomials must be the module on the rows given."""


class Accuracy(NamedTuple):
    """Of the clear module and of the integers that ciphertexts hold: the share of right labels, or r2."""

    clear: float
    encrypted: float


class _Clear(BaseEstimator):
    """The module itself, asked as scikit-learn's models are asked."""

    module: nn.Module
    classes_: Any
    row_shape: tuple[int, ...]

    def _outputs(self, x: Any) -> Float:
        rows = _rows(x, self.row_shape)
        return np.asarray(outputs(double_copy(self.module), rows, self.row_shape)).reshape(len(rows), -1)

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Return the outputs of the module, or the classes with the largest."""
        out = self._outputs(X)
        if self.classes_ is None:
            return out
        return self.classes_[(out[:, 0] > 0).astype(int) if out.shape[1] == 1 else out.argmax(axis=1)]


class Network(FheModel, _Clear):
    """A torch module that predicts on ciphertexts; `from_torch` makes it."""

    def __init__(
        self, module: nn.Module, row_shape: tuple[int, ...], *, classes: Any = None, n_bits: int | None = None
    ) -> None:
        self.module = module
        self.row_shape = row_shape
        self.classes = classes
        self.n_bits = n_bits
        self.classes_ = None if classes is None else np.asarray(classes)
        self.accuracy: Accuracy | None = None

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, *_: Any) -> Self:
        """Refuse: training is PyTorch's."""
        raise DataError("train the module with PyTorch, then call tacit.fhe.from_torch on it")

    def compile(self, x: Any, y: Any = None) -> Self:
        """Compile with representative rows; with their labels or targets, `accuracy` says what quantisation costs."""
        rows = _rows(x, self.row_shape)
        self._read = _read(double_copy(self.module), rows, self.row_shape)
        try:
            super().compile(rows)
        finally:
            del self._read
        self.accuracy = None
        self._compiled_state = fingerprint(self)
        if y is not None:
            score = r2_score if self.classes_ is None else accuracy_score
            targets = y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)
            targets = targets.reshape(len(targets), -1) if self.classes_ is None else targets
            modes: tuple[Mode, Mode] = ("disable", "simulate")
            self.accuracy = Accuracy(*(float(score(targets, self.predict(rows, fhe=mode))) for mode in modes))
            self._compiled_state = fingerprint(self)
        return self

    def predict(self, X: Any, *args: Any, fhe: Mode = "disable", **kwargs: Any) -> Labels:  # noqa: N803
        """Return the outputs (rows, outputs) or the classes: of the module, in integers, or on ciphertexts."""
        return super().predict(_rows(X, self.row_shape), *args, fhe=fhe, **kwargs)

    def _compiled_name(self) -> str:
        return f"Network({type(self.module).__name__})"

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        products, (low, high), weights, bias = self._read
        limit = (1 << (n_bits - 1)) - 1
        encoder = Quantizer((low + high) / 2, (high - low) / (2 * limit), limit, before=products)
        if self.classes_ is None:
            head = regression_head(exponential=False, flat=False)
        else:
            if len(self.classes_) != max(2, len(weights)):
                raise DataError(f"{len(self.classes_)} classes for a network with {len(weights)} outputs")
            head = classification_head(self.classes_, "logistic" if len(weights) == 1 else "softmax")
        return compile_linear(weights, bias, encoder, n_bits, head)


def from_torch(module: nn.Module, x: Any, y: Any = None, *, classes: Any = None, n_bits: int | None = None) -> Network:
    """Return a trained torch module that predicts on ciphertexts, compiled with the representative rows x.

    With `classes` (the label of each output; of a single output, the two that its sign tells apart) it predicts
    labels, otherwise the outputs themselves. With `y`, `accuracy` holds what the clear module and the integers score.

    Shape: x as the module takes it.   Domain: the ranges of x; products beyond them are cut off.
    Error: quantisation at n_bits, told by `fhe_report().agreement`.

    Raises:
        DataError: for what is no polynomial (ReLU, softmax, max-pooling), and for polynomials of too many products.
    """
    if not isinstance(module, nn.Module):
        raise DataError(f"from_torch takes a torch module, not a {type(module).__name__}")
    shape = tuple(np.shape(x)[1:])
    if len(np.shape(x)) < 2 or 0 in np.shape(x):
        raise DataError("from_torch needs rows x in the shape that the module takes, at least one of them")
    return Network(module, shape, classes=classes, n_bits=n_bits).compile(x, y)


def _rows(x: Any, shape: tuple[int, ...]) -> Float:
    """Return rows flattened, from a tensor or an array in the module's shape or flat already."""
    table = x.detach().cpu().double().numpy() if isinstance(x, torch.Tensor) else np.asarray(x, dtype=np.float64)
    if table.shape[1:] != shape and table.shape[1:] != (int(np.prod(shape)),):
        raise DataError(f"expected rows of shape {shape}, got {table.shape[1:]}")
    return table.reshape(len(table), -1)


def _read(module: nn.Module, x: Float, shape: tuple[int, ...]) -> tuple[Monomials, tuple[Float, Float], Float, Float]:
    """Return the products of columns in a module, their ranges, the weights of each output, and the constants."""
    if not np.isfinite(x).all():
        raise DataError("from_torch needs finite rows")
    low, high = x.min(axis=0), x.max(axis=0)
    center, step = (low + high) / 2, (high - low) / 2
    found = polynomials(module, Polynomials.columns(center, step, shape))
    index, weights, bias = found.forms()
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise DataError("this network has weights that are missing or infinite: it cannot be compiled")
    if len(index) > MOST_PRODUCTS:
        raise DataError(
            f"this network is a polynomial with {len(index):,} products of columns, and a client sends at most "
            f"{MOST_PRODUCTS:,}: give it fewer columns, smaller windows or fewer activations"
        )
    products = Monomials(center, step, index)
    thin = x[np.unique(np.linspace(0, len(x) - 1, max(2, min(len(x), MOST_NUMBERS // len(index)))).astype(np.intp))]
    table = products(thin)
    expected = outputs(module, thin, shape).reshape(len(thin), -1)
    if not np.abs(table @ weights.T + bias - expected).max() <= AGREEMENT * max(1e-30, float(np.abs(expected).max())):
        raise DataError(
            "this network gives other outputs than the polynomial that torch.fx reads it as: remove hooks and what "
            "depends on other rows of a batch"
        )
    return products, ranges(table), weights, bias
