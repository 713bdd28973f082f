"""Where things lie in a polynomial: many dot products in one multiplication.

In Z_t[X]/(X^n + 1) the coefficient of X^(a+b) collects all products of a coefficient at X^a with one at X^b. So with
the inputs z_j at X^j and a row of weights *reversed*, w_j at X^(s-1-j), the coefficient of X^(s-1) of the product is
<w, z>. Rows at offsets s apart do not meet there, and no rotation (hence no evaluation key) is needed [YSKYK13].

The inputs are cut into `groups` blocks of `block` each, one ciphertext a block; the products of all groups are added.
More groups make blocks shorter, so that one answer ciphertext holds more rows: upload against download. Left-over
room takes several rows of data (`samples`) into one ciphertext, `stride` apart. Output (i, o) of row i of the data
lies at

    i stride + (o mod per_product) block + block - 1      of answer ciphertext      o div per_product.

Every exponent stays below n, so nothing wraps with the wrong sign where an output is read: sample i' > i would need
weights at exponents >= n - (samples - 1) stride >= stride, where there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tacit.errors import MessageError
from tacit.fhe.fields import counts

Int = npt.NDArray[np.int64]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Layout:
    """How `outputs` linear forms of `length` inputs lie in polynomials of `degree` coefficients."""

    degree: int
    length: int
    outputs: int
    groups: int
    per_product: int
    samples: int

    def __post_init__(self) -> None:
        numbers = (self.degree, self.length, self.outputs, self.groups, self.per_product, self.samples)
        if not counts(numbers) or self.samples * self.stride > self.degree or self.groups > self.length:
            raise MessageError("this layout does not fit its ring")

    @property
    def uploads(self) -> int:
        """Ciphertexts of a query, for up to `samples` rows."""
        return self.groups

    @property
    def block(self) -> int:
        """Inputs in one group."""
        return -(-self.length // self.groups)

    @property
    def stride(self) -> int:
        """Coefficients that one row of the data takes."""
        return self.per_product * self.block

    @property
    def products(self) -> int:
        """Answer ciphertexts."""
        return -(-self.outputs // self.per_product)

    def outputs_of(self, product: int) -> int:
        """Return how many outputs answer ciphertext `product` holds for one row of the data."""
        return min(self.per_product, self.outputs - product * self.per_product)

    def positions(self, product: int, samples: int) -> Index:
        """Return the coefficients of answer ciphertext `product` that hold outputs, row by row of the data."""
        rows = self._exponents(np.arange(self.outputs_of(product)), self.block - 1)
        return (np.arange(samples)[:, None] * self.stride + rows).ravel()

    def _exponents(self, offset: Index, at: Index | int) -> Index:
        """Return where an output's weight for the input `block` - 1 - `at` of a group lies."""
        return np.asarray(offset * self.block + at, dtype=np.intp)

    def place_inputs(self, z: Int) -> Int:
        """Return the polynomials (groups, degree) of up to `samples` rows of inputs (rows, length)."""
        rows = len(z)
        padded = np.zeros((rows, self.groups * self.block), dtype=np.int64)
        padded[:, : self.length] = z
        out = np.zeros((self.groups, self.degree), dtype=np.int64)
        window = out[:, : rows * self.stride].reshape(self.groups, rows, self.stride)
        window[:, :, : self.block] = padded.reshape(rows, self.groups, self.block).transpose(1, 0, 2)
        return out

    def place_weights(self, row: Index, column: Index, value: Int) -> Iterator[Int]:
        """Yield for each answer ciphertext the polynomials (groups, degree) of forms given by their entries."""
        product, group, exponent = self.places(row, column)
        order = np.argsort(product, kind="stable")
        ends = np.searchsorted(product[order], np.arange(self.products + 1))
        for start, end in pairwise(ends):
            here = order[start:end]
            out = np.zeros((self.groups, self.degree), dtype=np.int64)
            out[group[here], exponent[here]] = value[here]
            yield out

    def places(self, row: Index, column: Index) -> tuple[Index, Index, Index]:
        """Return the answer ciphertext, the group and the exponent of entries of forms."""
        product, offset = np.divmod(row, self.per_product)
        group, j = np.divmod(column, self.block)
        return product, group, self._exponents(offset, self.block - 1 - j)


@dataclass(frozen=True)
class SpreadLayout(Layout):
    """Inputs that the server spreads: of each ciphertext that it gets it makes `pieces`, a power of two (`spread.py`).

    Piece r has, of what was sent, the coefficients at X^(r + i pieces), moved to X^(i pieces): a group of inputs. As
    these lie `pieces` apart, a weight at X^rho leads to exponents that are rho modulo pieces, and to no others. Each
    of these classes is a ring of its own, with Y = X^pieces, in which outputs lie as in a `Layout`; output o is in
    class o mod pieces. So a query is dense and an answer is dense, and the price of that is a key switch a piece.
    """

    pieces: int

    def __post_init__(self) -> None:
        numbers = (self.degree, self.length, self.outputs, self.groups, self.per_product, self.samples, self.pieces)
        if not (
            counts(numbers)
            and self.samples == 1
            and self.pieces & (self.pieces - 1) == 0
            and self.groups <= self.length
            and self.block * self.pieces <= self.degree
            and self.per_product <= self.pieces * (self.degree // self.pieces // self.block)
        ):
            raise MessageError("this layout does not fit its ring")

    @property
    def uploads(self) -> int:
        """Ciphertexts of a query."""
        return -(-self.groups // self.pieces)

    def pieces_of(self, upload: int) -> int:
        """Return how many pieces of a ciphertext hold inputs."""
        return min(self.pieces, self.groups - upload * self.pieces)

    def _exponents(self, offset: Index, at: Index | int) -> Index:
        around, within = np.divmod(offset, self.pieces)
        return np.asarray(within + self.pieces * (around * self.block + at), dtype=np.intp)

    def place_inputs(self, z: Int) -> Int:
        """Return the polynomials (uploads, degree) of a row of inputs (1, length)."""
        group, i = np.divmod(np.arange(self.length), self.block)
        upload, piece = np.divmod(group, self.pieces)
        out = np.zeros((self.uploads, self.degree), dtype=np.int64)
        out[upload, i * self.pieces + piece] = z[0]
        return out


FEWEST_PIECES, MOST_PIECES = 8, 256
"""A piece is a key switch (some 3 ms), and each doubling of their number one more key of 620 kB, sent once. Fewer
than 8 save less than the keys cost."""


def spread_layouts(degree: int, length: int, outputs: int) -> Iterator[SpreadLayout]:
    """Yield the layouts that spread, for each number of pieces."""
    pieces = FEWEST_PIECES
    while pieces <= min(MOST_PIECES, degree):
        block = -(-length // min(pieces * -(-length // degree), length))
        most = pieces * (degree // pieces // block)
        if most:
            yield SpreadLayout(degree, length, outputs, -(-length // block), min(most, outputs), 1, pieces)
        pieces *= 2


def layouts(degree: int, length: int, outputs: int, *, fresh: bool) -> Iterator[Layout]:
    """Yield the layouts worth comparing: each number of groups, with as many rows of the data as fit."""
    fewest = -(-length // degree)
    for groups in range(fewest, min(length, max(fewest, 64)) + 1):
        block = -(-length // groups)
        per_product = min(outputs, degree // block)
        room = degree // (per_product * block)
        samples = 1 if fresh or per_product < outputs else room
        while samples >= 1:
            yield Layout(degree, length, outputs, groups, per_product, samples)
            samples //= 2
