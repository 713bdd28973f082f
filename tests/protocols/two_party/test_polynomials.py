"""Polynomials of two parties alone: over whole windows, for any shares, and where they leave it to products."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.protocols.series import Polynomial
from tacit.protocols.two_party.content import halves_of
from tacit.protocols.two_party.polynomials import Expansion
from tacit.protocols.two_party.protocol import FEW

from ..world import World

LIMIT = 1 << 62


@pytest.fixture(scope="module")
def world() -> World:
    return World(2, "two-party")


def value(p: Polynomial, t: torch.Tensor) -> torch.Tensor:
    total = torch.zeros_like(t)
    for c in reversed(p.coefficients):
        total = total * t + c
    return total


def error(world: World, ring: torch.Tensor, frac_bits: int, many: list[Polynomial], alone: int | None = None) -> float:
    """How far the results are off, of an evaluation that takes three rounds, one of few numbers, or none."""
    x = world.share(ring, 0, known=alone is not None, owner=alone or 0).rescaled(frac_bits)
    t = ring.double() * 2.0**-frac_bits / many[0].window
    worst, before = 0.0, world.session.meter.cost.rounds
    results = world.protocol.polynomials(x, many)
    rounds = world.session.meter.cost.rounds - before
    expansion = Expansion(many, frac_bits)
    few = 2 * (expansion.degree + 1) * len(many) * ring.numel() <= FEW
    assert rounds == (0 if alone is not None else 1 if few else 3) or not expansion.fine
    for p, y in zip(many, results, strict=True):
        assert y.frac_bits == p.frac_bits
        assert halves_of(y).alone == alone
        worst = max(worst, float((world.ring(y).double() * 2.0**-y.frac_bits - value(p, t)).abs().max()))
    return worst


@pytest.mark.parametrize("count", [3, 2000])
@pytest.mark.parametrize(
    ("window", "frac_bits"), [(1, 0), (1, 1), (2, 16), (1024, 32), (1 << 30, 32), (1, 62), (4, 61), (1 << 40, 30)]
)
def test_whole_windows_with_their_ends(window: int, frac_bits: int, count: int, world: World) -> None:
    p = Polynomial(window, (0.25, -1.0, 0.5, 0.125))
    most = min(window << frac_bits, LIMIT)
    low = max(-most, 1 - LIMIT)
    ring = torch.cat([torch.tensor([low, most - 1, 0]), torch.randint(low, most, (count,))])

    assert error(world, ring, frac_bits, [p]) <= Expansion([p], frac_bits).error + 2.0**-50
    assert Expansion([p], frac_bits).error <= 2.0**-26


def test_several_at_once(world: World) -> None:
    many = [Polynomial(8, (0.0, 2.0, 1.0)), Polynomial(8, (-1000.0,)), Polynomial(8, (0.5, 0.0, 0.0, 2.0))]

    worst = error(world, torch.randint(-(8 << 16), 8 << 16, (3, 500)), 16, many)

    assert worst <= Expansion(many, 16).error + 2.0**-40


@pytest.mark.parametrize("alone", [0, 1])
def test_what_one_party_knows_costs_nothing(alone: int, world: World) -> None:
    p = Polynomial(8, (0.5, 1.0, 0.25))

    assert error(world, torch.randint(-(8 << 16), 8 << 16, (70,)), 16, [p], alone) <= 2.0**-40


def test_the_largest_and_the_smallest(world: World) -> None:
    ring = torch.cat([torch.tensor([-(2 << 16), (2 << 16) - 1]), torch.randint(-(2 << 16), 2 << 16, (900,))])
    for coefficients in ((0.0, 2.0**30), (2.0**29, 0.0, 2.0**29), (0.0,), (), (2.0**-40, 2.0**-40)):
        p = Polynomial(2, coefficients or (0.0,))
        assert error(world, ring, 16, [p]) <= Expansion([p], 16).error + 2.0**-40


def test_what_is_finer_by_products_is_made_of_them(world: World) -> None:
    """Sums of magnitudes over thrice the window grow as 3^d."""
    c = [(-1) ** (k // 2) * math.pi**k / math.factorial(k) * (k % 2) for k in range(23)]
    sine, wild = Polynomial(1, tuple(c)), Polynomial(1, (0.0,) * 24 + (1.0,))
    assert not Expansion([wild], 16).fine

    for p in (sine, wild):
        x = torch.cat([torch.tensor([-65536, 65535]), torch.randint(-65536, 65536, (40,))])
        d = len(p.coefficients) - 1
        assert error(world, x, 16, [p]) <= d**2 * 2.0**-30 * sum(map(abs, p.coefficients))


def test_elements_that_are_none(world: World) -> None:
    for shape in ((0,), (3, 0)):
        (y,) = world.protocol.polynomials(world.share(torch.zeros(shape)), [Polynomial(2, (1.0, 2.0))])
        assert y.shape == shape
