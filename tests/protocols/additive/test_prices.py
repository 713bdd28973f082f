"""What is the additive scheme's own: what it opens and how often, what its producer deals, how it rounds."""

from __future__ import annotations

import pytest
import torch

import tacit
from tacit.protocols.additive.source.produced import Produced
from tacit.protocols.series import Harmonics, Polynomial

from ..world import World

LIMIT = 1 << 62
N = 4096


@pytest.fixture
def ends() -> torch.Tensor:
    """Ring elements over the whole documented range."""
    return torch.cat([torch.tensor([0, 1, -1, LIMIT - 1, 1 - LIMIT]), torch.randint(1 - LIMIT, LIMIT, (1000,))])


@pytest.mark.parametrize("parts", [[0, 1, 2], [2, 0], [1]])
def test_parts_of_a_product_are_opened_together(world: World, parts: list[int]) -> None:
    a, b = torch.randn(3, 5), torch.randn(3, 5)
    z = world.protocol.multiply(world.share(a), world.share(b))
    rows = [z.move(lambda t, k=k: t[k], view=True) for k in parts]
    before = world.session.meter.cost

    settled = world.protocol.settle_all(rows)

    cost = world.session.meter.cost - before
    assert (cost.rounds, cost.producer) == (1, 10 * len(parts) * 5)
    for k, row in zip(parts, settled, strict=True):
        assert (world.value(row) - (a * b)[k]).abs().max() < 1e-3


@pytest.mark.parametrize("cut", [False, True])
def test_parts_that_a_product_is_cut_into_are_opened_with_the_first(world: World, cut: bool) -> None:
    a, b = torch.randn(3, 5), torch.randn(3, 5)
    z = world.protocol.multiply(world.share(a), world.share(b))
    rows = [z.move(lambda t, k=k: t[k], view=True, cut=cut) for k in range(3)]
    before = world.session.meter.cost

    settled = [world.protocol.settle(row) for row in rows]

    cost = world.session.meter.cost - before
    assert (cost.rounds, cost.producer) == (1 if cut else 3, 10 * 3 * 5)
    assert cost.online[world.session.parties[0]] == 8 * 3 * 5 * (len(world.session.parties) - 1)
    for k, row in enumerate(settled):
        assert (world.value(row) - (a * b)[k]).abs().max() < 1e-3


def test_a_cut_product_that_was_written_to_is_not_opened(world: World) -> None:
    a, b = torch.randn(3, 5), torch.randn(3, 5)
    z = world.protocol.multiply(world.share(a), world.share(b))
    row = z.move(lambda t: t[0], view=False, cut=True)
    z.write(world.protocol.multiply(world.share(b), world.share(b)))

    assert (world.value(world.protocol.settle(row)) - (a * b)[0]).abs().max() < 1e-3


@pytest.mark.parametrize("width", range(1, 9))
def test_few_bytes_are_dealt_of_multiples_of_large_powers_of_two(world: World, width: int) -> None:
    value = torch.randint(-(1 << 62), 1 << 62, (3, 5)) << 8 * (8 - width)
    before = world.session.meter.cost

    source = world.protocol._source
    assert isinstance(source, Produced)
    (odd, dealt) = source.dealing.ring("", [(3,), (3, 5)], lambda: [value[:, 0] * 0, value], [width, width])

    assert torch.equal(sum(dealt.parts), value)
    assert torch.equal(sum(odd.parts), value[:, 0] * 0)
    assert (world.session.meter.cost - before).producer == 18 * width


def test_scaling_rounds_without_bias(two: World) -> None:
    x = two.share(torch.full((1 << 14,), 5), 0)
    x.declare(frac_bits=48)

    scaled = two.ring(two.protocol.scale(x, 0.05, 48))

    assert set(scaled.tolist()) == {0, 1}
    assert abs(float(scaled.double().mean()) - 0.25) < 0.02  # four standard deviations are 0.014


@pytest.mark.parametrize(("factor", "wrap", "crossed"), [(21 / 2**14, 4, 4), (2.0**-7, 3, 3), (1 / 768, 8, 16)])
def test_factors_of_few_bits_leave_short_terms(two: World, factor: float, wrap: int, crossed: int) -> None:
    x = torch.randn(500, dtype=torch.float64) * 100
    secret = two.share(x, 32)
    before = two.session.meter.cost

    scaled = two.protocol.scale(secret, factor, 16)
    assert scaled is not None
    after = two.session.meter.cost
    square = two.protocol.multiply(scaled, scaled)

    assert (after - before).producer == (8 + wrap) * 500
    assert (two.session.meter.cost - after).producer == crossed * 500
    assert (two.value(scaled) - x * factor).abs().max() <= 2**-15
    assert (two.value(square) - (x * factor) ** 2).abs().max() <= 2**-13 * (x * factor).abs().max()


