"""The distributions that hide a model, tested as distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from tacit.fhe import randomness

UNLIKELY = 1e-9
"""A fair generator fails a test at this level once in a billion runs."""


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 100, 257])
def test_integers_below_a_bound_are_uniform(bound: int) -> None:
    count = 20_000

    drawn = randomness.below(bound, count)

    assert drawn.min() >= 0
    assert drawn.max() < bound
    assert bound == 1 or chisquare(np.bincount(drawn, minlength=bound)).pvalue > UNLIKELY


def test_large_bounds_have_no_modulo_bias() -> None:
    bound = 3 << 60  # 64-bit words taken modulo this would favour the lowest third

    drawn = randomness.below(bound, 30_000)

    assert chisquare(np.bincount(drawn >> 60, minlength=3)).pvalue > UNLIKELY
    with pytest.raises(ValueError, match="bound"):
        randomness.below(5 << 60, 1)


def test_factors_are_never_zero() -> None:
    drawn = randomness.nonzero_below(3, 10_000)

    assert set(drawn.tolist()) == {1, 2}


def test_ternary_is_uniform_and_small_errors_have_the_binomial_law() -> None:
    ternary, errors = randomness.ternary(30_000), randomness.centered_binomial(100_000)

    assert chisquare(np.bincount(ternary + 1, minlength=3)).pvalue > UNLIKELY
    assert np.abs(errors).max() <= 21
    assert abs(errors.mean()) < 0.07
    assert abs(errors.var() - 10.5) < 0.3


def test_permutations_send_each_item_everywhere_alike() -> None:
    drawn = np.stack([randomness.permutation(5) for _ in range(5_000)])

    assert (np.sort(drawn, axis=1) == np.arange(5)).all()
    for place in range(5):
        assert chisquare(np.bincount(drawn[:, place], minlength=5)).pvalue > UNLIKELY


@pytest.mark.parametrize("bits", [3, 15, 16, 40, 69])
def test_residues_are_those_of_one_uniform_integer(bits: int) -> None:
    primes = (70368743669761, 140737488273409)

    rows = randomness.symmetric_residues(bits, 4_000, primes)

    modulus = primes[0] * primes[1]
    inverse = pow(primes[0], -1, primes[1])
    values = [int(a) + primes[0] * ((int(b) - int(a)) * inverse % primes[1]) for a, b in rows.T]
    centred = [v - modulus if v > modulus // 2 else v for v in values]
    assert min(centred) >= -(1 << bits)
    assert max(centred) < 1 << bits
    octiles = [(v + (1 << bits)) >> (bits - 2) for v in centred]
    assert chisquare(np.bincount(octiles, minlength=8)).pvalue > UNLIKELY
