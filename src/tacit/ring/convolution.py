"""Convolutions in any number of spatial dimensions, as one matrix product of a weight with all windows of an input.

A convolution and its two gradients are the same sum of products, read three ways:

    y[o] = Σ w[k] x[window k of o]        dx[window k of o] += w[k] dy[o]        dw[k] = Σ dy[o] x[window k of o]

A transposed convolution is the second of them. All work in the ring, on shares without values, and on floats; where
kernels read operands where they lie, `windows` does it for shares, and writes no window to memory.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from tacit.ring import kernels, windows
from tacit.ring.geometry import Geometry
from tacit.ring.ring import RING

__all__ = ["Convolve", "InputGradient", "Sliding", "WeightGradient", "convolve", "input_gradient", "weight_gradient"]


def convolve(x: Tensor, w: Tensor, g: Geometry, places: Sequence[int] | None = None) -> Tensor:
    """[N, C, *size], [O, C / groups, *kernel] -> [N, O, *outputs], or the first `places` of them."""
    places = _places(x.shape, w.shape, g, places)
    if _gathered(x, w):
        return windows.convolve(x, w, g, places)
    return _images(kernels.matmul(_weight(w, g), _windows(x, g, places)), x.shape[0], places)


def input_gradient(dy: Tensor, w: Tensor, g: Geometry, size: Sequence[int]) -> Tensor:
    """[N, O, *outputs], [O, C / groups, *kernel] -> [N, C, *size]; also a transposed convolution of dy."""
    _check(dy.shape[1] == w.shape[0] and len(size) == len(g.kernel), "gradient", dy.shape, "weight", w.shape, g)
    if _gathered(dy, w):
        return windows.input_gradient(dy, w, g, size)
    columns = kernels.matmul(_weight(w, g).transpose(1, 2), _channels(dy, g))
    shape = (g.groups * w.shape[1], math.prod(g.kernel), dy.shape[0], *dy.shape[2:])
    return _fold(columns.view(shape), g, size)


def weight_gradient(dy: Tensor, x: Tensor, g: Geometry) -> Tensor:
    """[N, O, *outputs], [N, C, *size] -> [O, C / groups, *kernel]."""
    _check_gradient(dy.shape, x.shape, g)
    if _gathered(dy, x):
        return windows.weight_gradient(dy, x, g)
    flat = kernels.matmul(_channels(dy, g), _windows(x, g, dy.shape[2:]).transpose(1, 2))
    return flat.reshape(dy.shape[1], x.shape[1] // g.groups, *g.kernel)


class Sliding(ABC):
    """One of the three forms as a bilinear operation that says what it is: op(x, y) = fold(left(x) right(y)).

    The matrices are [groups, rows, inner] and [groups, inner, columns].
    """

    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The operation itself."""

    @abstractmethod
    def result(self, x: Sequence[int], y: Sequence[int]) -> tuple[int, ...]:
        """The shape of the result of operands of these shapes."""

    @abstractmethod
    def left(self, x: Tensor, other: Sequence[int]) -> Tensor:
        """The matrices of the first operand, the second one being of that shape."""

    @abstractmethod
    def right(self, y: Tensor, other: Sequence[int]) -> Tensor:
        """The matrices of the second operand, the first one being of that shape."""

    @abstractmethod
    def fold(self, z: Tensor, x: Sequence[int], y: Sequence[int]) -> Tensor:
        """The result, from the products [groups, rows, columns] and the shapes of the operands."""


@dataclass(frozen=True)
class Convolve(Sliding):
    """`convolve`, or the first of its places."""

    geometry: Geometry
    places: tuple[int, ...] | None = None

    @override
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return convolve(x, y, self.geometry, self.places)

    @override
    def result(self, x: Sequence[int], y: Sequence[int]) -> tuple[int, ...]:
        return (x[0], y[0], *_places(x, y, self.geometry, self.places))

    @override
    def left(self, x: Tensor, other: Sequence[int]) -> Tensor:
        return _windows(x, self.geometry, self._room(x.shape)).transpose(1, 2)

    @override
    def right(self, y: Tensor, other: Sequence[int]) -> Tensor:
        return _weight(y, self.geometry).transpose(1, 2)

    @override
    def fold(self, z: Tensor, x: Sequence[int], y: Sequence[int]) -> Tensor:
        return _images(z.transpose(1, 2), x[0], self._room(x))

    def _room(self, x: Sequence[int]) -> Sequence[int]:
        return self.geometry.outputs(x[2:]) if self.places is None else self.places


@dataclass(frozen=True)
class InputGradient(Sliding):
    """`input_gradient`, to an input of this size."""

    geometry: Geometry
    size: tuple[int, ...]

    @override
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return input_gradient(x, y, self.geometry, self.size)

    @override
    def result(self, x: Sequence[int], y: Sequence[int]) -> tuple[int, ...]:
        _check(x[1] == y[0] and len(self.size) == len(self.geometry.kernel), "gradient", x, "weight", y, self.geometry)
        return (x[0], self.geometry.groups * y[1], *self.size)

    @override
    def left(self, x: Tensor, other: Sequence[int]) -> Tensor:
        return _channels(x, self.geometry).transpose(1, 2)

    @override
    def right(self, y: Tensor, other: Sequence[int]) -> Tensor:
        return _weight(y, self.geometry)

    @override
    def fold(self, z: Tensor, x: Sequence[int], y: Sequence[int]) -> Tensor:
        shape = (self.geometry.groups * y[1], math.prod(self.geometry.kernel), x[0], *x[2:])
        return _fold(z.transpose(1, 2).reshape(shape), self.geometry, self.size)


