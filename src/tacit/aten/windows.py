"""Windows into a tensor at public places: what pooling, padding and resampling have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from tacit.protocols.number import Number

__all__ = ["Windows", "adaptive", "fixed", "gathered", "scattered"]

Sizes = Sequence[int]
Fixed = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Which elements of a flattened input each output is made of.

    `places` are [window, *outputs], flat, and one beyond the end for what lies in the padding; `inside` is where they
    do not. `extents` are the sizes of the windows as averages count them, padding included up to its rim. There is one
    object for each geometry, by which the choices of the forward pass are found in the backward pass.
    """

    size: Fixed
    places: Tensor
    inside: Tensor
    extents: Tensor

    @property
    def dims(self) -> int:
        """The number of spatial dimensions."""
        return len(self.size)


def fixed(size: Sizes, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool) -> Windows:
    """The windows of PyTorch's pooling layers, from its lists, in which one number may stand for all dimensions."""
    lists = (kernel, stride or kernel, padding, dilation)
    each = [tuple(v) * (len(size) if len(v) == 1 else 1) for v in lists]
    return _fixed(tuple(size), *each, ceil_mode)


@cache
def _fixed(size: Fixed, kernel: Fixed, stride: Fixed, padding: Fixed, dilation: Fixed, ceil_mode: bool) -> Windows:
    axes, extents = [], []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        count = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (count - 1) * s >= n + p:  # the last window starts inside of the input or its left padding
            count -= 1
        starts = torch.arange(count) * s - p
        axes.append(starts + d * torch.arange(k)[:, None])
        extents.append((starts + k).clamp(max=n + p) - starts)
    return _combined(size, axes, extents)


def adaptive(size: Sizes, outputs: Sizes) -> Windows:
    """The windows of PyTorch's adaptive pooling layers: output i covers floor(i n / m) .. ceil((i + 1) n / m)."""
    return _adaptive(tuple(size), tuple(outputs))


@cache
def _adaptive(size: Fixed, outputs: Fixed) -> Windows:
    axes, extents = [], []
    for n, m in zip(size, outputs, strict=True):
        starts = torch.arange(m) * n // m
        stops = -(-(torch.arange(m) + 1) * n // m)
        offsets = torch.arange(int((stops - starts).max()) if m else 1)[:, None]
        axes.append(torch.where(starts + offsets < stops, starts + offsets, -1))
        extents.append(stops - starts)
    return _combined(size, axes, extents)


def _combined(size: Fixed, axes: Sequence[Tensor], extents: Sequence[Tensor]) -> Windows:
    """Windows of several dimensions, from the [window, outputs] places and the extents along each."""
    dims = len(size)
    places, inside, counts = torch.tensor(0), torch.tensor(True), torch.tensor(1)
    for d, (n, axis, extent) in enumerate(zip(size, axes, extents, strict=True)):
        shape = [1] * (2 * dims)
        shape[d], shape[dims + d] = axis.shape
        along = axis.view(shape)
        places = places * n + along
        inside = inside & (along >= 0) & (along < n)
        counts = counts * extent.view([-1 if e == d else 1 for e in range(dims)])
    outputs = places.shape[dims:]
    places = torch.where(inside, places, math.prod(size))
    return Windows(size, places.reshape(-1, *outputs), inside.reshape(-1, *outputs), counts)


def gathered(x: Number, windows: Windows) -> Number:
    """[.., *size] -> [window, .., *outputs], with zeros from the padding."""
    lead, padded = len(x.shape) - windows.dims, not bool(windows.inside.all())

    def op(t: Tensor) -> Tensor:
        flat = t.flatten(-windows.dims)
        flat = pad(flat, (0, 1)) if padded else flat
        windowed: Tensor = flat[..., windows.places.to(t.device)]
        return windowed.movedim(lead, 0)

    return x.linear(op) if padded else x.move(op, view=False)


def scattered(x: Number, windows: Windows) -> Number:
    """[window, .., *outputs] -> [.., *size]: sums where windows overlap, nothing from the padding."""
    count = math.prod(windows.size)

    def op(t: Tensor) -> Tensor:
        flat = t.movedim(0, -windows.dims - 1).flatten(-windows.dims - 1)
        out = flat.new_zeros((*flat.shape[:-1], count + 1))
        out.index_add_(-1, windows.places.flatten().to(t.device), flat)
        sums: Tensor = out[..., :count].unflatten(-1, windows.size).contiguous()
        return sums

    return x.linear(op)
