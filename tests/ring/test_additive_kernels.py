"""The kernels of the additive scheme against exact integers, on odd sizes and no elements at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.protocols.additive.kernels import Reference
from tacit.protocols.additive.kernels.radix4 import Radix4
from tacit.protocols.additive.kernels.waves import Term, Waves

from .operands import bits, ring

SIZES = [0, 1, 3, 8, 9, 1000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("thresholds", [1, 3])
def test_tables_tell_less_and_equal_for_every_digit(backend: Reference, size: int, thresholds: int) -> None:
    a, u = ring(size), ring(thresholds, size)
    u[0, : size // 2] = a[: size // 2]
    table = backend.thermometer(a)
    mask = torch.randint(-(2**15), 2**15, table.shape, dtype=torch.int16)

    shares = [backend.lookup(t, u, leader=leader) for t, leader in ((mask, False), (table ^ mask, True))]

    for p in range(4):
        for q in range(4):
            k = 4 * q + p
            digits = [(v >> (4 * k)) & (15 if k < 15 else 7) for v in (a.expand_as(u), u)]
            for place, want in ((0, digits[1] < digits[0]), (1, digits[1] == digits[0])):
                got = backend.unpack_bits(shares[0][place][p, q] ^ shares[1][place][p, q], u.numel())
                assert torch.equal(got.bool(), want.reshape(-1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("thresholds", [1, 3])
@pytest.mark.parametrize(("count", "bits", "words"), [(8, 8, 6), (8, 6, 6), (6, 6, 2)])
def test_the_top_digits_are_compared_at_once(
    backend: Reference, size: int, thresholds: int, count: int, bits: int, words: int
) -> None:
    a, u = ring(size), ring(thresholds, size)
    near = a[: size // 2]
    u[0, : size // 2] = near
    u[-1, : size // 2] = near + torch.randint(-1, 2, near.shape) * 256 ** torch.randint(0, 8, near.shape)
    tables = torch.empty((size, count, (1 << bits) // 8), dtype=torch.uint8)
    products = torch.empty((u.numel(), words), dtype=torch.int64)
    backend.wide_tables(a, tables)
    mask = torch.randint(0, 256, tables.shape, dtype=torch.uint8)
    words = [backend.wide_lookup(t, u, leader=leader) for t, leader in ((mask, False), (tables ^ mask, True))]
    word = torch.randint(-(2**15), 2**15, words[0].shape, dtype=torch.int16)
    backend.wide_expand(word, products)
    share = ring(*products.shape)

    opened = words[0] ^ words[1] ^ word
    found = [
        backend.wide_evaluate(opened, words[0], share, leader=False),
        backend.wide_evaluate(opened, words[1], products ^ share, leader=True),
    ]

    low, below = (1 << 63) - 1, 64 - count * bits
    assert torch.equal((found[0] ^ found[1]).bool(), ((u & low) >> below < (a & low) >> below).flatten())


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("size", [1, 5])
def test_a_tree_node_is_the_comparison_of_four_digits(backend: Reference, top: bool, size: int) -> None:
    nodes = 1 if top else 4
    shape = (4, nodes, size)
    plain = {name: torch.randint(0, 256, shape, dtype=torch.uint8) for name in ("less", "equal")}
    shares = {name: torch.randint(0, 256, shape, dtype=torch.uint8) for name in ("less", "equal")}
    parts = [(shares["less"], shares["equal"]), (plain["less"] ^ shares["less"], plain["equal"] ^ shares["equal"])]

    inputs = backend.node_inputs(plain["less"], plain["equal"], top=top)
    mask = torch.randint(0, 256, inputs.shape, dtype=torch.uint8)
    monomials = backend.node_expand(mask, top=top)
    split = [torch.randint(0, 256, t.shape, dtype=torch.uint8) for t in (mask, monomials)]
    held = [split, [mask ^ split[0], monomials ^ split[1]]]
    outputs = [
        backend.node_evaluate(inputs ^ mask, held[k][0], held[k][1], parts[k][0][3], top=top, leader=k == 0)
        for k in range(2)
    ]

    less, equal = plain["less"], plain["equal"]
    want = less[3] ^ equal[3] & (less[2] ^ equal[2] & (less[1] ^ equal[1] & less[0]))
    assert torch.equal(outputs[0][0] ^ outputs[1][0], want)
    if top:
        assert outputs[0][1] is None
    else:
        assert torch.equal(outputs[0][1] ^ outputs[1][1], equal[3] & equal[2] & equal[1] & equal[0])


def test_a_node_deals_the_monomials_that_the_costs_declare() -> None:
    assert (Radix4(equal=True).monomials, len(Radix4(equal=True).inputs)) == (22, 7)
    assert (Radix4(equal=False).monomials, len(Radix4(equal=False).inputs)) == (15, 6)


@pytest.mark.parametrize("m", [1 << 48, 1 << 63, 4, 12345 << 40, 2**64 - 4])
def test_shares_of_a_scaled_number_add_up_to_it(backend: Reference, m: int) -> None:
    z = torch.cat([torch.randint(-(2**62) + 1, 2**62, (500,)), torch.tensor([0, 1, -1, 2**62 - 1, -(2**62) + 1])])
    a, high, wrap = ring(505), torch.empty(505, dtype=torch.int64), torch.empty(505, dtype=torch.int64)
    backend.scaled_parts(a, m, high, wrap)
    masks = ring(505), ring(505)

    shares = [
        backend.scaled_share(z - a, m, *masks, leader=True),
        backend.scaled_share(z - a, m, high - masks[0], wrap - masks[1], leader=False),
    ]

    for value, got in zip(z.tolist(), (shares[0] + shares[1]).tolist(), strict=True):
        assert abs(got * 2**64 - value * m) <= 2**64


@pytest.mark.parametrize("m", [0, 1 << 48, 12345 << 40])
def test_shares_of_a_chosen_number_add_up_to_it_or_zero(backend: Reference, m: int) -> None:
    z, b = torch.randint(-(2**62) + 1, 2**62, (500,)), bits(500)
    a, beta, high, wrap = ring(500), bits(500), torch.empty(500, dtype=torch.int64), torch.empty(500, dtype=torch.int64)
    if m:
        backend.scaled_parts(a, m, high, wrap, beta)
        share = backend.scaled_share(z - a, m, *_parts(backend, a, m), leader=True)
    else:
        high, share = a * beta, z
    masks = [ring(500) for _ in range(4)]
    opened = z - a

    shares = [
        backend.selected(opened, b ^ beta, masks[0], masks[1], masks[2], m, masks[3] if m else None),
        backend.selected(
            opened, b ^ beta, share - masks[0], beta - masks[1], high - masks[2], m, wrap - masks[3] if m else None
        ),
    ]

    assert torch.equal(shares[0] + shares[1], share * b)


def _parts(backend: Reference, a: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    high, wrap = torch.empty_like(a), torch.empty_like(a)
    backend.scaled_parts(a, m, high, wrap)
    return high, wrap


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_waves_are_sines_and_cosines(backend: Reference, size: int, odd: bool) -> None:
    a, e, turn = ring(size), ring(size), 3 << 43
    coefficients = [(0.5, 0.25), (-1.0, 0.0), (0.0, 2.0)]
    waves = Waves(turn, odd=odd, terms=[Term(p, q, 20, 24, 6) for p, q in coefficients])
    words = torch.empty(waves.width * size, dtype=torch.uint8)

    backend.wave_table(waves, a, words)
    total = backend.wave_sum(waves, e, words)

    angle = torch.tensor([(int(v) * turn % 2**64) / 2**64 for v in e + a], dtype=torch.float64) * 2 * np.pi
    multiples = (1, 3, 5) if odd else (1, 2, 3)
    want = sum(p * (k * angle).sin() + q * (k * angle).cos() for k, (p, q) in zip(multiples, coefficients, strict=True))
    assert ((total.double() * 2.0 ** -(20 + 24 + 16)) - want).abs().sum() <= size * 4e-6
