"""What two parties see of a match that neither is told is independent of the keys, and of the rows that are picked.

That these tests have teeth is shown by protocols that are broken on purpose.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from tacit.errors import DivergenceError
from tacit.protocols.plain.matching import InTheOpen
from tacit.protocols.two_party import blind, exchange, lookup, taken
from tacit.protocols.two_party.blind import Unseen
from tacit.protocols.two_party.matching import Alone
from tacit.protocols.two_party.oblivious import evaluation, programs, switches
from tacit.protocols.two_party.protocol import TwoParty
from tacit.session.session import Session

from ..world import World
from .apart import apart
from .hops import Hops
from .test_matching import digests, tables
from .test_privacy import CHI_SQUARE, chi_square

ROWS, WIDTH = 3000, 2
FORMS = [("size", False), ("nothing", False), ("size", True)]


class Seen(Hops):
    """What is sent in hops, by who sends it, in which file and what it is; what tables hold, and what is found."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch, (blind, evaluation, lookup, programs, switches, taken))
        self.found: list[torch.Tensor] = []
        self.programmed: list[torch.Tensor] = []
        send = programs.Programs.send

        def sent(programs: Any, values: torch.Tensor | None, width: int) -> torch.Tensor | None:
            found = send(programs, values, width)
            assert found is not None
            self.found.append(found.clone())
            return found

        monkeypatch.setattr(programs.Programs, "send", sent)
        filled = programs.filled

        def fill(shape: Any, digests: torch.Tensor, values: torch.Tensor, table: torch.Tensor) -> Any:
            self.programmed.append(values.clone())
            return filled(shape, digests, values, table)

        monkeypatch.setattr(programs, "filled", fill)


def unseen(
    label: str, monkeypatch: pytest.MonkeyPatch, reveal: str, left: bool, alternatives: int = 1
) -> tuple[Any, Seen, World]:
    """A match, and columns of both that are as far from uniform as they can be."""
    world = World(2, "two-party")
    seen = Seen(monkeypatch)
    first, second = tables(label), tables("last" if label == "first" else "first")
    keys = first if alternatives == 1 else {o: torch.cat([first[o], second[o] + ROWS], dim=1) for o in first}
    match = Alone(world.protocol).match(  # type: ignore[arg-type]
        world.parties, [ROWS, ROWS], keys, left=left, reveal=reveal, alternatives=alternatives
    )
    for owner in world.parties:
        match.picked(owner, torch.full((ROWS, WIDTH), 0 if label == "first" else -1 << 61), WIDTH, 16)
    return match, seen, world


def leaks(
    label: str, monkeypatch: pytest.MonkeyPatch, reveal: str = "nothing", left: bool = False, alternatives: int = 1
) -> list[str]:
    """What is not as random messages would be."""
    _, seen, _ = unseen(label, monkeypatch, reveal, left, alternatives)
    faults = []
    for (file, sender, dtype), tensors in seen.notes.items():
        data = torch.cat(tensors)
        if file.endswith("blind"):
            data = torch.cat([t for t in tensors if t.dtype == torch.int64] or [data[:0]])
        if data.nbytes < 2560:
            continue
        if chi_square(data.view(torch.uint8)) > CHI_SQUARE:
            faults.append(f"{dtype} of party {sender} in {file} is not uniform")
        if dtype == torch.int64 and len(data.unique()) != len(data):
            faults.append(f"{dtype} of party {sender} in {file} is sent twice")
    if chi_square(torch.cat([t.view(-1) for t in seen.found]).view(torch.uint8)) > CHI_SQUARE:
        faults.append("what is found is not uniform")
    programmed = torch.cat([t.view(-1) for t in seen.programmed])
    if len(programmed.unique()) != len(programmed):
        faults.append("keys of one bin find the same value")
    return faults