def test_truncation_is_unbiased(two: World) -> None:
    x = two.share(torch.full((200_000,), 0.3 * 2**-16, dtype=torch.float64), 32)

    mean = two.ring(x.settle(16)).double().mean()

    assert mean == pytest.approx(0.3, abs=6 * (0.21 / 200_000) ** 0.5)


def test_products_of_truncated_numbers_reuse_their_opening(world: World) -> None:
    a, b = torch.randn(300, dtype=torch.float64) * 30, torch.randn(300, dtype=torch.float64)
    y = (world.share(a) * world.share(b)).settle()
    before = world.session.meter.cost

    square = world.protocol.multiply(y, y)

    assert (world.session.meter.cost - before).rounds == 0
    assert torch.equal(world.ring(square), world.ring(y) * world.ring(y))


def test_harmonics_of_little_precision_cost_little(two: World) -> None:
    x = two.share(torch.randn(N))
    producer = []
    for rounding in (2.0**-10, 2.0**-20, 2.0**-30):
        before = two.session.meter.cost.producer
        two.protocol.harmonics(x, Harmonics(8, sine=(1.0, 0.01), cosine=(0.0, 0.01), rounding=rounding))
        producer.append((two.session.meter.cost.producer - before) / N)

    assert producer == [14, 22, 32]


def test_harmonics_of_what_was_truncated_open_it_again_only_if_they_must(two: World) -> None:
    x = torch.linspace(-3, 3, 501, dtype=torch.float64)
    z = two.share(x, 32).settle()
    fine = two.protocol.harmonics(z, Harmonics(8, sine=(0.75,)))
    opened = two.session.meter.cost.online

    again = two.protocol.harmonics(z, Harmonics(8, cosine=(1.0,)))
    assert two.session.meter.cost.online == opened
    y = two.protocol.harmonics(fine.settle(), Harmonics(8, sine=(1.0,)))  # known modulo 4 only at its former scale

    wave = 0.75 * (x * torch.pi / 4).sin()
    assert (two.value(again) - (x * torch.pi / 4).cos()).abs().max() < 3e-5
    assert (two.value(y) - (wave * torch.pi / 4).sin()).abs().max() < 5e-5


def test_polynomials_of_what_was_opened_before_cost_nothing_but_their_powers(two: World) -> None:
    x, y = torch.rand(500, dtype=torch.float64) * 4 - 2, torch.rand(500, dtype=torch.float64)
    z = two.share(x) * two.share(y)
    p, q = Polynomial(2, (0.0, 0.0, 1.0)), Polynomial(2, (0.0, 1.0))
    two.protocol.less(z, [0])
    before = two.session.meter.cost

    (square,) = two.protocol.polynomials(z, [p])
    after = two.session.meter.cost
    (itself,) = two.protocol.polynomials(z, [q])
    (settled,) = two.protocol.polynomials(z.settle(), [p])

    assert (after - before).rounds == 0
    assert (after - before).producer == 500 * 2 * 16
    assert (two.session.meter.cost - after).online == {"party0": 0, "party1": 0}
    for got, want in ((square, (x * y / 2) ** 2), (itself, x * y / 2), (settled, (x * y / 2) ** 2)):
        assert (two.value(got) - want).abs().max() < 1e-4


@pytest.mark.parametrize("owners", [(0, 1), (1, 0), (0, 0), (1, 1)])
def test_products_of_what_parties_know(world: World, ends: torch.Tensor, owners: tuple[int, int]) -> None:
    plain = ends[:1000].view(25, 40), ends.flip(0)[:1000].view(40, 25)
    before = world.session.meter.cost
    x, y = (world.share(v, 0, owner=owner, known=True) for v, owner in zip(plain, owners, strict=True))

    product = world.protocol.bilinear(x, y, torch.matmul)

    assert (world.session.meter.cost - before).rounds == 1
    sent = (world.session.meter.cost - before).online
    each = 8 * 1000 * (len(world.parties) - 1)
    assert sent == {p: each * owners.count(i) for i, p in enumerate(world.parties)}
    assert torch.equal(world.ring(product), plain[0] @ plain[1])
    assert torch.equal(world.ring(world.protocol.multiply(x, x)), plain[0] * plain[0])
    assert torch.equal(world.ring(world.protocol.less(y, [0])[0]).bool(), plain[1] < 0)
    assert (world.ring(x.settle(0)) - plain[0]).abs().max() == 0


