"""Bins that keys find, switches that permute, values that only common keys find: kernels, and both parties together."""

from __future__ import annotations

from math import comb, log2

import numpy as np
import pytest
import torch

from tacit.errors import TacitError
from tacit.protocols.two_party.oblivious import Bins, Functions, Network, Programs, Switches, switches
from tacit.protocols.two_party.oblivious.kernels import CHOICES, Reference

from ..world import World
from .test_privacy import CHI_SQUARE, chi_square

pytest.importorskip("tacit.ring.kernels.native", reason="the native kernels are not built")

from tacit.protocols.two_party.oblivious.kernels.native import Native

native, reference = Native(), Reference()
BOTH = pytest.mark.parametrize("kernels", [native, reference], ids=["native", "portable"])


def words(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape)


# --- bins -------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("count", [0, 1, 4, 60, 700, 3000])
def test_each_key_gets_one_of_its_bins_for_itself(kernels: Reference, count: int) -> None:
    bins = Bins.of(count)
    places = bins.places(words(count, 2), b"0" * 32)
    assert all(bool(((column >= 0) & (column < bins.count)).all()) for column in places.unbind(1))

    choice = kernels.placed(places, bins.count)

    assert choice is not None
    assert len(places.gather(1, choice.long()[:, None]).unique()) == count


@BOTH
def test_crowded_bins_are_filled_if_they_can_be(kernels: Reference) -> None:
    full = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2], [2, 3, 4], [3, 4, 2]])
    choice = kernels.placed(full, 5)
    assert choice is not None
    assert sorted(full.gather(1, choice.long()[:, None]).flatten().tolist()) == [0, 1, 2, 3, 4]
    assert kernels.placed(torch.tensor([[0, 1, 2]] * 4), 9) is None


def test_keys_that_are_alike_find_no_bins() -> None:
    with pytest.raises(TacitError, match="some of them are alike"):
        Bins.of(4).filled(words(1, 2).repeat(4, 1))


