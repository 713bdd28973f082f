"""Encoding and decoding of real numbers: exact where it can be, refused where it cannot."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tacit.errors import EncodingError
from tacit.ring.fixed_point import VALUE_BITS, decode, encode, encode_public


@given(st.integers(1, 28), st.floats(-1, 1), st.integers(0, 40))
def test_encoding_rounds_to_the_nearest_unit(frac_bits: int, fraction: float, exponent: int) -> None:
    x = torch.tensor([math.ldexp(fraction, min(exponent, VALUE_BITS - frac_bits - 1))], dtype=torch.float64)

    v = encode(x, frac_bits)

    assert abs(int(v) - math.ldexp(float(x), frac_bits)) <= 0.5
    assert abs(float(decode(v, frac_bits, torch.float64) - x)) <= 2.0 ** (-frac_bits - 1)


def test_the_ends_of_the_range() -> None:
    largest = torch.tensor([2.0**46 - 1, 1 - 2.0**46], dtype=torch.float64)

    assert encode(largest, 16).tolist() == [(2**46 - 1) << 16, (1 - 2**46) << 16]
    for beyond in (2.0**46, -(2.0**46)):
        with pytest.raises(EncodingError, match=r"too large.*below 2\^46"):
            encode(torch.tensor(beyond, dtype=torch.float64), 16)


@pytest.mark.parametrize(
    ("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite"), (1e30, "too")]
)
def test_what_cannot_be_encoded_is_named_with_its_place_but_not_its_value(value: float, word: str) -> None:
    x = torch.zeros(3, 4)
    x[2, 1] = value

    with pytest.raises(EncodingError, match=rf"income holds a number at index \(2, 1\) that is {word}") as caught:
        encode(x, 16, name="income")

    assert "1e+30" not in str(caught.value)


def test_integers_are_exact() -> None:
    x = torch.tensor([0, -1, 2**61, -(2**61)])

    assert torch.equal(encode(x, 0), x)
    assert torch.equal(encode(x >> 30, 16), (x >> 30) << 16)
    with pytest.raises(EncodingError):
        encode(x, 16)


@pytest.mark.parametrize("scale", [1e-9, 1e-5, 0.1, 0.999, 1.0, 3.7, 1000.5])
def test_public_factors_keep_sixteen_significant_bits(scale: float) -> None:
    x = torch.rand(100, dtype=torch.float64) * scale
    x[0] = scale

    ring, frac_bits = encode_public(x)

    error = (ring.double() * 2.0**-frac_bits - x).abs().max()
    assert error <= max(scale * 2**-15.9, 2**-41)
    assert int(ring.abs().max()) <= max(2**16, scale * 2**16)


def test_public_whole_numbers_need_no_fractional_bits() -> None:
    assert encode_public(torch.tensor([3.0, -7.0, 0.0]))[1] == 0
    assert encode_public(torch.tensor([True, False]))[0].tolist() == [1, 0]
    assert encode_public(torch.zeros(0))[1] == 0
