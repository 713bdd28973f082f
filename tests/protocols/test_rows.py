"""Rows that are shuffled, or moved to secret places, by each scheme."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tacit.errors import TacitError
from tacit.protocols.values import Bits, Value

from .world import World

LIMIT = 1 << 62


def given(world: World, count: int) -> tuple[list[torch.Tensor], list[Value]]:
    """Numbers of several shapes and scales, a product that is short of its mask, and bits."""
    ring = torch.randint(-LIMIT, LIMIT, (count, 2, 3))
    small = torch.randint(-(1 << 30), 1 << 30, (count,))
    bits = (small > 0).to(torch.uint8)
    fine = world.share(ring, 0)
    fine.declare(frac_bits=40)
    product = world.protocol.multiply(world.share(small, 0), world.share(small, 0, owner=0))
    return [ring, small * small, bits], [fine, product, world.protocol.share_bits(bits, world.parties[0], bits.shape)]


@pytest.mark.parametrize("count", [1, 2, 50])
def test_rows_are_shuffled_together(world: World, count: int) -> None:
    plain, values = given(world, count)

    mixed = world.protocol.shuffled(values)

    order = [plain[0].tolist().index(row) for row in world.ring(mixed[0]).tolist()]
    assert sorted(order) == list(range(count))
    assert all(torch.equal(world.ring(got), want[order]) for got, want in zip(mixed, plain, strict=True))
    assert [x.scale.frac_bits for x in mixed] == [40, 0, 0]
    assert isinstance(mixed[2], Bits)
    again = world.ring(world.protocol.multiply(mixed[1], mixed[1]))
    assert torch.equal(again, (plain[1] * plain[1])[order])
    assert all(torch.equal(world.ring(got), want) for got, want in zip(values, plain, strict=True))


@pytest.mark.parametrize("count", [1, 2, 50])
def test_rows_go_to_their_places(world: World, count: int) -> None:
    plain, values = given(world, count)
    places = torch.randperm(count)

    moved = world.protocol.arranged(world.share(places, 0), values)

    back = places.argsort()
    assert all(torch.equal(world.ring(got), want[back]) for got, want in zip(moved, plain, strict=True))
    (less,) = world.protocol.less(moved[0], [0])
    assert torch.equal(world.ring(less), (plain[0][back] < 0).to(torch.uint8))


@pytest.mark.parametrize("scheme", ["additive", "plain"])
def test_every_order_is_as_likely(scheme: str) -> None:
    world = World(2, scheme)
    rows = world.share(torch.arange(3), 0)

    found = Counter(tuple(world.ring(*world.protocol.shuffled([rows])).tolist()) for _ in range(600))

    assert len(found) == 6
    assert sum((n - 100) ** 2 / 100 for n in found.values()) < 68  # of 5 degrees of freedom: by chance 2.6e-13


def test_a_shuffle_costs_a_round_a_party_and_a_word_an_element(world: World) -> None:
    if world.protocol.scheme.name != "additive":
        pytest.skip("by the prices of the additive scheme")
    count, parties = 1000, len(world.parties)
    rows = world.share(torch.zeros(count), 16)
    before = world.session.meter.cost

    world.protocol.shuffled([rows])

    cost = world.session.meter.cost - before
    assert cost.rounds == parties
    assert set(cost.online.values()) == {8 * count * (parties - 1)}
    assert cost.producer == 8 * count * parties


def test_places_that_are_no_permutation_stop_the_run() -> None:
    world = World(2)

    with pytest.raises(TacitError, match="no permutation"):
        world.protocol.arranged(world.share(torch.tensor([0, 0, 1]), 0), [world.share(torch.zeros(3))])
