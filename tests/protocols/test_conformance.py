"""One suite over the primitive set of a protocol: results against exact integers, costs against their declaration."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from operator import xor

import pytest
import torch

from tacit.errors import DataError
from tacit.protocols.binned import Binned
from tacit.protocols.number import Number
from tacit.protocols.series import Harmonics, Polynomial

from .world import World

LIMIT = 1 << 62


@pytest.fixture
def ends() -> torch.Tensor:
    """Ring elements over the whole documented range, with its ends and everything small."""
    special = torch.tensor(
        [0, 1, -1, 2, -2, 65535, 65536, -65536, -65537, LIMIT - 1, 1 - LIMIT, LIMIT // 2, -LIMIT // 2]
    )
    return torch.cat([special, torch.randint(1 - LIMIT, LIMIT, (500,)), torch.randint(-300, 300, (500,))])


# --- results ----------------------------------------------------------------------------------------------------------


def test_shares_add_up_and_linear_operations_are_exact(world: World, ends: torch.Tensor) -> None:
    x, y = world.share(ends, 0, owner=0), world.share(ends.flip(0), 0, owner=1)

    total = (x + y).plus(torch.tensor(7)).times_integer(-3)

    assert torch.equal(world.ring(total), -3 * (ends + ends.flip(0) + 7))
    assert torch.equal(world.ring(-x), -ends)


def test_products_are_exact_in_the_ring(world: World, ends: torch.Tensor) -> None:
    x, y = world.share(ends, 0), world.share(ends.flip(0), 0)

    assert torch.equal(world.ring(world.protocol.multiply(x, y)), ends * ends.flip(0))
    assert torch.equal(world.ring(world.protocol.multiply(x, x)), ends * ends)
    column = x.move(lambda t: t[:20].view(20, 1), view=True)
    row = y.move(lambda t: t[:30].view(1, 30), view=True)
    assert torch.equal(world.ring(world.protocol.multiply(column, row)), ends[:20, None] * ends.flip(0)[None, :30])


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((1, 1), (1, 1)), ((2, 0), (0, 3)), ((6, 2, 3), (6, 3, 2))])
def test_matrix_products_are_exact_in_the_ring(world: World, shapes: tuple[tuple[int, ...], ...]) -> None:
    a, b = (torch.randint(-LIMIT, LIMIT, s) for s in shapes)

    product = world.protocol.bilinear(world.share(a // 2, 0), world.share(b // 2, 0), torch.matmul)

    assert torch.equal(world.ring(product), (a // 2) @ (b // 2))


def test_products_with_bits_have_results_in_bits(world: World) -> None:
    a, c = torch.randint(0, 2, (30, 70)), torch.randint(0, 2, (4, 5))
    b = torch.nn.functional.one_hot(torch.randint(0, 70, (9,)), 70).t()
    bits = world.protocol.share_bits(b.to(torch.uint8), world.parties[0], b.shape)

    odd = world.protocol.odd(bits)
    product = world.protocol.bilinear(world.share(a, 0), odd, torch.matmul)

    assert torch.equal(world.ring(world.protocol.parity(product)), (a @ b).to(torch.uint8))
    assert torch.equal(world.ring(world.protocol.parity_of_product(world.share(a, 0), odd)), (a @ b).to(torch.uint8))
    assert torch.equal(
        world.ring(world.protocol.parity_of_product(world.share(a, 0, known=True), odd)), (a @ b).to(torch.uint8)
    )
    assert torch.equal(world.ring(world.protocol.parity(odd)), b.to(torch.uint8))
    assert torch.equal(world.ring(world.protocol.parity(world.share(c, 0))), c.to(torch.uint8))


@pytest.mark.parametrize(
    ("rows", "columns", "bins", "spilled"), [(1, 1, 2, False), (90, 3, 5, True), (70, 2, 256, True)]
)
def test_sums_over_bins_that_one_party_knows(world: World, rows: int, columns: int, bins: int, spilled: bool) -> None:
    tables, below = [], []
    for owner in (0, 1):
        codes = torch.randint(0, bins, (columns, rows), dtype=torch.uint8)
        tables.append(Binned(owner, codes, columns=columns, rows=rows, bins=bins, spilled=spilled))
        below.append((codes.unsqueeze(1) <= torch.arange(bins - 1).view(-1, 1)).long().flatten(0, 1))
    w = torch.randint(-LIMIT // 2, LIMIT // 2, (rows, 3))
    secrets = [world.share(w, 0), world.protocol.multiply(world.share(w, 0), world.share(torch.ones_like(w), 0))]
    secrets += [secrets[0].move(lambda t: t.flip(0), view=False)]
    s = torch.nn.functional.one_hot(torch.randint(0, tables[1].edges, (4,)), tables[1].edges).t()
    odd = world.protocol.odd(world.protocol.share_bits(s.to(torch.uint8), world.parties[0], s.shape))

    for secret, plain in zip(secrets, (w, w, w.flip(0)), strict=True):
        for table, c in zip(tables, below, strict=True):
            assert torch.equal(world.ring(world.protocol.sums_below([table], secret)[0]), c @ plain)
        both = world.protocol.sums_below(tables, secret)
        assert [torch.equal(world.ring(z), c @ plain) for z, c in zip(both, below, strict=True)] == [True, True]
    assert torch.equal(world.ring(world.protocol.rows_below(tables[1], odd)), (below[1].t() @ s).to(torch.uint8))
    opened = world.protocol.multiply(secrets[0], secrets[0])  # opened before, or not, it is what it was
    assert torch.equal(world.ring(opened), w * w)


PREMASKED: dict[str, Callable[[Number, Number], Number]] = {
    "as it is": lambda z, p: z,
    "plus a secret": lambda z, p: z + p,
    "a secret minus it": lambda z, p: p - z,
    "plus itself": lambda z, p: z + z,
    "plus another": lambda z, p: z + z.protocol.multiply(p, p),
    "plus a part of it": lambda z, p: z + z.move(lambda t: t[:1], view=True),
    "part of a secret plus it": lambda z, p: p.move(lambda t: t[:1], view=True) + z,
    "in another shape, plus a secret": lambda z, p: (
        z.move(lambda t: t.view(1, *t.shape), view=True) + p.move(lambda t: t.unsqueeze(0), view=True)
    ),
    "negated": lambda z, p: -z,
    "times 3": lambda z, p: z.times_integer(3),
    "times 6, plus a secret": lambda z, p: z.times_integer(6) + p,
    "plus a number": lambda z, p: z.plus(torch.tensor(7)),
    "plus numbers in a larger shape": lambda z, p: z.plus(torch.arange(3).view(3, 1, 1)),
    "half of it": lambda z, p: z.move(lambda t: t[::2], view=True),
    "repeated": lambda z, p: z.move(lambda t: t[[0, 1, 1, 0, 2, 3]], view=False),
    "expanded": lambda z, p: z.move(lambda t: t.expand(3, *t.shape), view=False),
    "transposed": lambda z, p: z.move(lambda t: t.t(), view=False),
    "summed": lambda z, p: z.sum([0]),
    "summed over nothing": lambda z, p: z.move(lambda t: t[:0], view=True).sum([0]),
    "cumulated": lambda z, p: z.linear(lambda t: t.cumsum(0)),
    "spread": lambda z, p: z.linear(lambda t: t.expand(2, *t.shape)),
    "lifted": lambda z, p: z.lifted(z.frac_bits + 3),
    "copied": lambda z, p: z.fork(),
}


@pytest.mark.parametrize("name", PREMASKED)
def test_linear_operations_on_products_that_are_short_of_a_mask(world: World, name: str) -> None:
    op = PREMASKED[name]
    a, b, c = (torch.randint(-(1 << 20), 1 << 20, (6, 5)) for _ in range(3))

    def result() -> tuple[Number, Number, torch.Tensor]:
        z, p, public = (
            world.protocol.multiply(world.share(a, 0), world.share(b, 0)),
            world.share(c, 0),
            world.share(c, 0),
        )
        exact = world.protocol.public(a * b, 0)
        return op(z, p), z, world.ring(op(exact, public))

    for settled_first in (False, True):
        y, z, want = result()
        for v in (y, z):
            v.declare(frac_bits=8)
        if settled_first:
            assert set((world.ring(y.settle(0)) - (want >> 8)).flatten().tolist()) <= {0, 1}
            assert set((world.ring(z.settle(0)) - (a * b >> 8)).flatten().tolist()) <= {0, 1}
        assert torch.equal(world.ring(y), want)
        assert torch.equal(world.ring(z), a * b)
        assert set((world.ring(y.settle(0)) - (want >> 8)).flatten().tolist()) <= {0, 1}


def test_writing_to_a_product_that_is_short_of_a_mask(world: World) -> None:
    a, b, c = (torch.randint(-(1 << 20), 1 << 20, (6, 5)) for _ in range(3))
    z = world.protocol.multiply(world.share(a, 0), world.share(b, 0))
    view, whole = z.move(lambda t: t[1], view=True), z.move(lambda t: t.t(), view=True)
    z.settle(0)

    view.write(world.share(c[1], 0))
    assert torch.equal(world.ring(z), torch.cat([(a * b)[:1], c[1:2], (a * b)[2:]]))
    assert torch.equal(world.ring(whole), world.ring(z).t())

    target = world.share(b, 0)
    part, turned = target.move(lambda t: t[2:], view=True), target.move(lambda t: t.t(), view=True)
    turned.write(world.protocol.multiply(world.share(a.t(), 0), world.share(c.t(), 0)))
    assert torch.equal(world.ring((part + part).times_integer(3)), 6 * (a * c)[2:])
    assert torch.equal(world.ring(target), a * c)
    target.write(world.protocol.multiply(world.share(a, 0), world.share(a, 0)))
    assert set((world.ring(target.rescaled(4).settle(0)) - (a * a >> 4)).flatten().tolist()) <= {0, 1}
    assert torch.equal(world.ring(turned + turned), 2 * (a * a).t())

    other = world.protocol.multiply(world.share(a, 0), world.share(c, 0))
    seen = other.move(lambda t: t[2:], view=True)
    other.write(world.share(b, 0))
    assert torch.equal(world.ring(seen), b[2:])
    assert torch.equal(world.ring(other), b)


@pytest.mark.parametrize("other", ["plus a number", "copied", "plus a secret"])
def test_a_product_overwritten_through_a_view_by_what_came_of_it(world: World, other: str) -> None:
    a, b = (torch.randint(-(1 << 20), 1 << 20, (5, 5)) for _ in range(2))
    z = world.protocol.multiply(world.share(a, 0), world.share(b, 0))
    column = z.move(lambda t: t[:, 1], view=True)
    w = PREMASKED[other](z, world.share(torch.full((5, 5), 7), 0))
    want = world.ring(w.fork()).t()

    z.move(torch.t, view=True).write(w)

    assert torch.equal(world.ring(column.times_integer(3)), 3 * want[:, 1])
    assert torch.equal(world.ring(world.protocol.multiply(z, z)), want * want)
    assert torch.equal(world.ring(z), want)


@pytest.mark.parametrize("frac_bits", [8, 12, 16, 20])
def test_a_precise_storage_keeps_its_bits_whatever_the_scale(two: World, frac_bits: int) -> None:
    two.protocol.frac_bits = frac_bits
    kept = two.share(torch.zeros(4), frac_bits)
    fine = torch.tensor([2.0**-42, 3 * 2.0**-42, 1.0, -(2.0**-41)], dtype=torch.float64)

    kept.declare(precise=True)
    kept.write(two.share(fine, 42))
    other = kept + two.share(torch.ones(4), frac_bits)

    assert kept.frac_bits == other.frac_bits == 42
    assert torch.equal(two.value(kept), fine)
    assert torch.equal(two.value(other), fine + 1)


@pytest.mark.parametrize("bits", [1, 8, 16, 32, 61])
def test_truncation_is_off_by_at_most_one_unit(world: World, ends: torch.Tensor, bits: int) -> None:
    x = world.share(ends, 0)
    x.declare(frac_bits=bits)

    error = world.ring(world.protocol.truncate(x, bits)) - (ends >> bits)

    assert set(error.tolist()) <= {0, 1}


@pytest.mark.parametrize("frac_bits", [16, 42, 48])
@pytest.mark.parametrize("factor", [0.1, -0.3, 1 / 3, 0.999, -(2.0**-13), 21 / 2**14, 1e-3])
def test_scaling_is_off_by_at_most_two_units(world: World, ends: torch.Tensor, factor: float, frac_bits: int) -> None:
    x = world.share(ends, 0)
    x.declare(frac_bits=48)

    scaled = world.protocol.scale(x, factor, frac_bits)

    assert scaled is not None
    assert scaled.frac_bits == frac_bits
    exact = [int(v) * Fraction(factor) / 2 ** (48 - frac_bits) for v in ends]
    error = [int(got) - want for got, want in zip(world.ring(scaled), exact, strict=True)]
    assert max(map(abs, error)) <= 2


@pytest.mark.parametrize(("factor", "frac_bits"), [(1.0, 48), (3.0, 47), (-2.0, 48), (2.0**-15, 0), (0.0, 16)])
def test_factors_that_are_too_large_or_too_small_are_refused(two: World, factor: float, frac_bits: int) -> None:
    x = two.share(torch.ones(3), 48)
    before = two.session.meter.cost

    assert two.protocol.scale(x, factor, frac_bits) is None
    assert (two.session.meter.cost - before).rounds == 0


def test_comparisons_are_exact(world: World, ends: torch.Tensor) -> None:
    x = world.share(ends, 0)
    thresholds = [0, 1, -1, 65536, LIMIT - 1, 1 - LIMIT]

    bits = world.protocol.less(x, thresholds)

    for t, b in zip(thresholds, bits, strict=True):
        assert torch.equal(world.ring(b).bool(), ends < t)


def test_comparisons_of_few_elements_are_exact(world: World, ends: torch.Tensor) -> None:
    steps = torch.tensor([256**k for k in range(8)])
    values = torch.cat([ends[:13], steps, steps - 1, -steps, -steps - 1]) // 2
    product = world.protocol.multiply(world.share(values, 0), world.share(torch.ones_like(values), 0))
    thresholds = [0, 1, 255, 256, -256, 65536, -(2**48), LIMIT - 1, 1 - LIMIT]

    for x in (world.share(values, 0), product):
        for t, b in zip(thresholds, world.protocol.less(x, thresholds), strict=True):
            assert torch.equal(world.ring(b).bool(), values < t)


@pytest.mark.parametrize(
    ("most", "near"), [(63, 0), (47, 0), (48, 1), (31, 0), (20, 5), (49, 8), (63, 1 << 18), (62, 1 << 40)]
)
@pytest.mark.parametrize("worth", [0, 1 << 30])
def test_comparisons_look_at_as_much_as_is_in_question(
    world: World, most: int, near: int, worth: int, ends: torch.Tensor
) -> None:
    world.protocol.prices = world.protocol.prices._replace(round=worth)
    edge, unit = 1 << most - 1, max(near, 1)
    around = torch.tensor([-2 * unit - 1, -unit, -1, 0, 1, unit - 1, unit, 2 * unit + 1])
    lowest = 1 - edge + torch.tensor([0, 1, 2, 3, unit - 1, unit])
    values = torch.cat([ends.clamp(1 - edge, edge - 1), around, lowest, torch.randint(1 - edge, edge, (2000,))])
    for t in (0, unit, 3 - edge, edge + 1 - unit):  # x - t >= near - 2^most, which 1 - edge is for the last one
        inside = values[(values - t).abs() < 1 << most]

        (bit,) = world.protocol.less(world.share(inside, 0), [t], near=near, most=most)

        told = world.ring(bit).bool()
        assert told[inside < t].all()
        assert not told[inside >= t + unit].any()
        assert near or torch.equal(told, inside < t)


def test_a_product_that_hardly_is_positive_counts_as_zero_or_as_it_is(world: World) -> None:
    x = torch.cat([torch.randn(1200), 2.0 ** -torch.arange(22), -(2.0 ** -torch.arange(22)), torch.zeros(3)])
    z = world.protocol.multiply(world.share(x, 20), world.share(torch.ones_like(x), 20))

    part, positive = world.protocol.positive_part(z)

    assert (world.value(part) - x.clamp(min=0)).abs().max() <= 2.0**-16
    told = world.ring(positive).bool()
    assert not told[x <= 0].any()
    assert told[x >= 2.0**-18].all()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000])
def test_comparison_of_any_number_of_elements(two: World, size: int) -> None:
    x = torch.randint(-9, 9, (size,))

    (bit,) = two.protocol.less(two.share(x, 0), [0])

    assert torch.equal(two.ring(bit).bool(), x < 0)


def test_selection_and_bits(world: World, ends: torch.Tensor) -> None:
    x = world.share(ends // 2, 0)
    low, high = world.protocol.less(x, [-1000, 1000])

    kept, dropped = world.protocol.select([(high, x), (high.invert(), x)])

    assert torch.equal(world.ring(kept), torch.where(ends // 2 < 1000, ends // 2, 0))
    assert torch.equal(world.ring(dropped), torch.where(ends // 2 < 1000, 0, ends // 2))
    within = (ends // 2 >= -1000) & (ends // 2 < 1000)
    assert torch.equal(world.ring(low.invert() & high).bool(), within)
    assert torch.equal(world.ring(low ^ high).bool(), within)
    assert torch.equal(world.ring(low | high.invert()).bool(), ~within)
    assert torch.equal(world.ring(high.arithmetic()), (ends // 2 < 1000).long())


def test_selection_truncates_on_its_way(world: World) -> None:
    a, b = torch.randn(500, dtype=torch.float64) * 30, torch.randn(500, dtype=torch.float64)
    z = world.share(a) * world.share(b)
    (positive,) = (bit.invert() for bit in world.protocol.less(z, [1]))

    (y,) = world.protocol.select([(positive, z)])

    assert y.frac_bits == 16
    assert (world.value(y) - (a * b).clamp(min=0)).abs().max() < 5e-3


def test_harmonics(world: World) -> None:
    x = torch.linspace(-40, 40, 1001, dtype=torch.float64)
    series = Harmonics(32, sine=(0.5, -0.25), cosine=(0.125, 0.0, 1.0), constant=0.75)

    y = world.protocol.harmonics(world.share(x), series)

    angle = 2 * torch.pi * x / 32
    want = 0.75 + 0.5 * angle.sin() - 0.25 * (2 * angle).sin() + 0.125 * angle.cos() + (3 * angle).cos()
    assert (world.value(y) - want).abs().max() < 2e-5


@pytest.mark.parametrize("rounding", [2.0**-10, 2.0**-16, 2.0**-24])
@pytest.mark.parametrize("odd", [False, True])
def test_harmonics_keep_within_their_rounding(two: World, rounding: float, odd: bool) -> None:
    p, q = (torch.randn(7, dtype=torch.float64) * 3.0 ** -torch.arange(7)).expand(2, 7) * torch.tensor([[1.0], [0.5]])
    constant = float(torch.randn(()))
    series = Harmonics(256, tuple(p.tolist()), tuple(q.tolist()), constant, turns=11, odd=odd, rounding=rounding)
    x = torch.randint(-(2**40), 2**40, (5000,)).double() / 2**16

    y = two.protocol.harmonics(two.share(x), series)

    angles = 2 * torch.pi * 11 / 256 * (x % 256) * torch.tensor(series.multiples).view(-1, 1)
    want = constant + p @ angles.sin() + q @ angles.cos()
    assert (two.value(y) - want).abs().max() <= rounding + 1e-11
    assert (two.value(y.settle()) - want).abs().max() <= rounding + 2.0**-16


def test_harmonics_with_room_can_be_multiplied_before_they_are_truncated(two: World) -> None:
    x = torch.arange(-300, 301, dtype=torch.float64) / 32
    series = Harmonics(8, sine=(1.0,), constant=0.5, rounding=2.0**-22, room=14)

    y = two.protocol.harmonics(two.share(x), series)
    large = y.times_integer(8191).plus(torch.tensor(-4000 << y.frac_bits))

    want = 8191 * ((x * torch.pi / 4).sin() + 0.5) - 4000
    assert (two.value(large.settle()) - want).abs().max() < 8191 * 2.0**-22 + 2.0**-15


def test_a_period_must_divide_the_ring(two: World) -> None:
    for period, frac_bits in ((3, 16), (32, 60)):
        with pytest.raises(ValueError, match=f"a period of {period}"):
            two.protocol.harmonics(two.share(torch.zeros(3), frac_bits), Harmonics(period, sine=(1.0,)))


@pytest.mark.parametrize("count", [1, 100, 2600])
def test_powers_of_two_that_bits_choose(world: World, count: int) -> None:
    ends = torch.tensor([-59.0, 1 - 2.0**-16, 0.0, -30.0, -1.0])
    y = torch.cat([ends, torch.rand(count, dtype=torch.float64) * 60 - 59]).clamp(-59, 1 - 2.0**-16)[-count - 5 :]
    y = (y * 2**16).round() / 2**16
    off = torch.cat([torch.tensor([-59.0625, 1.0, 2.0**40, -(2.0**40), 17.0]), torch.randn(count) * 2.0**30]).double()
    bit = torch.cat([torch.ones(count + 5), torch.zeros(count + 5)]).to(torch.uint8)
    shared = world.protocol.share_bits(bit, world.parties[0], bit.shape)

    z = world.protocol.chosen_powers_of_two(shared, world.share(torch.cat([y, off])))

    got = world.value(z)
    assert (
        (got[: count + 5] - torch.exp2(y)).abs() <= 2.0**-20 * (1 + torch.exp2(y)) + 2.0 ** -min(z.frac_bits, 30)
    ).all()
    assert (got[count + 5 :] == 0).all()


@pytest.mark.parametrize(("window", "degree"), [(1, 1), (2, 9), (16, 0), (16, 3), (16, 9), (64, 5)])
def test_polynomials(world: World, window: int, degree: int) -> None:
    c = torch.randn(degree + 1, dtype=torch.float64)
    unit = 2.0**-16
    x = torch.cat([torch.linspace(-window, window - unit, 4001), torch.rand(2000) * 2 * window - window]).double()
    x = ((x / unit).floor() * unit).clamp(-window, window - unit)

    (y,) = world.protocol.polynomials(world.share(x), [Polynomial(window, tuple(c.tolist()))])

    t = x / window
    want = sum(c[k] * t**k for k in range(degree + 1))
    bound = 2.0 ** (degree - 29) * max(1.0, float(want.abs().max())) + 2.0**-32 * sum(
        abs(c[k]) * 2**k for k in range(degree + 1)
    )
    exact = world.ring(y).double() * 2.0**-y.frac_bits
    assert (exact - want).abs().max() <= bound


def test_a_polynomial_too_large_for_the_ring_is_refused(two: World) -> None:
    x = two.share(torch.zeros(3))

    with pytest.raises(ValueError, match="reaches"):
        two.protocol.polynomials(x, [Polynomial(2, (0.0, 2.0**31))])
    with pytest.raises(ValueError, match="same window"):
        two.protocol.polynomials(x, [Polynomial(2, (0.0, 1.0)), Polynomial(4, (0.0, 1.0))])


def test_bits_are_shared_and_revealed(world: World) -> None:
    bits = torch.randint(0, 2, (3, 7), dtype=torch.uint8)

    shared = world.protocol.share_bits(bits, world.parties[-1], bits.shape)

    assert torch.equal(world.ring(shared), bits)
    assert torch.equal(world.ring(world.protocol.public_bits(bits)), bits)


# --- secrets of one party ---------------------------------------------------------------------------------------------


def test_shares_from_outside_are_a_number_like_any_other(world: World, ends: torch.Tensor) -> None:
    handed_out = world.protocol.refresh(world.share(ends, 0))
    bits = torch.randint(0, 2, (9, 2), dtype=torch.uint8)
    cut = [torch.randint(0, 2, (9, 2), dtype=torch.uint8) for _ in world.parties[1:]]
    before = world.session.meter.cost

    x = world.protocol.adopt(handed_out, ends.shape, 0, headroom=3, precise=True, lasting=True)
    b = world.protocol.adopt_bits([reduce(xor, cut, bits), *cut], bits.shape, lasting=True)

    assert (world.session.meter.cost - before).rounds == 0
    assert (x.frac_bits, x.scale.headroom, x.scale.precise, x.storage.lasting) == (0, 3, True, True)
    assert torch.equal(world.ring(x + x), 2 * ends)
    assert torch.equal(world.ring(b), bits)
    assert b.storage.lasting


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ([torch.zeros(3, dtype=torch.int64)], "1 shares here, for 2 parties"),
        ([torch.zeros(3, dtype=torch.int64)] * 3, "3 shares here, for 2 parties"),
        ([torch.zeros(3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)], "shape"),
        ([torch.zeros(3, dtype=torch.int64), torch.zeros(3)], "dtype"),
        ([torch.zeros(3, dtype=torch.uint8)] * 2, "dtype"),
    ],
)
def test_shares_from_outside_that_do_not_fit_are_refused(two: World, shares: list[torch.Tensor], why: str) -> None:
    with pytest.raises(DataError, match=f"weights.*{why}"):
        two.protocol.adopt(shares, [3], 16, name="weights")
    with pytest.raises(DataError, match="weights holds other bytes than 0 and 1"):
        two.protocol.adopt_bits([torch.tensor([1, 0, 2], dtype=torch.uint8)] * 2, [3], name="weights")


def test_what_a_party_knows_is_opened_beside_what_nobody_knows(world: World) -> None:
    x, y, empty = torch.randn(7), torch.randn(5), torch.randn(0)
    known, nobody = world.share(x, known=True), world.share(y)
    part = known.move(lambda t: t[2:5], view=True)
    nothing = world.share(empty, known=True)

    world.protocol.together(part, nobody, nothing)

    assert (world.value(world.protocol.multiply(part, part)) - x[2:5] ** 2).abs().max() < 1e-3
    assert (world.value(world.protocol.multiply(nobody, nobody)) - y**2).abs().max() < 1e-3
    assert world.value(world.protocol.multiply(nothing, nothing)).numel() == 0


def test_products_of_transposed_products_are_right(world: World) -> None:
    a, b = torch.randn(6, 5), torch.randn(6, 5)
    z = world.protocol.multiply(world.share(a), world.share(b)).move(torch.t, view=True)

    product = world.protocol.multiply(z.settle(), z.settle())

    torch.testing.assert_close(world.value(product), (a * b).t().double() ** 2, atol=2**-11, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 11, 25])
def test_a_conjunction_of_many_bits_is_exact(world: World, count: int) -> None:
    value = torch.rand(count, 333) < 0.5 ** (1 / count)
    shared = world.protocol.share_bits(value.to(torch.uint8), world.parties[1], value.shape)
    bits = [shared.move(lambda t, k=k: t[k], view=True) for k in range(count)]
    flips = (torch.rand(333) < 0.5).to(torch.uint8)

    every, some = world.protocol.all_of(bits), world.protocol.all_of([bits[0].flipped(flips), *bits[1:]])

    assert torch.equal(world.ring(every), value.all(0).to(torch.uint8))
    value[0] ^= flips.bool()
    assert torch.equal(world.ring(some), value.all(0).to(torch.uint8))


@pytest.mark.parametrize("count", [1, 2, 5, 300, 1500])
def test_one_hot_rows_of_places_that_nobody_knows(world: World, count: int) -> None:
    at = torch.cat([torch.tensor([0, count - 1]), torch.randint(0, count, (4,))])
    product = world.protocol.multiply(world.share(at, 0), world.share(torch.ones_like(at), 0, owner=1))
    wanted = torch.nn.functional.one_hot(at, count)

    for x in (world.share(at, 0), world.share(at, 0, known=True), product):
        rows = world.protocol.hot(x.move(lambda t: t.view(3, 2), view=False), count)

        assert torch.equal(world.ring(rows), wanted.view(3, 2, count))
        assert torch.equal(world.ring(rows.protocol.multiply(rows, rows)), wanted.view(3, 2, count))
    assert world.ring(world.protocol.hot(world.share(at[:0], 0), count)).shape == (0, count)


# --- costs ------------------------------------------------------------------------------------------------------------

N = 8192
Run = Callable[[World], Callable[[], object]]


def _multiply(w: World) -> Callable[[], object]:
    x, y = w.share(torch.zeros(N)), w.share(torch.zeros(N))
    return lambda: w.protocol.multiply(x, y)


def _truncate(w: World) -> Callable[[], object]:
    x = w.share(torch.zeros(N), 32)
    return lambda: x.settle(16)


def _multiply_and_truncate(w: World) -> Callable[[], object]:
    x, y = w.share(torch.zeros(N)), w.share(torch.zeros(N))
    return lambda: w.protocol.multiply(x, y).settle()


def _scale(w: World) -> Callable[[], object]:
    x = w.share(torch.zeros(N), 32)
    return lambda: w.protocol.scale(x, 0.1)


def _polynomials(w: World) -> Callable[[], object]:
    x = w.share(torch.zeros(N))
    nine = Polynomial(16, (0.5, *[0.0] * 8, 1.0))
    return lambda: w.protocol.polynomials(x, [nine])


def _harmonics(w: World) -> Callable[[], object]:
    x = w.share(torch.zeros(N))
    return lambda: w.protocol.harmonics(x, Harmonics(32, sine=(1.0,), rounding=2.0**-20))


def _less(w: World) -> Callable[[], object]:
    x = w.share(torch.zeros(N))
    return lambda: w.protocol.less(x, [0])


def _bit(w: World) -> Number:
    return w.share(torch.randn(N))


def _select(w: World) -> Callable[[], object]:
    (b,), x = w.protocol.less(_bit(w), [0]), w.share(torch.zeros(N))
    return lambda: w.protocol.select([(b, x)])


def _relu(w: World) -> Callable[[], object]:
    x = w.share(torch.randn(N))
    return lambda: w.protocol.select([(w.protocol.less(x, [1])[0].invert(), x)])


def _conjunction(w: World) -> Callable[[], object]:
    a, b = w.protocol.less(_bit(w), [0, 1])
    return lambda: a & b


def _all_of(w: World) -> Callable[[], object]:
    bits = w.protocol.less(_bit(w), range(9))
    return lambda: w.protocol.all_of(bits)


def _to_arithmetic(w: World) -> Callable[[], object]:
    (b,) = w.protocol.less(_bit(w), [0])
    return lambda: b.arithmetic()


def _hot(w: World) -> Callable[[], object]:
    x = w.share(torch.zeros(N, dtype=torch.int64), 0)
    return lambda: w.protocol.hot(x, 16)


RUNS: dict[str, Run] = {
    "multiply": _multiply,
    "truncate": _truncate,
    "multiply and truncate": _multiply_and_truncate,
    "scale": _scale,
    "harmonics": _harmonics,
    "polynomials": _polynomials,
    "less": _less,
    "select": _select,
    "relu": _relu,
    "conjunction": _conjunction,
    "all_of": _all_of,
    "to_arithmetic": _to_arithmetic,
    "hot": _hot,
}


def test_every_declared_cost_is_measured(two: World) -> None:
    assert RUNS.keys() == two.protocol.costs.keys()


@pytest.mark.parametrize("name", RUNS)
def test_cost_is_what_is_declared(world: World, name: str) -> None:
    run = RUNS[name](world)
    declared = world.protocol.costs[name]
    before, wire = world.session.meter.cost, dict(world.transport.wire_bytes)

    run()

    cost = world.session.meter.cost - before
    assert cost.rounds == declared.rounds
    sent = [8 * count / N for count in cost.online.values()]
    assert sum(sent) / len(sent) == declared.online_bits(len(world.parties))
    assert len(set(sent)) == 1 or world.scheme == "two-party"  # whose ciphertexts go one way, and answers the other
    helped = {role: 8 * cost.sent[role] / N for role in world.session.helpers}
    assert helped == declared.helper_bits
    on_wire = sum(world.transport.wire_bytes.values()) - sum(wire.values())
    metered = cost.producer + sum(cost.online.values()) + sum(cost.prepared.values())
    assert metered <= on_wire < metered + 4096


def test_facts_are_forgotten_when_a_secret_is_written_to(two: World) -> None:
    x, y = two.share(torch.randn(6)), torch.randn(6)
    view = x.move(lambda t: t[2:4], view=True)
    two.protocol.less(x, [0])
    two.protocol.together(view)

    view.write(two.share(y[2:4]))

    bit = two.protocol.less(x, [0])[0]
    assert torch.equal(two.ring(bit).bool()[2:4], y[2:4] < 0)
    square = two.protocol.multiply(x, x)
    assert torch.equal(two.ring(square), two.ring(x) ** 2)
