"""Convolutions without a matrix of windows: the native product reads windows where they lie in the input.

The three forms of `convolution`, each as a product of matrices whose elements are told by tables of offsets. Tables are
kept for the shapes that were seen last; they depend on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tacit.ring import kernels
from tacit.ring.geometry import Geometry
from tacit.ring.kernels import Places
from tacit.ring.ring import RING

__all__ = ["convolve", "gather_gradient", "input_gradient", "spread_gradient", "weight_gradient"]

KEPT = 64
"""Shapes whose tables are kept. More: deeper networks make theirs once; fewer: less memory, for a table has 8 bytes for
each place of the output's channels."""

GATHERED, TILE_ROWS, SETTLING = 1.1, 6, 4
"""What an input's gradient costs, in products of the sum. Gathered: 1.1 for each product with a window, those that hang
over the edges of dy included, and more where channels do not fill a tile of so many rows. Spread: 1 for each, and what
adding a sum to its place takes, as much as 4 products. Measured, and nothing but speed depends on them."""

Size = tuple[int, ...]


def convolve(x: Tensor, w: Tensor, g: Geometry, places: Sequence[int]) -> Tensor:
    """[N, C, *size], [O, C / groups, *kernel] -> [N, O, *places]."""
    padded = _padded(x, g)
    y = torch.empty(x.shape[0], w.shape[0], *places, dtype=RING.dtype, device=x.device)
    windows = _windows(g, tuple(padded.shape), tuple(places))
    kernels.on(x).contract(w.contiguous(), _weight(g, tuple(w.shape)), padded, windows, y, _channels(g, tuple(y.shape)))
    return y


