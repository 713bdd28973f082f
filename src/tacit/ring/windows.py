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

__all__ = ["convolve", "input_gradient", "weight_gradient", "worth"]

KEPT = 64
"""Shapes whose tables are kept. More: deeper networks make theirs once; fewer: less memory, for a table has 8 bytes for
each place of the output's channels."""

LEAST_CHANNELS, MOST_WORK = 8, 1.5
"""When to gather for an input's gradient: with channels to fill a tile, and up to so many products for one of the sum,
for windows that hang over the edges of dy are multiplied, too. Else its windows are written and added up."""

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
    dx = torch.zeros(dy.shape[0], g.groups * w.shape[1], *size, dtype=RING.dtype, device=dy.device)
    margins, phases = _phases(g, tuple(dy.shape), tuple(w.shape), tuple(size))
    w, dy = w.contiguous(), pad(dy, margins).contiguous()
    for phase in phases:
        kernels.on(dy).contract(w, phase.weight, dy, phase.outputs, dx, phase.inputs)
    return dx


def worth(dy: Tensor, w: Tensor, g: Geometry, size: Sequence[int]) -> bool:
    """Whether `input_gradient` is faster than a matrix of windows; measured by benchmarks/kernels.py."""
    work = math.prod(size) / max(math.prod(dy.shape[2:]) * math.prod(g.stride), 1)
    return w.shape[1] >= LEAST_CHANNELS and work <= MOST_WORK


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
