"""Dot products in polynomial coefficients, against NumPy, over random shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import MessageError
from tacit.fhe.layout import FEWEST_PIECES, MOST_PIECES, Layout, SpreadLayout, layouts, spread_layouts
from tacit.fhe.spread import undone

N = 64


def negacyclic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a b modulo X^n + 1, by the schoolbook."""
    full = np.convolve(a, b)
    full = np.append(full, np.zeros(2 * N - len(full), dtype=full.dtype))
    return full[:N] - full[N:]


@given(length=st.integers(1, 150), outputs=st.integers(1, 90), fresh=st.booleans(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_output_is_its_dot_product(length: int, outputs: int, fresh: bool, data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(list(layouts(N, length, outputs, fresh=fresh))))
    rows = data.draw(st.integers(1, layout.samples))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    z, w = rng.integers(-9, 10, (rows, length)), rng.integers(-9, 10, (outputs, length))
    row, column = np.nonzero(w)
    shuffle = rng.permutation(len(row))
    row, column = row[shuffle], column[shuffle]

    inputs = layout.place_inputs(z)
    products = [
        sum(negacyclic(x, weights) for x, weights in zip(inputs, groups, strict=True))[layout.positions(p, rows)]
        for p, groups in enumerate(layout.place_weights(row, column, w[row, column]))
    ]

    assert fresh <= (layout.samples == 1)
    assert len(products) == layout.products
    read = np.concatenate([part.reshape(rows, -1) for part in products], axis=1)
    assert (read == z @ w.T).all()


def test_a_layout_that_overflows_its_ring_is_refused() -> None:
    with pytest.raises(MessageError, match="does not fit"):
        Layout(degree=64, length=10, outputs=7, groups=1, per_product=7, samples=1)


@given(length=st.integers(1, 150), outputs=st.integers(1, 90), data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_output_of_spread_inputs_is_its_dot_product(length: int, outputs: int, data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(list(spread_layouts(N, length, outputs))))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    z, w = rng.integers(-9, 10, (1, length)), rng.integers(-9, 10, (outputs, length))
    row, column = np.nonzero(w)

    inputs = []
    for upload, sent in enumerate(layout.place_inputs(z)):
        for r in range(layout.pieces_of(upload)):
            piece = np.zeros(N, dtype=np.int64)
            piece[:: layout.pieces] = sent[r :: layout.pieces]
            inputs.append(piece)
    products = [
        sum(negacyclic(x, weights) for x, weights in zip(inputs, groups, strict=True))[layout.positions(p, 1)]
        for p, groups in enumerate(layout.place_weights(row, column, w[row, column]))
    ]

    assert len(inputs) == layout.groups
    assert len(products) == layout.products
    assert (np.concatenate(products) == (z @ w.T)[0]).all()


@pytest.mark.parametrize(
    "wrong", [{"pieces": 6}, {"pieces": 64}, {"samples": 2}, {"per_product": 33}, {"groups": 1, "pieces": 8}]
)
def test_a_layout_that_spreads_out_of_its_ring_is_refused(wrong: dict[str, int]) -> None:
    fine = {"degree": 64, "length": 30, "outputs": 50, "groups": 8, "per_product": 16, "samples": 1, "pieces": 8}
    SpreadLayout(**fine)

    with pytest.raises(MessageError, match="does not fit"):
        SpreadLayout(**{**fine, **wrong})


@pytest.mark.parametrize("t", [3, 65537, 61 * 21 * 67 * 23 * 71 * 25, (1 << 32) - 5, (1 << 32) - 1])
def test_what_spreading_multiplies_by_is_taken_out_exactly(t: int) -> None:
    rng = np.random.default_rng()
    values = np.append(rng.integers(-(t // 2), t // 2 + 1, 200), [0, 1, -1, t // 2, -(t // 2)])

    for level in range(FEWEST_PIECES.bit_length() - 1, MOST_PIECES.bit_length()):
        weights = undone(values, 1 << level, t)

        assert np.abs(weights).max() <= t // 2
        assert all(((int(w) << level) - int(v)) % t == 0 for w, v in zip(weights, values, strict=True))
