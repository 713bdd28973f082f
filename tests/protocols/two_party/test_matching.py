"""What two parties see of a match that they find alone is uniform, but for what it says; and nonsense is refused.

That these tests have teeth is shown by protocols that are broken on purpose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tacit.errors import ConfigError, DivergenceError
from tacit.protocols.matching import Match
from tacit.protocols.plain.matching import InTheOpen
from tacit.protocols.two_party import exchange, matching
from tacit.protocols.two_party.matching import Alone
from tacit.protocols.two_party.oblivious import evaluation
from tacit.protocols.two_party.protocol import TwoParty
from tacit.session.session import Session

from ..world import World
from .apart import apart
from .test_privacy import CHI_SQUARE, chi_square

ROWS, COMMON = 3000, 1000
SECRETS = {"first": 0, "last": ROWS - COMMON}
"""Where in the first table the common rows stand."""


def digests(start: int, count: int = ROWS) -> torch.Tensor:
    """Digests that look like anything but digests, so that only what hides them can."""
    return torch.stack([torch.arange(start, start + count), torch.zeros(count, dtype=torch.int64)], dim=1)


def tables(label: str) -> dict[str, torch.Tensor]:
    at = SECRETS[label]
    return {"party0": digests(0), "party1": digests(at + COMMON - ROWS if at == 0 else at)}


class Seen:
    """What is sent in hops, by who sends it and what it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notes: dict[tuple[int, torch.dtype], list[torch.Tensor]] = {}
        for module in (matching, evaluation):
            monkeypatch.setattr(module, "hop", self.hop)

    def hop(self, session: Session, notes: list[exchange.Note]) -> list[torch.Tensor | None]:
        for note in notes:
            assert note.tensor is not None
            self.notes.setdefault((note.sender, note.dtype), []).append(note.tensor.clone().reshape(-1))
        return exchange.hop(session, notes)


def matched(label: str, monkeypatch: pytest.MonkeyPatch, *, left: bool = False) -> tuple[Match, Seen, World]:
    world = World(2, "two-party")
    seen = Seen(monkeypatch)
    match = Alone(world.protocol).match(world.parties, [ROWS, ROWS], tables(label), left=left)  # type: ignore[arg-type]
    return match, seen, world


