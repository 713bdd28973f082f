"""Rows that two parties shuffle and sort: in which order they come, and what is seen of it."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import pytest
import torch

from tacit.errors import DataError, TacitError
from tacit.protocols.two_party import bits, comparison, sorting
from tacit.protocols.two_party.oblivious import switches
from tacit.protocols.two_party.partition import ascending
from tacit.protocols.two_party.protocol import TwoParty
from tacit.session.session import Session

from ..world import World
from .apart import apart
from .hops import Hops
from .test_privacy import CHI_SQUARE, chi_square, unmask

FAR = 1 << 62


def key_of(kind: str, count: int) -> torch.Tensor:
    """Keys at the ends of their domain, with ties, and all alike."""
    if kind == "far":
        return torch.randint(-FAR + 1, FAR, (count,))
    return torch.randint(-3, 3, (count,)) if kind == "ties" else torch.full((count,), 7)


@pytest.mark.parametrize("sizes", [[], [0], [1], [2, 0, 1], [8, 9, 10, 19, 20], [95, 96, 97], [511, 3, 2600]])
def test_places_are_in_order_within_each_segment(sizes: list[int]) -> None:
    value = torch.cat([torch.randperm(n) for n in sizes]) if sizes else torch.zeros(0)
    asked = []

    def compare(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        asked.append(len(left))
        return value[left] < value[right]

    order = ascending(compare, sizes)

    assert torch.equal(value[order], torch.cat([torch.arange(n) for n in sizes]) if sizes else value)
    assert torch.equal(order.sort().values, torch.arange(sum(sizes)))
    assert sum(asked) < 14 * sum(sizes) + 1
    assert len(asked) < 60


@pytest.mark.parametrize("kind", ["far", "ties", "equal"])
@pytest.mark.parametrize("count", [1, 2, 17, 300])
def test_rows_are_sorted_with_what_goes_with_them(kind: str, count: int) -> None:
    world = World(2, "two-party")
    key, beside = key_of(kind, count), torch.randint(-FAR, FAR, (count, 2))

    found = world.protocol.in_order(world.share(key, 0), world.share(beside, 0), world.share(torch.arange(count), 0))

    order = key.argsort(stable=True)
    for got, want in zip(found, (key, beside, torch.arange(count)), strict=True):
        assert torch.equal(world.ring(got), want[order])


@pytest.mark.parametrize("known", [False, True])
def test_columns_are_sorted_each_by_itself(known: bool) -> None:
    world = World(2, "two-party")
    key, beside = torch.randint(-20, 20, (40, 2, 2)), torch.randn(40, 2, 2, 3)

    a, b = world.protocol.in_order(world.share(key, 0, known=known), world.share(beside))

    order = key.argsort(dim=0, stable=True)
    assert torch.equal(world.ring(a), key.gather(0, order))
    expected = beside.gather(0, order[..., None].expand(beside.shape))
    assert torch.allclose(world.value(b), expected.double(), atol=2**-16)


@pytest.mark.parametrize("count", [3, 3000])  # a sample of 63 of the latter lacks one of the three once in 10^10
def test_numbers_that_have_no_order_end_the_run(count: int) -> None:
    world = World(2, "two-party")
    wide = world.share(torch.tensor([0, FAR - 1, 1 - FAR]).repeat(count // 3), 0).times_integer(3)

    with pytest.raises(DataError, match="further apart than"):
        world.protocol.in_order(wide)


def test_ties_are_compared_by_what_comes_behind() -> None:
    world = World(2, "two-party")
    x = torch.tensor([-1, 0, 1, 0, 0, -(1 << 63) + 1, (1 << 63) - 1, 0, 0] * 30)
    for width, size in ((1, 15), (4, 1 << 16), (5, 1 << 20), (8, 1 << 32), (15, 1 << 60)):
        k = torch.randint(-size + 1, size, x.shape)
        k[:9] = torch.tensor([1, -1, -1, 1, 0, 1, -1, size - 1, 1 - size])
        masks = [torch.randint(-FAR, FAR, x.shape) * 4 + torch.randint(0, 4, x.shape) for _ in range(2)]
        shares = [[mask, v - mask] for mask, v in zip(masks, (x, k), strict=True)]

        found = comparison.before(world.session, world.protocol.transfers, *shares, width)  # type: ignore[attr-defined]

        assert torch.equal(found[0] ^ found[1], ((x < 0) | (x == 0) & (k < 0)).to(torch.uint8))


def test_each_party_by_itself_sorts_and_shuffles() -> None:
    key, beside = torch.randint(-9, 9, (70,)), torch.arange(70)

    def body(session: Session, index: int) -> list[torch.Tensor]:
        protocol = TwoParty(session)
        mine = [v if index == k else torch.zeros_like(v) for k, v in enumerate((key, beside))]
        numbers = [protocol.adopt([t], t.shape, 0) for t in mine]
        rows = protocol.in_order(*numbers)
        mixed = protocol.shuffled(numbers)
        back = protocol.arranged(numbers[1], numbers)
        return [x.content.parts()[0] for x in (*rows, *mixed, *back)]

    alice, bob = apart(body)

    a, b, c, d, e, f = (one + other for one, other in zip(alice, bob, strict=True))
    order = key.argsort(stable=True)
    expected = (key[order], order, key[d], d.sort().values, key, beside)
    for got, want in zip((a, b, c, beside, e, f), expected, strict=True):
        assert torch.equal(got, want)


def test_every_order_is_as_likely() -> None:
    world = World(2, "two-party")
    column = torch.arange(3).repeat(300)[:, None]
    rows = {i: column * (i == 0) for i in (0, 1)}

    mixed = sorting.shuffled(world.session, world.protocol.transfers, rows, 300)  # type: ignore[attr-defined]

    found = Counter(tuple(row) for row in (mixed[0] + mixed[1]).view(300, 3).tolist())
    assert set(found) == set(permutations(range(3)))
    assert not unlikely(found)


def test_places_that_are_no_permutation_stop_the_run() -> None:
    world = World(2, "two-party")

    with pytest.raises(TacitError, match="no permutation"):
        world.protocol.arranged(world.share(torch.tensor([0, 0, 1]), 0), [world.share(torch.zeros(3))])


# --- what is seen ----------------------------------------------------------------------------------------------------


class Seen(Hops):
    """What is sent in hops, by file, sender and kind, and what is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch, (bits, comparison, sorting, switches))
        self.opened: list[torch.Tensor] = []
        opened = sorting._opened

        def watched(*args: Any) -> torch.Tensor:
            self.opened.append(opened(*args))
            return self.opened[-1]

        monkeypatch.setattr(sorting, "_opened", watched)


