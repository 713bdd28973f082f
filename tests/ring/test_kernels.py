"""The kernels of the façade against exact integers, on odd sizes, strided tensors and no elements at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.ring import kernels
from tacit.ring.radix4 import Radix4
from tacit.ring.waves import Term, Waves

SIZES = [0, 1, 3, 8, 9, 1000]


def ring(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape)


def bits(*shape: int) -> torch.Tensor:
    return torch.randint(0, 2, shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    "shapes", [((3, 5), (5, 2)), ((1, 1), (1, 1)), ((4, 0), (0, 3)), ((2, 3, 4), (2, 4, 5)), ((7,), (7,))]
)
def test_matrix_product_wraps_modulo_2_64(shapes: tuple[tuple[int, ...], ...]) -> None:
    x, y = ring(*shapes[0]), ring(*shapes[1])

    z = kernels.matmul(x, y)

    exact = (x.numpy().astype(object) @ y.numpy().astype(object)) if x.dim() < 3 else None
    if exact is not None:
        assert [int(v) % 2**64 for v in z.reshape(-1)] == [int(v) % 2**64 for v in np.asarray(exact).reshape(-1)]
    for k in range(len(x) if x.dim() == 3 else 0):
        assert torch.equal(z[k], kernels.matmul(x[k], y[k]))
    assert torch.equal(kernels.matmul(x.mT.contiguous().mT if x.dim() > 1 else x, y), z)


@pytest.mark.parametrize("shift", [1, 16, 32, 63])
def test_logical_shift(shift: int) -> None:
    x = torch.cat([ring(500), torch.tensor([0, -1, 2**63 - 1, -(2**63)])])

    shifted = kernels.logical_shift(x, shift)

    assert [int(v) for v in shifted] == [(int(v) % 2**64) >> shift for v in x]


@pytest.mark.parametrize("size", SIZES)
def test_bits_survive_packing(size: int) -> None:
    b = bits(size, 2)[:, 0]  # strided

    assert torch.equal(kernels.unpack_bits(kernels.pack_bits(b), size), b)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("thresholds", [1, 3])
def test_tables_tell_less_and_equal_for_every_digit(size: int, thresholds: int) -> None:
    a, u = ring(size), ring(thresholds, size)
    u[0, : size // 2] = a[: size // 2]
    table = kernels.thermometer(a)
    mask = torch.randint(-(2**15), 2**15, table.shape, dtype=torch.int16)

    shares = [kernels.lookup(t, u, leader=leader) for t, leader in ((mask, False), (table ^ mask, True))]

    for p in range(4):
        for q in range(4):
            k = 4 * q + p
            digits = [(v >> (4 * k)) & (15 if k < 15 else 7) for v in (a.expand_as(u), u)]
            for place, want in ((0, digits[1] < digits[0]), (1, digits[1] == digits[0])):
                got = kernels.unpack_bits(shares[0][place][p, q] ^ shares[1][place][p, q], u.numel())
                assert torch.equal(got.bool(), want.reshape(-1))


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("size", [1, 5])
def test_a_tree_node_is_the_comparison_of_four_digits(top: bool, size: int) -> None:
    nodes = 1 if top else 4
    shape = (4, nodes, size)
    plain = {name: torch.randint(0, 256, shape, dtype=torch.uint8) for name in ("less", "equal")}
    shares = {name: torch.randint(0, 256, shape, dtype=torch.uint8) for name in ("less", "equal")}
    parts = [(shares["less"], shares["equal"]), (plain["less"] ^ shares["less"], plain["equal"] ^ shares["equal"])]

    inputs = kernels.node_inputs(plain["less"], plain["equal"], top=top)
    mask = torch.randint(0, 256, inputs.shape, dtype=torch.uint8)
    monomials = kernels.node_expand(mask, top=top)
    split = [torch.randint(0, 256, t.shape, dtype=torch.uint8) for t in (mask, monomials)]
    held = [split, [mask ^ split[0], monomials ^ split[1]]]
    outputs = [
        kernels.node_evaluate(inputs ^ mask, held[k][0], held[k][1], parts[k][0][3], top=top, leader=k == 0)
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
def test_shares_of_a_scaled_number_add_up_to_it(m: int) -> None:
    z = torch.cat([torch.randint(-(2**62) + 1, 2**62, (500,)), torch.tensor([0, 1, -1, 2**62 - 1, -(2**62) + 1])])
    a, high, wrap = ring(505), torch.empty(505, dtype=torch.int64), torch.empty(505, dtype=torch.int64)
    kernels.scaled_parts(a, m, high, wrap)
    masks = ring(505), ring(505)

    shares = [
        kernels.scaled_share(z - a, m, *masks, leader=True),
        kernels.scaled_share(z - a, m, high - masks[0], wrap - masks[1], leader=False),
    ]

    for value, got in zip(z.tolist(), (shares[0] + shares[1]).tolist(), strict=True):
        assert abs(got * 2**64 - value * m) <= 2**64


@pytest.mark.parametrize("m", [0, 1 << 48, 12345 << 40])
def test_shares_of_a_chosen_number_add_up_to_it_or_zero(m: int) -> None:
    z, b = torch.randint(-(2**62) + 1, 2**62, (500,)), bits(500)
    a, beta, high, wrap = ring(500), bits(500), torch.empty(500, dtype=torch.int64), torch.empty(500, dtype=torch.int64)
    if m:
        kernels.scaled_parts(a, m, high, wrap, beta)
        share = kernels.scaled_share(z - a, m, *_parts(a, m), leader=True)
    else:
        high, share = a * beta, z
    masks = [ring(500) for _ in range(4)]
    opened = z - a

    shares = [
        kernels.selected(opened, b ^ beta, masks[0], masks[1], masks[2], m, masks[3] if m else None),
        kernels.selected(
            opened, b ^ beta, share - masks[0], beta - masks[1], high - masks[2], m, wrap - masks[3] if m else None
        ),
    ]

    assert torch.equal(shares[0] + shares[1], share * b)


def _parts(a: torch.Tensor, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    high, wrap = torch.empty_like(a), torch.empty_like(a)
    kernels.scaled_parts(a, m, high, wrap)
    return high, wrap


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("size", SIZES)
def test_words_are_the_tops_of_ring_elements(size: int, width: int) -> None:
    below = 64 - 8 * width
    x, y = ring(size), ring(size) >> below << below
    words, others = (torch.empty(width * size, dtype=torch.uint8) for _ in range(2))

    kernels.narrow(x, width, words)
    kernels.narrow(y, width, others)

    assert torch.equal(kernels.widen(words, width), x >> below << below)
    kernels.subtract_words(words, others, width)
    assert torch.equal(kernels.widen(words, width), (x >> below << below) - y)


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_waves_are_sines_and_cosines(size: int, odd: bool) -> None:
    a, e, turn = ring(size), ring(size), 3 << 43
    coefficients = [(0.5, 0.25), (-1.0, 0.0), (0.0, 2.0)]
    waves = Waves(turn, odd=odd, terms=[Term(p, q, 20, 24, 6) for p, q in coefficients])
    words = torch.empty(waves.width * size, dtype=torch.uint8)

    kernels.wave_table(waves, a, words)
    total = kernels.wave_sum(waves, e, words)

    angle = torch.tensor([(int(v) * turn % 2**64) / 2**64 for v in e + a], dtype=torch.float64) * 2 * np.pi
    multiples = (1, 3, 5) if odd else (1, 2, 3)
    want = sum(p * (k * angle).sin() + q * (k * angle).cos() for k, (p, q) in zip(multiples, coefficients, strict=True))
    assert ((total.double() * 2.0 ** -(20 + 24 + 16)) - want).abs().sum() <= size * 4e-6
