"""Oblivious functions: kernels native and portable, tables, long vectors, and the codes that these stand on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.protocols.two_party.oblivious.codes import BETWEEN, CODES, LAST, Code, densest, strength
from tacit.protocols.two_party.oblivious.evaluation import filled
from tacit.protocols.two_party.oblivious.kernels import DENSE, Reference, at_hand
from tacit.protocols.two_party.oblivious.kernels.reference import TERMS
from tacit.protocols.two_party.oblivious.tables import Shape, keys_of
from tacit.protocols.two_party.oblivious.vectors import Vector, Vectors

from ..world import World
from .test_privacy import CHI_SQUARE, chi_square

native_module = pytest.importorskip("tacit.ring.kernels.native", reason="the native kernels are not built")

from tacit.protocols.two_party.oblivious.kernels.native import Native  # noqa: E402

native, reference = Native(), Reference()
KEY, KEYS, DELTA = os.urandom(16), os.urandom(32), os.urandom(16)


@pytest.fixture(params=["portable", "avx2"])
def isa(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without instructions of its own a kernel runs in NumPy, but for those that need none."""
    try:
        native_module.use_isa(request.param)
    except ValueError:
        pytest.skip(f"this machine has no {request.param}")
    yield
    native_module.use_isa("best")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)


def words(*shape: int) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape)


def product(x: int, y: int) -> int:
    """x y in GF(2^64), the long way."""
    z = 0
    for bit in range(64):
        if y >> bit & 1:
            z ^= x << bit
    for bit in reversed(range(64, 128)):
        if z >> bit & 1:
            z ^= (1 << 64 | 0x1B) << bit - 64
    return z


@pytest.mark.usefixtures("isa", "threads")
@pytest.mark.parametrize("count", [0, 1, 9, 40_000])
def test_arithmetic_is_the_same_in_both(count: int) -> None:
    x, out, blocks = words(count), words(count, 2), words(64 * min(count, 50), 2)
    tweaks, seeds, beside = words(count, 4), words(77, 2), words(77)
    results = []
    for kernels in (native, reference):
        scaled, coded, coded_words = out.clone(), out.clone(), x.clone()
        kernels.add_scaled(x, DELTA, scaled)
        kernels.add_coded(KEY, seeds, coded, beside, coded_words)
        hashes = [kernels.mixed(KEY, 1 << 32, out, tweaks, width) for width in (1, 2, 5)]
        results.append([scaled, coded, coded_words, kernels.packed(blocks), *hashes])

    assert all(a.equal(b) for a, b in zip(*results, strict=True))


def test_products_are_those_of_the_field() -> None:
    x, out = words(20), torch.zeros(20, 2, dtype=torch.int64)
    native.add_scaled(x, DELTA, out)

    low, high = int.from_bytes(DELTA[:8], "little"), int.from_bytes(DELTA[8:], "little")
    for a, row in zip(x.tolist(), out.tolist(), strict=True):
        assert [value % 2**64 for value in row] == [product(a % 2**64, low), product(a % 2**64, high)]
    blocks = words(64, 2)
    power, total = 1, [0, 0]
    for row in blocks.tolist():
        total = [t ^ product(value % 2**64, power) for t, value in zip(total, row, strict=True)]
        power = product(power, 2)
    assert [value % 2**64 for value in native.packed(blocks)[0].tolist()] == total


@pytest.mark.usefixtures("isa", "threads")
@pytest.mark.parametrize("levels", [1, 3, 5])
def test_trees_are_the_same_in_both_and_lack_one_leaf(levels: int) -> None:
    roots, paths, rows = words(700, 2), torch.randint(0, 1 << levels, (700,)), torch.arange(700)
    leaves = [words(700 << levels, 2) for _ in range(4)]

    sums = [k.grown(KEYS, roots, levels, out) for k, out in ((native, leaves[0]), (reference, leaves[1]))]
    sides = 1 - torch.stack([paths >> (levels - 1 - level) & 1 for level in range(levels)], dim=1)
    away = sums[0][rows[:, None], torch.arange(levels), sides].contiguous()
    totals = [k.regrown(KEYS, paths, away, levels, out) for k, out in ((native, leaves[2]), (reference, leaves[3]))]

    assert sums[0].equal(sums[1])
    assert leaves[0].equal(leaves[1])
    ends = (rows << levels) + paths
    missing = leaves[0][ends]
    leaves[0][ends] = 0
    assert leaves[2].equal(leaves[0])
    assert leaves[3].equal(leaves[0])
    assert totals[0].equal(totals[1])
    assert totals[0].equal(sums[0][:, -1, 0] ^ sums[0][:, -1, 1] ^ missing)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 30, 400, 5000])
