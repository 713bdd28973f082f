"""The kernels of the ring against exact integers, on odd sizes, strided tensors and no elements at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.ring.kernels import Reference

from .operands import bits, ring

SIZES = [0, 1, 3, 8, 9, 1000]


@pytest.mark.parametrize(
    "shapes", [((3, 5), (5, 2)), ((1, 1), (1, 1)), ((4, 0), (0, 3)), ((2, 3, 4), (2, 4, 5)), ((7,), (7,))]
)
def test_matrix_product_wraps_modulo_2_64(backend: Reference, shapes: tuple[tuple[int, ...], ...]) -> None:
    x, y = ring(*shapes[0]), ring(*shapes[1])

    z = backend.matmul(x, y)

    exact = (x.numpy().astype(object) @ y.numpy().astype(object)) if x.dim() < 3 else None
    if exact is not None:
        assert [int(v) % 2**64 for v in z.reshape(-1)] == [int(v) % 2**64 for v in np.asarray(exact).reshape(-1)]
    for k in range(len(x) if x.dim() == 3 else 0):
        assert torch.equal(z[k], backend.matmul(x[k], y[k]))
    assert torch.equal(backend.matmul(x.mT.contiguous().mT if x.dim() > 1 else x, y), z)


@pytest.mark.parametrize(("rows", "columns", "width"), [(0, 2, 3), (1, 1, 1), (5000, 3, 2), (700, 2, 8), (90, 1, 5)])
@pytest.mark.parametrize("bins", [1, 7, 256])
def test_rows_are_added_up_by_their_bins(backend: Reference, rows: int, columns: int, width: int, bins: int) -> None:
    codes, w = torch.randint(0, bins, (columns, rows), dtype=torch.uint8), ring(rows, width)

    sums = backend.bin_sums(codes, w, bins)

    hot = codes.long().unsqueeze(1) == torch.arange(bins).view(-1, 1)
    assert torch.equal(sums, hot.long() @ w)


@pytest.mark.parametrize(("words", "rows", "columns"), [(1, 1, 1), (3, 1100, 7), (2, 512, 1), (4, 0, 2)])
def test_parities_of_common_bits(backend: Reference, words: int, rows: int, columns: int) -> None:
    x, y = ring(words, rows), ring(words, columns)

    found = backend.parities(x, y)

    both = (x.unsqueeze(2) & y.unsqueeze(1)).unsqueeze(0) >> torch.arange(64).view(-1, 1, 1, 1)
    assert torch.equal(found.long(), (both & 1).sum((0, 1)) % 2)


@pytest.mark.parametrize("shift", [1, 16, 32, 63])
def test_logical_shift(backend: Reference, shift: int) -> None:
    x = torch.cat([ring(500), torch.tensor([0, -1, 2**63 - 1, -(2**63)])])

    shifted = backend.logical_shift(x, shift)

    assert [int(v) for v in shifted] == [(int(v) % 2**64) >> shift for v in x]


@pytest.mark.parametrize("size", SIZES)
def test_bits_survive_packing(backend: Reference, size: int) -> None:
    b = bits(size, 2)[:, 0]  # strided

    assert torch.equal(backend.unpack_bits(backend.pack_bits(b), size), b)


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("size", SIZES)
def test_words_are_the_tops_of_ring_elements(backend: Reference, size: int, width: int) -> None:
    below = 64 - 8 * width
    x, y = ring(size), ring(size) >> below << below
    words, others = (torch.empty(width * size, dtype=torch.uint8) for _ in range(2))

    backend.narrow(x, width, words)
    backend.narrow(y, width, others)

    assert torch.equal(backend.widen(words, width), x >> below << below)
    backend.subtract_words(words, others, width)
    assert torch.equal(backend.widen(words, width), (x >> below << below) - y)
