"""Primitives made of others agree with those that a scheme makes for the purpose, to the errors they state."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from tacit.protocols import fallbacks
from tacit.protocols.series import POWER_OF_TWO_BITS, Harmonics, Polynomial

from .world import World

LIMIT = 1 << 62


@pytest.mark.parametrize("count", [1, 2, 3, 8, 13])
def test_a_conjunction(two: World, count: int) -> None:
    value = (torch.rand(count, 40) < 0.8).to(torch.uint8)
    shared = two.protocol.share_bits(value, two.parties[0], value.shape)

    every = fallbacks.all_of([shared.move(lambda t, k=k: t[k], view=True) for k in range(count)])

    assert torch.equal(two.ring(every), value.all(0).to(torch.uint8))


@pytest.mark.parametrize("frac_bits", [16, 42, 48])
@pytest.mark.parametrize("factor", [0.1, -0.3, 0.999, -(2.0**-13)])
def test_scaling_is_off_by_less_than_three_units(two: World, factor: float, frac_bits: int) -> None:
    ends = torch.cat([torch.tensor([0, 1, -1, LIMIT - 1, 1 - LIMIT]), torch.randint(1 - LIMIT, LIMIT, (400,))])
    x = two.share(ends, 0)
    x.declare(frac_bits=48)

    out = fallbacks.scaled(x, factor, frac_bits)

    assert out is not None
    assert out.frac_bits == frac_bits
    exact = [int(v) * Fraction(factor) / 2 ** (48 - frac_bits) for v in ends]
    assert max(abs(int(got) - want) for got, want in zip(two.ring(out), exact, strict=True)) < 3
    assert fallbacks.scaled(x, 2.0, 48) is None


def test_polynomials(two: World) -> None:
    x = torch.linspace(-4, 4, 501, dtype=torch.float64)[:-1]
    many = [Polynomial(4, tuple(torch.randn(n, dtype=torch.float64).tolist())) for n in (1, 2, 6, 12)]

    found = fallbacks.polynomials(two.share(x), many)

    for p, y in zip(many, found, strict=True):
        want = sum(c * (x / 4) ** k for k, c in enumerate(p.coefficients))
        slope = sum(k * abs(c) for k, c in enumerate(p.coefficients))  # x is rounded to 2^-16
        bound = 2.0**-30 * len(p.coefficients) ** 2 * (1 + sum(map(abs, p.coefficients))) + 2.0**-18 * slope
        assert y.frac_bits == p.frac_bits
        assert (two.value(y) - want).abs().max() <= bound


@pytest.mark.parametrize("odd", [False, True])
def test_harmonics(two: World, odd: bool) -> None:
    p, q = torch.randn(2, 5, dtype=torch.float64)
    series = Harmonics(64, tuple(p.tolist()), tuple(q.tolist()), 0.25, turns=3, odd=odd)
    x = torch.randint(-(2**40), 2**40, (600,)).double() / 2**16

    y = fallbacks.harmonics(two.share(x), series)

    angles = 2 * torch.pi * 3 / 64 * (x % 64) * torch.tensor(series.multiples).view(-1, 1)
    want = 0.25 + p @ angles.sin() + q @ angles.cos()
    assert y.frac_bits == series.frac_bits
    assert (two.value(y) - want).abs().max() <= 2.0**-17 * float(p.abs().sum() + q.abs().sum())


def test_powers_of_two(two: World) -> None:
    y = torch.cat([torch.linspace(-44, 15.99, 700, dtype=torch.float64), torch.arange(-44.0, 16.0).double()])

    z = fallbacks.powers_of_two(two.share(y))

    exact = (y * 2**16).round() / 2**16
    assert z.frac_bits == POWER_OF_TWO_BITS
    assert ((two.value(z) - exact.exp2()).abs() <= 2.0**-20 + 2.0**-20 * exact.exp2()).all()


@pytest.mark.parametrize("count", [1, 2, 13])
def test_rows_are_arranged_and_shuffled(two: World, count: int) -> None:
    places, x = torch.randperm(count), torch.randint(-LIMIT // 2, LIMIT // 2, (count, 3))
    bits = (x[:, 0] > 0).to(torch.uint8)
    numbers = two.share(x, 0)
    numbers.declare(frac_bits=40)
    values = [numbers, two.protocol.share_bits(bits, two.parties[0], bits.shape)]

    moved = fallbacks.arranged(two.share(places, 0), values)
    mixed = fallbacks.shuffled(values)

    back = places.argsort()
    assert moved[0].scale == numbers.scale
    assert torch.equal(two.ring(moved[0]), x[back])
    assert torch.equal(two.ring(moved[1]), bits[back])
    order = [x.tolist().index(row) for row in two.ring(mixed[0]).tolist()]
    assert sorted(order) == list(range(count))
    assert torch.equal(two.ring(mixed[1]), bits[order])