def test_keys_find_their_values_whoever_fills_and_reads_the_table(count: int, width: int) -> None:
    shape, keys, values = Shape.of(count), keys_of(words(count, 2), KEYS), words(count, width)
    for kernels in (native, reference) if count < 1000 else (native,):
        table = words(shape.cells, width)
        assert kernels.encode(keys, values, shape.length, shape.starts, table)
        for reader in (native, reference):
            assert reader.decode(keys, shape.length, shape.starts, table).equal(values)
    assert chi_square(table.view(-1).view(torch.uint8)) < CHI_SQUARE


@pytest.mark.parametrize("kernels", [native, reference])
def test_keys_that_are_crowded_are_solved_and_too_many_are_refused(kernels: Reference) -> None:
    shape = Shape(4, 1)
    keys, values = keys_of(words(shape.cells - 40, 2), KEYS), words(shape.cells - 40, 2)
    table = words(shape.cells, 2)

    assert kernels.encode(keys, values, shape.length, shape.starts, table)
    assert shape.decode(keys, table).equal(values)
    before = table.clone()
    many = keys_of(words(shape.cells + 1, 2), KEYS)
    assert not kernels.encode(many, words(shape.cells + 1, 2), shape.length, shape.starts, table)
    assert table.equal(before)


def test_keys_that_are_alike_end_in_an_error() -> None:
    digests = words(1, 2).repeat(2, 1)
    with pytest.raises(TacitError, match="two of them are alike"):
        filled(Shape.of(2), digests, words(2, 1), words(Shape.of(2).cells, 1))


@pytest.mark.slow
def test_peeling_leaves_next_to_nothing_of_large_tables() -> None:
    """What elimination could not solve would have to be drawn anew, which says something about the keys."""
    for count, runs in ((6000, 300), (20_000, 300), (60_000, 50), (200_000, 20), (1_000_000, 3)):
        shape = Shape.of(count)
        for _ in range(runs):
            keys = keys_of(words(count, 2), os.urandom(32))
            assert shape.encode(keys, keys[:, :1].contiguous(), torch.zeros(shape.cells, 1, dtype=torch.int64))


@pytest.mark.parametrize("kernels", [native, reference])
def test_words_are_found_among_others(kernels: Reference) -> None:
    low = words(300)
    high = low.flip(0).to(torch.int16)
    order = torch.randperm(300)[:200]
    other = high.clone()
    other[:50] ^= 1

    at = kernels.matches(low, other, low[order], high[order])

    assert at is not None
    expected = torch.full((300,), -1)
    expected[order] = torch.arange(200)
    expected[:50] = -1
    assert at.equal(expected)
    assert kernels.matches(low[:0], high[:0], low, high) is not None


def test_words_that_are_no_hashes_are_refused_instead_of_searched_for_ever() -> None:
    same = torch.zeros(20_000, dtype=torch.int64)

    assert native.matches(words(5), same[:5].to(torch.int16), same, same.to(torch.int16)) is None


@pytest.mark.parametrize("kernels", [native, reference])
def test_words_in_a_row_which_are_no_hashes_are_looked_up_as_fast_as_others(kernels: Reference) -> None:
    """They fill one long part of a table of hashes, which no look-up may walk along."""
    low, high = torch.arange(200_000), torch.zeros(200_000, dtype=torch.int16)
    late = torch.cat([torch.zeros(300, dtype=torch.int64), low])  # and are not where they belong

    start = time.process_time()
    assert kernels.matches(low, high, low, high).equal(low)  # type: ignore[union-attr]
    assert kernels.matches(low, high + 1, low, high).equal(torch.full_like(low, -1))  # type: ignore[union-attr]
    at = kernels.matches(low[:999], high[:999], late[:900], torch.zeros(900, dtype=torch.int16))

    assert at is not None
    assert at[1:600].equal(torch.arange(301, 900))
    assert at[600:].eq(-1).all()
    assert time.process_time() - start < 5  # some 0.3 s; 16 s along the whole of it


