"""What a server computes: linear forms of the client's integers, fixed ones or ones drawn anew for each answer.

A program knows its forms, how large they get (`bounds`, which the parameters are chosen by) and the same arithmetic
in clear (`simulate`). Forms are modulo the plaintext modulus t.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt

from tacit.fhe import randomness
from tacit.fhe.layout import Index, Int, Layout
from tacit.fhe.noise import FormBounds
from tacit.fhe.primes import plain_modulus


@dataclass(frozen=True)
class Forms:
    """Linear forms: entry (row, column) is value, none occurs twice, and each row has a constant."""

    row: Index
    column: Index
    value: Int
    constant: Int


class Program(ABC):
    """What a server computes on an encoded row of data."""

    fresh: ClassVar[bool]
    """Whether forms are drawn anew for each answer."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Encoded inputs."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Linear forms."""

    @abstractmethod
    def moduli(self) -> Iterator[tuple[int, ...]]:
        """Yield plaintext moduli that hold the outputs, as their factors: with k of them, a coefficient holds k
        outputs."""

    def spread_moduli(self) -> Iterator[tuple[int, ...]]:
        """Yield odd moduli for inputs that a server spreads; nothing where forms are fixed, as then all is small."""
        return iter(())

    @abstractmethod
    def forms(self, moduli: tuple[int, ...]) -> Forms:
        """Return the forms of one answer, values and constants in (-t/2, t/2], where t is the product of the moduli."""

    @abstractmethod
    def bounds(self, layout: Layout, moduli: tuple[int, ...]) -> FormBounds:
        """Bound the forms when they are laid out so."""

    @abstractmethod
    def simulate(self, z: Int) -> Int:
        """Return, for encoded rows z, the integers that the client will read, computed in clear."""


def l2_of_products(squares: npt.NDArray[np.float64], per_product: int) -> float:
    """Return the largest norm of one product, from the squared norms of its rows in order."""
    padded = np.append(squares, np.zeros(-len(squares) % per_product))
    return float(np.sqrt(padded.reshape(-1, per_product).sum(axis=1).max()))


@final
@dataclass(frozen=True)
class LinearProgram(Program):
    """The scores W z + b of a linear model. The client learns the scores, and so after `length` + 1 queries the
    model."""

    weights: Int
    bias: Int
    limits: Int
    """No input |z_j| exceeds limits[j]."""

    fresh: ClassVar[bool] = False

    @property
    def length(self) -> int:
        """Encoded inputs."""
        return int(self.weights.shape[1])

    @property
    def outputs(self) -> int:
        """Linear forms."""
        return int(self.weights.shape[0])

    def moduli(self) -> Iterator[tuple[int, ...]]:
        """Yield a power of two that holds the largest score."""
        yield (plain_modulus(self._sizes[0], prime=False),)

    def forms(self, moduli: tuple[int, ...]) -> Forms:
        """Return the rows of W."""
        row, column = np.nonzero(self.weights)
        return Forms(row, column, self.weights[row, column], self.bias)

    @cached_property
    def _sizes(self) -> tuple[int, float, npt.NDArray[np.float64]]:
        """Return the largest |score|, the largest sum of a row's |w|, and the squared norms of the rows."""
        size = np.abs(self.weights).astype(np.float64)
        rough = (size @ self.limits.astype(np.float64)).max() + np.abs(self.bias.astype(np.float64)).max()
        exact = np.int64 if rough < 1 << 60 else object  # sums may leave 64 bits before they are refused
        reach = np.abs(self.weights).astype(exact) @ self.limits.astype(exact) + np.abs(self.bias).astype(exact)
        return int(reach.max()), float(size.sum(axis=1).max()), (size**2).sum(axis=1)

    def bounds(self, layout: Layout, moduli: tuple[int, ...]) -> FormBounds:
        """Bound the scores by sum |w_j| limit_j + |b|."""
        _, l1, squares = self._sizes
        return FormBounds(l1, l2_of_products(squares, layout.per_product))

    def simulate(self, z: Int) -> Int:
        """Return W z + b."""
        return z @ self.weights.T + self.bias


def ascending(pairs: Int) -> Int:
    """Return rows of (distance, label) pairs in ascending order: the order in which they came was random."""
    table = pairs.reshape(len(pairs), -1, 2)
    order = np.lexsort((table[:, :, 1], table[:, :, 0]), axis=1)
    return np.take_along_axis(table, order[:, :, None], axis=1).reshape(len(pairs), -1)


@final
@dataclass(frozen=True)
class NeighborProgram(Program):
    """Squared distances to all training points, less |z|^2 which the client adds, in a fresh secret order.

    |z - p|^2 = |z|^2 - 2 <z, p> + |p|^2: one linear form and one constant (the label) for each point. The client
    learns the multiset of (distance, label).
    """

    points: Int
    labels: Int
    limit: int

    fresh: ClassVar[bool] = True

    @property
    def length(self) -> int:
        """Encoded inputs."""
        return int(self.points.shape[1])

    @property
    def outputs(self) -> int:
        """Two forms a point: its distance, its label."""
        return 2 * len(self.points)

    def moduli(self) -> Iterator[tuple[int, ...]]:
        """Yield a power of two that holds the largest distance and label."""
        yield (plain_modulus(self._sizes[0], prime=False),)

    def forms(self, moduli: tuple[int, ...]) -> Forms:
        """Return the distances and labels in a fresh order."""
        order = randomness.permutation(len(self.points))
        points = self.points[order]
        row, column = np.nonzero(points)
        constant = np.stack([(points**2).sum(axis=1), self.labels[order]], axis=1).ravel()
        return Forms(2 * row, column, -2 * points[row, column], constant)

    @cached_property
    def _sizes(self) -> tuple[int, float, npt.NDArray[np.float64]]:
        """Return the largest output, the largest sum of a form's |w|, and the forms' squared norms added up, largest
        first."""
        size = np.abs(self.points)
        output = max(int((2 * self.limit * size + size**2).sum(axis=1).max()), int(np.abs(self.labels).max()))
        squares = np.sort((4.0 * size**2).sum(axis=1))[::-1]
        return output, float(2 * size.sum(axis=1).max()), np.cumsum(squares)

    def bounds(self, layout: Layout, moduli: tuple[int, ...]) -> FormBounds:
        """Bound |2 <z, p>| + |p|^2 and the labels; any order of the points may come."""
        _, l1, sums = self._sizes
        half = -(-layout.per_product // 2)
        return FormBounds(l1, float(np.sqrt(sums[min(half, len(sums)) - 1])))

    def simulate(self, z: Int) -> Int:
        """Return (distance, label) of all points, in ascending order."""
        distance = -2 * z @ self.points.T + (self.points**2).sum(axis=1)
        pairs = np.stack([distance, np.broadcast_to(self.labels, distance.shape)], axis=2)
        return ascending(pairs.reshape(len(z), -1))
