"""Nearest neighbours: squared Euclidean distances to all training points, in integers on one common scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import DataError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.linear import ranges
from tacit.fhe.encode import Affine, Float, Quantizer
from tacit.fhe.program import NeighborProgram
from tacit.fhe.read import Classes, NeighborHead, NeighborReader

LABEL_BITS = 15
"""Bits of a regression target. More would enlarge the plaintext modulus, and targets are averaged anyway."""


def compile_neighbors(model: Any, x: Float, n_bits: int, before: Affine | None) -> Compiled:
    """Return the program of a fitted KNeighborsClassifier or -Regressor. Its own points set the ranges along with x."""
    euclidean = model.effective_metric_ == "euclidean"
    if not euclidean or model.weights not in ("uniform", "distance"):
        raise DataError(
            "nearest neighbours on ciphertexts need the Euclidean metric, and weights 'uniform' or 'distance'"
        )
    points = np.asarray(model._fit_X.toarray() if hasattr(model._fit_X, "toarray") else model._fit_X, dtype=np.float64)
    labels = np.asarray(model._y)
    if labels.ndim != 1:
        if labels.shape[1] != 1:
            raise DataError("nearest neighbours on ciphertexts predict one output")
        labels = labels[:, 0]
    both = np.concatenate([points, x if before is None else before(x)])
    limit = (1 << (n_bits - 1)) - 1
    low, high = ranges(both)
    step = float((high - low).max()) / (2 * limit) or 1.0
    plain = Quantizer((low + high) / 2, np.full(points.shape[1], step), limit)
    encoder = Quantizer(plain.center, plain.step, limit, False, before)
    classes = Classes.of(model.classes_) if hasattr(model, "classes_") else Classes()
    scale, shift = 1.0, 0.0
    if not classes:
        shift = float(labels.min() + labels.max()) / 2
        scale = float(labels.max() - labels.min()) / ((1 << LABEL_BITS) - 2) or 1.0
        labels = np.rint((labels - shift) / scale)
    head = NeighborHead(model.n_neighbors, model.weights == "distance", classes, scale, shift)
    program = NeighborProgram(plain.encode(points), labels.astype(np.int64), limit)
    return Compiled(program, encoder, NeighborReader(), head)
