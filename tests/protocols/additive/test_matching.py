"""What each role sees of a match is distributed independently of the keys and of the rows, but for what is stated.

The crypto-producer sees blocks that are uniform, in an order that has nothing to do with the tables', and how many of
them are equal. An owner sees an order of its own rows that is uniform, or in the blind form nothing that depends on
which of its rows matched. That these tests have teeth is shown by protocols that are broken on purpose.
"""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
import torch

from tacit.protocols.additive import matching
from tacit.protocols.additive.matching import Helped
from tacit.protocols.matching import Match
from tacit.protocols.plain.matching import InTheOpen
from tacit.ring.prg import Stream

from ..world import World
from .test_privacy import CHI_SQUARE, chi_square

ROWS, COMMON, WIDTH = 4000, 1500, 3
SECRETS = {"first": 0, "last": ROWS - COMMON}
"""Where in Alice's table the common rows stand; everything else about the tables differs, too."""


def digests(start: int, count: int = ROWS) -> torch.Tensor:
    """Digests that look like anything but digests, so that only encryption can hide them."""
    return torch.stack([torch.arange(start, start + count), torch.zeros(count, dtype=torch.int64)], dim=1)


def matched(world: World, label: str, *, left: bool = False) -> Match:
    """Two tables, or three, that have `COMMON` rows in common."""
    at, owners = SECRETS[label], list(world.parties)
    tables = [digests(0), *(digests(at + COMMON - ROWS if at == 0 else at) for _ in owners[1:])]
    return Helped(world.protocol).match(owners, [ROWS] * len(owners), dict(zip(owners, tables, strict=True)), left=left)


def values(label: str) -> torch.Tensor:
    return torch.full((ROWS, WIDTH), 0 if label == "first" else -1 << 61)


def blind(label: str, parties: int, *, left: bool = False) -> World:
    """A world in which all owners' rows have been picked."""
    world = World(parties)
    match = matched(world, label, left=left)
    for owner in world.parties:
        match.picked(owner, values(label), WIDTH, 16)
    return world


def worst(world: World, *, to_producer: bool) -> float:
    """The largest deviation from uniform bytes of what the parties, or the producer, received from one another."""
    found = [
        chi_square(torch.cat(messages))
        for (_, destination), messages in world.transport.received.items()
        if (destination == "crypto-producer") == to_producer and sum(m.numel() for m in messages) > 20_000
    ]
    return max(found)


def without_places(world: World) -> World:
    """Leave out the places that the producer sends to the last party of a chain; another test is about them."""
    for messages in world.transport.received.values():
        messages[:] = [m for m in messages if m.numel() != 4 * COMMON]
    return world


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("label", SECRETS)
def test_what_anybody_sees_of_picked_rows_is_uniform(label: str, parties: int) -> None:
    world = without_places(blind(label, parties))

    assert worst(world, to_producer=False) < CHI_SQUARE
    assert worst(world, to_producer=True) < CHI_SQUARE


def test_sizes_and_order_depend_on_the_sizes_of_tables_and_matches_alone() -> None:
    shapes = []
    for label in SECRETS:
        received = blind(label, 3, left=True).transport.received
        shapes.append({pair: [m.numel() for m in messages] for pair, messages in received.items()})

    assert shapes[0] == shapes[1]


def test_the_producer_gets_blocks_in_their_own_order_and_never_the_same_ones() -> None:
    seen = []
    for label in ("first", "first"):
        world = World(2)
        matched(world, label)
        (blocks,) = world.transport.received["party0", "crypto-producer"]
        seen.append(blocks.view(torch.int64).view(-1, 2))

    for blocks in seen:
        assert bool((blocks[1:, 0] >= blocks[:-1, 0]).all())
    both = torch.cat(seen)
    assert len(both.unique(dim=0)) == 2 * ROWS


def pattern(places: tuple[int, ...], parties: int) -> tuple[int, ...]:
    """The places that the last party of a chain is told when the rows that matched are these."""
    world = World(parties)
    session = world.session
    sigma = torch.tensor(places, dtype=torch.int32)
    matching.picked_rows(session, "party0", torch.arange(3)[:, None], (3, 1), len(places), sigma)
    return tuple(world.transport.received["crypto-producer", world.parties[-1]][-1].view(torch.int32).tolist())


