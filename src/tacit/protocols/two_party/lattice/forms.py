"""Bilinear operations as products of matrices: op(x, y) = fold(left(x) right(y)), all three local and linear."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.ring import kernels
from tacit.ring.convolution import Sliding
from tacit.ring.shapes import broadcast

__all__ = ["Grouped", "Products"]

Shape = Sequence[int]


class Products:
    """An operation on operands of these shapes, as matrix products: one, or one for each of a batch or group."""

    def __init__(self, op: Callable[[Tensor, Tensor], Tensor], x: Shape, y: Shape) -> None:
        self._op, self._x, self._y = op, tuple(x), tuple(y)
        if not (op in _MATRIX or op is torch.outer or isinstance(op, Sliding)):
            raise TypeError(f"a bilinear operation is matmul, outer or a convolution of tacit.ring, not {op!r}")
        self.shape = op.result(x, y) if isinstance(op, Sliding) else self._result()

    @property
    def tags(self) -> tuple[Any, Any]:
        """What the matrices of x and of y are of them, as keys: alike wherever the matrices are."""
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

    def left(self, x: Tensor) -> Sequence[Tensor]:
        """Matrices [rows, inner]."""
        if isinstance(self._op, Sliding):
            return list(self._op.left(x, self._y))
        if self._op is torch.outer:
            return [x.unsqueeze(1)]
        x = x.unsqueeze(0) if x.dim() == 1 else x
        if len(self._y) <= 2:
            return [x.reshape(-1, x.shape[-1])]
        return [x] if self._across else list(x.expand(*self._batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:]))

    def right(self, y: Tensor) -> Sequence[Tensor]:
        """Matrices [inner, columns]."""
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

    def fold(self, z: Sequence[Tensor]) -> Tensor:
        """The result, from the products."""
        if isinstance(self._op, Sliding):
            return self._op.fold(torch.stack(list(z)), self._x, self._y).contiguous()
        if self._across:
            (one,) = z
            return one.view(len(one), *self._y[:-2], -1).movedim(0, -2).reshape(self.shape)
        return (z[0] if len(z) == 1 else torch.stack(list(z))).reshape(self.shape)

    def zeros(self) -> Tensor:
        """The result of nothing."""
        return torch.zeros(self.shape, dtype=torch.int64)

    @property
    def empty(self) -> bool:
        """Whether nothing is multiplied."""
        return not math.prod(self._x) or not math.prod(self._y) or not math.prod(self.shape)

    def _result(self) -> Shape:
        x, y = self._x, self._y
        if self._op is torch.outer and len(x) == len(y) == 1:
            return (*x, *y)
        fits = self._op is not torch.outer and x and y and x[-1] == y[-2 if len(y) > 1 else 0]
        batches = zip(reversed(x[:-2]), reversed(y[:-2]), strict=False)
        if not fits or any(m != n and 1 not in (m, n) for m, n in batches):
            raise ValueError(f"operands of shapes {x} and {y} have no product")
        return (*(self._batch if len(x) > 2 or len(y) > 2 else ()), *x[-2:-1], *(y[-1:] if len(y) > 1 else ()))

    @property
    def _batch(self) -> torch.Size:
        return broadcast(self._x[:-2], self._y[:-2])


class Grouped(NamedTuple):
    """Products of a batch, so many of them made as one: matrices one below the other times matrices side by side.

    Wanted are the blocks on its diagonal.
    """

    size: int
    rows: int
    columns: int

    def left(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """[rows, inner] of each product -> [size rows, inner]."""
        return [some[0] if len(some) == 1 else torch.cat(list(some)) for some in self._groups(matrices)]

    def right(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """[inner, columns] of each product -> [inner, size columns]."""
        return [some[0] if len(some) == 1 else torch.cat(list(some), 1) for some in self._groups(matrices)]

    def apart(self, z: Sequence[Tensor]) -> list[Tensor]:
        """The products, from those of groups."""
        rows, columns = self.rows, self.columns
        starts = [(one, k) for one in z for k in range(len(one) // rows)]
        return [one[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns] for one, k in starts]

    def _groups(self, matrices: Sequence[Tensor]) -> list[Sequence[Tensor]]:
        return [matrices[at : at + self.size] for at in range(0, len(matrices), self.size)]


_MATRIX = (kernels.matmul, torch.matmul, torch.mm, torch.bmm)
