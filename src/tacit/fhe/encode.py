"""From a row of numbers to the integers that are encrypted. Public: the client's half of a model holds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from tacit.errors import DataError, MessageError
from tacit.fhe.fields import counts, vectors
from tacit.fhe.layout import Index, Int

Float = npt.NDArray[np.float64]

MOST_FACTORS = 16
"""Factors of a product of columns. Higher powers would say nothing that 16 bits could hold."""


def checked(x: Any, features: int, missing: bool = False) -> Float:
    """Return x as a finite matrix with that many columns (and missing values, if they may be), or say which is not."""
    matrix = np.asarray(x, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != features:
        raise DataError(f"expected a table with {features} columns, got shape {matrix.shape}")
    if not len(matrix):
        raise DataError("expected a table with at least one row")
    bad = np.argwhere(np.isinf(matrix) if missing else ~np.isfinite(matrix))
    if bad.size:
        row, column = bad[0]
        raise DataError(f"row {row}, column {column} is missing or infinite: encrypted prediction needs finite numbers")
    return matrix


def in_single(x: Float) -> Float:
    """Return x as single precision has it, or refuse what it cannot hold."""
    with np.errstate(over="ignore"):
        rounded = x.astype(np.float32).astype(np.float64)
    if np.isinf(rounded).any():
        raise DataError("a number is too large for the single precision in which these trees compare")
    return rounded


@final
@dataclass(frozen=True)
class Affine:
    """A public map x -> A x + c that the client applies first (a StandardScaler, a PCA)."""

    matrix: Float
    offset: Float

    def __post_init__(self) -> None:
        """Refuse a file whose matrix does not fit its offset."""
        fine = vectors("f", self.offset) and self.matrix.ndim == 2 and len(self.matrix) == len(self.offset)
        if not (fine and np.isfinite(self.matrix).all() and np.isfinite(self.offset).all()):
            raise MessageError("the affine map in this model file is damaged")

    @property
    def columns(self) -> int:
        """Columns expected."""
        return int(self.matrix.shape[1])

    @property
    def by_column(self) -> bool:
        """Whether what comes out depends on one column at most, so that it is missing where that column is."""
        return bool(((self.matrix != 0).sum(axis=1) <= 1).all())

    def __call__(self, x: Float) -> Float:
        """Return A x + c for each row: missing where a column is that it depends on, and nowhere else (0 NaN = NaN)."""
        missing = np.isnan(x)
        if not missing.any():
            return x @ self.matrix.T + self.offset
        out: Float = np.where(missing, 0.0, x) @ self.matrix.T + self.offset
        out[missing.astype(np.float64) @ (self.matrix.T != 0) > 0] = np.nan
        return out


@final
@dataclass(frozen=True)
class Monomials:
    """Products of u_f = (x_f - center_f) / step_f, which the client makes of its row in clear: one for each row of
    `index`, of the columns named there (-1: none). A step of 0 marks a column that is constant: its u is 0."""

    center: Float
    step: Float
    index: Index

    def __post_init__(self) -> None:
        """Refuse a file that names columns which are not there."""
        fine = (
            self.index.ndim == 2
            and self.center.shape == self.step.shape == (len(self.center),)
            and 0 < self.index.shape[1] <= MOST_FACTORS
            and ((self.index >= -1) & (self.index < len(self.center))).all()
        )
        if not fine:
            raise MessageError("the products of columns in this model file are damaged")

    @property
    def columns(self) -> int:
        """Columns expected."""
        return len(self.center)

    def __call__(self, x: Float) -> Float:
        """Return the products for each row."""
        moved = x - self.center
        u = np.divide(moved, self.step, out=np.zeros_like(moved), where=self.step > 0)
        u = np.concatenate([u, np.ones((len(u), 1))], axis=1)  # column -1
        out: Float = u[:, self.index[:, 0]]
        for factor in self.index.T[1:]:
            out = out * u[:, factor]
        return out


def _seen(columns: int, before: Affine | None) -> int:
    """Return how many columns trees see behind an affine map of all `columns`, -1 where it is no such map."""
    if before is None:
        return columns
    return len(before.matrix) if isinstance(before, Affine) and before.columns == columns else -1


class Encoder(ABC):
    """Turns rows of numbers into rows of integers."""

    @property
    @abstractmethod
    def features(self) -> int:
        """Columns expected."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Integers for each row."""

    @abstractmethod
    def encode(self, x: Any) -> Int:
        """Return the integers (rows, length)."""

    def cut_off(self, x: Float) -> float:
        """Return the share of the values of x that lie outside the ranges of their columns."""
        return 0.0


