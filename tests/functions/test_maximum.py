"""The largest and the smallest, by groups of any size, with ties, of products, and at the ends of the range."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import tacit
from tacit.functions import maximum
from tacit.functions.maximum import Maximum
from tacit.protocols.additive.cost import PRICES
from tacit.protocols.number import Number
from tacit.protocols.values import Value
from tacit.session.session import Session

MANY = 20_000
"""Rows so many that neighbours are compared, for which a few form groups."""


def revealed(x: Value) -> Tensor:
    """Ring elements or bits."""
    value = tacit.reveal(
        tacit.SecretTensor(x.rescaled(0), torch.int64) if isinstance(x, Number) else tacit.SecretTensor(x, torch.bool)
    )
    assert value is not None
    return value.to(torch.int64)


@pytest.mark.parametrize("largest", [True, False], ids=["largest", "smallest"])
@pytest.mark.parametrize("rows", [50, MANY])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 9, 10, 11, 23])
def test_it_is_exact_over_the_whole_range(
    count: int, rows: int, largest: bool, session_of_all: Session, random: torch.Generator
) -> None:
    ring = torch.randint(-(2**62) + 1, 2**62, (count, rows), generator=random)
    ring[:, :10] = 2**62 - 1
    ring[0, 10:20], ring[-1, 10:20] = 1 - 2**62, 2**62 - 1
    ring[:, 20:40] = torch.randint(0, 3, (count, 20), generator=random)
    x = tacit.share(ring, owner="alice").share
    assert isinstance(x, Number)

    found = Maximum(x, largest=largest)

    expected = ring.max(0) if largest else ring.min(0)
    first = (ring == expected.values).int().argmax(0)
    assert torch.equal(revealed(found.indices), first)
    assert torch.equal(revealed(found.values), expected.values)
    assert torch.equal(revealed(found.winner), (torch.arange(count)[:, None] == first).long())


@pytest.mark.parametrize("size", [2, 3, 5])
def test_one_of_products_that_nearly_tie_wins(size: int, session_of_all: Session, random: torch.Generator) -> None:
    """Each comparison may be off by a part of a unit, another one in each pair."""
    near = torch.randint(0, 8, (size, MANY), generator=random)
    whole = tacit.share(torch.full((size, MANY), 3.0), owner="alice")
    product = (whole * tacit.share(torch.tensor(1.0), owner="bob")).share
    assert isinstance(product, Number)
    product = product.lifted(36).added(tacit.share(near, owner="bob").share.lifted(13).rescaled(36))  # of 2^-23

    found = Maximum(product, value=True, plan=((size,),))

    assert torch.equal(revealed(found.winner).sum(0), torch.ones(MANY, dtype=torch.int64))
    assert (revealed(found.values) - (3 << 16)).abs().max() <= 2


@pytest.mark.parametrize("rows", [50, MANY])
@pytest.mark.parametrize("count", [2, 5, 10, 13])
def test_of_products_the_largest_wins_to_the_unit_of_its_truncation(
    count: int, rows: int, session_of_all: Session, random: torch.Generator
) -> None:
    a, b = (torch.randint(-(2**18), 2**18, (count, rows), generator=random) for _ in range(2))
    product = (tacit.share(a / 2**16, owner="alice") * tacit.share(b / 2**16, owner="bob")).share
    assert isinstance(product, Number)

    found = Maximum(product)
    values, winner = revealed(found.values), revealed(found.winner)

    assert torch.equal(winner.sum(0), torch.ones(rows, dtype=torch.int64))
    best, chosen = (a * b).max(0).values, (a * b * winner).sum(0)
    assert set((values - (chosen >> 16)).tolist()) <= {0, 1}
    if len(maximum._plan(count, rows, PRICES)) == 1:
        assert torch.equal(chosen, best)
    assert (values >= best >> 16).all()  # further levels compare what the best ones of the first were truncated to


@pytest.mark.parametrize("largest", [True, False], ids=["largest", "smallest"])
@pytest.mark.parametrize("rows", [50, MANY])
@pytest.mark.parametrize("count", [2, 5, 13])
def test_a_value_of_products_is_near_the_largest_over_the_whole_range(
    count: int, rows: int, largest: bool, session_of_all: Session, random: torch.Generator
) -> None:
    ring = torch.randint(-(2**61), 2**61, (count, rows), generator=random)
    ring[:, :20] = torch.randint(-(2**18), 2**18, (count, 20), generator=random)
    ring[:, 20:30], ring[-1, 20:30] = 1 - 2**61, 2**61 - 1
    ring[:, 30:40], ring[0, 30:40] = 1 - 2**61, 2**61 - 1
    shared = tacit.share(ring, owner="alice").share
    assert isinstance(shared, Number)

    found = Maximum(shared.rescaled(32), largest=largest, value=True).values

    best = ring.max(0).values if largest else ring.min(0).values
    off = revealed(found) - (best >> 16)
    assert (-off if largest else off).min() >= -1
    assert (-off if largest else off).max() <= 3


@pytest.mark.priced
@pytest.mark.parametrize(
    ("shape", "rounds"), [((10, 128), 5), ((4, 500), 5), ((2, 100), 3), ((8, MANY), 12), ((1, 5), 0)]
)
def test_rounds_follow_from_the_shape(shape: tuple[int, int], rounds: int, random: torch.Generator) -> None:
    x = torch.randn(shape, generator=random)
    for parties in (("alice", "bob"), ("alice", "bob", "carol")):
        with tacit.session(parties=parties) as session:
            secret = tacit.share(x)
            before = session.meter.cost
            secret.max(dim=0)
            extra = 0 if rounds in (0, 3, 5) else 1  # the bits of several levels make one place

            assert (session.meter.cost - before).rounds == rounds + extra


@pytest.mark.parametrize("rows", [1, 30, 1000, 10**6])
@pytest.mark.parametrize("players", [2, 3, 10, 11, 57, 100, 1000])
def test_no_plan_needs_more_rounds_than_pairs_of_neighbours(players: int, rows: int) -> None:
    plan = maximum._plan(players, rows, PRICES)

    left = players
    for sizes in plan:
        left -= sum(sizes) - len(sizes)
        assert max(sizes) <= maximum.LARGEST
    assert left == 1
    assert sum(4 if max(sizes) == 2 else 5 for sizes in plan) <= 4 * (players - 1).bit_length()


@pytest.mark.parametrize("rows", [50, MANY])
@pytest.mark.parametrize("count", [1, 2, 5, 11, 23])
def test_what_is_near_is_so_to_a_gap_on_each_level(
    count: int, rows: int, session_of_all: Session, random: torch.Generator
) -> None:
    ring = torch.randint(-(2**22), 2**22, (count, rows), generator=random)
    ring[:, :9] = torch.randint(0, 2, (count, 9), generator=random) << 61
    ring[0, 9:20], ring[-1, 9:20] = 2**20, 0
    x = tacit.share(ring, owner="alice").share
    assert isinstance(x, Number)

    found = Maximum(x, gap=2.0**20)
    near = revealed(found.near).bool()

    below = ring.amax(0) - ring
    levels = maximum.levels(count, rows, PRICES)
    assert bool((below[near] <= levels * 2**20).all())
    assert bool((below[~near] > 2**20).all())
    assert bool(near[below == 0].all())
    assert torch.equal(revealed(found.values), ring.amax(0))