def leaks(label: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is not as random messages would be: opened tables, and hashes of the sender's keys in ascending order."""
    _, seen, _ = matched(label, monkeypatch)
    faults = []
    for (sender, dtype), tensors in seen.notes.items():
        data = torch.cat(tensors)
        if data.nbytes < 2560:
            continue
        if chi_square(data.view(torch.uint8)) > CHI_SQUARE:
            faults.append(f"{dtype} of party {sender} is not uniform")
        if dtype == torch.int64 and len(data.unique()) != len(data):
            faults.append(f"{dtype} of party {sender} is sent twice")
    return faults


@pytest.mark.parametrize("label", SECRETS)
def test_what_both_see_is_uniform(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not leaks(label, monkeypatch)


def test_hashes_are_sent_in_their_own_order_and_are_others_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = []
    for _ in range(2):
        _, seen, _ = matched("first", monkeypatch)
        hashes.append(seen.notes[0, torch.int64][-1])

    assert all(bool((h[1:] >= h[:-1]).all()) for h in hashes)
    assert len(torch.cat(hashes).unique()) == 2 * ROWS


@pytest.mark.parametrize("left", [False, True])
def test_sizes_depend_on_those_of_tables_and_matches_alone(left: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    for label in SECRETS:
        match, _, world = matched(label, monkeypatch, left=left)
        match.told()
        shapes.append({pair: [m.numel() for m in sent] for pair, sent in world.transport.received.items()})

    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("left", [False, True])
def test_it_finds_what_comparing_in_the_open_finds(left: bool) -> None:
    world, open_world = World(2, "two-party"), World(2, "plain")
    for sizes in ((30, 50), (50, 30), (1, 9), (9, 1)):
        mine = {
            o: digests(5 * k, n)[torch.randperm(n)] for (k, n), o in zip(enumerate(sizes), world.parties, strict=True)
        }
        results = []
        for matcher in (Alone(world.protocol), InTheOpen(open_world.protocol)):  # type: ignore[arg-type]
            match = matcher.match(world.parties, sizes, mine, left=left)
            told = match.told()
            results.append(sorted(torch.stack([told[owner] for owner in world.parties], dim=1).tolist()))
            assert match.rows == match.common == len(results[-1])

        assert results[0] == results[1]


def test_owners_see_their_rows_in_a_uniform_order_and_a_left_one_not_who_matched() -> None:
    orders: Counter[tuple[int, ...]] = Counter()
    lefts: Counter[tuple[int, ...]] = Counter()
    world = World(2, "two-party")
    alone = Alone(world.protocol)  # type: ignore[arg-type]
    for _ in range(240):
        keys = {"party0": digests(0, 4), "party1": digests(1, 3)}
        mine = alone.match(world.parties, [4, 3], keys).told()["party0"]
        assert sorted(mine.tolist()) == [1, 2, 3]
        orders[tuple(mine.tolist())] += 1
        keys = {"party0": digests(0, 3), "party1": digests(2, 2)}
        lefts[tuple(alone.match(world.parties, [3, 2], keys, left=True).told()["party0"].tolist())] += 1

    for counts in (orders, lefts):
        assert len(counts) == 6
        assert sum((n - 40) ** 2 / 40 for n in counts.values()) < 60  # 5 degrees of freedom: probability 1e-11


def broken(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "no vector":
        make = evaluation.Vectors.make

        def zeros(self: Any, sender: int, count: int) -> Any:
            ends = make(self, sender, count)
            for end in ends:
                if end.factors is not None:
                    end.factors.zero_()
            return ends

        monkeypatch.setattr(evaluation.Vectors, "make", zeros)
    if kind == "no hash":
        monkeypatch.setattr(
            evaluation.Evaluated,
            "hashes",
            lambda self, number, width=2: torch.arange(len(self.keys))[:, None].repeat(1, 2),
        )


@pytest.mark.parametrize("kind", ["no vector", "no hash"])
def test_what_is_broken_on_purpose_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(kind, monkeypatch)

    assert leaks("first", monkeypatch)


@pytest.mark.parametrize(("reveal", "rows"), [("members", 400_000), ("size", 60_000)])
def test_tables_that_no_memory_holds_are_refused_before_anything_is_sent(
    reveal: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "memory_bytes", lambda: 10**8)
    world = World(2, "two-party")

    with pytest.raises(ConfigError, match="join smaller tables, one part of the keys after the other"):
        Alone(world.protocol).match(world.parties, [rows, rows], {}, reveal=reveal)  # type: ignore[arg-type]

    assert not world.transport.received


# --- apart ------------------------------------------------------------------------------------------------------------


def each(session: Session, index: int, *, left: bool = False) -> list[int]:
    """One party's part of a match in two processes: its own rows, by the digests that they have."""
    matcher = Alone(TwoParty(session))
    mine = {session.parties[index]: digests(10 * index, 40)}
    told = matcher.match(session.parties, [40, 40], mine, left=left).told()
    (places,) = told.values()
    return [int(p) + 10 * index if p >= 0 else -1 for p in places]


@pytest.mark.parametrize("left", [False, True])
def test_two_processes_are_told_the_same_people(left: bool) -> None:
    first, second = apart(lambda session, index: each(session, index, left=left))

    if left:
        assert sorted(first) == list(range(40))
        assert [b for b in second if b >= 0] == [a for a, b in zip(first, second, strict=True) if b >= 0]
        assert sorted(b for b in second if b >= 0) == list(range(10, 40))
    else:
        assert first == second
        assert sorted(first) == list(range(10, 40))


def _twice(t: torch.Tensor) -> torch.Tensor:
    return t[:1].expand_as(t).clone()


@pytest.mark.parametrize(
    ("dtype", "spoil", "message"),
    [
        (torch.int32, _twice, "names rows"),
        (torch.int32, lambda t: t + (1 << 30), "names rows"),
        (torch.int32, lambda t: -1 - t, "names rows"),
    ],
)
def test_places_that_are_none_are_refused(
    dtype: torch.dtype, spoil: Callable[[torch.Tensor], torch.Tensor], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hop(session: Session, notes: list[exchange.Note]) -> list[torch.Tensor | None]:
        return exchange.hop(
            session,
            [n._replace(tensor=spoil(n.tensor)) if n.dtype == dtype and n.tensor is not None else n for n in notes],
        )

    world = World(2, "two-party")
    match = Alone(world.protocol).match(world.parties, [ROWS, ROWS], tables("first"))  # type: ignore[arg-type]
    monkeypatch.setattr(matching, "hop", hop)

    with pytest.raises(DivergenceError, match=message):
        match.told()


def test_hashes_and_counts_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(2, "two-party")
    alone = Alone(world.protocol)  # type: ignore[arg-type]
    monkeypatch.setattr(world.session, "announce", lambda source, message: (1 << 40).to_bytes(8, "little"))
    with pytest.raises(DivergenceError, match="more rows in common than there are"):
        alone.match(world.parties, [40, 40], {"party0": digests(0, 40), "party1": digests(10, 40)})

    alone = Alone(World(2, "two-party").protocol)  # type: ignore[arg-type]
    monkeypatch.setattr(matching, "at_hand", lambda: type("K", (), {"matches": staticmethod(lambda *_: None)}))
    with pytest.raises(DivergenceError, match="are no hashes of keys"):
        alone.match(world.parties, [40, 40], {"party0": digests(0, 40), "party1": digests(10, 40)})