def test_kernels_look_at_the_sizes_of_what_they_get() -> None:
    x, keys = words(8), words(8, 4)
    calls = [
        lambda: native.add_scaled(x, DELTA, words(7, 2)),
        lambda: native.add_scaled(x, DELTA[:8], words(8, 2)),
        lambda: native.encode(keys, words(7, 1), 4, 1, words(12 + DENSE, 1)),
        lambda: native.encode(keys, words(8, 1), 5, 1, words(15 + DENSE, 1)),
        lambda: native.encode(keys, words(8, 1), 4, 1, words(11 + DENSE, 1)),
        lambda: native.decode(keys, 4, 2, words(12 + DENSE, 1)),
        lambda: native.decode(keys, 1 << 22, 1, words(12 + DENSE, 1)),
        lambda: native.decode(keys, 4, 1 << 40, words(12 + DENSE, 1)),
        lambda: native.packed(words(65, 2)),
        lambda: native.mixed(KEY[:8], 0, words(8, 2), keys),
        lambda: native.mixed(KEY, 0, words(8, 2), words(8)),
        lambda: native.grown(KEYS, words(2, 2), 3, words(15, 2)),
        lambda: native.grown(KEYS, words(2, 2), 40, words(15, 2)),
        lambda: native.regrown(KEYS, torch.tensor([8]), words(1, 3, 2), 3, words(8, 2)),
        lambda: native.regrown(KEYS, torch.tensor([-1]), words(1, 3, 2), 3, words(8, 2)),
        lambda: native.add_coded(KEY, words(3, 2), words(8, 2), words(2), words(8)),
        lambda: native.add_coded(KEY, words(0, 2), words(8, 2)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="a kernel was called with"):
            call()


# --- vectors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "code", "needs"), [(140, BETWEEN, 9984), (140, LAST, 70_656)])
def test_codes_are_as_strong_as_they_are_said_to_be(bits: int, code: Code, needs: int) -> None:
    assert code in CODES
    assert int(strength(code)) == bits
    assert bits >= 128
    assert code.needs == needs
    assert strength(Code(code.seeds // 2, code.trees, code.levels)) < 128


def test_one_code_makes_what_the_next_one_takes() -> None:
    assert BETWEEN.size >= LAST.needs
    assert BETWEEN.needs < BETWEEN.size
    assert 2 * LAST.needs < LAST.size


@pytest.mark.parametrize("code", [Code(5120, 2176, 5), Code(1 << 16, 2560, 9)])
def test_few_terms_in_a_row_count_against_a_code(code: Code) -> None:
    assert strength(code) < 100  # and 136 for one who takes on all seeds at once


@pytest.mark.parametrize("code", [Code(4096, 1228, 5), Code(4096, 320, 8)])
def test_no_seeds_that_hold_many_rows_are_fewer_than_counted_with(code: Code) -> None:
    """Whoever drops the seed of the fewest rows again and again is left with more, if not with many more."""
    rows = torch.randint(code.seeds, (code.size, TERMS))
    kept = torch.ones(code.seeds, dtype=torch.bool)
    while len(rows) >= (left := int(kept.sum())):
        degrees = torch.bincount(rows.flatten(), minlength=code.seeds)
        degrees[~kept] = len(rows) * TERMS
        kept[degrees.topk(max(left // 100, 1), largest=False).indices] = False
        rows = rows[kept[rows].all(1)]

    assert 1.0 < left / densest(code) < 1.15


def holds(sender: Vector, receiver: Vector) -> bool:
    assert receiver.factors is not None
    expected = receiver.blocks.clone()
    at_hand().add_scaled(receiver.factors, sender.delta, expected)
    return expected.equal(sender.blocks)


@pytest.mark.parametrize("sender", [0, 1])
def test_vectors_are_what_they_should_be_and_uniform(sender: int) -> None:
    world = World(2, "two-party")
    vectors = Vectors(world.session, world.protocol.transfers)  # type: ignore[attr-defined]
    seen = []
    for count in (1, 300, 20_000):
        ends = vectors.make(sender, count)
        assert [end.blocks.shape[0] for end in ends] == [count, count]
        assert holds(ends[sender], ends[1 - sender])
        seen.append(ends[1 - sender].factors)

    assert world.session.meter.cost.rounds == 0
    factors = torch.cat([f for f in seen if f is not None])
    assert chi_square(factors.view(torch.uint8)) < CHI_SQUARE
    assert len(factors.unique()) == len(factors)


@pytest.mark.slow
def test_long_vectors_are_made_of_one_another() -> None:
    world = World(2, "two-party")
    ends = Vectors(world.session, world.protocol.transfers).make(0, 2 * LAST.size)  # type: ignore[attr-defined]

    assert holds(*ends)
    factors = ends[1].factors
    assert factors is not None
    assert chi_square(factors.view(torch.uint8)) < CHI_SQUARE
    assert len(factors.unique()) == len(factors)
