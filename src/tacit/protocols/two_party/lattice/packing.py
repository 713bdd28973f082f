"""Matrices in the coefficients of polynomials [HLHD22], and which blocks of them cost least.

    x = Σ X_ij X^(i kw + kw - 1 - j)      y = Σ Y_jc X^(c r + j)      r >= mw kw, nw r <= N

Coefficient c r + i kw + kw - 1 of x y is Σ_j X_ij Y_jc: other products fall on other places, and what goes over the
edge on places below kw - 1. Blocks of X are ciphertexts, blocks of Y plaintexts; sums over the inner dimension are made
inside of the answers, of which there is one for each block of rows and of columns.

Where r is a power of two, y is kw polynomials in X^r, and each of them has nw different values only: `strided`. Else it
is transformed as a whole.

Where entries are polynomials themselves, all exponents are multiples of an area that has room for one, and it takes its
places from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tacit.protocols.two_party.lattice.kernels import STRIDED_TERMS
from tacit.protocols.two_party.lattice.parameters import DEGREE, Parameters

__all__ = ["Plan", "grouping", "plan"]

BYTE_NS = 10.0
"""What a byte on its way counts, beside nanoseconds of computing: between the 1 of a local network and the 23 of
350 Mbit/s each way. More: fewer bytes; less: less work of the processor."""

ENCRYPTED, ANSWERED, TRANSFORMED, SUMMED, SUMMED_STRIDED = 1.5e5, 4e5, 5e4, 2.5e4, 8e3
"""Nanoseconds of both parties for a ciphertext, an answer, a plaintext, and a product, measured on one core."""

AT_A_TIME = 64
"""Ciphertexts and sums in memory at a time, 400 kB each. Larger: fewer passes; smaller: less memory."""

WIDEST = 8
"""The most inner places of a strided block: each of them is a product of its own."""

MOST_GROUPED = 128
"""The most products of a batch that are made as one: 90 of 1 x 1 fill a ciphertext."""

LEAST_RUN = 64
"""The shortest r of a strided block: transforms leave blocks of 64 in an order of their own."""


class Plan(NamedTuple):
    """How a product of [rows, inner] and [inner, columns] is cut: the first operand is encrypted."""

    rows: int
    inner: int
    columns: int
    mw: int
    kw: int
    nw: int
    run: int
    """r."""
    strided: bool
    area: int = 1
    """Places of an entry."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks of rows, of the inner dimension, and of columns."""
        return -(-self.rows // self.mw), -(-self.inner // self.kw), -(-self.columns // self.nw)

    def bands(self) -> list[range]:
        """Blocks of rows that are multiplied at a time."""
        return _ranges(self.grid[0], AT_A_TIME)

    def chunks(self, band: range) -> list[range]:
        """Blocks of the inner dimension that are summed at a time."""
        most = STRIDED_TERMS // self.kw if self.strided else 16
        return _ranges(self.grid[1], min(most, max(1, AT_A_TIME // len(band))))

    def spans(self, band: range) -> list[range]:
        """Blocks of columns that are answered at a time."""
        return _ranges(self.grid[2], max(1, AT_A_TIME // len(band)))

    def cost(self, parameters: Parameters, upload: float) -> float:
        """In nanoseconds, with so much of the upload to be paid."""
        a, b, c = self.grid
        sent = upload * a * b * parameters.upload_bytes + a * c * parameters.answer_bytes
        work = upload * a * b * ENCRYPTED + a * c * ANSWERED
        work += a * b * c * self.kw * SUMMED_STRIDED if self.strided else b * c * TRANSFORMED + a * b * c * SUMMED
        return BYTE_NS * sent + work * parameters.primes / 3

    def terms(self, places: int) -> int:
        """Coefficients of plaintexts that the noise of a result is summed over, of entries with so many of them."""
        return self.grid[1] * self.kw * self.nw * places

    @property
    def across(self) -> int:
        """Columns of a block that results are wanted of."""
        return min(self.nw, self.columns)

    def positions(self, wanted: Tensor) -> Tensor:
        """Where results stand, of which these places are wanted: [across · mw · places]."""
        firsts = _firsts(self.across, self.run, self.mw, self.kw, self.area)
        return (firsts.view(-1, 1) + wanted).view(-1)

    def left(self, x: Tensor, places: Tensor, band: range, chunk: range) -> Tensor:
        """[rows, inner, places] -> messages [a, b, N] of a band and a chunk."""
        a, b = len(band), len(chunk)
        some = x[band.start * self.mw : band.stop * self.mw, chunk.start * self.kw : chunk.stop * self.kw]
        some = _padded(some, a * self.mw, b * self.kw)
        blocks = some.view(a, self.mw, b, self.kw, -1).permute(0, 2, 1, 3, 4).flip(3)
        return _filled(self._spread(blocks, places).reshape(a, b, -1))

    def right(self, y: Tensor) -> Tensor:
        """[inner, columns, places] -> [b, kw, c, nw, places]: what strides are, and what plaintexts are filled from."""
        _, b, c = self.grid
        return _padded(y, b * self.kw, c * self.nw).view(b, self.kw, c, self.nw, -1)

    def filled(self, y: Tensor, places: Tensor) -> Tensor:
        """Some blocks [b, kw, nw, places] of one column -> plaintexts [b, N], to be transformed as a whole."""
        out = y.new_zeros(len(y), DEGREE)
        rows = out[:, : self.nw * self.run].unflatten(1, (self.nw, self.run))
        rows[..., : self.kw * self.area] = self._spread(y.transpose(1, 2), places).flatten(2)
        return out

    def joined(self, shares: Sequence[Tensor]) -> Tensor:
        """Shares [blocks, across mw places] of each band and span, in their order -> [rows, columns, places]."""
        pieces, rows = iter(shares), []
        for band in self.bands():
            along = []
            for span in self.spans(band):
                piece = next(pieces).view(len(band), len(span), self.across, self.mw, -1)
                piece = piece.permute(0, 3, 1, 2, 4)
                along.append(piece.reshape(len(band) * self.mw, len(span) * self.across, -1))
            rows.append(torch.cat(along, 1))
        return torch.cat(rows)[: self.rows, : self.columns]

    def _spread(self, entries: Tensor, places: Tensor) -> Tensor:
        """[…, places] -> […, area]."""
        if self.area == 1:
            return entries
        out = entries.new_zeros(*entries.shape[:-1], self.area)
        out[..., places] = entries
        return out


def _ranges(count: int, most: int) -> list[range]:
    return [range(at, min(at + most, count)) for at in range(0, count, most)]


@lru_cache(256)
def _firsts(columns: int, run: int, rows: int, kw: int, area: int) -> Tensor:
    column, row = torch.arange(columns).view(-1, 1), torch.arange(rows)
    return (column * run + (row * kw + kw - 1) * area).view(-1)


def _padded(x: Tensor, rows: int, columns: int) -> Tensor:
    short = columns - x.shape[1], rows - x.shape[0]
    return (pad(x, (0, 0, 0, short[0], 0, short[1])) if any(short) else x).contiguous()


def _filled(blocks: Tensor) -> Tensor:
    return pad(blocks, (0, DEGREE - blocks.shape[-1])).contiguous()


def _parts(n: int) -> list[int]:
    """Sizes of blocks worth trying: halves, thirds and so on, and powers of two."""
    sizes = {-(-n // count) for count in range(1, 17)} | {1 << k for k in range(DEGREE.bit_length()) if 1 << k < n}
    return sorted(size for size in sizes if size <= DEGREE)


@lru_cache(1024)
def plan(
    rows: int,
    inner: int,
    columns: int,
    parameters: Parameters,
    upload: float,
    block: tuple[int, int, bool] | None = None,
    area: int = 1,
) -> tuple[float, Plan]:
    """The cheapest plan and its cost; `block` are the mw, kw and form of ciphertexts that are there already."""
    found: tuple[float, Plan] | None = None
    for mw in _parts(rows) if block is None else [block[0]]:
        for kw in _parts(inner) if block is None else [block[1]]:
            if mw * kw * area > DEGREE:
                continue
            runs = [(mw * kw * area, False)]
            run = max(1 << (mw * kw - 1).bit_length(), LEAST_RUN)
            if kw <= WIDEST and area == 1:
                runs.append((run, True))
            if block is not None:
                runs = [one for one in runs if one[1] == block[2]]
            for run, strided in runs:
                nw = DEGREE // run if strided else min(columns, DEGREE // run)
                one = Plan(rows, inner, columns, mw, kw, nw, run, strided, area)
                cost = one.cost(parameters, upload)
                if found is None or cost < found[0]:
                    found = cost, one
    assert found is not None
    return found


@lru_cache(1024)
def grouping(count: int, rows: int, inner: int, columns: int, parameters: Parameters, area: int = 1) -> int:
    """How many products of a batch are made as one, of which the blocks on the diagonal are wanted.

    Ciphertexts and answers have room for g² products of small matrices, and g of them is what they are used for.
    """

    def cost(group: int) -> float:
        one, _ = plan(group * rows, inner, group * columns, parameters, 1.0, None, area)
        return -(-count // group) * one

    sizes = {count} | {1 << k for k in range(count.bit_length())}
    return min(sorted(size for size in sizes if size <= MOST_GROUPED), key=cost)
