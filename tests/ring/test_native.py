"""The native kernels against the portable ones: every instruction set, any layout, no elements, one thread and two."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import pytest
import torch

from tacit.protocols.additive import exponential
from tacit.protocols.additive.kernels import CHUNKS, Reference
from tacit.protocols.additive.kernels.octaves import Octaves
from tacit.protocols.additive.kernels.waves import Term, Waves
from tacit.protocols.series import COARSE
from tacit.ring.kernels import matmul

from .operands import apart, bits, enough, native_kernels, octets, places, ring

native_module = pytest.importorskip("tacit.ring.kernels.native", reason="the native kernels are not built")
native, reference = native_kernels(), Reference()

MATRICES = [
    (0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (1, 700, 300), (2, 33, 1100), (4, 5, 6000), (5, 400, 3), (700, 300, 1),
    (8, 8, 24), (9, 25, 25), (13, 193, 7), (31, 64, 100), (61, 500, 10), (257, 385, 49), (130, 200, 130),
    (264, 200, 72), (40, 65, 48),
]  # fmt: skip


@pytest.mark.parametrize("shape", MATRICES)
@pytest.mark.usefixtures("isa", "threads")
def test_matrix_products_of_any_layout(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    lefts = [ring(m, k), ring(k, m).T, ring(m, 2 * k + 1)[:, 1::2], ring(m + 1, k + 3)[1:, 3:]]
    rights = [ring(k, n), ring(n, k).T, ring(2 * k, n)[::2], ring(1, n).expand(k, n)]

    products = [(native.matmul(x, y), x, y) for x in lefts for y in rights]

    for z, x, y in products:
        assert torch.equal(z, reference.matmul(x, y))


@pytest.mark.parametrize("shape", MATRICES)
@pytest.mark.usefixtures("isa", "threads")
def test_products_with_short_matrices_of_any_layout(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    x, y = ring(m, k), ring(k, n).to(torch.int32)
    rights = [y, ring(n, k).to(torch.int32).T, ring(k + 1, n + 3).to(torch.int32)[1:, 3:], y[::2].repeat(2, 1)[:k]]

    products = [(matmul(x, right), right) for right in rights]
    turned = matmul(rights[1].T, x.T)

    for z, right in products:
        assert torch.equal(z, reference.matmul(x, right.to(torch.int64)))
    assert torch.equal(turned, products[1][0].T)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((7,), (7,)), ((90,), (90, 200)), ((200, 90), (90,)), ((3, 20, 30), (30, 40)), ((3, 20, 30), (30,)),
        ((4, 20, 30), (4, 30, 40)), ((2, 1, 20, 30), (3, 30, 40)), ((20, 30), (5, 30, 40)), ((0, 20, 30), (0, 30, 40)),
        ((2, 3, 0), (2, 0, 4)), ((0, 5), (2, 5, 3)), ((64, 1, 300), (64, 300, 50)), ((0, 3, 4), (4, 2)),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("isa", "threads")
def test_batches_of_products_broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    x, y = ring(*left), ring(*right)

    z = native.matmul(x, y)

    want = reference.matmul(x, y)
    assert z.shape == want.shape
    assert torch.equal(z, want)


@pytest.mark.usefixtures("isa", "threads")
def test_random_products() -> None:
    for _ in range(60):
        m, k, n = (int(size) for size in torch.randint(0, 90, (3,)))
        x, y = ring(m, k), ring(k, n)

        assert torch.equal(native.matmul(x, y), reference.matmul(x, y))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.usefixtures("isa", "threads")
def test_operands_of_contractions_may_lie_anywhere(shared: bool) -> None:
    for _ in range(12):
        batch, m, k, n = random.randint(1, 3), *(random.randint(1, 90) for _ in range(3))
        run = random.randint(1, n) if shared else 0
        n = n // run * run if shared else n
        x_at, y_at, z_at = places(batch, m, k), places(batch, k, n), apart(batch, m, n)
        x, y, z = enough(x_at), enough(y_at), enough(z_at)
        want = z.clone()

        native.contract(x, x_at, y, y_at, z, z_at, shared=run)

        reference.contract(x, x_at, y, y_at, want, z_at, shared=run)
        assert torch.equal(z, want)


def test_sizes_that_do_not_fit_are_refused_as_by_pytorch() -> None:
    with pytest.raises(RuntimeError):
        native.matmul(ring(3, 4), ring(5, 6))
    with pytest.raises(RuntimeError):
        native.matmul_short(ring(30, 40), ring(50, 60).to(torch.int32))


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(ValueError, match="no such instruction set"):
        native_module.use_isa("abacus")


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_the_backend_can_be_chosen(backend: str) -> None:
    program = "from tacit.ring import kernels; print(kernels.BACKEND, type(kernels.at('cpu')).__module__)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TACIT_KERNELS": backend},
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert run.stdout.split() == [backend, f"tacit.ring.kernels.{backend}"], run.stderr


SIZES = [0, 1, 7, 63, 64, 65, 129, 1000, 200_001]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("isa", "threads")
def test_bits_are_packed_alike(size: int) -> None:
    dense, apart = bits(size + 3)[3:], bits(size, 3)[:, 1]
    plane = octets((size + 7) // 8 + 1)[1:]

    for b in (dense, apart):
        assert torch.equal(native.pack_bits(b), reference.pack_bits(b))
    assert torch.equal(native.unpack_bits(plane, size), reference.unpack_bits(plane, size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("isa", "threads")
def test_tables_are_alike_and_looked_up_alike(size: int) -> None:
    a = ring(size, 2)[:, 1]
    tables = torch.randint(-(2**15), 2**15, (CHUNKS, size), dtype=torch.int16)

    for thresholds in (1, 3):
        u = ring(thresholds, size)
        for leader in (False, True):
            found, want = (k.lookup(tables, u, leader=leader) for k in (native, reference))
            assert torch.equal(found[0], want[0])
            assert torch.equal(found[1], want[1])
    assert torch.equal(native.thermometer(a), reference.thermometer(a))
    for rows in (4, 8, 12):  # the top ones
        out = torch.zeros(rows, size, dtype=torch.int16)
        native.thermometer(a, out)
        assert torch.equal(out, reference.thermometer(a)[CHUNKS - rows :])
        u = ring(3, size)
        found, want = (k.lookup(tables[:rows], u, leader=True) for k in (native, reference))
        assert torch.equal(found[0], want[0])
        assert torch.equal(found[1], want[1])


@pytest.mark.parametrize("size", [0, 1, 63, 64, 100, 50_001])
@pytest.mark.parametrize("top", [False, True])
@pytest.mark.usefixtures("isa", "threads")
def test_nodes_are_alike(size: int, top: bool) -> None:
    nodes, inputs, products = (1, 6, 15) if top else (4, 7, 22)
    opened, masks = octets(inputs, nodes, size), octets(inputs, size, nodes).transpose(1, 2)
    monomials, less = octets(products, nodes, size), octets(4, nodes, size + 1)[3, :, 1:]

    assert torch.equal(native.node_expand(masks, top=top), reference.node_expand(masks, top=top))
    for leader in (False, True):
        found, want = (
            k.node_evaluate(opened, masks, monomials, less, top=top, leader=leader) for k in (native, reference)
        )
        assert torch.equal(found[0], want[0])
        assert found[1] is want[1] is None if top else torch.equal(found[1], want[1])


@pytest.mark.parametrize(("count", "row", "words"), [(8, 32, 6), (8, 8, 6), (6, 8, 2)])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("threads")
def test_digits_compared_at_once_are_alike(size: int, count: int, row: int, words: int) -> None:
    a, u = ring(size, 2)[:, 1], ring(3, size)
    tables = [torch.empty((size, count, row), dtype=torch.uint8) for _ in range(2)]
    masks, opened, held = torch.randint(-(2**15), 2**15, (3, 3 * size), dtype=torch.int16)
    products, dealt = [torch.empty((3 * size, words), dtype=torch.int64) for _ in range(2)], ring(3 * size, words)

    for k, table, product in zip((native, reference), tables, products, strict=True):
        k.wide_tables(a, table)
        k.wide_expand(masks, product)

    assert torch.equal(*tables)
    assert torch.equal(*products)
    for leader in (False, True):
        shared = octets(size, count, row)
        assert torch.equal(*(k.wide_lookup(shared, u, leader=leader) for k in (native, reference)))
        assert torch.equal(*(k.wide_evaluate(opened, held, dealt, leader=leader) for k in (native, reference)))


TABLES = [exponential.WHOLE, exponential.CHOSEN, exponential.octaves(COARSE)]
TABLES += [Octaves.of(-40, 2, 2.0**-16, 4, digit) for digit in (4, 8, 16)]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("frac_bits", [2, 16, 24, 56])
@pytest.mark.usefixtures("isa", "threads")
def test_powers_of_two_are_alike(table: Octaves, frac_bits: int) -> None:
    for shape in ((0,), (1,), (3, 85), (100_001,)):
        a, e, part = ring(2, *shape)[1], ring(*shape, 2)[..., 1], ring(table.entries, *shape)

        tables, shares = ([k.octave_table(table, a, frac_bits) for k in (native, reference)],
                          [k.octave_share(table, e, frac_bits, part) for k in (native, reference)])  # fmt: skip

        assert torch.equal(*tables)
        assert torch.equal(*shares)
        assert tables[0].shape == part.shape


def test_tables_of_powers_of_two_are_exact_to_half_a_unit() -> None:
    for table in TABLES:
        a = torch.cat([ring(50), torch.tensor([0, -1, 1, (1 << 20) - 1, -(2**63)])])

        entries = native.octave_table(table, a, 20) >> table.zeros

        for k, mask in enumerate(a.tolist()):
            steps = mask % (table.period << 20)
            high, low = divmod(Fraction(steps, 1 << 20), table.digit)
            for j in range(table.entries):
                power = low + table.digit * (1 + (j + high) % table.entries) - table.offset
                exact = Decimal(2) ** (decimal(power * Fraction(table.quarters, 4)) + table.dealt_bits)
                assert abs(int(entries[j, k]) - exact) <= Decimal("0.5001") + exact * Decimal("1e-14")


def decimal(x: Fraction) -> Decimal:
    return Decimal(x.numerator) / Decimal(x.denominator)


@pytest.mark.usefixtures("isa", "threads")
def test_key_streams_are_alike_wherever_a_request_begins_and_ends() -> None:
    key = os.urandom(16)
    here, there = native.key_stream(key), reference.key_stream(key)
    sizes = [1, 15, 16, 17, 5000, 8192, 3, 100_001, 8, 3 << 20]

    for size in sizes:
        assert torch.equal(here.next(size), there.next(size))
        for combine in ("add_to", "subtract_from", "xor_into"):
            values = octets(size) if combine == "xor_into" else ring(size // 8 + 1)
            copy = values.clone()
            getattr(here, combine)(values)
            getattr(there, combine)(copy)
            assert torch.equal(values, copy)


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("size", [0, 1, 7, 65, 300_001])
@pytest.mark.usefixtures("isa", "threads")
def test_words_are_alike(size: int, width: int) -> None:
    x, others = ring(size, 2)[:, 1], octets(width * size + 1)[1:]
    found, want = (octets(width * size + 3)[3:] for _ in range(2))

    native.narrow(x, width, found)
    reference.narrow(x, width, want)

    assert torch.equal(found, want)
    assert torch.equal(native.widen(found, width), reference.widen(want, width))
    for kernels, words in ((native, found), (reference, want)):
        kernels.subtract_words(words, others, width)
    assert torch.equal(found, want)


def table(kernels: Reference, waves: Waves, a: torch.Tensor) -> torch.Tensor:
    words = octets(waves.width * a.numel() + 1)[1:]
    kernels.wave_table(waves, a, words)
    return words


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 5000, 70_001])
@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.usefixtures("isa", "threads")
def test_waves_are_alike_to_the_last_bit(size: int, odd: bool) -> None:
    widths = [8, 8, 7, 6, 5, 5, 4, 3, 2, 1]
    p, q = torch.randn(2, len(widths)).tolist()
    terms = [Term(p[k], q[k], 4 * w - 3 + k % 3, 4 * w - 2, w) for k, w in enumerate(widths)]
    waves = Waves(int(ring(1)) % 2**64, odd=odd, terms=terms)
    a, e = ring(size, 2)[:, 1], ring(size)
    share = octets(waves.width * size + 1)[1:]

    assert torch.equal(table(native, waves, a), table(reference, waves, a))
    assert torch.equal(native.wave_sum(waves, e, share), reference.wave_sum(waves, e, share))


@pytest.mark.usefixtures("isa")
def test_waves_are_alike_where_a_quarter_of_a_turn_begins_and_where_factors_are_halves() -> None:
    edges = torch.tensor([k << 60 for k in range(-8, 8)])
    v = torch.cat([edges + d for d in (-1025, -1, 0, 1, 1025)])
    waves = Waves(1, odd=False, terms=[Term(0.5, 0.0, 0, 0, 1), Term(0.5, 0.5, 1, 1, 1), Term(1.5, -0.5, 2, 0, 2)])
    share = octets(waves.width * v.numel())

    assert torch.equal(table(native, waves, v), table(reference, waves, v))
    assert torch.equal(native.wave_sum(waves, v, share), reference.wave_sum(waves, v, share))


def test_a_key_of_another_size_is_refused() -> None:
    if not native_module.has_aes():
        pytest.skip("this machine has no AES instructions")
    with pytest.raises(ValueError, match="16 bytes"):
        native_module.KeyStream(bytes(32))


PASS_SIZES = [0, 1, 7, 64, 1000, 300_001]  # the last is worth two threads
LAYOUTS = {
    "dense": lambda shape: ring(*shape),
    "apart": lambda shape: ring(*shape, 3)[..., 1],
    "expanded": lambda shape: ring(*shape[:-1], 1).expand(shape),
    "displaced": lambda shape: ring(torch.Size(shape).numel() + 1)[1:].view(shape),
}
MULTIPLIERS = [1 << 63, 1 << 48, 1 << 40, 1 << 57, 4, 12345 << 40, 3 << 62, 2**64 - 4]
FEW_MULTIPLIERS = [1 << 48, 12345 << 40]  # where it is about threads


@pytest.mark.parametrize("size", PASS_SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("isa", "threads")
def test_products_are_added_alike(size: int, layout: str) -> None:
    x, b, y, a = (LAYOUTS[layout]((2, size)) for _ in range(4))

    for left in (None, a):
        for right in (None, b):
            for leader in (False, True):
                for minus in (False, True):
                    found = ring(2, size)
                    want = found.clone()
                    native.multiply_add(found, x, right, y, left, leader=leader, minus=minus)
                    reference.multiply_add(want, x, right, y, left, leader=leader, minus=minus)
                    assert torch.equal(found, want)


@pytest.mark.usefixtures("isa")
def test_products_are_added_with_broadcasting() -> None:
    x, b, y, a = ring(5, 1), ring(5, 1), ring(7), ring(7)
    found = torch.zeros(5, 7, dtype=torch.int64)

    native.multiply_add(found, x, b, y, a, leader=True)

    assert torch.equal(found, x * y + x * b + y * a)


@pytest.mark.parametrize("size", PASS_SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.usefixtures("isa", "threads")
def test_scaled_numbers_and_choices_of_them_are_alike(size: int, layout: str, dtype: torch.dtype) -> None:
    shape = (1, size)
    a, opened, x, beta, high = (LAYOUTS[layout](shape) for _ in range(5))
    c, bit = bits(1, 2 * size)[:, ::2], bits(*shape)
    wrap = LAYOUTS[layout](shape).to(dtype)

    for m in MULTIPLIERS if size <= 1000 else FEW_MULTIPLIERS:
        for chosen in (None, bit):
            both = [(torch.empty(shape, dtype=torch.int64), torch.empty(shape, dtype=dtype)) for _ in range(2)]
            for k, (product, turn) in zip((native, reference), both, strict=True):
                k.scaled_parts(a, m, product, turn, chosen)
            assert torch.equal(both[0][0], both[1][0])
            assert torch.equal(both[0][1], both[1][1])
        for leader in (False, True):
            found, want = (k.scaled_share(opened, m, high, wrap, leader=leader) for k in (native, reference))
            assert torch.equal(found, want)
        found, want = (k.selected(opened, c, x, beta, high, m, wrap) for k in (native, reference))
        assert torch.equal(found, want)
    found, want = (k.selected(opened, c, x, beta, high) for k in (native, reference))
    assert torch.equal(found, want)


@pytest.mark.usefixtures("isa", "threads")
def test_key_streams_are_subtracted_in_words_of_any_size() -> None:
    key = os.urandom(16)
    here, there = native.key_stream(key), reference.key_stream(key)

    for size in (1, 100, 5000, 2_000_001):
        for dtype in (torch.uint8, torch.int16, torch.int32, torch.int64):
            found = ring(size).to(dtype)
            want = found.clone()
            here.subtract_from(found)
            there.subtract_from(want)
            assert torch.equal(found, want)


@pytest.mark.parametrize("size", PASS_SIZES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.usefixtures("isa", "threads")
def test_numbers_are_encoded_and_decoded_alike(size: int, dtype: torch.dtype) -> None:
    halves = (torch.randint(-1000, 1000, (size,)) * 0.5).to(dtype)
    wide = (torch.randn(size, 3)[:, 1] * 2.0 ** torch.randint(-20, 9, (size,))).to(dtype)

    for x in (halves, wide, torch.randn(1, 1).to(dtype).expand(size, 2)):
        for scale in (1.0, 2.0**16, 2.0**40):
            (found, fits), (want, wanted) = (k.encode(x, scale) for k in (native, reference))
            assert torch.equal(found, want)
            assert fits is wanted is True
    for v in (ring(size), ring(size, 2)[:, 1], ring(size) >> 20):
        for scale in (1.0, 2.0**-16, 2.0**-62):
            assert torch.equal(native.decode(v, scale, dtype), reference.decode(v, scale, dtype))


@pytest.mark.parametrize("place", [0, 63, 299_999])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2.0**62, -(2.0**62)])
@pytest.mark.usefixtures("isa", "threads")
def test_numbers_out_of_range_are_noticed_wherever_they_are(place: int, value: float) -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(300_000, dtype=dtype)
        assert native.encode(x, 1.0)[1]
        x[place] = value

        assert not native.encode(x, 1.0)[1]
        x[place] = 2.0**61
        assert native.encode(x, 1.0)[0][place] == 2**61
