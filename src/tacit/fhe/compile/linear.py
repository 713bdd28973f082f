"""Linear models: scores W x + b, in integers.

Column f is quantised on its own range, x_f = center_f + step_f z_f. Its step is then part of the weight, so that one
scale serves all columns and all classes, and the largest integer is the argmax:

    W x + b = sum_f (W_f step_f) z_f + (b + W center),      W_f step_f ~ scale w_f,      |w_f| <= 2^(n_bits-1) - 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import DataError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.encode import Affine, Encoder, Float, Quantizer, Thermometer
from tacit.fhe.layout import Int
from tacit.fhe.program import LinearProgram
from tacit.fhe.read import Classes, ClassificationHead, Head, PlainReader, RegressionHead

TAIL = 1 / 200
"""Share of rows on either side that do not set the range of their column by themselves, and never less than one row."""

SPREAD = 4.0
"""How far a range may go beyond the middle 99 % of its column, in widths of that. Ordinary columns end before, and
nothing of them is cut off; a column with outliers pays at most log2(1 + 2 SPREAD) = 3.2 bits for what is kept of
them. Less would cut the tails of log-normal columns, more would let an outlier take the bits of all others."""


FEWEST = 20
"""Rows below which nothing is cut off: of so few, the middle says too little about what is ordinary."""


def ranges(x: Float) -> tuple[Float, Float]:
    """Return the lowest and highest value of each column that is told apart.

    That is its minimum and maximum, but at most `SPREAD` widths beyond its middle 99 %. A column whose middle is a
    single value (a rare indicator) keeps both ends.
    """
    low, high = x.min(axis=0), x.max(axis=0)
    k = max(1, int(len(x) * TAIL))
    if len(x) < FEWEST:
        return low, high
    inner = np.partition(x, (k, len(x) - 1 - k), axis=0)
    a, b = inner[k], inner[len(x) - 1 - k]
    reach = np.where(b > a, SPREAD * (b - a), np.inf)
    return np.maximum(low, a - reach), np.minimum(high, b + reach)


def quantizer(x: Float, n_bits: int, pairs: bool = False, before: Affine | None = None) -> Quantizer:
    """Return the quantiser of the ranges of the columns of x (after `before`)."""
    x = x if before is None else before(x)
    limit = (1 << (n_bits - 1)) - 1
    low, high = ranges(x)
    return Quantizer((low + high) / 2, (high - low) / (2 * limit), limit, pairs, before)


def nearest_integers(values: Float) -> Int:
    """Return the nearest integers to a model's numbers in some unit.

    Raises:
        DataError: for what is none: the cast would make large negative integers of it.
    """
    rounded = np.rint(values)
    if not (np.abs(rounded) < 2.0**62).all():
        raise DataError("this model has weights that are missing or infinite: it cannot be compiled")
    return rounded.astype(np.int64)


def compile_linear(weights: Float, bias: Float, encoder: Quantizer, n_bits: int, head_of: Any) -> Compiled:
    """Return the program of W x + b (rows of W: outputs); `head_of(scale, shift)` makes the head."""
    wide = weights * encoder.step
    limit = (1 << (n_bits - 1)) - 1
    largest = float(np.abs(wide).max(initial=0.0))
    constant = bias + weights @ encoder.center
    # Without weights that count, the constants are all there is: their own size is the scale.
    scale = (largest if largest > 0 else float(np.abs(constant).max(initial=0.0))) / limit or 1.0
    program = LinearProgram(nearest_integers(wide / scale), np.zeros(len(wide), dtype=np.int64), encoder.limits)
    return with_constant(program, encoder, scale, constant, head_of)


def compile_bits(weights: Float, bias: Float, encoder: Thermometer, n_bits: int, head_of: Any) -> Compiled:
    """Return the program of W z + b, where z are bits."""
    limit = (1 << (n_bits - 1)) - 1
    scale = float(np.abs(weights).max(initial=0.0)) / limit or 1.0
    whole = nearest_integers(weights / scale)
    program = LinearProgram(whole, np.zeros(len(whole), dtype=np.int64), np.ones(encoder.length, dtype=np.int64))
    return with_constant(program, encoder, scale, bias, head_of)


def with_constant(program: LinearProgram, encoder: Encoder, scale: float, constant: Float, head_of: Any) -> Compiled:
    """Round the constants to the scores' own scale; they stay on the server, inside the encrypted sum."""
    if np.isnan(constant).any():  # an infinite one is cut off: a class whose prior is 0
        raise DataError("this model has constants that are missing: it cannot be compiled")
    whole = np.rint(constant / scale)
    reach = np.abs(program.weights) @ program.limits
    # A constant far beyond the reach of the weights decides alone; cutting it off there keeps the modulus small for
    # classifiers. A regressor's constant must be exact: its part that does not fit is public, in the head.
    kept = np.clip(whole, -4.0 * reach - 4, 4.0 * reach + 4)
    exact = LinearProgram(program.weights, nearest_integers(kept), program.limits)
    return Compiled(exact, encoder, PlainReader(), head_of(np.float64(scale), constant - kept * scale, kept != whole))


def classification_head(classes: Any, proba: str) -> Any:
    """Return a maker of heads for a classifier."""

    def make(scale: Any, rest: Float, cut: Any) -> Head:
        return ClassificationHead(np.full(1, scale), np.where(cut, rest, 0.0), Classes.of(classes), proba)

    return make


def regression_head(exponential: bool, flat: bool) -> Any:
    """Return a maker of heads for a regressor."""

    def make(scale: Any, rest: Float, cut: Any) -> Head:
        return RegressionHead(np.full(1, scale), np.where(cut, rest, 0.0), exponential, flat)

    return make
