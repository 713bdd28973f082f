"""Products by tiles of bytes (AMX), where a processor has them: operands in any places, the ends of the blocks, and the
numbers whose limbs are largest."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch

from tacit.ring import convolution, kernels, windows
from tacit.ring.geometry import Geometry
from tacit.ring.kernels import Reference, matmul

from .operands import apart, enough, native_kernels, places, ring

native_module = pytest.importorskip("tacit.ring.kernels.native", reason="the native kernels are not built")
native, reference = native_kernels(), Reference()


@pytest.fixture(autouse=True)
def tiles() -> Iterator[None]:
    try:
        native_module.use_isa("amx")
    except ValueError:
        pytest.skip("this machine has no tiles")
    yield
    native_module.use_isa("best")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.usefixtures("threads")
def test_operands_may_lie_anywhere(shared: bool) -> None:
    for _ in range(6):
        batch, m, k, n = random.randint(1, 3), *(random.randint(40, 150) for _ in range(3))
        run = random.randint(1, n) if shared else 0
        n = n // run * run if shared else n
        x_at, y_at, z_at = places(batch, m, k), places(batch, k, n), apart(batch, m, n)
        if shared:  # three rows to a place
            z_at = z_at._replace(rows=z_at.rows[torch.arange(m) // 3])
        x, y, z = enough(x_at), enough(y_at), enough(z_at)
        want = z.clone()

        native.contract(x, x_at, y, y_at, z, z_at, shared=run)

        reference.contract(x, x_at, y, y_at, want, z_at, shared=run)
        assert torch.equal(z, want)


@pytest.mark.parametrize("geometry", [(20, 30, 9, 3, 1), (16, 40, 13, 5, 1), (32, 33, 14, 3, 2)])
@pytest.mark.usefixtures("threads")
def test_convolutions(geometry: tuple[int, int, int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    inner, outer, size, k, stride = geometry
    g = Geometry((k, k), (stride, stride), (1, 1), (1, 1))
    x, w = ring(3, inner, size, size), ring(outer, inner, k, k)
    dy = ring(3, outer, *g.outputs((size, size)))

    found = [
        windows.convolve(x, w, g, g.outputs((size, size))),
        windows.weight_gradient(dy, x, g),
        windows.gather_gradient(dy, w, g, (size, size)),
        windows.spread_gradient(dy, w, g, (size, size)),
    ]

    monkeypatch.setattr(kernels.at("cpu"), "gathers", False)
    native_module.use_isa("portable")
    gradient = convolution.input_gradient(dy, w, g, (size, size))
    want = [convolution.convolve(x, w, g), convolution.weight_gradient(dy, x, g), gradient, gradient]
    assert all(torch.equal(*pair) for pair in zip(found, want, strict=True))


@pytest.mark.parametrize("shape", [(257, 385, 49), (30, 200, 530)])
@pytest.mark.usefixtures("threads")
def test_matrices_of_any_layout(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    lefts = [ring(m, k), ring(k, m).T, ring(m, 2 * k + 1)[:, 1::2], ring(m + 1, k + 3)[1:, 3:]]
    rights = [ring(k, n), ring(n, k).T, ring(2 * k, n)[::2], ring(1, n).expand(k, n)]
    shorts = [t.to(torch.int32) for t in rights[:2]] + [ring(k + 1, n + 3).to(torch.int32)[1:, 3:]]

    for x in lefts:
        for y in rights:
            assert torch.equal(native.matmul(x, y), reference.matmul(x, y))
        for y in shorts:
            assert torch.equal(matmul(x, y), reference.matmul(x, y.to(torch.int64)))


@pytest.mark.usefixtures("threads")
def test_batches() -> None:
    x, y = ring(5, 1, 40, 90), ring(1, 3, 70, 90).transpose(-1, -2)

    assert torch.equal(native.matmul(x, y), reference.matmul(x, y))


@pytest.mark.parametrize(("m", "n"), [(16, 513), (33, 40)])
@pytest.mark.parametrize("k", [63, 64, 65, 192, 193, 448, 1000])
def test_the_ends_of_blocks(m: int, n: int, k: int) -> None:
    x, y = ring(m, k), ring(n, k).T

    assert torch.equal(native.matmul(x, y), reference.matmul(x, y))
    assert torch.equal(native.matmul(y.T, x.T), reference.matmul(y.T, x.T))


@pytest.mark.parametrize("x", [-1, -(2**63), 2**63 - 1, 0x00FF00FF00FF00FF, -2])
@pytest.mark.parametrize("y", [-1, -(2**63), 2**63 - 1, -(2**56), 2**31 - 1, -(2**31)])
def test_the_largest_limbs(x: int, y: int) -> None:
    m, k, n = 20, 1000, 30
    left, right = torch.full((m, k), x), torch.full((k, n), y)

    want = (x * y * k + 2**63) % 2**64 - 2**63
    assert (native.matmul(left, right) == want).all()
    if -(2**31) <= y < 2**31:
        assert (matmul(left, right.to(torch.int32)) == want).all()


def test_against_python() -> None:
    m, k, n = 17, 130, 33
    x, y = ring(m, k), ring(k, n)
    short = y.to(torch.int32)

    found, narrow = native.matmul(x, y), matmul(x, short)

    for i, j in ((0, 0), (16, 32), (3, 17), (15, 16), (16, 0)):
        for z, right in ((found, y), (narrow, short)):
            total = sum(a * b for a, b in zip(x[i].tolist(), right[:, j].tolist(), strict=True))
            assert int(z[i, j]) == (total + 2**63) % 2**64 - 2**63
