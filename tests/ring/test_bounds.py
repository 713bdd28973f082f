"""Native kernels read and write what they were given and nothing else: fuzzed over wrong sizes, dtypes and places.

`python -m pytest tests/ring/test_bounds.py tests/ring/test_native.py` runs under the address and undefined-behaviour
sanitizers as well: see `test_sanitizers.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tacit.ring import reference
from tacit.ring.convolution import Geometry, convolve, input_gradient, weight_gradient
from tacit.ring.reference import Places
from tacit.ring.waves import Term, Waves

native = pytest.importorskip("tacit.ring.native", reason="the native kernels are not built")

REFUSALS = (TypeError, ValueError, RuntimeError, IndexError)
WAVES = Waves(12345 << 40, odd=True, terms=[Term(0.5, 0.25, 20, 20, 5), Term(0.1, -0.5, 20, 20, 4)])
GUARD = 64  # bytes kept on either side of what a kernel writes


def ring(*shape: int) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape)


def octets(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def bits(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape, dtype=torch.uint8)


class Guarded:
    """A tensor to write to, with bytes on either side that must stay as they are."""

    def __init__(self, like: Tensor) -> None:
        size = like.nbytes
        self.whole = octets(GUARD + size + GUARD)
        self.part = self.whole[GUARD : GUARD + size].view(like.dtype).view(like.shape)
        self.part.copy_(like)
        self.before = self.whole.clone()

    def check(self) -> None:
        for side in (slice(None, GUARD), slice(-GUARD, None)):
            assert torch.equal(self.whole[side], self.before[side])


def calls(n: int) -> dict[str, tuple[Callable[..., Any], list[Tensor], list[Tensor]]]:
    """Kernels with operands that fit, for n elements: a call of (operands, outputs), the operands, the outputs."""
    planes = (n + 7) // 8
    key = bytes(16)
    return {
        "matmul": (lambda i, o: native.matmul(*i), [ring(n, 70), ring(70, 200)], []),
        "multiply_add": (
            lambda i, o: native.multiply_add(o[0], *i, leader=True),
            [ring(n), ring(n), ring(n), ring(n)],
            [ring(n)],
        ),
        "scaled_parts": (
            lambda i, o: native.scaled_parts(i[0], 1 << 48, *o, i[1]),
            [ring(n), bits(n)],
            [ring(n), octets(n)],
        ),
        "scaled_share": (
            lambda i, o: native.scaled_share(i[0], 3 << 40, i[1], i[2], leader=True),
            [ring(n), ring(n), octets(n)],
            [],
        ),
        "selected": (
            lambda i, o: native.selected(*i[:5], 1 << 48, i[5]),
            [ring(n), bits(n), ring(n), ring(n), ring(n), octets(n)],
            [],
        ),
        "encode": (lambda i, o: native.encode(i[0], 2.0**16), [torch.randn(n)], []),
        "decode": (lambda i, o: native.decode(i[0], 2.0**-16, torch.float32), [ring(n)], []),
        "thermometer": (
            lambda i, o: native.thermometer(i[0], o[0]),
            [ring(n)],
            [torch.zeros(16, n, dtype=torch.int16)],
        ),
        "lookup": (
            lambda i, o: native.lookup(*i, leader=True),
            [torch.zeros(16, n, dtype=torch.int16), ring(3, n)],
            [],
        ),
        "node_expand": (
            lambda i, o: native.node_expand(i[0], top=True, out=o[0]),
            [octets(6, 1, planes)],
            [octets(15, 1, planes)],
        ),
        "node_evaluate": (
            lambda i, o: native.node_evaluate(*i, top=False, leader=False),
            [octets(7, 4, planes), octets(7, 4, planes), octets(22, 4, planes), octets(4, planes)],
            [],
        ),
        "pack_bits": (lambda i, o: native.pack_bits(i[0]), [bits(n)], []),
        "unpack_bits": (lambda i, o: native.unpack_bits(i[0], n), [octets(planes)], []),
        "widen": (lambda i, o: native.widen(i[0], 5), [octets(5 * n)], []),
        "narrow": (lambda i, o: native.narrow(i[0], 5, o[0]), [ring(n)], [octets(5 * n)]),
        "subtract_words": (lambda i, o: native.subtract_words(o[0], i[0], 3), [octets(3 * n)], [octets(3 * n)]),
        "wave_table": (lambda i, o: native.wave_table(WAVES, i[0], o[0]), [ring(n)], [octets(WAVES.width * n)]),
        "wave_sum": (lambda i, o: native.wave_sum(WAVES, *i), [ring(n), octets(WAVES.width * n)], []),
        "add_to": (lambda i, o: native.key_stream(key).add_to(o[0]), [], [ring(n)]),
        "subtract_from": (
            lambda i, o: native.key_stream(key).subtract_from(o[0]),
            [],
            [torch.zeros(n, dtype=torch.int32)],
        ),
        "xor_into": (lambda i, o: native.key_stream(key).xor_into(o[0]), [], [octets(n)]),
    }


def spoiled(t: Tensor) -> Tensor:
    """The tensor with another size, dtype, device or layout."""
    n = t.shape[-1]
    kind = random.choice(["shorter", "longer", "empty", "dtype", "meta", "apart", "dims"])
    if kind == "shorter":
        return t[..., : random.randint(0, max(n - 1, 0))].clone()
    if kind == "longer":
        return torch.cat([t, t[..., :1].repeat(*[1] * (t.dim() - 1), random.randint(1, 70))], -1)
    if kind == "empty":
        return t[..., :0].clone()
    if kind == "dtype":
        return t.to(random.choice([torch.int64, torch.int32, torch.int16, torch.uint8, torch.float64, torch.bool]))
    if kind == "meta":
        return t.to("meta")
    if kind == "apart":
        return torch.stack([t, t], -1)[..., 0]
    return t.reshape(-1) if t.dim() > 1 else t[None]


@pytest.mark.parametrize("name", sorted(calls(1)))
def test_kernels_stay_inside_of_what_they_were_given(name: str) -> None:
    for round_ in range(60):
        call, operands, outputs = calls(random.choice([1, 8, 63, 130, 2000]))[name]
        if round_:
            k = random.randrange(len(operands) + len(outputs))
            row, at = (operands, k) if k < len(operands) else (outputs, k - len(operands))
            row[at] = spoiled(row[at])
        guarded = [Guarded(t) if t.device.type == "cpu" and t.is_contiguous() else None for t in outputs]
        given = [t if g is None else g.part for t, g in zip(outputs, guarded, strict=True)]
        kept = [t.clone() for t in operands]

        try:
            call(operands, given)
        except REFUSALS:
            assert round_, "what fits must not be refused"

        for g in guarded:
            if g is not None:
                g.check()
        for t, before in zip(operands, kept, strict=True):
            assert t.is_meta or torch.equal(t, before)


@pytest.mark.parametrize("bad", ["shorter", "int32", "meta", "apart"])
def test_a_wrong_output_is_refused_in_words(bad: str) -> None:
    outputs = {
        "shorter": torch.zeros(9, dtype=torch.int64),
        "int32": torch.zeros(10, dtype=torch.int32),
        "meta": torch.zeros(10, dtype=torch.int64, device="meta"),
        "apart": torch.zeros(10, 2, dtype=torch.int64)[:, 0],
    }

    with pytest.raises((TypeError, ValueError), match=r"a kernel (needs|was called with)"):
        native.scaled_parts(ring(10), 1 << 48, outputs[bad], octets(10))


def places(first: list[int], rows: list[int], columns: list[int]) -> Places:
    return Places(*(torch.tensor(p, dtype=torch.int64) for p in (first, rows, columns)))


def test_places_outside_of_a_tensor_are_refused() -> None:
    inside = places([0], [0, 2], [0, 1])
    for bad in (
        places([0], [0, 2], [0, 2]), places([1], [0, 2], [0, 1]), places([-1], [0, 2], [0, 1]),
        places([0], [0, -(2**63)], [0, -(2**63)]), places([0], [0, 2**63 - 1], [0, 2**63 - 1]),
        places([0, 0], [0, 2], [0, 1]), places([0], [0, 2, 0], [0, 1]), places([0], [0, 2], [0]),
    ):  # fmt: skip
        for k in range(3):
            at = [inside, inside, inside]
            at[k] = bad
            x, y, z = ring(4), ring(4), Guarded(torch.zeros(4, dtype=torch.int64))
            try:
                native.contract(x, at[0], y, at[1], z.part, at[2])
            except ValueError:
                pass
            else:
                pytest.fail(f"{bad} of operand {k} was not refused")
            z.check()


def test_places_inside_of_a_tensor_are_taken() -> None:
    for _ in range(200):
        m, k, n, batch = (random.randint(1, 9) for _ in range(4))
        x, y, z = ring(40), ring(40), Guarded(torch.zeros(batch * m * n, dtype=torch.int64))

        def somewhere(rows: int, columns: int) -> Places:
            return places(*([random.randint(0, 13) for _ in range(count)] for count in (batch, rows, columns)))  # noqa: B023

        x_at, y_at = somewhere(m, k), somewhere(k, n)
        z_at = places([b * m * n for b in range(batch)], [i * n for i in range(m)], list(range(n)))
        want = torch.zeros(batch * m * n, dtype=torch.int64)
        reference.contract(x, x_at, y, y_at, want, z_at)

        native.contract(x, x_at, y, y_at, z.part, z_at)

        assert torch.equal(z.part, want)
        z.check()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolutions_of_shapes_that_do_not_fit_are_refused(dims: int) -> None:
    kernel = (3,) * dims
    one = Geometry(kernel, (1,) * dims, (0,) * dims, (1,) * dims)
    two = one._replace(groups=2)
    x, dy = ring(1, 4, *[8] * dims), ring(1, 2, *[6] * dims)

    for w, g in (
        (ring(2, 3, *kernel), one), (ring(2, 5, *kernel), one), (ring(2, 1, *kernel), one), (ring(2, 4, *kernel), two),
        (ring(3, 2, *kernel), two), (ring(2, 4, *[2] * dims), one), (ring(2, 4, *kernel, 3), one),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="does not fit"):
            convolve(x, w, g)
        with pytest.raises(ValueError, match="does not fit"):
            input_gradient(ring(1, 3, *[6] * dims) if w.shape[0] == 2 else dy, w, g, x.shape[2:])
    for bad in (ring(2, 2, *[6] * dims), ring(1, 2, *[7] * dims), ring(1, 3, *[6] * dims)):
        with pytest.raises(ValueError, match="does not fit"):
            weight_gradient(bad, x, two)
