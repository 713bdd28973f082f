"""Sums over bins that one party knows, and the ways of rows through a tree, in memory that hardly grows with the rows.

Let party i own C. It is opened to the others under a mask a that party i and the producer know, E = C - a, once; the
secret w is opened under b, F = w - b, where each party j has its own part b_j of b. Then

    C w  =  C (F + b_i)  +  Σ_{j≠i} E b_j  +  a Σ_{j≠i} b_j

of which party i computes the first term, a histogram of its bins; each other party a product with E; and the producer
the last, which becomes the premask of the result (`product`). E is the only thing of the size of C, 8 bytes for each
edge and row, and is read once for a product: it may lie in a file. a is made anew of its key, a few rows at a time.

*Privacy.* E is masked by the stream of a key that nobody has but the owner and the producer. That the producer knows
the parts of b, and not only their sum, tells it nothing: all of them are of its own streams.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from io import BufferedRandom

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.protocols.additive import parity
from tacit.protocols.additive.masks import Mask
from tacit.protocols.additive.product import Product, premasked
from tacit.protocols.additive.source.base import Source
from tacit.protocols.binned import Binned
from tacit.ring.kernels import matmul
from tacit.ring.memory import space
from tacit.ring.ring import RING

__all__ = ["OpenBins"]


class OpenBins:
    """What is open of one owner's bins. Every role keeps the same books."""

    def __init__(self, source: Source, table: Binned, indices: Sequence[int]) -> None:
        self._table = table
        self._mask = source.redrawn(table.owner, table.edges)
        self._others = any(i != table.owner for i in indices)
        self._kept: _Rows | None = None
        self.bits: parity.Packed | None = None
        """The lowest bits of C, for the ways of rows."""

    def masked(self) -> Tensor:
        """E, at the owner: what the others are sent, int64 [rows, edges]."""
        table = self._table
        out = space((table.rows, table.edges), RING.dtype)
        for start, a in self._mask.chunks(table.rows):
            stop = start + len(a)
            torch.sub(table.indicators(start, stop), a, out=out[start:stop])
        return out

    def take(self, opened: Tensor | None, indices: Sequence[int]) -> None:
        """Keep E where others need it, and the lowest bits of E and a."""
        table = self._table
        mine = None
        if self._mask.known:
            mine = torch.cat([parity.packed(a) for _, a in self._mask.chunks(table.rows)], 1)
        parts = [mine if i == table.owner else None for i in indices]
        plain = mine if self._mask.plain else None
        bits = None if opened is None else parity.packed(opened)
        self.bits = parity.Packed(table.rows, bits, parts, plain)
        if opened is not None and self._others:
            self._kept = _Rows(opened, spilled=table.spilled)

    def sums(self, source: Source, w: Mask, indices: Sequence[int]) -> Product:
        """C w for w [rows, m], whose mask has its parts apart: [edges, m], premasked. Producer: no bytes."""
        table, secret = self._table, w.secret
        shape = torch.Size((table.edges, w.shape[1]))
        products = []
        for k, index in enumerate(indices):
            assert w.opened is not None
            if index == table.owner:
                products.append(table.sums(w.opened + secret.parts[k]))
            else:
                assert self._kept is not None
                products.append(_transposed_product(self._kept.chunks(), secret.parts[k]))
        others = [b for j, b in enumerate(secret.shares or ()) if j != table.owner]
        plain = None
        if others:
            plain = _transposed_product(self._mask.chunks(table.rows), sum(others[1:], others[0]))
        return premasked(*source.masked_sum(products, plain, shape), shape)


class _Rows:
    """A matrix of ring elements that is read from its first row to its last, in memory or in a file without a name."""

    READ = 1 << 19
    """Elements that are read at a time: 4 MiB. More: fewer calls; fewer: they stay in a cache."""

    def __init__(self, matrix: Tensor, *, spilled: bool) -> None:
        self._shape = matrix.shape
        self._matrix: Tensor | None = None if spilled else matrix
        self._file: BufferedRandom | None = None
        if spilled:
            self._file = tempfile.TemporaryFile(prefix="tacit-")  # noqa: SIM115
            weakref.finalize(self, self._file.close)
            for _, rows in self._parts(matrix):
                self._file.write(rows.contiguous().numpy().data.cast("B"))

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Rows after rows, each with where they begin."""
        if self._matrix is not None:
            yield 0, self._matrix
            return
        assert self._file is not None
        self._file.seek(0)
        rows, columns = self._shape
        step = max(1, self.READ // columns)
        room = space((step, columns), RING.dtype)
        for start in range(0, rows, step):
            part = room[: min(step, rows - start)]
            if self._file.readinto(part.numpy().data.cast("B")) != part.nbytes:
                raise DataError("the temporary file of masked bins has been cut short: is the disk full?")
            yield start, part

    def _parts(self, matrix: Tensor) -> Iterator[tuple[int, Tensor]]:
        step = max(1, self.READ // self._shape[1])
        for start in range(0, self._shape[0], step):
            yield start, matrix[start : start + step]


def _transposed_product(chunks: Iterator[tuple[int, Tensor]], b: Tensor) -> Tensor:
    """Eᵀ b for rows of E as they come. bᵀ E, turned: so E is read along its rows."""
    total: Tensor | None = None
    for start, rows in chunks:
        product = matmul(b[start : start + len(rows)].t().contiguous(), rows)
        total = product if total is None else total.add_(product)
    assert total is not None
    return total.t().contiguous()