def spread(counts: Counter[tuple[int, ...]], outcomes: int, total: int) -> float:
    """Chi-square against all outcomes being equally likely."""
    expected = total / outcomes
    missing = outcomes - len(counts)
    return sum((n - expected) ** 2 / expected for n in counts.values()) + missing * expected


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("sigma", [(0, 1), (2, 0), (-1, 1)])
def test_places_that_are_told_do_not_depend_on_which_rows_matched(sigma: tuple[int, ...], parties: int) -> None:
    counts = Counter(pattern(sigma, parties) for _ in range(300))

    assert set(counts) <= set(permutations(range(3), 2))
    assert spread(counts, 6, 300) < 60  # of 5 degrees of freedom: exceeded with probability 1e-11


def test_an_owner_learns_its_matching_rows_in_a_uniform_order() -> None:
    orders: Counter[tuple[int, ...]] = Counter()
    world = World(2)
    for _ in range(300):
        match = Helped(world.protocol).match(world.parties, [4, 3], {"party0": digests(0, 4), "party1": digests(1, 3)})
        mine = match.told()["party0"]
        assert sorted(mine.tolist()) == [1, 2, 3]
        orders[tuple(mine.tolist())] += 1

    assert spread(orders, 6, 300) < 60


def test_a_chain_without_masks_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Stream,
        "ring",
        lambda self, shape: torch.arange(shape[0]) if len(shape) == 1 else torch.zeros(shape, dtype=torch.int64),
    )

    assert worst(without_places(blind("first", 2)), to_producer=False) > CHI_SQUARE


def test_rows_that_are_not_permuted_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "permutation", lambda stream, count: torch.arange(count))

    counts = Counter(pattern((2, 0), 2) for _ in range(20))

    assert counts == {(2, 0): 20}


def test_digests_that_are_not_encrypted_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "encrypted", lambda digests, key: digests)

    assert worst(blind("first", 2), to_producer=True) > CHI_SQUARE


@pytest.mark.priced
@pytest.mark.parametrize("parties", [2, 3])
def test_bytes_are_what_the_docstrings_say(parties: int) -> None:
    world = World(parties)
    match = matched(world, "first")
    rows, before = match.rows, world.session.meter.cost

    match.picked("party0", values("first"), WIDTH, 16)
    spent = world.session.meter.cost - before
    match.told()
    told = world.session.meter.cost - before - spent

    assert (rows, spent.rounds, told.rounds) == (COMMON, parties - 1, 0)
    assert before.online == {p: 16 * ROWS + (32 * (parties - 1) if p == "party0" else 0) for p in world.parties}
    assert spent.online == {p: (p != world.parties[-1]) * 8 * ROWS * WIDTH for p in world.parties}
    assert (spent.producer, told.producer) == (8 * COMMON * WIDTH + 4 * COMMON, 4 * COMMON * parties)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("parties", [2, 3])
def test_it_finds_what_comparing_in_the_open_finds(parties: int, left: bool) -> None:
    world, open_world = World(parties), World(parties, "plain")
    owners = list(world.parties)
    tables = {owner: digests(3 * k, 9)[torch.randperm(9)] for k, owner in enumerate(owners)}
    rows = {owner: tables[owner][:, :1] + 100 for owner in owners}

    results = []
    for matcher in (Helped(world.protocol), InTheOpen(open_world.protocol)):
        match = matcher.match(owners, [9] * parties, tables, left=left)
        w = world if isinstance(matcher, Helped) else open_world
        picked = torch.cat([w.ring(match.picked(owner, rows[owner], 1, 0)) for owner in owners], dim=1)
        told = torch.stack([match.told()[owner] for owner in owners], dim=1)
        results.append((sorted(picked.tolist()), sorted(told.tolist())))

    assert results[0] == results[1]
    assert len(results[0][0]) == (9 if left else 9 - 3 * (parties - 1))
