"""Convolutions that read windows where they lie, against the matrix of windows, for every form and geometry."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from tacit.ring import convolution, kernels, windows
from tacit.ring.geometry import Geometry
from tacit.ring.kernels import Places, Reference

GEOMETRIES = [  # batch, channels in and out of a group, size, kernel, stride, padding, dilation, groups
    (2, 3, 5, (12,), (3,), (1,), (0,), (1,), 1),
    (1, 1, 1, (7,), (7,), (1,), (0,), (1,), 1),
    (3, 2, 4, (9, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (2, 1, 1, (28, 28), (5, 5), (1, 1), (2, 2), (1, 1), 4),
    (2, 4, 20, (14, 15), (3, 2), (2, 3), (1, 0), (1, 1), 1),
    (2, 2, 3, (11, 11), (2, 3), (3, 2), (0, 2), (2, 3), 2),
    (1, 2, 2, (9, 9), (2, 2), (4, 3), (0, 0), (1, 1), 1),
    (1, 2, 3, (5, 6, 7), (2, 3, 3), (1, 2, 1), (1, 1, 0), (1, 1, 2), 2),
    (0, 2, 3, (6, 6), (3, 3), (1, 1), (0, 0), (1, 1), 1),
]  # fmt: skip


def ring(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape)


def agree(case: tuple, forced: Callable[[bool], None]) -> None:
    batch, inner, outer, size, kernel, stride, padding, dilation, groups = case
    g = Geometry(kernel, stride, padding, dilation, groups)
    x = ring(batch, inner * groups, *size).transpose(-1, -2).contiguous().transpose(-1, -2)
    w = ring(outer * groups, inner, *kernel)
    dy = ring(batch, outer * groups, *g.outputs(size))

    found = (
        windows.convolve(x, w, g, g.outputs(size)),
        windows.gather_gradient(dy, w, g, size),
        windows.spread_gradient(dy, w, g, size),
        windows.weight_gradient(dy, x, g),
    )

    forced(False)
    want = (
        convolution.convolve(x, w, g),
        *2 * [convolution.input_gradient(dy, w, g, size)],
        convolution.weight_gradient(dy, x, g),
    )
    forced(True)
    for z, expected in zip(found, want, strict=True):
        assert z.shape == expected.shape
        assert torch.equal(z, expected)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let `convolution` gather windows, or write them."""
    return lambda gathered: monkeypatch.setattr(kernels.at("cpu"), "gathers", gathered)


@pytest.mark.parametrize("case", GEOMETRIES)
@pytest.mark.parametrize("contract", [kernels.at("cpu").contract, Reference().contract], ids=["best", "reference"])
def test_windows_are_read_where_they_lie(
    case: tuple, contract: Callable, forced: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels.at("cpu"), "contract", contract)

    agree(case, forced)


def test_random_geometries(forced: Callable[[bool], None]) -> None:
    for _ in range(60):
        dims, groups = random.randint(1, 3), random.randint(1, 3)
        kernel, stride, padding, dilation = (
            tuple(random.randint(low, high) for _ in range(dims)) for low, high in ((1, 4), (1, 4), (0, 3), (1, 3))
        )
        size = tuple(d * (k - 1) + 1 + random.randint(0, 6) for k, d in zip(kernel, dilation, strict=True))

        agree(
            (
                random.randint(1, 3),
                random.randint(1, 4),
                random.randint(1, 9),
                size,
                kernel,
                stride,
                padding,
                dilation,
                groups,
            ),
            forced,
        )


def test_images_are_shared_out_among_threads(forced: Callable[[bool], None]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        agree((8, 3, 16, (20, 20), (5, 5), (1, 1), (2, 2), (1, 1), 1), forced)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shared", [-1, 2])
def test_columns_that_are_no_whole_runs_are_refused(shared: int) -> None:
    at = Places(torch.zeros(1, dtype=torch.int64), torch.arange(0, 9, 3), torch.arange(3))

    with pytest.raises(ValueError, match="whole runs"):
        kernels.at("cpu").contract(ring(9), at, ring(9), at, ring(9), at, shared)


def test_a_convolution_of_fewer_places_is_its_beginning() -> None:
    x, w = ring(2, 3, 9, 9), ring(4, 3, 3, 3)
    g = Geometry((3, 3), (2, 2), (1, 1), (1, 1))

    assert torch.equal(windows.convolve(x, w, g, (3, 4)), windows.convolve(x, w, g, (5, 5))[:, :, :3, :4])
