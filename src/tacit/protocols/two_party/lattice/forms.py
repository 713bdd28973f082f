"""Bilinear operations as products of matrices: op(x, y) = fold(left(x) right(y)), all three local and linear.

Entries of matrices are numbers, or polynomials in which numbers have places of their own: see `sliding`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from tacit.ring import kernels
from tacit.ring.convolution import Sliding
from tacit.ring.shapes import broadcast

__all__ = ["NUMBERS", "Form", "Grouped", "Products", "Spread", "checked"]

Shape = tuple[int, ...]


class Spread(NamedTuple):
    """Where the numbers of entries stand: places below an area, and those of products that are wanted.

    A product of entries may reach beyond its area, by less than the first place that is wanted.
    """

    area: int
    left: Tensor
    right: Tensor
    wanted: Tensor

    @property
    def turned(self) -> Spread:
        """That of the transposed product."""
        return Spread(self.area, self.right, self.left, self.wanted)


NUMBERS = Spread(1, *[torch.zeros(1, dtype=torch.int64)] * 3)
"""One number an entry."""


class Form(ABC):
    """A way to an operation: as matrix products, one, or one for each of a batch or group."""

    sizes: tuple[int, int, int, int]
    """How many products there are, and rows, inner size and columns of each."""
    spread: Spread
    tags: tuple[tuple[Any, ...], tuple[Any, ...]]
    """What the matrices of x and of y are of them, as keys: alike wherever the matrices are."""

    @abstractmethod
    def left(self, x: Tensor) -> Sequence[Tensor]:
        """Matrices [rows, inner, places]."""

    @abstractmethod
    def right(self, y: Tensor) -> Sequence[Tensor]:
        """Matrices [inner, columns, places]."""

    @abstractmethod
    def fold(self, z: Sequence[Tensor]) -> Tensor:
        """The result, from the products [rows, columns, places]."""


def checked(op: Callable[[Tensor, Tensor], Tensor], x: Shape, y: Shape) -> Shape:
    """The shape of an operation's result; an operation that is none is refused."""
    if not (op in _MATRIX or op is torch.outer or isinstance(op, Sliding)):
        raise TypeError(f"a bilinear operation is matmul, outer or a convolution of tacit.ring, not {op!r}")
    if isinstance(op, Sliding):
        return op.result(x, y)
    if op is torch.outer and len(x) == len(y) == 1:
        return (*x, *y)
    fits = op is not torch.outer and x and y and x[-1] == y[-2 if len(y) > 1 else 0]
    batches = zip(reversed(x[:-2]), reversed(y[:-2]), strict=False)
    if not fits or any(m != n and 1 not in (m, n) for m, n in batches):
        raise ValueError(f"operands of shapes {x} and {y} have no product")
    batch = broadcast(x[:-2], y[:-2]) if len(x) > 2 or len(y) > 2 else ()
    return (*batch, *x[-2:-1], *(y[-1:] if len(y) > 1 else ()))


class Products(Form):
    """Products of numbers. A convolution is one of its weight and all windows."""

    spread = NUMBERS

    def __init__(self, op: Callable[[Tensor, Tensor], Tensor], x: Shape, y: Shape) -> None:
        self._op, self._x, self._y = op, x, y
        self._batch = broadcast(x[:-2], y[:-2]) if op in _MATRIX else torch.Size()
        self._shape = checked(op, x, y)
        self.tags = self._tags()
        with torch.device("meta"):
            lefts, rights = self._left(torch.empty(x)), self._right(torch.empty(y))
        self.sizes = len(lefts), *lefts[0].shape, rights[0].shape[1]

    @override
    def left(self, x: Tensor) -> Sequence[Tensor]:
        return [one.unsqueeze(-1) for one in self._left(x)]

    @override
    def right(self, y: Tensor) -> Sequence[Tensor]:
        return [one.unsqueeze(-1) for one in self._right(y)]

    @override
    def fold(self, z: Sequence[Tensor]) -> Tensor:
        z = [one.squeeze(-1) for one in z]
        if isinstance(self._op, Sliding):
            return self._op.fold(torch.stack(z), self._x, self._y).contiguous()
        if self._across:
            (one,) = z
            return one.view(len(one), *self._y[:-2], -1).movedim(0, -2).reshape(self._shape)
        return (z[0] if len(z) == 1 else torch.stack(z)).reshape(self._shape)

    def _tags(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        if isinstance(self._op, Sliding):
            return ("left", self._op, self._x, self._y), ("right", self._op, self._x, self._y)
        if self._op is torch.outer or len(self._y) <= 2 or self._across:
            return ("matrix", self._across), ("matrix", self._across)
        batch = tuple(self._batch)  # a matrix has another number in another batch that its operand is expanded to
        return ("batch", batch), ("batch", batch)

    @property
    def _across(self) -> bool:
        """Whether x is one matrix, and y a batch of them."""
        return self._op is not torch.outer and len(self._x) <= 2 and len(self._y) > 2

    def _left(self, x: Tensor) -> Sequence[Tensor]:
        if isinstance(self._op, Sliding):
            return list(self._op.left(x, self._y))
        if self._op is torch.outer:
            return [x.unsqueeze(1)]
        x = x.unsqueeze(0) if x.dim() == 1 else x
        if len(self._y) <= 2:
            return [x.reshape(-1, x.shape[-1])]
        return [x] if self._across else list(x.expand(*self._batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:]))

    def _right(self, y: Tensor) -> Sequence[Tensor]:
        if isinstance(self._op, Sliding):
            return list(self._op.right(y, self._x))
        if self._op is torch.outer:
            return [y.unsqueeze(0)]
        y = y.unsqueeze(1) if y.dim() == 1 else y
        if y.dim() == 2:
            return [y]
        if self._across:
            return [y.movedim(-2, 0).reshape(y.shape[-2], -1)]
        return list(y.expand(*self._batch, *y.shape[-2:]).reshape(-1, *y.shape[-2:]))


class Grouped(NamedTuple):
    """Products of a batch, so many of them made as one: matrices one below the other times matrices side by side.

    Wanted are the blocks on its diagonal.
    """

    size: int
    rows: int
    columns: int

    def left(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """[rows, inner, …] of each product -> [size rows, inner, …]."""
        return [some[0] if len(some) == 1 else torch.cat(list(some)) for some in self._groups(matrices)]

    def right(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """[inner, columns, …] of each product -> [inner, size columns, …]."""
        return [some[0] if len(some) == 1 else torch.cat(list(some), 1) for some in self._groups(matrices)]

    def apart(self, z: Sequence[Tensor]) -> list[Tensor]:
        """The products, from those of groups."""
        rows, columns = self.rows, self.columns
        starts = [(one, k) for one in z for k in range(len(one) // rows)]
        return [one[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns] for one, k in starts]

    def _groups(self, matrices: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        return [matrices[at : at + self.size] for at in range(0, len(matrices), self.size)]


_MATRIX = (kernels.matmul, torch.matmul, torch.mm, torch.bmm)