@final
@dataclass(frozen=True)
class Quantizer(Encoder):
    """z_f = round((x_f - center_f) / step_f), cut off at +-limit; with `pairs`, all products z_f z_g (f <= g) as well,
    with `squares` only those with f = g.

    A step of 0 marks a column that was constant where the model was compiled: its z is 0.
    """

    center: Float
    step: Float
    limit: int
    pairs: bool = False
    before: Affine | Monomials | None = None
    squares: bool = False

    def __post_init__(self) -> None:
        """Refuse a file whose ranges do not fit each other or the map before them."""
        d, before = len(self.center), self.before
        made = d if before is None else len(before.matrix if isinstance(before, Affine) else before.index)
        fine = vectors("f", self.center, self.step) and type(self.limit) is int and self.limit >= 1 and made == d
        if not (fine and np.isfinite(self.center).all() and np.isfinite(self.step).all()):
            raise MessageError("the ranges of columns in this model file are damaged")

    @property
    def features(self) -> int:
        """Columns expected."""
        return len(self.center) if self.before is None else self.before.columns

    @property
    def length(self) -> int:
        """Integers for each row."""
        d = len(self.center)
        return d + d * (d + 1) // 2 if self.pairs else d + d * self.squares

    @property
    def limits(self) -> Int:
        """Return the largest |z| of each integer."""
        d = len(self.center)
        return np.repeat([self.limit, self.limit**2], [d, self.length - d]).astype(np.int64)

    def _scaled(self, x: Any) -> Float:
        matrix = checked(x, self.features)
        moved = (matrix if self.before is None else self.before(matrix)) - self.center
        return np.divide(moved, self.step, out=np.zeros_like(moved), where=self.step > 0)

    def cut_off(self, x: Float) -> float:
        """Return the share of the values of x that lie outside the ranges of their columns."""
        return float((np.abs(self._scaled(x)) > self.limit + 0.5).mean())

    def encode(self, x: Any) -> Int:
        """Return the quantised row, and the products of its entries if asked for."""
        z = np.clip(np.rint(self._scaled(x)), -self.limit, self.limit).astype(np.int64)
        if self.squares:
            return np.concatenate([z, z * z], axis=1)
        if not self.pairs:
            return z
        left, right = np.triu_indices(len(self.center))
        return np.concatenate([z, z[:, left] * z[:, right]], axis=1)


@final
@dataclass(frozen=True)
class LeafEncoder(Encoder):
    """One bit for each leaf of trees that the client has: which of a tree's leaves the row reaches.

    Node i goes left if x[feature_i] <= threshold_i; a leaf has feature -1 and in `left` the number of its bit. Nodes of
    all trees follow each other, and `root` has the first of each.
    """

    columns: int
    root: Index
    feature: Index
    threshold: Float
    left: Index
    right: Index
    single: bool
    before: Affine | None = None

    def __post_init__(self) -> None:
        """Refuse a file whose walks would not end: a child comes after its node."""
        if not (
            counts([self.columns]) and vectors("i", self.root) and vectors("i", self.feature, self.left, self.right)
            and vectors("f", self.threshold) and not np.isnan(self.threshold).any()
        ):  # fmt: skip
            raise MessageError("the trees of this model file are damaged")
        inner = np.flatnonzero(self.feature >= 0)
        children = np.concatenate([self.left[inner], self.right[inner]])
        leaves = np.sort(self.left[self.feature < 0])
        fine = (
            len(self.feature) == len(self.threshold) == len(self.left) == len(self.right)
            and (children > np.tile(inner, 2)).all()
            and (children < len(self.feature)).all()
            and (leaves == np.arange(len(leaves))).all()
            and (self.feature < self.width).all()
            and ((self.root >= 0) & (self.root < len(self.feature))).all()
        )
        if not fine:
            raise MessageError("the trees of this model file are damaged")

    @property
    def width(self) -> int:
        """Columns that the trees see."""
        return _seen(self.columns, self.before)

    @property
    def features(self) -> int:
        """Columns expected."""
        return self.columns

    @property
    def length(self) -> int:
        """Integers for each row."""
        return int((self.feature < 0).sum())

    def encode(self, x: Any) -> Int:
        """Return the bits."""
        matrix = checked(x, self.columns)
        if self.before is not None:
            matrix = self.before(matrix)
        if self.single:
            matrix = in_single(matrix)
        node = np.tile(self.root, (len(matrix), 1))
        rows = np.arange(len(matrix))[:, None]
        while (inner := self.feature[node] >= 0).any():
            goes_left = matrix[rows, np.maximum(self.feature[node], 0)] <= self.threshold[node]
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
        out = np.zeros((len(matrix), self.length), dtype=np.int64)
        out[rows, self.left[node]] = 1
        return out


def _check_bits(columns: int, before: Affine | None, feature: Index, value: Float) -> None:
    """Refuse bits of columns that are not there, and values that are no numbers (infinite ones are: they tell missing
    values from all others)."""
    fine = counts([columns]) and vectors("i", feature) and vectors("f", value) and len(feature) == len(value)
    within = fine and ((feature >= 0) & (feature < _seen(columns, before))).all()
    if not within or np.isnan(value).any():
        raise MessageError("the bits of this model file are damaged")