def weight_gradient(dy: Tensor, x: Tensor, g: Geometry) -> Tensor:
    """[N, O, *outputs], [N, C, *size] -> [O, C / groups, *kernel]."""
    padded = _padded(x, g)
    dw = torch.empty(dy.shape[1], x.shape[1] // g.groups, *g.kernel, dtype=RING.dtype, device=dy.device)
    first, taps, places = _windows(g, tuple(padded.shape), tuple(dy.shape[2:]))
    left = _channels(g, tuple(dy.shape))
    kernels.on(dy).contract(dy.contiguous(), left, padded, Places(first, places, taps), dw, _weight(g, tuple(dw.shape)))
    return dw


def input_gradient(dy: Tensor, w: Tensor, g: Geometry, size: Sequence[int]) -> Tensor:
    """[N, O, *outputs], [O, C / groups, *kernel] -> [N, C, *size]; also a transposed convolution of dy."""
    work = math.prod(size) / max(math.prod(dy.shape[2:]) * math.prod(g.stride), 1)
    gathered = GATHERED * work * max(1.0, TILE_ROWS / max(w.shape[1], 1))
    spread = 1 + SETTLING * g.groups / max(w.shape[0], 1)
    return (gather_gradient if gathered <= spread else spread_gradient)(dy, w, g, size)


def gather_gradient(dy: Tensor, w: Tensor, g: Geometry, size: Sequence[int]) -> Tensor:
    """The same, each place of dx from the places of dy whose windows reach it."""
    dx = torch.zeros(dy.shape[0], g.groups * w.shape[1], *size, dtype=RING.dtype, device=dy.device)
    margins, phases = _phases(g, tuple(dy.shape), tuple(w.shape), tuple(size))
    w, dy = w.contiguous(), pad(dy, margins).contiguous()
    for phase in phases:
        kernels.on(dy).contract(w, phase.weight, dy, phase.outputs, dx, phase.inputs)
    return dx


def spread_gradient(dy: Tensor, w: Tensor, g: Geometry, size: Sequence[int]) -> Tensor:
    """The same, each place of dy to the places of dx in its window."""
    padded = [n + 2 * p for n, p in zip(size, g.padding, strict=True)]
    places = tuple(dy.shape[2:])
    dx = torch.zeros(dy.shape[0], g.groups * w.shape[1], *padded, dtype=RING.dtype, device=dy.device)
    first, rows, taps = _weight(g, tuple(w.shape))
    turned, outputs = Places(first, taps, rows), _channels(g, tuple(dy.shape))
    inputs = _windows(g, tuple(dx.shape), places)
    kernels.on(dy).contract(w.contiguous(), turned, dy.contiguous(), outputs, dx, inputs, shared=math.prod(places))
    inner = [slice(p, p + n) for p, n in zip(g.padding, size, strict=True)]
    return dx[(slice(None), slice(None), *inner)].contiguous()


def _padded(x: Tensor, g: Geometry) -> Tensor:
    return pad(x, [p for p in reversed(g.padding) for _ in range(2)]).contiguous()


@lru_cache(KEPT)
def _weight(g: Geometry, shape: Size) -> Places:
    """[O, C / groups, *kernel] as a matrix for each group: output channels by taps."""
    taps = math.prod(shape[1:])
    rows = shape[0] // g.groups
    return Places(_steps(g.groups, rows * taps), _steps(rows, taps), _steps(taps, 1))


@lru_cache(KEPT)
def _channels(g: Geometry, shape: Size) -> Places:
    """[N, O, *outputs] as a matrix for each group: channels by places in all images."""
    places = math.prod(shape[2:])
    rows = shape[1] // g.groups
    return Places(
        _steps(g.groups, rows * places),
        _steps(rows, places),
        _sums(_steps(shape[0], shape[1] * places), _steps(places, 1)),
    )


@lru_cache(KEPT)
def _windows(g: Geometry, shape: Size, places: Size) -> Places:
    """A padded [N, C, *size] as a matrix for each group: taps by places in all images."""
    steps = _strides(shape[2:])
    area = math.prod(shape[2:])
    channels = shape[1] // g.groups
    taps = [_steps(k, d * step) for k, d, step in zip(g.kernel, g.dilation, steps, strict=True)]
    at = [_steps(n, s * step) for n, s, step in zip(places, g.stride, steps, strict=True)]
    return Places(
        _steps(g.groups, channels * area),
        _sums(_steps(channels, area), *taps),
        _sums(_steps(shape[0], shape[1] * area), *at),
    )


class _Phase(NamedTuple):
    """The inputs that lie alike between two steps of the kernel, and the taps and outputs that reach them."""

    weight: Places
    outputs: Places
    inputs: Places


class _Reach(NamedTuple):
    """A phase along one dimension: inputs i = s t + r - p; output t - e for each tap k with d k = s e + r."""

    taps: list[int]
    earlier: list[int]
    steps: range
    inputs: list[int]


def _reaches(kernel: int, stride: int, padding: int, dilation: int, size: int) -> list[_Reach]:
    found = []
    for rest in range(stride):
        taps = [k for k in range(kernel) if (dilation * k - rest) % stride == 0]
        steps = range(-((rest - padding) // stride), (padding + size - 1 - rest) // stride + 1)
        earlier = [(dilation * k - rest) // stride for k in taps]
        if taps and len(steps):
            found.append(_Reach(taps, earlier, steps, [stride * t + rest - padding for t in steps]))
    return found


@lru_cache(KEPT)
def _phases(g: Geometry, dy: Size, w: Size, size: Size) -> tuple[list[int], list[_Phase]]:
    """The margins to add to dy, as `pad` takes them, and the phases, with places in dy with its margins."""
    along = [_reaches(*numbers) for numbers in zip(g.kernel, g.stride, g.padding, g.dilation, size, strict=True)]
    before, after = [], []
    for reaches, n in zip(along, dy[2:], strict=True):
        before.append(max([0, *(max(r.earlier) - r.steps[0] for r in reaches)]))
        after.append(max([0, *(r.steps[-1] - min(r.earlier) - (n - 1) for r in reaches)]))
    margins = [m for pair in zip(reversed(before), reversed(after), strict=True) for m in pair]
    room = [b + n + a for b, n, a in zip(before, dy[2:], after, strict=True)]

    out_steps, in_steps, tap_steps = _strides(room), _strides(size), _strides(g.kernel)
    out_area, in_area, taps = math.prod(room), math.prod(size), math.prod(g.kernel)
    outputs, channels = w[0] // g.groups, w[1]
    phases = []
    for reach in product(*along):
        tap = [torch.tensor(r.taps) * step for r, step in zip(reach, tap_steps, strict=True)]
        earlier = [torch.tensor(r.earlier) * -step for r, step in zip(reach, out_steps, strict=True)]
        at = [(torch.tensor(r.steps) + b) * step for r, b, step in zip(reach, before, out_steps, strict=True)]
        to = [torch.tensor(r.inputs) * step for r, step in zip(reach, in_steps, strict=True)]
        weight = Places(
            _steps(g.groups, outputs * channels * taps),
            _steps(channels, taps),
            _sums(_steps(outputs, channels * taps), *tap),
        )
        source = Places(
            _steps(g.groups, outputs * out_area),
            _sums(_steps(outputs, out_area), *earlier),
            _sums(_steps(dy[0], dy[1] * out_area), *at),
        )
        target = Places(
            _steps(g.groups, channels * in_area),
            _steps(channels, in_area),
            _sums(_steps(dy[0], g.groups * channels * in_area), *to),
        )
        phases.append(_Phase(weight, source, target))
    return margins, phases


def _steps(count: int, step: int) -> Tensor:
    return torch.arange(count) * step


def _sums(*axes: Tensor) -> Tensor:
    """All sums of one element of each, the last changing fastest."""
    return reduce(lambda total, axis: (total.view(-1, 1) + axis).view(-1), axes)


def _strides(size: Sequence[int]) -> list[int]:
    """The steps of a contiguous tensor."""
    return [math.prod(size[k + 1 :]) for k in range(len(size))]