@dataclass(frozen=True)
class WeightGradient(Sliding):
    """`weight_gradient`; `swapped`, its operands come the other way round."""

    geometry: Geometry
    swapped: bool = False

    @override
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return weight_gradient(y, x, self.geometry) if self.swapped else weight_gradient(x, y, self.geometry)

    @override
    def result(self, x: Sequence[int], y: Sequence[int]) -> tuple[int, ...]:
        dy, size = (y, x) if self.swapped else (x, y)
        _check_gradient(dy, size, self.geometry)
        return (dy[1], size[1] // self.geometry.groups, *self.geometry.kernel)

    @override
    def left(self, x: Tensor, other: Sequence[int]) -> Tensor:
        return _windows(x, self.geometry, other[2:]) if self.swapped else _channels(x, self.geometry)

    @override
    def right(self, y: Tensor, other: Sequence[int]) -> Tensor:
        if self.swapped:
            return _channels(y, self.geometry).transpose(1, 2)
        return _windows(y, self.geometry, other[2:]).transpose(1, 2)

    @override
    def fold(self, z: Tensor, x: Sequence[int], y: Sequence[int]) -> Tensor:
        return (z.transpose(1, 2) if self.swapped else z).reshape(self.result(x, y))


def _check(channels_fit: bool, left: str, x: Sequence[int], right: str, w: Sequence[int], g: Geometry) -> None:
    """Refuse operands that do not fit each other, whoever calls: the products below take shapes for granted."""
    if not channels_fit or tuple(w[2:]) != g.kernel or len(x) != len(w) or w[0] % g.groups:
        raise ValueError(f"a {left} of shape {tuple(x)} does not fit a {right} of {tuple(w)} under {g}")


def _check_gradient(dy: Sequence[int], x: Sequence[int], g: Geometry) -> None:
    fits = dy[0] == x[0] and not dy[1] % g.groups and not x[1] % g.groups
    if not fits or any(n > most for n, most in zip(dy[2:], g.outputs(x[2:]), strict=True)):
        raise ValueError(f"a gradient of shape {tuple(dy)} does not fit an input of {tuple(x)} under {g}")


def _places(x: Sequence[int], w: Sequence[int], g: Geometry, places: Sequence[int] | None) -> tuple[int, ...]:
    """All places of a convolution, or those that are asked for if it has them."""
    _check(x[1] == g.groups * w[1], "input", x, "weight", w, g)
    room = g.outputs(x[2:])
    places = room if places is None else tuple(places)
    if any(n > most for n, most in zip(places, room, strict=True)):
        raise ValueError(f"a convolution has {room} places, not {places}")
    return places


def _gathered(*operands: Tensor) -> bool:
    """Whether a product may read its operands where they lie: shares, where kernels do that."""
    return all(t.dtype is RING.dtype and kernels.on(t).gathers for t in operands)


def _weight(w: Tensor, g: Geometry) -> Tensor:
    """[O, C / groups, *kernel] -> [groups, O / groups, C / groups · kernel]."""
    return w.reshape(g.groups, w.shape[0] // g.groups, -1)


def _channels(y: Tensor, g: Geometry) -> Tensor:
    """[N, O, *outputs] -> [groups, O / groups, N · outputs]."""
    count = y.shape[0] * math.prod(y.shape[2:])
    return y.transpose(0, 1).reshape(g.groups, y.shape[1] // g.groups, count)


def _images(z: Tensor, count: int, places: Sequence[int]) -> Tensor:
    """[groups, O / groups, N · places] -> [N, O, *places]."""
    return z.reshape(z.shape[0] * z.shape[1], count, *places).transpose(0, 1).contiguous()


def _windows(x: Tensor, g: Geometry, places: Sequence[int]) -> Tensor:
    """[N, C, *size] -> [groups, C / groups · kernel, N · places]: the first places that the kernel has, or all."""
    padded = pad(x, [p for p in reversed(g.padding) for _ in range(2)]).contiguous()
    batch, channel, *steps = padded.stride()
    within = [step * d for step, d in zip(steps, g.dilation, strict=True)]
    between = [step * s for step, s in zip(steps, g.stride, strict=True)]
    views = padded.as_strided((x.shape[1], *g.kernel, x.shape[0], *places), (channel, *within, batch, *between))
    count = x.shape[1] // g.groups * math.prod(g.kernel)
    return views.reshape(g.groups, count, x.shape[0] * math.prod(places))


def _fold(columns: Tensor, g: Geometry, size: Sequence[int]) -> Tensor:
    """[C, kernel, N, *outputs] -> [N, C, *size]: every window is added to where it came from."""
    batch, *places = columns.shape[2:]
    padded = [n + 2 * p for n, p in zip(size, g.padding, strict=True)]
    out = columns.new_zeros((columns.shape[0], batch, *padded))
    whole = [slice(None), slice(None)]
    for k, offset in enumerate(product(*map(range, g.kernel))):
        along = zip(offset, places, g.stride, g.dilation, strict=True)
        target = [slice(at * d, at * d + (n - 1) * s + 1, s) for at, n, s, d in along]
        out[tuple(whole + target)] += columns[:, k]
    inner = [slice(p, p + n) for p, n in zip(g.padding, size, strict=True)]
    return out[tuple(whole + inner)].transpose(0, 1).contiguous()