@pytest.mark.parametrize("owners", [(None, None), (None, 0), (None, 1), (0, None), (1, None), (0, 1), (1, 0), (0, 0)])
def test_an_owner_of_an_operand_saves_a_ring_product(two: World, owners: tuple[int | None, int | None]) -> None:
    plain = torch.randn(5, 7), torch.randn(7, 3)
    x, y = (two.share(v, owner=owner or 0, known=owner is not None) for v, owner in zip(plain, owners, strict=True))
    computed = []

    def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.device.type != "meta":
            computed.append((a, b))
        return a @ b

    product = two.protocol.bilinear(x, y, matmul)

    assert torch.equal(two.ring(product), two.ring(x) @ two.ring(y))
    assert len(computed) == 5 - sum(owner is not None for owner in owners)


def test_batches_of_what_a_party_knows(two: World) -> None:
    x = torch.randn(50, 3)
    data = two.share(x, known=True)
    data.storage.lasting = True

    for rows in (slice(0, 20), slice(10, 50)):
        batch = data.move(lambda t, rows=rows: t[rows], view=True)
        assert (two.value(two.protocol.multiply(batch, batch)) - x[rows] ** 2).abs().max() < 1e-3

    reveals = 8 * (20 + 40) * 3
    assert two.session.meter.cost.online == {"party0": 0, "party1": 8 * x.numel() + reveals}
    data.write(two.share(2 * x))
    assert (two.value(two.protocol.multiply(data, data)) - 4 * x**2).abs().max() < 1e-3


def test_what_the_issue_asks_of_sign_relu_and_truncation(two: World) -> None:
    costs = two.protocol.costs

    assert (costs["less"].rounds, costs["relu"].rounds, costs["truncate"].rounds) == (3, 4, 1)
    assert costs["less"].online_bits(2) <= 16 * 8
    assert costs["relu"].online_bits(2) <= 16 * 8
    assert costs["truncate"].online_bits(2) == 8 * 8


def test_products_that_are_too_fine_for_a_sum_are_truncated_in_one_round(world: World) -> None:
    a, b = torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    x, y = (world.share(v, 24) for v in (a, b))
    products = world.protocol.multiply(x, x), world.protocol.multiply(y, y)
    before = world.session.meter.cost

    total = products[0] + products[1]

    assert (world.session.meter.cost - before).rounds == 1
    assert (world.value(total) - (a * a + b * b)).abs().max() < 2**-13


DIGITS = {63: (778, (256, 48), (32, 103, 34)), 47: (2631, (64, 48), (24, 81, 27)), 31: (4878, (48, 16), (16, 45, 16))}
"""By the bits in question: the most elements that are compared in a round less; what the producer deals for a mask and
a comparison of these; what it deals of others, for eight, and what a party sends for eight."""


@pytest.mark.parametrize("beyond", [-700, 0, 1, 500])
@pytest.mark.parametrize("bits", DIGITS)
def test_few_elements_are_compared_in_a_round_less(world: World, bits: int, beyond: int) -> None:
    most, (table, products), (narrow, eight, sent) = DIGITS[bits]
    elements, few, peers = most + beyond, beyond <= 0, len(world.parties) - 1
    x = world.share(torch.randn(elements))
    world.protocol.together(x)
    before = world.session.meter.cost

    world.protocol.less(x, [1], most=bits)
    between = world.session.meter.cost
    world.protocol.less(x, [2], most=bits)

    plane = (elements + 7) // 8
    first, second = between - before, world.session.meter.cost - between
    assert (first.rounds, second.rounds) == ((1, 1) if few else (2, 2))
    assert first.online["party0"] == second.online["party0"] == (2 * elements if few else sent * plane) * peers
    assert second.producer == (products * elements if few else eight * plane)
    assert first.producer - second.producer == (table if few else narrow) * elements + plane  # of the mask, once


