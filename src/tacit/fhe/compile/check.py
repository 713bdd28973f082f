"""What `compile` tells about the model that it made: does it predict as the clear one does?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from tacit.fhe.compile.assemble import Check, Circuit
from tacit.fhe.encode import Float

ROWS = 1000
"""Rows that are compared, evenly among those given. More would make `compile` of forests wait, fewer would not tell
99 % from 98 %."""
PIECE = 100
"""Rows at a time: a forest of ten thousand leaves then takes ten megabytes."""
EXPECTED = 0.99


def check(model: Any, circuit: Circuit, x: Any, matrix: Float, n_bits: int) -> Check:
    """Compare encrypted and clear predictions on the rows x; `matrix` is what the encoder sees of them."""
    which = np.unique(np.linspace(0, len(matrix) - 1, min(len(matrix), ROWS)).astype(np.intp))
    head = circuit.client_spec.head
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X (does not have valid|has) feature names")
        clear = np.asarray(model._clear(_safe_indexing(x, which)))
    pieces = np.array_split(which, -(-len(which) // PIECE))
    encoder, program = circuit.client_spec.encoder, circuit.server_spec.program
    encrypted = [head.predict(program.simulate(z), z) for z in (encoder.encode(matrix[piece]) for piece in pieces)]
    predicted = np.concatenate(encrypted)
    agreement = float(np.mean(predicted == clear)) if head.labels else _followed(predicted, clear)
    return Check(len(which), agreement, encoder.cut_off(matrix), n_bits)


def _followed(predicted: Float, clear: Float) -> float:
    """Return the coefficient of determination of encrypted quantities against clear ones, of the worst output."""
    clear = clear.reshape(len(clear), -1).astype(np.float64)
    error = ((predicted.reshape(clear.shape) - clear) ** 2).mean(axis=0)
    nothing = (1e-9 * np.abs(clear).max(axis=0)) ** 2  # what a constant may be off by
    return float(np.where(error <= nothing, 1.0, 1 - error / np.maximum(clear.var(axis=0), nothing)).min(initial=1.0))


def complaint(name: str, circuit: Circuit, seen: Check) -> str | None:
    """Return what to warn of."""
    if seen.agreement >= EXPECTED:
        return None
    cut = (
        f", or more representative rows ({seen.cut_off:.1%} of their values are cut off)"
        if seen.cut_off >= 5e-4
        else ""
    )
    how = (
        f"agree on {seen.agreement:.1%} of" if circuit.client_spec.head.labels
        else f"agree to r2 = {seen.agreement:.3f} on"
    )  # fmt: skip
    return (
        f"encrypted and clear predictions of this {name} {how} the {seen.rows} rows given to compile, which is below "
        f"{EXPECTED}: give it more than n_bits={seen.n_bits}{cut}"
    )
