"""Polynomials of the client's columns, many at once: what a network of affine layers and squares is.

Unit i is sum_m coefficient[i, m] prod_k u_{index[m, k]}, with index -1 for "no factor"; monomial 0 is the constant.
Coefficients are sparse: a unit of a convolution sees its window only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import scipy.sparse as sparse

from tacit.errors import DataError
from tacit.fhe.encode import MOST_FACTORS, Float
from tacit.fhe.layout import Index

MOST_TERMS = 20_000_000
"""Terms of one product, before equal ones are added: some 600 MB at 32 bytes each. A convolution of 8 channels with
windows of 5 x 5 on 28 x 28 has three million."""


@dataclass(frozen=True)
class Polynomials:
    """Polynomials of one row of data, in the `shape` that a tensor of them has."""

    index: Index
    coefficient: Any
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.coefficient.shape != (prod(self.shape), len(self.index)):
            raise ValueError("the coefficients do not fit the monomials")

    @classmethod
    def columns(cls, center: Float, step: Float, shape: tuple[int, ...]) -> Polynomials:
        """Return the columns themselves: x_f = center_f + step_f u_f."""
        d = len(center)
        index = np.arange(-1, d, dtype=np.intp)[:, None]
        return cls(index, sparse.csr_array(np.column_stack([center, np.diag(step)])), shape)

    def affine(self, matrix: Any, offset: Float, shape: tuple[int, ...]) -> Polynomials:
        """Return matrix p + offset."""
        column = sparse.csr_array((offset, (np.arange(len(offset)), np.zeros(len(offset), dtype=np.intp))),
                                  shape=(len(offset), len(self.index)))  # fmt: skip
        return Polynomials(self.index, sparse.csr_array(matrix @ self.coefficient + column), shape)

    def plus(self, other: Polynomials, sign: int) -> Polynomials:
        """Return p + sign q, unit by unit."""
        wide = max(self.index.shape[1], other.index.shape[1])
        index, where = np.unique(
            np.concatenate([_widened(self.index, wide), _widened(other.index, wide)]), axis=0, return_inverse=True
        )
        where = where.ravel()
        ours, theirs = where[: len(self.index)], where[len(self.index) :]
        total = _moved(self.coefficient, ours, len(index)) + sign * _moved(other.coefficient, theirs, len(index))
        return Polynomials(index, sparse.csr_array(total), self.shape)

    def times(self, other: Polynomials) -> Polynomials:
        """Return p q, unit by unit.

        Raises:
            DataError: if that has too many terms or factors.
        """
        p, q = self.coefficient, other.coefficient
        unit = np.repeat(np.arange(p.shape[0]), np.diff(p.indptr))  # of each entry of p
        many = np.diff(q.indptr)[unit]  # entries of q in the same unit
        ends = np.cumsum(many)
        total = int(ends[-1]) if len(ends) else 0
        if total > MOST_TERMS:
            raise DataError(
                f"a product in this network has {total:,} terms: put a projection to fewer columns in front of it, or "
                "use smaller windows"
            )
        first = np.repeat(np.arange(len(unit)), many)
        second = np.arange(total) - np.repeat(ends - many - q.indptr[unit], many)
        pairs, pair = np.unique(p.indices[first] * np.int64(len(other.index)) + q.indices[second], return_inverse=True)
        index, monomial = self._joined(other, pairs)
        table = sparse.coo_array(
            (p.data[first] * q.data[second], (unit[first], monomial[pair])), shape=(p.shape[0], len(index))
        )
        return Polynomials(index, sparse.csr_array(table), self.shape)

    def _joined(self, other: Polynomials, pairs: Any) -> tuple[Index, Index]:
        """Return the monomials of all products of pairs of monomials, and which of them each pair gives."""
        left, right = np.divmod(pairs, len(other.index))
        factors = np.sort(np.concatenate([self.index[left], other.index[right]], axis=1), axis=1)[:, ::-1]
        factors = np.concatenate(
            [factors, np.full((1, factors.shape[1]), -1)]
        )  # the constant, whether it occurs or not
        factors = factors[:, : max(1, int((factors >= 0).any(axis=0).sum()))]
        if factors.shape[1] > MOST_FACTORS:
            raise DataError(f"this network multiplies more than {MOST_FACTORS} columns with each other")
        index, monomial = np.unique(factors, axis=0, return_inverse=True)
        return index.astype(np.intp), monomial.ravel()[:-1]

    def forms(self) -> tuple[Index, Float, Float]:
        """Return the monomials that occur but for the constant, their coefficients (units, monomials), and the
        constants."""
        table = sparse.csc_array(self.coefficient)
        table.eliminate_zeros()
        used = np.flatnonzero(np.diff(table.indptr))
        used = used[used > 0] if (used > 0).any() else np.array([min(1, len(self.index) - 1)])
        constant = table[:, [0]].toarray().ravel()
        return self.index[used], table[:, used].toarray(), constant


def _widened(index: Index, wide: int) -> Index:
    return np.pad(index, ((0, 0), (0, wide - index.shape[1])), constant_values=-1)


def _moved(coefficient: Any, where: Index, count: int) -> Any:
    table = coefficient.tocoo()
    return sparse.csr_array((table.data, (table.row, where[table.col])), shape=(coefficient.shape[0], count))
