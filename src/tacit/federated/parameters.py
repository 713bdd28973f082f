"""Models and their parameters, by the conventions of Flower's own examples, and files that hold nothing executable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tacit.errors import DataError

__all__ = ["get_model_params", "load_arrays", "save_arrays", "set_initial_params", "set_model_params"]

NDArrays = list[npt.NDArray[Any]]


def get_model_params(model: Any) -> NDArrays:
    """Return the parameters of a scikit-learn linear model: `coef_`, and `intercept_` if it is fitted."""
    return [model.coef_, model.intercept_] if model.fit_intercept else [model.coef_]


def set_model_params(model: Any, params: NDArrays) -> Any:
    """Set the parameters of a scikit-learn linear model; with `warm_start`, `fit` goes on from there."""
    model.coef_ = params[0]
    if model.fit_intercept:
        model.intercept_ = params[1]
    return model


def set_initial_params(model: Any, n_classes: int, n_features: int) -> Any:
    """Give a scikit-learn classifier that was never fitted its classes, 0 to n_classes - 1, and zeros as parameters."""
    model.classes_ = np.arange(n_classes)
    rows = 1 if n_classes == 2 else n_classes
    model.n_features_in_ = n_features
    return set_model_params(model, [np.zeros((rows, n_features)), np.zeros(rows)])


def save_arrays(arrays: ArrayRecord, path: str | Path) -> Path:
    """Write a model's arrays as safetensors: numbers, names and shapes, nothing that is executed on reading."""
    save_file({name: np.array(array.numpy(), order="C") for name, array in arrays.items()}, path)
    return Path(path)


def load_arrays(path: str | Path) -> ArrayRecord:
    """Read what `save_arrays` wrote."""
    try:
        return ArrayRecord({name: Array(value) for name, value in load_file(path).items()})
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: no model can be read there ({type(error).__name__})") from None
