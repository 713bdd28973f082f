"""The native kernels and SEAL give the same residues, of spread inputs and of others."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.fhe import randomness
from tacit.fhe.layout import Layout, SpreadLayout
from tacit.fhe.parameters import RINGS, SPREAD_RING, Parameters
from tacit.fhe.program import Forms
from tacit.fhe.seal import Scheme, SecretScheme
from tacit.fhe.spread import spread
from tacit.fhe.sums import KernelSums, SealSums, Sums, sums_of
from tacit.ring.kernels import BACKEND

pytestmark = pytest.mark.skipif(BACKEND != "native", reason="needs the native kernels")

T = 17 * 11 * 19 * 13
PLAIN = Layout(8192, 100, 900, groups=3, per_product=240, samples=1)
SPREAD = SpreadLayout(8192, 200, 900, groups=23, per_product=384, samples=1, pieces=32)


@pytest.fixture
def same_u(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    u = rng.integers(-1, 2, 8192)
    monkeypatch.setattr(randomness, "ternary", lambda count: u)


def parameters(layout: Layout) -> Parameters:
    ring = SPREAD_RING if isinstance(layout, SpreadLayout) else RINGS[1]
    return Parameters(*ring, T, layout, 100, 0, (17, 11, 19, 13))


def some_forms(layout: Layout, rng: np.random.Generator) -> Forms:
    """Forms with few coefficients, none of them in one group: that factor is zero."""
    table = rng.random((layout.outputs, layout.length)) < 0.05
    table[:, : layout.block] = False
    row, column = np.nonzero(table)
    return Forms(row, column, rng.integers(-(T // 2), T // 2 + 1, len(row)), np.zeros(layout.outputs, dtype=np.int64))


@pytest.mark.parametrize("layout", [PLAIN, SPREAD], ids=["plain", "spread"])
def test_kernels_give_the_residues_that_seal_gives(layout: Layout, rng: np.random.Generator, same_u: None) -> None:
    scheme = Scheme(parameters(layout))
    secret = SecretScheme(scheme)
    fresh = [secret.encrypt(polynomial) for polynomial in layout.place_inputs(rng.integers(0, 2, (1, layout.length)))]
    public, switches, forms = secret.encrypt_zero(), list(secret.switching_keys()), some_forms(layout, rng)

    def totals(sums: Sums) -> list[np.ndarray]:
        key = sums.inputs([scheme.seeded_ciphertext(*public)])
        sent = [scheme.seeded_ciphertext(*one) for one in fresh]
        if isinstance(layout, SpreadLayout):
            keys = sums.switches(switches)
            inputs = sums.joined([sums.spread(one, keys, layout.pieces_of(k)) for k, one in enumerate(sent)])
        else:
            inputs = sums.inputs(sent)
        once = list(sums.totals(layout, forms, inputs, key))
        polynomials = layout.place_weights(forms.row, forms.column, forms.value)
        kept = [sums.total(sums.factors(groups), inputs, key) for groups in polynomials]
        return [scheme.residues(total) for total in once + kept]

    ours, theirs = totals(KernelSums(scheme)), totals(SealSums(scheme))

    assert isinstance(sums_of(scheme), KernelSums)
    assert len(ours) == len(theirs) == 2 * layout.products
    for a, b in zip(ours, theirs, strict=True):
        assert (a == b).all()


def test_kernels_spread_what_seal_spreads(rng: np.random.Generator) -> None:
    scheme = Scheme(parameters(SPREAD))
    secret = SecretScheme(scheme)
    sent, parts = secret.encrypt(rng.integers(0, T, 8192)), list(secret.switching_keys())
    kernels = KernelSums(scheme)
    ours, theirs = kernels.switches(parts), scheme.switching_keys(parts)

    for pieces in (1, 2, 21):
        made = kernels.spread(scheme.seeded_ciphertext(*sent), ours, pieces)
        expected = kernels.inputs(spread(scheme, scheme.seeded_ciphertext(*sent), theirs, pieces))
        assert (made == expected).all()


def test_other_rings_are_seals() -> None:
    small = Parameters(*RINGS[0], T, Layout(4096, 10, 3, groups=1, per_product=3, samples=1), 40, 0, (17, 11, 19, 13))

    assert isinstance(sums_of(Scheme(small)), SealSums)


def test_kernels_refuse_what_is_not_there(rng: np.random.Generator) -> None:
    scheme = Scheme(parameters(PLAIN))
    kernels, native = KernelSums(scheme), KernelSums(scheme)._native
    ct, out = np.zeros((2, 2, 3, 8192), dtype=np.uint64), np.zeros((1, 2, 3, 8192), dtype=np.uint64)
    u, starts = np.zeros((1, 8192), dtype=np.int64), np.array([0, 1, 2])
    where = np.array([3, 8191])

    def sparse(starts: np.ndarray, where: np.ndarray, values: np.ndarray) -> None:
        arrays = [ct, ct[0], u, starts, where, values, out]
        native.lattice_sparse(kernels._basis, *[(a.ctypes.data, a.size) for a in arrays], 1)

    sparse(starts, where, np.array([5, -5]))
    for wrong in [
        (np.array([0, 1, 3]), where, np.array([5, -5])),
        (np.array([0, 2, 1]), where, np.array([5, -5])),
        (starts, np.array([3, 8192]), np.array([5, -5])),
        (starts, np.array([-1, 2]), np.array([5, -5])),
        (starts, where, np.array([5, 1 << 40])),
    ]:
        with pytest.raises(ValueError, match="kernel was called with"):
            sparse(*wrong)
    for step, count in [(0, 1), (3, 1), (8192, 1), (1, 3)]:
        made = np.zeros((count, 2, 2, 8192), dtype=np.uint64)
        keys = np.zeros((2, 2, 3, 8192), dtype=np.uint64)
        arrays = [(keys.ctypes.data, keys.size), (made.ctypes.data, 2 * 2 * 8192), step, (made.ctypes.data, made.size)]
        with pytest.raises(ValueError, match="kernel was called with"):
            native.lattice_spread(kernels._basis, *arrays, 1)