@pytest.mark.parametrize(("reveal", "left"), FORMS)
@pytest.mark.parametrize("label", ["first", "last"])
def test_what_both_see_is_uniform(label: str, reveal: str, left: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not leaks(label, monkeypatch, reveal, left)


@pytest.mark.parametrize(("label", "reveal"), [("first", "size"), ("last", "nothing")])
def test_what_both_see_is_uniform_with_several_keys(label: str, reveal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not leaks(label, monkeypatch, reveal, alternatives=2)


@pytest.mark.parametrize(("reveal", "left", "alternatives"), [*((*form, 1) for form in FORMS), ("nothing", False, 2)])
def test_sizes_depend_on_those_of_tables_and_what_is_told(
    reveal: str, left: bool, alternatives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    for label in ("first", "last"):
        _, _, world = unseen(label, monkeypatch, reveal, left, alternatives)
        shapes.append({pair: [m.numel() for m in sent] for pair, sent in world.transport.received.items()})

    assert shapes[0] == shapes[1]


def broken(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "no masks":
        monkeypatch.setattr(lookup, "_drawn", lambda count, width: torch.zeros(count, width, dtype=torch.int64))
    if kind == "no hash":
        monkeypatch.setattr(
            evaluation.Evaluated,
            "hashes",
            lambda self, number, width=2: torch.zeros(len(self.keys), width, dtype=torch.int64),
        )
    if kind == "no pads":
        monkeypatch.setattr(
            switches.Switches,
            "_pads",
            lambda self, blocks, number, width: torch.zeros(len(blocks), width, dtype=torch.int64),
        )
    if kind == "no choice":
        monkeypatch.setattr(
            switches.Switches,
            "_passed",
            _without_choices(switches.Switches._passed),
        )


def _without_choices(passed: Any) -> Any:
    def run(self: Any, holder: int, swaps: Any, stages: Any, rows: Any) -> Any:
        correlated = self._transfers.correlated

        def zero(sender: int, count: int) -> Any:
            return [
                r if r.choice is None else r._replace(choice=torch.zeros_like(r.choice))
                for r in correlated(sender, count)
            ]

        self._transfers.correlated = zero
        try:
            return passed(self, holder, torch.zeros_like(swaps), stages, rows)  # the switches of rows in order
        finally:
            del self._transfers.correlated

    return run


@pytest.mark.parametrize("kind", ["no masks", "no hash", "no pads", "no choice"])
def test_what_is_broken_on_purpose_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(kind, monkeypatch)

    assert leaks("first", monkeypatch)


def guesses(world: World, count: int) -> tuple[Counter[int], Counter[int]]:
    """What either party may think which row matched, by the place that both see and the order that it knows."""
    first: Counter[int] = Counter()
    second: Counter[int] = Counter()
    alone = Alone(world.protocol)  # type: ignore[arg-type]
    for _ in range(count):
        keys = {"party0": digests(0, 3), "party1": digests(2, 4)}
        match: Any = alone.match(world.parties, [3, 4], keys, reveal="size")
        (place,) = match._kept.nonzero().flatten().tolist()
        before = int(match._orders[1][place])
        first[int(match._own_order[place])] += 1
        second[before] += 1
    return first, second


def test_places_of_matches_say_nothing_to_either() -> None:
    for counts in guesses(World(2, "two-party"), 150):
        assert len(counts) == 3
        assert sum((n - 50) ** 2 / 50 for n in counts.values()) < 50  # 2 degrees of freedom: probability 1e-11


@pytest.mark.parametrize("party", [0, 1])
def test_an_order_that_is_none_is_found_out(party: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, calls = blind.permutation, []

    def some(stream: Any, count: int) -> torch.Tensor:
        calls.append(count)
        return torch.arange(count) if (len(calls) + 1) % 2 == party else drawn(stream, count)

    monkeypatch.setattr(blind, "permutation", some)
    counts = guesses(World(2, "two-party"), 15)

    assert len(counts[1 - party]) == 1


def told_labels(count: int, start: int) -> torch.Tensor:
    """What a holder of one row is told of it, whose key is the other one's first, or that of nobody."""
    world, found = World(2, "two-party"), []
    alone = Alone(world.protocol)  # type: ignore[arg-type]
    way = taken.Taken._way

    def kept(self: Any, *arguments: Any) -> Any:
        out = way(self, *arguments)
        found.append(out[:1])
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taken.Taken, "_way", kept)
        for _ in range(count):
            keys = {"party0": digests(0, 1).repeat(1, 2), "party1": digests(start, 2).repeat(1, 2)}
            alone.match(world.parties, [1, 2], keys, reveal="nothing", alternatives=2)
    return torch.cat(found)


def lopsided(labels: torch.Tensor) -> bool:
    """Whether some labels of two rows and three bins are told more often than others."""
    counts, expected = labels.bincount(minlength=5), len(labels) / 5
    return float(((counts - expected) ** 2 / expected).sum()) > 60  # 4 degrees of freedom: probability 3e-12


@pytest.mark.parametrize("start", [0, 5])
def test_labels_say_nothing_of_what_the_other_one_has(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not lopsided(told_labels(75, start))

    monkeypatch.setattr(taken, "permutation", lambda stream, count: torch.arange(count))
    assert lopsided(told_labels(25, start))


def test_labels_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "permutation", lambda stream, count: torch.zeros(count, dtype=torch.int64))
    world = World(2, "two-party")
    keys = {"party0": digests(0, 5).repeat(1, 2), "party1": digests(3, 5).repeat(1, 2)}

    with pytest.raises(DivergenceError, match="party1 gives labels that are none"):
        Alone(world.protocol).match(world.parties, [5, 5], keys, reveal="size", alternatives=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("alternatives", [1, 2, 3])
@pytest.mark.parametrize(("reveal", "left"), FORMS)
def test_it_finds_what_comparing_in_the_open_finds(reveal: str, left: bool, alternatives: int) -> None:
    world, open_world = World(2, "two-party"), World(2, "plain")
    for sizes in ((30, 50), (50, 30), (1, 9), (9, 1), (7, 7)):
        mine = {
            o: torch.cat([digests(-5 * k, n)[torch.randperm(n)] for _ in range(alternatives)], dim=1)
            for (k, n), o in zip(enumerate(sizes), world.parties, strict=True)
        }
        results = []
        for matcher, w in ((Alone(world.protocol), world), (InTheOpen(open_world.protocol), open_world)):  # type: ignore[arg-type]
            match = matcher.match(world.parties, sizes, mine, left=left, reveal=reveal, alternatives=alternatives)
            columns = [
                w.ring(match.picked(o, mine[o][:, :1] * torch.tensor([3, 1 << 60]) + 5, 2, 0)) for o in world.parties
            ]
            weight = match.weight(0)
            columns.append(torch.ones(match.rows, 1, dtype=torch.int64) if weight is None else w.ring(weight))
            results.append((match.rows, match.common, sorted(torch.cat(columns, dim=1).tolist())))

        assert results[0] == results[1]


def test_columns_are_picked_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind, "MOST", 300)
    world = World(2, "two-party")
    keys = {"party0": digests(0, 20), "party1": digests(10, 30)}
    match = Alone(world.protocol).match(world.parties, [20, 30], keys, reveal="size")  # type: ignore[arg-type]
    x = torch.randint(-(2**63), 2**63 - 1, (30, 7))

    picked = world.ring(match.picked("party1", x, 7, 0))

    assert sorted(picked.tolist()) == sorted(x[:10].tolist())
    with pytest.raises(TypeError, match="picked, not told"):
        match.told()


def test_bits_and_tables_that_are_none_are_refused_or_give_rubbish(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of other words finds other words; more matches than there are rows are refused."""
    keys = {"party0": digests(0, 9), "party1": digests(5, 3)}

    def spoilt(dtype: torch.dtype, byte: int) -> Any:
        def hop(session: Session, notes: list[exchange.Note]) -> list[torch.Tensor | None]:
            return exchange.hop(
                session,
                [n._replace(tensor=torch.full_like(n.tensor, byte)) if n.dtype == dtype else n for n in notes],  # type: ignore[arg-type]
            )

        return hop

    with monkeypatch.context() as patch:
        patch.setattr(programs, "hop", spoilt(torch.int64, -1))
        world = World(2, "two-party")
        match = Alone(world.protocol).match(world.parties, [9, 3], keys, reveal="size")  # type: ignore[arg-type]
        assert match.common == 0
    monkeypatch.setattr(blind, "hop", spoilt(torch.uint8, 255))
    world = World(2, "two-party")
    with pytest.raises(DivergenceError, match="more rows in common than there are"):
        Unseen(
            world.protocol,  # type: ignore[arg-type]
            Alone(world.protocol)._functions,  # type: ignore[arg-type]
            {0: 9, 1: 3},
            {0: keys["party0"], 1: keys["party1"]},
            0,
            left=False,
            told=True,
        )


# --- apart ------------------------------------------------------------------------------------------------------------


def each(session: Session, index: int, reveal: str, left: bool) -> tuple[list[torch.Tensor], int | None]:
    """One party's shares of both parties' keys and of the weights, in two processes."""
    protocol = TwoParty(session)
    mine = digests(10 * index, 40)
    match = Alone(protocol).match(session.parties, [40, 40], {session.parties[index]: mine}, left=left, reveal=reveal)
    columns = [match.picked(o, mine[:, :1] + 1 if k == index else None, 1, 0) for k, o in enumerate(session.parties)]
    weight = match.weight(0)
    values = columns if weight is None else [*columns, weight]
    return [v.content.parts()[0] for v in values], match.common


@pytest.mark.parametrize(("reveal", "left"), FORMS)
def test_two_processes_pick_the_same_people(reveal: str, left: bool) -> None:
    (first, common), (second, other) = apart(lambda session, index: each(session, index, reveal, left))

    rows = torch.cat([a + b for a, b in zip(first, second, strict=True)], dim=1)[:, :2].tolist()
    assert common == other == {("size", False): 30, ("nothing", False): None, ("size", True): 40}[reveal, left]
    matching = [[k, k] for k in range(11, 41)]
    rest = [] if reveal == "size" and not left else [[k, 0] for k in range(1, 11)] if left else [[0, 0]] * 10
    assert sorted(rows) == sorted(matching + rest)