@pytest.mark.parametrize(("worth", "elements"), [(0, 0), (1000, 3), (1_750_000, 6809)])
def test_the_config_says_which_elements_are_few(worth: int, elements: int) -> None:
    with tacit.session(round_bytes=worth) as session:
        for count in (elements, elements + 1):
            x = tacit.share(torch.randn(count), owner="alice")
            before = session.meter.cost.rounds
            x < 0  # noqa: B015
            assert session.meter.cost.rounds - before == (0 if not count else 1 if count <= elements else 2)


def test_a_secret_is_opened_once_whatever_is_done_with_it(two: World) -> None:
    x, y = two.share(torch.randn(8, 8)), two.share(torch.randn(8, 8))
    two.protocol.bilinear(x, y, torch.matmul)
    before = two.session.meter.cost

    two.protocol.bilinear(y.move(torch.t, view=True), x, torch.matmul)
    two.protocol.multiply(x, x.move(torch.t, view=True))
    two.protocol.harmonics(-x, Harmonics(32, sine=(1.0,)))
    two.protocol.multiply(x.plus(torch.tensor(3)).lifted(20), y.rescaled(18))

    cost = two.session.meter.cost - before
    assert cost.rounds == 0
    assert set(cost.online.values()) == {0}


def test_batches_of_a_data_set_are_opened_once_ever(two: World) -> None:
    data, w = two.share(torch.randn(100, 4)), two.share(torch.randn(4, 1))
    data.storage.lasting = True

    def epoch() -> int:
        before = two.session.meter.cost
        for rows in torch.randperm(100).split(32):
            batch = data.move(lambda t, rows=rows: t[rows], view=False)
            z = two.protocol.bilinear(batch, w, torch.matmul)
            want = two.ring(data)[rows] @ two.ring(w)
            assert torch.equal(two.ring(z), want)
        return (two.session.meter.cost - before).online["party0"]

    assert epoch() == 8 * (100 * 4 + 4) + epoch()


@pytest.mark.slow
def test_truncation_never_fails_in_a_hundred_million(two: World) -> None:
    for _ in range(100):
        x = torch.randint(1 - LIMIT, LIMIT, (1_000_000,))
        shared = two.share(x, 0)
        shared.declare(frac_bits=16)

        error = two.ring(shared.settle(0)) - (x >> 16)

        assert int(error.min()) >= 0
        assert int(error.max()) <= 1


def test_large_and_small_secrets_are_opened_in_one_round(world: World) -> None:
    large, small, none = torch.randn(9000), torch.randn(3), torch.randn(0)
    bits = torch.rand(9001) < 0.5
    shares = [world.share(t) for t in (large, small, none)]
    kept = world.protocol.less(world.share(torch.where(bits, -1.0, 1.0)), [0])[0]
    before = world.session.meter.cost

    world.protocol.together(*shares, kept)

    assert (world.session.meter.cost - before).rounds == 1
    for share, value in zip(shares, (large, small, none), strict=True):
        product = world.value(world.protocol.multiply(share, share))
        torch.testing.assert_close(product, value.double() ** 2, atol=2**-12, rtol=0)
    assert torch.equal(world.value(kept.arithmetic()), bits.double())


@pytest.mark.parametrize("count", [1, 2, 10, 11, 25])
def test_a_conjunction_of_up_to_ten_bits_takes_one_round(world: World, count: int) -> None:
    value = torch.randint(0, 2, (count, 9), dtype=torch.uint8)
    shared = world.protocol.share_bits(value, world.parties[1], value.shape)
    closed = shared ^ world.protocol.share_bits(torch.zeros_like(value), world.parties[0], value.shape)
    bits = [closed.move(lambda t, k=k: t[k], view=True) for k in range(count)]
    before = world.session.meter.cost

    world.protocol.all_of(bits)

    assert (world.session.meter.cost - before).rounds == (0 if count == 1 else 1 if count <= 10 else 2)


@pytest.mark.parametrize("elements", [1, 2500, 2501])
def test_few_powers_of_two_are_chosen_in_no_round_of_their_own(world: World, elements: int) -> None:
    few, peers = elements <= 2500, len(world.parties) - 1
    y = world.share(-torch.rand(elements) * 40)
    bits = world.protocol.less(y, [-(20 << 16)])[0]
    world.protocol.together(y, bits)
    before = world.session.meter.cost

    z = world.protocol.chosen_powers_of_two(bits, y)

    cost = world.session.meter.cost - before
    assert cost.rounds == (0 if few else 1)
    assert cost.online["party0"] == (0 if few else 8 * elements * peers)
    assert z.frac_bits == (42 if few else 16)
    if few:
        assert cost.producer == 256 * elements
