"""What is particular to two parties: who is alone with a value, few elements and many, and shares of any kind."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.functions.sigmoid import SIGMOID
from tacit.protocols.series import Harmonics
from tacit.protocols.two_party import comparison, harmonics
from tacit.protocols.two_party.content import halves_of
from tacit.protocols.two_party.harmonics import Precision
from tacit.protocols.two_party.lattice.parameters import slot_primes

from ..world import World

SERIES = Harmonics(32, sine=(0.5, -0.25), cosine=(0.125, 0.0, 1.0), constant=0.75)


@pytest.fixture(scope="module")
def world() -> World:
    return World(2, "two-party")


def joined(world: World, x: torch.Tensor, frac_bits: int = 16):
    """Numbers of which each party has some, and the other zeros."""
    half = x.shape[0] // 2
    first = world.share(torch.cat([x[:half], torch.zeros_like(x[half:])]), frac_bits, owner=0, known=True)
    second = world.share(torch.cat([torch.zeros_like(x[:half]), x[half:]]), frac_bits, owner=1, known=True)
    return first + second


@pytest.mark.parametrize("owner", [0, 1])
def test_what_one_party_does_with_its_own_costs_nothing(owner: int, world: World) -> None:
    x = torch.randn(40, dtype=torch.float64) * 3
    own = world.share(x, 32, owner=owner, known=True)
    before = world.session.meter.cost

    results = [
        (own + own.times_integer(2)).settle(16),
        world.protocol.multiply(own.settle(16), own.settle(16)),
        world.protocol.scale(own, 0.3, 20),
        world.protocol.select([(world.protocol.less(own, [0])[0], own.settle(16))])[0],
        world.protocol.less(own, [0])[0].arithmetic(),
        world.protocol.harmonics(own.settle(16), SERIES),
    ]

    assert (world.session.meter.cost - before).rounds == 0
    assert all(halves_of(y).alone == owner for y in results)
    values = [world.value(y) for y in results]
    angle = 2 * torch.pi * x / 32
    series = 0.75 + 0.5 * angle.sin() - 0.25 * (2 * angle).sin() + 0.125 * angle.cos() + (3 * angle).cos()
    for got, want in zip(values, [3 * x, x * x, 0.3 * x, x.clamp(max=0), (x < 0).double(), series], strict=True):
        assert (got - want).abs().max() < 2e-3


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "joined"])
def test_numbers_whose_memory_is_in_another_order(alone: bool, world: World) -> None:
    x = torch.randn(4, 3, 2, dtype=torch.float64)
    fine = world.share(x, 32, owner=0, known=True) if alone else joined(world, x, 32)
    y, z = (v.move(lambda t: t.permute(1, 0, 2), view=view) for v, view in ((fine, False), (fine, True)))
    want = x.permute(1, 0, 2)

    for moved in (y, z):
        for factor in (0.3, -0.7):
            assert (world.value(world.protocol.scale(moved, factor, 20)) - factor * want).abs().max() < 2e-3
        settled = moved.settle(16)
        assert (world.value(settled) - want).abs().max() < 2e-4
        assert (world.value(world.protocol.multiply(settled, settled)) - want**2).abs().max() < 2e-3
        (negative,) = world.protocol.less(settled, [0])
        (chosen,) = world.protocol.select([(negative, settled)])
        assert (world.value(chosen) - want.clamp(max=0)).abs().max() < 2e-3
        assert torch.equal(world.value(negative.arithmetic()), (want < 0).double())


def test_sums_of_a_series_are_within_the_bound_that_its_slots_are_chosen_by() -> None:
    for rounding in (2.0**-12, 2.0**-17, 2.0**-24, 2.0**-40):
        p, q = torch.randn(2, 5, dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.3, 0.1, 0.1], dtype=torch.float64)
        for series in (
            Harmonics(32, tuple(p.tolist()), tuple(q.tolist()), rounding=rounding),
            Harmonics(32, cosine=(1.0,), rounding=rounding),
            Harmonics(32, cosine=(1.0,) * 8, rounding=rounding),
        ):
            precision = Precision(series)
            r = torch.cat([torch.zeros(1).long(), torch.randint(-(2**63), 2**63 - 1, (2000,))])
            x = torch.cat([torch.zeros(1001).long(), torch.randint(-(2**40), 2**40, (1000,))])
            left, right = (f(16, series, precision, t) for f, t in ((harmonics.left, x - r), (harmonics.right, r)))
            assert int((left * right).sum(0).abs().max()) <= precision.bound
            assert math.prod(slot_primes(precision.bound)) > 4 * precision.bound

    assert len(slot_primes(Precision(SIGMOID).bound)) == 1


def test_a_value_into_which_another_owner_writes_is_nobodys_alone(world: World) -> None:
    x, y = torch.randn(6), torch.randn(2)
    z = world.share(x, owner=0, known=True)
    view = z.move(lambda t: t[2:4], view=True)

    view.write(world.share(y, owner=1, known=True))

    assert halves_of(z).alone is None
    assert torch.equal(world.ring(world.protocol.less(z, [0])[0]).bool(), torch.cat([x[:2], y, x[4:]]) < 0)


@pytest.mark.parametrize("n", [2, 50, 5000])
def test_columns_of_two_owners_side_by_side(n: int, world: World) -> None:
    x = torch.randn(n, dtype=torch.float64) * 50
    exact = (x * 2**16).round() / 2**16
    z = joined(world, x)

    assert torch.equal(world.ring(world.protocol.less(z, [0])[0]).bool(), exact < 0)
    assert (world.value(world.protocol.multiply(z, z)) - exact**2).abs().max() == 0
    assert (world.value(z.settle(8)) - exact).abs().max() < 2**-8
    assert (world.value(world.protocol.scale(z, -0.37)) + 0.37 * exact).abs().max() < 2**-14
    angle = 2 * torch.pi * exact / 32
    want = 0.75 + 0.5 * angle.sin() - 0.25 * (2 * angle).sin() + 0.125 * angle.cos() + (3 * angle).cos()
    assert (world.value(world.protocol.harmonics(z, SERIES)) - want).abs().max() < 2e-5


def test_truncation_is_right_on_average_whatever_the_shares_are(world: World) -> None:
    x = torch.full((20_000,), 3)
    kinds = [
        world.share(x, 0),
        world.share(x, 0, known=True),
        world.share(x, 0).lifted(8).rescaled(0),
        joined(world, x, 0),
    ]

    for z, unit in zip(kinds, (1, 1, 256, 1), strict=True):
        bits = 3 + unit.bit_length() - 1
        z = z.rescaled(bits)
        mean = world.ring(z.settle(0)).double().mean()
        assert abs(mean - 3 / 8) < 0.02  # six deviations of the mean of so many coins


def test_zero_stays_zero(world: World) -> None:
    zeros = torch.zeros(30_000, dtype=torch.int64)

    for z in (world.share(zeros, 4), world.share(zeros, 4, known=True), joined(world, zeros, 4)):
        assert not world.ring(z.settle(0)).any()
        assert not world.ring(world.protocol.scale(z, 0.25, 4)).any()


def test_many_thresholds_of_many_numbers_come_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "MOST", 1000)
    x = torch.randint(-50, 50, (777,))

    found = world.protocol.less(world.share(x, 0), range(-20, 20, 5))

    for t, bit in zip(range(-20, 20, 5), found, strict=True):
        assert torch.equal(world.ring(bit).bool(), x < t)


def test_as_many_elements_as_a_storage_has_need_not_be_all_of_it(world: World) -> None:
    x = world.share(torch.tensor([0, 1, 2, 3]), 0, owner=0, known=True)
    view = x.strided(lambda t, at: t.as_strided((2, 2), (1, 1), at), lambda length: None)

    view.write(world.share(torch.tensor([[9, 9], [9, 9]]), 0, owner=1, known=True))

    ones = world.share(torch.ones(4, dtype=torch.int64), 0, owner=1, known=True)
    assert world.ring(world.protocol.multiply(x, ones)).tolist() == [9, 9, 9, 3]


@pytest.mark.parametrize("first", [(1, 64, 80), (2, 64, 80), (64, 80)])
def test_ciphertexts_of_a_batch_are_those_of_the_same_matrix(first: tuple[int, ...], world: World) -> None:
    x = torch.randint(-(2**20), 2**20, (2, 1, 40, 64))
    own = world.share(x, 0, owner=0, known=True)

    for shape in (first, (2, 64, 80), (2, 2, 64, 80), first):
        y = torch.randint(-(2**20), 2**20, shape)
        product = world.protocol.bilinear(own, world.share(y, 0), torch.matmul)
        assert torch.equal(world.ring(product), x @ y)
