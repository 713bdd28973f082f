"""Perceptrons with one hidden layer of squares: on ciphertexts, linear forms of the products of the client's columns.

With x_f = center_f + step_f z_f the pre-activations are U z + u, U = W step, u = W center + b, and

    V (U z + u)^2 + c = sum_{i<=j} A_ij z_i z_j + sum_i B_i z_i + const,
    A_ij = (2 - [i = j]) sum_h V_h U_hi U_hj,      B_i = 2 sum_h V_h u_h U_hi,      const = V u^2 + c.

The client squares what it knows, the server keeps W, V and multiplies no two ciphertexts: one product, as for a
linear model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import DataError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.linear import nearest_integers, quantizer, with_constant
from tacit.fhe.encode import Affine, Float, Quantizer
from tacit.fhe.program import LinearProgram

WEIGHT_BITS = 10
"""Bits of the largest A_ij. There are d^2 / 2 of them, whose rounding errors add up; each bit more halves the error
and costs a bit of the plaintext modulus."""

MOST_COLUMNS = 120
"""More columns make 7,000 products and more, and messages of megabytes: put a PCA in front instead."""


def compile_quadratic(
    hidden: tuple[Float, Float], output: tuple[Float, Float], x: Float, n_bits: int, before: Affine | None, head: Any
) -> Compiled:
    """Return the program of V (W x + b)^2 + c for (W, b) and (V, c)."""
    (w, b), (v, c) = hidden, output
    if w.shape[1] > MOST_COLUMNS:
        raise DataError(f"a perceptron on ciphertexts takes at most {MOST_COLUMNS} columns: put a PCA in front of it")
    encoder = quantizer(x, n_bits, pairs=True, before=before)
    u, shift = w * encoder.step, w @ encoder.center + b
    left, right = np.triu_indices(w.shape[1])
    pairs = (v @ (u[:, left] * u[:, right])) * np.where(left == right, 1.0, 2.0)
    single = 2.0 * (v * shift) @ u
    scale = float(np.abs(pairs).max()) / ((1 << (WEIGHT_BITS - 1)) - 1) or 1.0
    weights = nearest_integers(np.concatenate([single, pairs], axis=1) / scale)
    program = LinearProgram(weights, np.zeros(len(v), dtype=np.int64), encoder.limits)
    return with_constant(program, encoder, scale, v @ shift**2 + c, head)


def compile_forms(
    square: Float, linear: Float, constant: Float, x: Float, n_bits: int, before: Affine | None, head: Any
) -> Compiled:
    """Return the program of x' Q_k x + L_k x + c_k, with Q (k, d, d) or, where it is diagonal, (k, d).

    With x = center + S z, S the steps:    z' (S Q S) z + (L + 2 Q center) S z + (c + L center + center' Q center).
    """
    diagonal = square.ndim == 2
    if not diagonal and linear.shape[1] > MOST_COLUMNS:
        raise DataError(f"products of columns are sent for at most {MOST_COLUMNS} columns: put a PCA in front")
    plain = quantizer(x, n_bits, before=before)
    encoder = Quantizer(plain.center, plain.step, plain.limit, not diagonal, before, diagonal)
    step, center = plain.step, plain.center
    if diagonal:
        products, pull = square * step**2, square * center
    else:
        left, right = np.triu_indices(linear.shape[1])
        products = square[:, left, right] * (step[left] * step[right]) * np.where(left == right, 1.0, 2.0)
        pull = square @ center
    single = (linear + 2 * pull) * step
    scale = float(np.abs(products).max()) / ((1 << (WEIGHT_BITS - 1)) - 1) or 1.0
    weights = nearest_integers(np.concatenate([single, products], axis=1) / scale)
    program = LinearProgram(weights, np.zeros(len(linear), dtype=np.int64), encoder.limits)
    return with_constant(program, encoder, scale, constant + (linear + pull) @ center, head)