def leaks(kind: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of the messages is not as random messages would be."""
    world = World(2, "two-party")
    key = world.share(key_of(kind, 400), 0)
    seen = Seen(monkeypatch)
    world.protocol.in_order(key, world.share(torch.zeros(400, 3), 0))
    faults = []
    for (file, sender, dtype), tensors in seen.notes.items():
        data = unmask(dtype, torch.cat(tensors))
        if data.numel() >= 2560 and chi_square(data) > CHI_SQUARE:
            faults.append(f"{dtype} of party {sender} in {file} is not uniform")
        if dtype == torch.int64 and len(torch.cat(tensors).unique()) != sum(map(len, tensors)):
            faults.append(f"{dtype} of party {sender} in {file} is sent twice")
    return faults


@pytest.mark.parametrize("kind", ["far", "ties", "equal"])
def test_what_both_send_is_uniform(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not leaks(kind, monkeypatch)


def test_a_network_without_pads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        switches.Switches,
        "_pads",
        lambda self, blocks, number, width: torch.zeros(len(blocks), width, dtype=torch.int64),
    )

    assert any("switches" in fault for fault in leaks("equal", monkeypatch))


def outcomes(kind: str, monkeypatch: pytest.MonkeyPatch, runs: int = 300) -> Counter[tuple[int, ...]]:
    """How often three shuffled rows come in which order: what all that is opened says, of many columns."""
    key = torch.tensor({"apart": [1, 2, 3], "two alike": [4, 4, -4], "equal": [0, 0, 0]}[kind])
    world = World(2, "two-party")
    seen = Seen(monkeypatch)
    world.protocol.in_order(world.share(key[:, None].expand(3, runs).contiguous(), 0))
    return Counter(tuple(row) for row in torch.cat(seen.opened).int().view(runs, -1).tolist())


def unlikely(found: Counter[tuple[int, ...]]) -> bool:
    """Whether outcomes are not the six orders, each as often; by chance 2.6e-13."""
    mean = found.total() / 6
    return len(found) > 6 or sum((found[k] - mean) ** 2 / mean for k in found) + (6 - len(found)) * mean > 68


@pytest.mark.parametrize("kind", ["apart", "two alike", "equal"])
def test_what_is_opened_is_a_uniform_order(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not unlikely(outcomes(kind, monkeypatch))


def test_ties_that_are_not_broken_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "before", lambda s, t, x, k, w: [b.view(-1) for b in comparison.less(s, t, x, [0])])

    assert unlikely(outcomes("equal", monkeypatch))


def test_rows_that_are_not_shuffled_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "permutation", lambda stream, count: torch.arange(count))

    assert unlikely(outcomes("apart", monkeypatch))
