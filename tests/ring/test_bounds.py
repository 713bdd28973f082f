"""Native kernels read and write what they were given and nothing else: fuzzed over wrong sizes, dtypes and places.

`python -m pytest tests/ring/test_bounds.py tests/ring/test_native.py` runs under the address and undefined-behaviour
sanitizers as well: see `test_sanitizers.py`.
"""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from tacit.protocols.additive.kernels import Reference
from tacit.ring.convolution import convolve, input_gradient, weight_gradient
from tacit.ring.geometry import Geometry
from tacit.ring.kernels import Places

from .cases import CASES
from .operands import native_kernels, octets, ring, written

native, reference = native_kernels(), Reference()

REFUSALS = (TypeError, ValueError, RuntimeError, IndexError)
NATIVE = [name for name, case in CASES.items() if case.kernel in written(type(native))]
GUARD = 64  # bytes kept on either side of what a kernel writes


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


@pytest.mark.parametrize("name", CASES)
def test_kernels_stay_inside_of_what_they_were_given(name: str) -> None:
    for round_ in range(60):
        operands, outputs = CASES[name].operands(random.choice([1, 8, 63, 130, 2000]))
        if round_:
            k = random.randrange(len(operands) + len(outputs))
            row, at = (operands, k) if k < len(operands) else (outputs, k - len(operands))
            row[at] = spoiled(row[at])
        guarded = [Guarded(t) if t.device.type == "cpu" and t.is_contiguous() else None for t in outputs]
        given = [t if g is None else g.part for t, g in zip(outputs, guarded, strict=True)]
        kept = [t.clone() for t in operands]

        try:
            CASES[name].call(native, operands, given)
        except REFUSALS:
            assert round_, "what fits must not be refused"

        for g in guarded:
            if g is not None:
                g.check()
        for t, before in zip(operands, kept, strict=True):
            assert t.is_meta or torch.equal(t, before)


def operands_of(name: str) -> list[int]:
    return list(range(sum(map(len, CASES[name].operands(70)))))


def wrong(t: Tensor, what: str) -> Tensor:
    if what == "device":
        return t.to("meta")
    if what == "dtype":
        return t.to(torch.float64)
    return t[..., :-1].contiguous() if what == "shorter" else torch.cat([t, t[..., :1]], -1)


@pytest.mark.parametrize("what", ["device", "dtype", "shorter", "longer"])
@pytest.mark.parametrize("name", NATIVE)
def test_a_wrong_operand_is_refused_whichever_it_is(name: str, what: str) -> None:
    case = CASES[name]
    for k in operands_of(name):
        if (
            (what == "dtype" and case.any_dtype)
            or (what == "device" and case.any_device)
            or (what in ("shorter", "longer") and k in case.any_length)
        ):
            continue
        inputs, outputs = case.operands(70)
        row, at = (inputs, k) if k < len(inputs) else (outputs, k - len(inputs))
        row[at] = wrong(row[at], what)
        kept = [t.clone() for t in outputs]

        with pytest.raises(REFUSALS):
            case.call(native, inputs, outputs)

        for t, before in zip(outputs, kept, strict=True):
            assert t.is_meta or torch.equal(t, before), "a kernel wrote before it refused"


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
