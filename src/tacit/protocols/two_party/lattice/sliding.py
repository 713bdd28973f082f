"""Convolutions in the coefficients of polynomials, without windows: an image is a polynomial, and so is a kernel.

    x = Σ x[h, w] X^(h W + w)      k = Σ k[i, j] X^((e - 1 - i) W + f - 1 - j)      of e x f taps

Coefficient (h + e - 1) W + w + f - 1 of x k is Σ x[h + i, w + j] k[i, j]: the place (h, w) of a convolution. What hangs
over an edge falls on other places. So a convolution is a product of matrices whose entries are such polynomials, images
by channels and channels by outputs; sums over channels are made inside of answers.

A stride cuts an image into phases, x[s h + a, s w + b] for each a and b below s, which are more channels. Tall images
are cut into tiles of rows that overlap. The gradient of the input is the same with whole products of polynomials, which
are added up where tiles overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from tacit.protocols.two_party.lattice.forms import Form, Products, Spread
from tacit.protocols.two_party.lattice.packing import grouping, plan
from tacit.protocols.two_party.lattice.parameters import DEGREE, Parameters
from tacit.ring.convolution import Convolve, InputGradient
from tacit.ring.geometry import Geometry

__all__ = ["sliding", "way"]

TILES = (1, 2, 3, 4, 6, 8, 16)
"""Into how many tiles an image is cut, as multiples of the fewest that fit: more of them fill polynomials better, and
have more rows twice."""

Size = tuple[int, ...]


def sliding(op: object, x: Size, y: Size) -> list[Form]:
    """The ways to an operation on operands of these shapes; none for what is better done by windows."""
    if isinstance(op, Convolve):
        return [_Forward(op, x, y, lay) for lay in _lays(op.geometry, op.result(x, y)[2:])]
    if isinstance(op, InputGradient):
        return [_Backward(op, x, y, lay) for lay in _lays(op.geometry, x[2:])]
    return []


@lru_cache(1024)
def way(op: Callable[[Tensor, Tensor], Tensor], x: Size, y: Size, parameters: Parameters) -> tuple[Form, int]:
    """The cheapest way to an operation, as if both operands were to be encrypted anew, and how many products of a batch
    are made as one."""
    found = []
    for form in (Products(op, x, y), *sliding(op, x, y)):
        count, rows, inner, columns = form.sizes
        area = form.spread.area
        size = grouping(*form.sizes, parameters, area)
        shape = size * rows, inner, size * columns
        one = min(plan(*s, parameters, 1.0, None, area)[0] for s in (shape, shape[::-1]))
        found.append((-(-count // size) * one, form, size))
    return min(found, key=lambda each: each[0])[1:]


class _Lay(NamedTuple):
    """How polynomials lie: a geometry, its outputs, and how many rows of them a tile has."""

    geometry: Geometry
    outputs: Size
    height: int

    @property
    def tiles(self) -> int:
        return -(-self.outputs[0] // self.height)

    @property
    def extent(self) -> Size:
        """Places from the first to the last tap, in steps of the stride."""
        g = self.geometry
        return tuple((k - 1) * d // s + 1 for k, d, s in zip(g.kernel, g.dilation, g.stride, strict=True))

    @property
    def size(self) -> Size:
        """Of a polynomial: a tile with all that its taps reach."""
        return tuple(n + e - 1 for n, e in zip((self.height, *self.outputs[1:]), self.extent, strict=True))

    @property
    def area(self) -> int:
        return math.prod(self.size)

    @property
    def phases(self) -> list[Size]:
        """Those that any tap falls on."""
        g = self.geometry
        along = [sorted({j * d % s for j in range(k)}) for k, d, s in zip(g.kernel, g.dilation, g.stride, strict=True)]
        return list(product(*along))

    def taps(self) -> list[tuple[int, int]]:
        """The phase of each tap, and its number among those of the extent."""
        g, number = self.geometry, {phase: k for k, phase in enumerate(self.phases)}
        out = []
        for tap in product(*map(range, g.kernel)):
            phase, place = [], 0
            for j, d, s, e in zip(tap, g.dilation, g.stride, self.extent, strict=True):
                phase.append(j * d % s)
                place = place * e + j * d // s
            out.append((number[tuple(phase)], place))
        return out

    def places(self, first: Size, counts: Size) -> Tensor:
        """Where a box of coefficients stands, of these sizes, from a first one on."""
        strides = [math.prod(self.size[k + 1 :]) for k in range(len(self.size))]
        total = torch.zeros((), dtype=torch.int64)
        for at, count, stride in zip(first, counts, strides, strict=True):
            total = total.unsqueeze(-1) + torch.arange(at, at + count) * stride
        return total.reshape(-1)


def _lays(g: Geometry, outputs: Size) -> list[_Lay]:
    """Ways to lie that are worth trying, of few tiles first."""
    most = outputs[0]
    if _Lay(g, outputs, 1).area > DEGREE:
        return []
    least = next(count for count in range(1, most + 1) if _Lay(g, outputs, -(-most // count)).area <= DEGREE)
    heights = {-(-most // (least * more)) for more in TILES if least * more <= most}
    return [_Lay(g, outputs, height) for height in sorted(heights, reverse=True)]


@lru_cache(256)
def _forward(lay: _Lay) -> Spread:
    nowhere = (0,) * len(lay.size)
    last = tuple(e - 1 for e in lay.extent)
    outputs = (lay.height, *lay.outputs[1:])
    places = lay.places
    return Spread(lay.area, places(nowhere, lay.size), places(nowhere, lay.extent), places(last, outputs))


@lru_cache(256)
def _backward(lay: _Lay) -> Spread:
    nowhere = (0,) * len(lay.size)
    outputs = (lay.height, *lay.outputs[1:])
    places = lay.places
    return Spread(lay.area, places(nowhere, outputs), places(nowhere, lay.extent), places(nowhere, lay.size))


class _Forward(Form):
    """`Convolve`."""

    def __init__(self, op: Convolve, x: Size, y: Size, lay: _Lay) -> None:
        self._x, self._y, self._lay = x, y, lay
        self.spread = _forward(lay)
        self.tags = ("direct", *lay, x[2:]), ("direct", *lay)
        groups = lay.geometry.groups
        inner = x[1] // groups * len(lay.phases)
        self.sizes = groups, x[0] * lay.tiles, inner, y[0] // groups

    @override
    def left(self, x: Tensor) -> Sequence[Tensor]:
        lay, g = self._lay, self._lay.geometry
        whole = (lay.tiles * lay.height + lay.extent[0] - 1, *lay.size[1:])
        room = [s * n for s, n in zip(g.stride, whole, strict=True)]
        margins = [(p, max(r - n - p, 0)) for p, r, n in zip(g.padding, room, self._x[2:], strict=True)]
        padded = pad(x, [m for pair in reversed(margins) for m in pair])
        rows = []
        for phase in lay.phases:
            steps = [slice(a, r, s) for a, r, s in zip(phase, room, g.stride, strict=True)]
            image = padded[:, :, *steps]
            starts = range(0, lay.tiles * lay.height, lay.height)
            rows.append(torch.stack([image[:, :, at : at + lay.size[0]] for at in starts], 1))
        groups, count, inner, _ = self.sizes
        every = torch.stack(rows, 3)  # [N, tiles, C, phases, *size]
        return list(every.reshape(count, groups, inner, lay.area).transpose(0, 1))

    @override
    def right(self, y: Tensor) -> Sequence[Tensor]:
        return _kernels(self._lay, y, self.sizes[0], turned=True)

    @override
    def fold(self, z: Sequence[Tensor]) -> Tensor:
        lay, groups = self._lay, self.sizes[0]
        rest = lay.outputs[1:]
        every = torch.stack(list(z)).view(groups, self._x[0], lay.tiles, -1, lay.height, *rest)
        every = every.permute(1, 0, 3, 2, 4, *range(5, 5 + len(rest)))
        whole = every.reshape(self._x[0], self._y[0], lay.tiles * lay.height, *rest)
        return whole[:, :, : lay.outputs[0]].contiguous()


class _Backward(Form):
    """`InputGradient`."""

    def __init__(self, op: InputGradient, x: Size, y: Size, lay: _Lay) -> None:
        self._x, self._y, self._lay, self._size = x, y, lay, op.size
        self.spread = _backward(lay)
        self.tags = ("gradient", *lay), ("gradient", *lay)
        groups = lay.geometry.groups
        self.sizes = groups, x[0] * lay.tiles, x[1] // groups, y[1] * len(lay.phases)

    @override
    def left(self, x: Tensor) -> Sequence[Tensor]:
        lay = self._lay
        groups, count, inner, _ = self.sizes
        beyond = lay.tiles * lay.height - lay.outputs[0]
        tall = pad(x, [0, 0] * (len(lay.size) - 1) + [0, beyond])
        tiles = tall.view(*x.shape[:2], lay.tiles, lay.height, *lay.outputs[1:]).transpose(1, 2)
        return list(tiles.reshape(count, groups, inner, -1).transpose(0, 1))

    @override
    def right(self, y: Tensor) -> Sequence[Tensor]:
        return [one.transpose(0, 1) for one in _kernels(self._lay, y, self.sizes[0], turned=False)]

    @override
    def fold(self, z: Sequence[Tensor]) -> Tensor:
        lay, g = self._lay, self._lay.geometry
        count, channels = self._x[0], self.sizes[0] * self._y[1]
        every = torch.stack(list(z)).view(g.groups, count, lay.tiles, self._y[1], len(lay.phases), *lay.size)
        every = every.permute(1, 0, 3, 4, 2, *range(5, 5 + len(lay.size)))
        every = every.reshape(count, channels, len(lay.phases), lay.tiles, *lay.size)
        tall = (lay.tiles * lay.height + lay.extent[0] - 1, *lay.size[1:])
        needed = [n + 2 * p for n, p in zip(self._size, g.padding, strict=True)]
        room = [max(s * n, most) for s, n, most in zip(g.stride, tall, needed, strict=True)]
        out = every.new_zeros(count, channels, *room)
        for k, phase in enumerate(lay.phases):
            along = zip(phase, g.stride, tall, strict=True)
            part = out[:, :, *(slice(a, a + s * (n - 1) + 1, s) for a, s, n in along)]
            for tile in range(lay.tiles):
                part[:, :, tile * lay.height : tile * lay.height + lay.size[0]] += every[:, :, k, tile]
        inside = [slice(p, p + n) for p, n in zip(g.padding, self._size, strict=True)]
        return out[:, :, *inside].contiguous()


def _kernels(lay: _Lay, y: Tensor, groups: int, *, turned: bool) -> Sequence[Tensor]:
    """[O, C / groups, *kernel] -> for each group [C / groups · phases, O / groups, taps], in one order or the other."""
    count = math.prod(lay.extent)
    out = y.new_zeros(*y.shape[:2], len(lay.phases), count)
    for k, (phase, place) in enumerate(lay.taps()):
        out[:, :, phase, count - 1 - place if turned else place] = y.flatten(2)[:, :, k]
    every = out.view(groups, y.shape[0] // groups, -1, count)
    return list(every.transpose(1, 2))
