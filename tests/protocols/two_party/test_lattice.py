"""The engine of ring-LWE: products of every shape, whoever holds their factors, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tacit
from tacit.protocols.two_party.lattice import Held
from tacit.protocols.two_party.lattice.keeper import Keeper
from tacit.protocols.two_party.lattice.parameters import DEGREE, MATRIX, MATRIX_EXACT, SLOTS
from tacit.ring import kernels
from tacit.ring.convolution import Convolve, InputGradient, WeightGradient
from tacit.ring.geometry import Geometry

from .lattice import Pair, ring

UNITS = 20
"""How many units of 2^-64 a product that is not exact may be off: the σ of each of its two terms is 1.4."""

FOLDED = 80
"""The same for sums of up to ten windows."""

Op = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture
def pair() -> Pair:
    return Pair()


def held(*shape: int, alone: int | None = None) -> Held:
    parts = [ring(*shape), ring(*shape)]
    if alone is not None:
        parts[1 - alone].zero_()
    return Held(parts, alone, {})


def wanted(op: Op, x: Held, y: Held) -> Tensor:
    return op(x.parts[0], y.parts[1]) + op(x.parts[1], y.parts[0])


def off(shares: list[Tensor], want: Tensor) -> int:
    assert all(share.shape == want.shape for share in shares)
    return int((shares[0] + shares[1] - want).abs().max()) if want.numel() else 0


SLIDING = Geometry((3, 2), (2, 1), (1, 0), (1, 2), 2)
IMAGES, WEIGHT = (2, 4, 7, 6), (6, 2, 3, 2)
GRADIENT = Convolve(SLIDING).result(IMAGES, WEIGHT)


@pytest.mark.parametrize(
    ("op", "x", "y"),
    [
        (kernels.matmul, (3, 5), (5, 2)),
        (torch.matmul, (7, 30), (30,)),
        (kernels.matmul, (5,), (5,)),
        (kernels.matmul, (5,), (5, 3)),
        (torch.outer, (4,), (6,)),
        (kernels.matmul, (2, 3, 4, 5), (5, 6)),
        (kernels.matmul, (2, 3, 4), (4,)),
        (kernels.matmul, (4, 5), (3, 5, 6)),
        (kernels.matmul, (5,), (3, 5, 6)),
        (kernels.matmul, (2, 1, 4, 5), (3, 5, 6)),
        (kernels.matmul, (130, 70), (70, 90)),
        (kernels.matmul, (1, 9000), (9000, 3)),
        (kernels.matmul, (300, 2), (2, 300)),
        (Convolve(SLIDING), IMAGES, WEIGHT),
        (Convolve(SLIDING, (2, 3)), IMAGES, WEIGHT),
        (InputGradient(SLIDING, IMAGES[2:]), GRADIENT, WEIGHT),
        (WeightGradient(SLIDING), GRADIENT, IMAGES),
        (WeightGradient(SLIDING, swapped=True), IMAGES, GRADIENT),
    ],
)
def test_products_of_every_shape(pair: Pair, op: Op, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    left, right = held(*x), held(*y)

    shares = pair.lattice.bilinear(left, right, op, exact=False)

    assert off(shares, wanted(op, left, right)) <= (FOLDED if isinstance(op, InputGradient) else UNITS)


@pytest.mark.parametrize("x_alone", [None, 0, 1])
@pytest.mark.parametrize("y_alone", [None, 0, 1])
def test_terms_with_a_part_that_is_zero_are_left_out(pair: Pair, x_alone: int | None, y_alone: int | None) -> None:
    x, y = held(20, 30, alone=x_alone), held(30, 9, alone=y_alone)

    shares = pair.lattice.bilinear(x, y, kernels.matmul, exact=True)

    assert off(shares, wanted(kernels.matmul, x, y)) == 0
    nothing = x_alone is not None and x_alone == y_alone
    assert pair.spent[0] == (0 if nothing else 2)
    assert bool(pair.transport.received) is not nothing


@pytest.mark.parametrize("op", [kernels.matmul, torch.outer])
def test_products_of_nothing(pair: Pair, op: Op) -> None:
    x, y = (held(0), held(3)) if op is torch.outer else (held(4, 0), held(0, 3))

    shares = pair.lattice.bilinear(x, y, op, exact=False)

    assert off(shares, wanted(op, x, y)) == 0
    assert pair.spent == (0, 0)


def test_shapes_that_do_not_fit_are_refused(pair: Pair) -> None:
    for x, y in ((held(3, 4), held(3, 4)), (held(2, 3, 4), held(3, 4, 5)), (held(3), held(4))):
        with pytest.raises(ValueError, match="have no product"):
            pair.lattice.bilinear(x, y, kernels.matmul, exact=False)
    with pytest.raises(TypeError, match="is matmul, outer or a convolution"):
        pair.lattice.bilinear(held(3), held(3), torch.mul, exact=False)


@pytest.mark.parametrize("exact", [False, True])
def test_factors_at_the_ends_of_the_range(pair: Pair, exact: bool) -> None:
    """All operands -2^63 or the most there is, so that no noise is larger."""
    for low in (-(2**63), 2**63 - 1):
        x, y = (Held([torch.full(shape, low)] * 2, None, {}) for shape in ((40, 300), (300, 30)))

        shares = pair.lattice.bilinear(x, y, kernels.matmul, exact=exact)

        assert off(shares, wanted(kernels.matmul, x, y)) <= (0 if exact else UNITS)


def test_what_an_owner_knows_is_encrypted_once(pair: Pair) -> None:
    weights = held(300, 40, alone=1)
    for k in range(3):
        before = pair.spent
        x = held(2, 300, alone=0)

        shares = pair.lattice.bilinear(x, weights, kernels.matmul, exact=False)

        rounds, sent = (now - then for now, then in zip(pair.spent, before, strict=True))
        assert off(shares, wanted(kernels.matmul, x, weights)) <= UNITS
        assert rounds == (1 if k else 2)
        if k:
            assert sent == MATRIX.answer_bytes
        else:
            assert sent > MATRIX.upload_bytes


def test_ciphertexts_that_are_there_are_used_for_every_shape_of_a_question(pair: Pair) -> None:
    weights = held(300, 40, alone=1)
    for _ in range(2):
        pair.lattice.bilinear(held(1, 300, alone=0), weights, kernels.matmul, exact=False)

    for rows in (1, 2):
        before = pair.spent
        x = held(rows, 300)
        shares = pair.lattice.bilinear(x, weights, kernels.matmul, exact=False)
        assert off(shares, wanted(kernels.matmul, x, weights)) <= UNITS
        assert pair.spent[0] - before[0] == 1


def test_public_keys_are_sent_once_and_ahead(pair: Pair) -> None:
    for _ in range(2):
        pair.lattice.cross(held(4), held(4))
        pair.lattice.bilinear(held(2, 3), held(3, 2), kernels.matmul, exact=False)

    assert sum(pair.session.meter.cost.prepared.values()) == 2 * (16 + 4 * 6 * DEGREE)


def test_sessions_without_products_send_nothing(pair: Pair) -> None:
    pair.session.close()

    assert not pair.transport.received


@pytest.mark.parametrize("x_alone", [None, 0, 1])
@pytest.mark.parametrize("y_alone", [None, 1])
def test_elementwise_products_are_exact(pair: Pair, x_alone: int | None, y_alone: int | None) -> None:
    x, y = held(3, 1, 40, alone=x_alone), held(50, 1, alone=y_alone)
    for part in x.parts:
        part.view(-1)[:2] = torch.tensor([-(2**63), 2**63 - 1]) * bool(part.any())
    for part in y.parts:
        part.view(-1)[:2] = torch.tensor([-(2**63), -(2**63)]) * bool(part.any())

    shares = pair.lattice.cross(x, y)

    assert off(shares, wanted(torch.mul, x, y)) == 0
    assert pair.spent[0] == (0 if x_alone == y_alone == 1 else 3)


def test_blocks_of_elements_go_both_ways(pair: Pair) -> None:
    n = DEGREE + 100
    x, y = held(n), held(n)

    shares = pair.lattice.cross(x, y)

    assert off(shares, wanted(torch.mul, x, y)) == 0
    sent = pair.session.meter.cost.online
    assert sent["alice"] == sent["bob"] == 3 * (2 * SLOTS.upload_bytes + 16 + SLOTS.answer_bytes)


@pytest.mark.parametrize(
    ("left_bits", "right_bits", "terms"), [(21, 20, 1), (40, 44, 3), (26, 30, 20), (2, 64, 1), (64, 64, 8)]
)
def test_inner_products_are_exact_at_the_ends_of_the_range(
    pair: Pair, left_bits: int, right_bits: int, terms: int
) -> None:
    shape = (30, 3)
    left, right = (
        torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, (terms, *shape)) for bits in (left_bits, right_bits)
    )
    left[:, 0, :2], right[:, 0, :2] = -(2 ** (left_bits - 1)), -(2 ** (right_bits - 1))
    left[:, 0, 1] = 2 ** (left_bits - 1) - 1

    shares = pair.lattice.inner(left, right, shape, terms, left_bits, right_bits)

    assert off(shares, (left * right).sum(0)) == 0


def test_inner_products_that_fit_no_slots_are_refused(pair: Pair) -> None:
    some = torch.zeros(20, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="split the terms"):
        pair.lattice.inner(some, some, (3,), 20, 64, 64)
    with pytest.raises(ValueError, match="2 to 64 bits"):
        pair.lattice.inner(some, some, (3,), 20, 65, 4)
    with pytest.raises(ValueError, match="is hosted here and gives"):
        pair.lattice.inner(some, None, (3,), 20, 10, 10)
    with pytest.raises(ValueError, match="is hosted here and gives"):
        pair.lattice.inner(some, some[:4], (3,), 20, 10, 10)


@pytest.mark.slow
def test_ten_million_slots_are_right(pair: Pair) -> None:
    n = 10**6
    for _ in range(4):  # of three primes each
        x, y = held(n), held(n)
        assert off(pair.lattice.cross(x, y), wanted(torch.mul, x, y)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("exact", [False, True])
def test_the_longest_sums(pair: Pair, exact: bool) -> None:
    for shape in ((1, 65536, 8), (64, 65536, 1), (512, 512, 512)):
        rows, inner, columns = shape
        for low in (-(2**63), None):
            parts = [ring(rows, inner), ring(inner, columns)]
            if low is not None:
                parts = [torch.full_like(part, low) for part in parts]
            x, y = (Held([part, part.clone()], None, {}) for part in parts)
            worst = off(pair.lattice.bilinear(x, y, kernels.matmul, exact=exact), wanted(kernels.matmul, x, y))
            assert worst <= (0 if exact else UNITS), (shape, low, math.log2(worst))


def test_small_products_of_a_batch_share_ciphertexts(pair: Pair) -> None:
    x, y = held(2, 9, 4, 8), held(9, 8, 4)

    shares = pair.lattice.bilinear(x, y, kernels.matmul, exact=True)

    assert off(shares, wanted(kernels.matmul, x, y)) == 0
    apart = 18 * 2 * (MATRIX_EXACT.upload_bytes + MATRIX_EXACT.answer_bytes)
    assert pair.spent[1] < apart / 5


def test_squares_have_one_term(pair: Pair) -> None:
    x = held(300)

    shares = pair.lattice.cross(x, x)

    assert off(shares, wanted(torch.mul, x, x)) == 0
    assert pair.spent[1] == 3 * (SLOTS.upload_bytes + 16 + SLOTS.answer_bytes)


@pytest.mark.parametrize(
    ("count", "terms", "inside"), [(140, 18, 1), (3000, 5, 3), (4096, 2, 1), (4097, 2, 2), (1, 20, 1)]
)
def test_terms_of_few_elements_share_ciphertexts(pair: Pair, count: int, terms: int, inside: int) -> None:
    left, right = (torch.randint(-(2**40), 2**40, (terms, count)) for _ in range(2))

    shares = pair.lattice.inner(left, right, (count,), terms, 42, 42)

    assert off(shares, (left * right).sum(0)) == 0
    blocks = -(-count * -(-terms // inside) // DEGREE)
    assert blocks == 1 or count > 4096
    assert pair.spent[1] <= 3 * blocks * (inside * SLOTS.upload_bytes + 16 + SLOTS.answer_bytes)


def test_the_weight_of_a_layer_is_encrypted_once() -> None:
    with tacit.session(protocol="two-party") as session:
        layer = torch.nn.Linear(40, 5)
        weight = tacit.share(layer.weight.detach(), owner="bob")
        spent = []
        for _ in range(3):
            x = torch.randn(2, 40)
            before = session.meter.cost
            z = torch.nn.functional.linear(tacit.share(x, owner="alice"), weight)
            spent.append((session.meter.cost - before).rounds)
            assert torch.allclose(tacit.reveal(z), x @ layer.weight.detach().T, atol=1e-2)

    assert spent[1] == spent[2] == spent[0] - 1


def test_a_weight_that_is_written_to_is_encrypted_again() -> None:
    with tacit.session(protocol="two-party"):
        x, first, second = torch.randn(3, 8), torch.randn(4, 8), torch.randn(4, 8)
        weight = tacit.share(first, owner="bob")
        data = tacit.share(x, owner="alice")
        one = tacit.reveal(torch.nn.functional.linear(data, weight))
        weight.copy_(tacit.share(second, owner="bob"))
        other = tacit.reveal(torch.nn.functional.linear(data, weight))

    assert torch.allclose(one, x @ first.T, atol=1e-2)
    assert torch.allclose(other, x @ second.T, atol=1e-2)


def test_ciphertexts_that_find_no_room_go_the_oldest_first(pair: Pair) -> None:
    pair.lattice._keeper = Keeper(2 * 8 * 2 * 3 * DEGREE)  # of two ciphertexts

    def rounds(weight: Held) -> int:
        before, x = pair.spent[0], held(1, 40, alone=0)
        shares = pair.lattice.bilinear(x, weight, kernels.matmul, exact=False)
        assert off(shares, wanted(kernels.matmul, x, weight)) <= UNITS
        return pair.spent[0] - before

    one, two, three = (held(40, 50, alone=1) for _ in range(3))
    assert [rounds(w) for w in (one, two, one, three)] == [2, 2, 1, 2]
    assert [rounds(w) for w in (one, three, two)] == [1, 1, 2]
    assert rounds(one) == 2


def test_what_has_been_forgotten_is_encrypted_again(pair: Pair) -> None:
    """As values are written to, of which the engine hears nothing else."""
    weight = held(40, 50, alone=1)
    for _ in range(2):
        x = held(1, 40, alone=0)
        assert (
            off(pair.lattice.bilinear(x, weight, kernels.matmul, exact=False), wanted(kernels.matmul, x, weight))
            <= UNITS
        )
        weight.cipher.clear()
        weight.parts[1].copy_(ring(40, 50))