def failure(count: int, bins: Bins) -> float:
    """A bound of the binary logarithm of the probability that keys find no bins.

    By Hall's theorem some k of them then have k - 1 bins together, of which each, for the least k, is one of two keys
    at least. Over all ways to choose keys and bins: those in which k keys hit each of a bins twice are at most
    k! (e^z - 1 - z)^a / z^k for every z, and known for few.
    """
    most = 40
    logs = np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, max(count, bins.third) + 2)))])
    z = np.exp(np.linspace(-7, 4, 2000))
    of_z, of_bin = np.log2(z), np.log2(np.expm1(z) - z)
    known = [[0] * (most + 1) for _ in range(most + 1)]
    known[0][0] = 1
    for a in range(1, most + 1):
        for k in range(most + 1):
            known[a][k] = sum(comb(k, i) * known[a - 1][k - i] for i in range(2, k + 1))

    def hit(k: int, a: int) -> float:
        if not 0 < a <= bins.third or 2 * a > k:
            return -1e9
        ways = log2(known[a][k]) if k <= most else logs[k] + float(np.min(a * of_bin - k * of_z))
        return logs[bins.third] - logs[a] - logs[bins.third - a] + ways - k * log2(bins.third)

    total = -1e9
    for k in range(4, count + 1):
        cuts = [((k - 1) // 3, k // 3, k - 1 - (k - 1) // 3 - k // 3)]
        if k < 30:
            cuts = [(a, b, k - 1 - a - b) for a in range(1, k - 2) for b in range(1, k - 1 - a)]
        slack = 0.0 if k < 30 else 2 * log2(k)  # even cuts are the likeliest of at most k²
        term = logs[count] - logs[k] - logs[count - k] + slack
        total = np.logaddexp2(total, term + np.logaddexp2.reduce([sum(hit(k, a) for a in cut) for cut in cuts]))
    return float(total)


@pytest.mark.parametrize("count", [4, 30, 300, 650, 1000, 3000])
def test_keys_find_bins_but_with_probability_below_2_to_the_minus_40(count: int) -> None:
    assert failure(count, Bins.of(count)) < -40


# --- switches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wires", [1, 2, 3, 4, 5, 7, 13, 32, 51, 257])
def test_switches_make_any_order_and_both_kernels_set_them_alike(wires: int) -> None:
    network, order = Network(wires), torch.randperm(wires)
    bits = native.routed(order, network.switches)
    assert bits.equal(reference.routed(order, network.switches))
    x, y, at = words(wires, 2), words(wires, 2), 0
    expected = x[order]

    for depth, behind, count in network.stages():
        swaps, t = bits[at : at + count], words(count, 2)
        assert native.gaps(y, depth, count, behind=behind).equal(reference.gaps(y, depth, count, behind=behind))
        outs = [k.switched(y, depth, swaps, t, behind=behind) for k in (native, reference)]
        assert outs[0].equal(outs[1])
        x = native.switched(x, depth, swaps, t * 0, behind=behind)
        at += count

    assert at == network.switches
    assert x.equal(expected)


def test_kernels_look_at_what_they_get() -> None:
    order, x = torch.randperm(6), words(6, 2)
    calls = [
        lambda: native.placed(torch.tensor([[0, 1, 9]]), 9),
        lambda: native.placed(torch.tensor([[0, 1, -1]]), 9),
        lambda: native.placed(torch.tensor([[0, 1, 2, 3]]), 9),
        lambda: native.routed(order * 0, Network(6).switches),
        lambda: native.routed(order - 1, Network(6).switches),
        lambda: native.routed(order, Network(6).switches - 1),
        lambda: native.gaps(x, 0, 2, behind=False),
        lambda: native.gaps(x, 3, 3, behind=False),
        lambda: native.switched(x, 0, None, words(2, 2), behind=False),
        lambda: native.switched(x, 0, torch.zeros(2, dtype=torch.uint8), words(3, 2), behind=False),
        lambda: native.switched(x, 9, None, words(3, 2), behind=True),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="a kernel was called with"):
            call()


@pytest.fixture(scope="module")
def world() -> World:
    return World(2, "two-party")


@pytest.mark.parametrize("most", [8, 1 << 22])
def test_shares_are_moved_by_the_order_of_either(world: World, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "MOST", most)
    mover = Switches(world.session, world.protocol.transfers)  # type: ignore[attr-defined]
    for wires, width in ((1, 1), (2, 3), (3, 1), (40, 1), (101, 3)):
        for holder in (0, 1):
            order, shares = torch.randperm(wires), {0: words(wires, width), 1: words(wires, width)}

            moved = mover.move(holder, order, shares, wires)

            assert (moved[0] + moved[1]).equal((shares[0] + shares[1])[order])


@pytest.mark.priced
def test_a_switch_takes_its_words_and_a_bit(world: World) -> None:
    before = world.session.meter.cost
    shares = {0: words(100, 3), 1: words(100, 3)}
    count = Network(100).switches

    Switches(world.session, world.protocol.transfers).move(0, torch.randperm(100), shares, 100)  # type: ignore[attr-defined]

    spent = world.session.meter.cost - before
    assert spent.rounds == 2
    assert spent.online == {world.parties[0]: (count + 7) // 8, world.parties[1]: 24 * count}


# --- programs ---------------------------------------------------------------------------------------------------------


def test_who_has_a_key_finds_its_value_and_nobody_else_anything(world: World) -> None:
    keys = {0: words(2000, 2), 1: words(3000, 2)}
    keys[0][:1000] = keys[1][500:1500]
    found = Functions(world.session, world.protocol.transfers).evaluate(0, 2000, keys)  # type: ignore[attr-defined]
    programs = Programs(world.session, 1, 3000, keys, found)
    values = torch.arange(6000).view(3000, 2)

    got = [programs.send(values, 2), programs.send(values, 2)]

    assert all(g is not None and g[:1000].equal(values[500:1500]) for g in got)
    rest = torch.stack([g[1000:] for g in got if g is not None])
    assert chi_square(rest.view(torch.uint8).view(-1)) < CHI_SQUARE
    assert len(rest.unique()) == rest.numel()
    assert CHOICES == 3