class Bits(Encoder):
    """One bit for each of some questions about columns."""

    columns: int
    feature: Index

    @property
    def features(self) -> int:
        """Columns expected."""
        return self.columns

    @property
    def length(self) -> int:
        """Integers for each row."""
        return max(len(self.feature), 1)


@final
@dataclass(frozen=True)
class Thermometer(Bits):
    """One bit [x_f > threshold] for each listed pair, compared in single or double precision as the model compared."""

    columns: int
    feature: Index
    threshold: Float
    single: bool
    before: Affine | None = None

    def __post_init__(self) -> None:
        """Refuse a file that asks for columns which are not there."""
        _check_bits(self.columns, self.before, self.feature, self.threshold)

    def encode(self, x: Any) -> Int:
        """Return the bits."""
        matrix = checked(x, self.columns)
        if self.before is not None:
            matrix = self.before(matrix)
        if self.single:
            matrix = in_single(matrix)
        out = np.zeros((len(matrix), self.length), dtype=np.int64)
        out[:, : len(self.feature)] = matrix[:, self.feature] > self.threshold
        return out


BELOW, ABOVE, CATEGORY, CUT_CATEGORY, MISSING = range(5)
"""Kinds of bits: [x > v], with 0 or with 1 for a missing x; [x = v], and the same for x cut to a whole number; [x is
missing]."""


@final
@dataclass(frozen=True)
class MixedBits(Bits):
    """The bits of trees that know missing values or categories.

    Behind an affine map a missing value is that of one column the trees see; a map that mixes columns (a projection)
    takes none.
    """

    columns: int
    feature: Index
    value: Float
    asks: Index
    single: bool
    before: Affine | None = None

    def __post_init__(self) -> None:
        """Refuse a file that asks for columns which are not there, or what no bit says."""
        _check_bits(self.columns, self.before, self.feature, self.value)
        if not (vectors("i", self.asks, self.feature) and ((self.asks >= BELOW) & (self.asks <= MISSING)).all()):
            raise MessageError("the bits of this model file are damaged")

    def encode(self, x: Any) -> Int:
        """Return the bits."""
        exact = checked(x, self.columns, missing=self.before is None or self.before.by_column)
        if self.before is not None:
            exact = self.before(exact)
        rounded = in_single(exact) if self.single else exact
        out = np.zeros((len(exact), self.length), dtype=np.int64)
        for kind in range(MISSING + 1):
            here = np.flatnonzero(self.asks == kind)
            seen, value = (rounded if kind <= ABOVE else exact)[:, self.feature[here]], self.value[here]
            found = seen > value if kind <= ABOVE else np.isnan(seen)
            if kind == ABOVE:
                found = found | np.isnan(seen)
            elif kind in (CATEGORY, CUT_CATEGORY):
                found = (np.trunc(seen) if kind == CUT_CATEGORY else seen) == value
            out[:, here] = found
        return out


@final
@dataclass(frozen=True)
class MixedLeaves(Encoder):
    """One bit for each leaf of trees that the client has and that know missing values or categories.

    As a `LeafEncoder`, but node i goes right if one of the bits test[start_i : start_(i+1)] is 1.
    """

    bits: MixedBits
    root: Index
    feature: Index
    left: Index
    right: Index
    start: Index
    test: Index

    def __post_init__(self) -> None:
        """Refuse a file whose walks would not end, or that asks for bits that are not there."""
        fitting = vectors("i", self.start) and vectors("i", self.test) and isinstance(self.bits, MixedBits)
        if not fitting:
            raise MessageError("the trees of this model file are damaged")
        walks = LeafEncoder(
            self.features, self.root, np.minimum(self.feature, 0), np.zeros(len(self.feature)),
            self.left, self.right, False,
        )  # fmt: skip
        fine = (
            len(self.start) == len(walks.feature) + 1
            and (np.diff(self.start, prepend=0) >= 0).all()
            and self.start[-1] == len(self.test)
            and ((self.test >= 0) & (self.test < self.bits.length)).all()
        )
        if not fine:
            raise MessageError("the trees of this model file are damaged")

    @property
    def features(self) -> int:
        """Columns expected."""
        return self.bits.features

    @property
    def length(self) -> int:
        """Integers for each row."""
        return int((self.feature < 0).sum())

    def encode(self, x: Any) -> Int:
        """Return the bits of the leaves."""
        z = self.bits.encode(x)
        running = np.concatenate([np.zeros((len(z), 1), dtype=np.int64), np.cumsum(z[:, self.test], axis=1)], axis=1)
        goes_right = running[:, self.start[1:]] > running[:, self.start[:-1]]
        node = np.tile(self.root, (len(z), 1))
        rows = np.arange(len(z))[:, None]
        while (inner := self.feature[node] >= 0).any():
            node = np.where(inner, np.where(goes_right[rows, node], self.right[node], self.left[node]), node)
        out = np.zeros((len(z), self.length), dtype=np.int64)
        out[rows, self.left[node]] = 1
        return out
