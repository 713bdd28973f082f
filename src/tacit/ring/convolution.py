"""Convolutions in any number of spatial dimensions, as one matrix product of a weight with all windows of an input.

A convolution and its two gradients are the same sum of products, read three ways:

    y[o] = Σ w[k] x[window k of o]        dx[window k of o] += w[k] dy[o]        dw[k] = Σ dy[o] x[window k of o]

A transposed convolution is the second of them. All work in the ring, on shares without values, and on floats; where
kernels read operands where they lie, `windows` does it for shares, and writes no window to memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from torch import Tensor
from torch.nn.functional import pad

from tacit.ring import kernels, windows
from tacit.ring.geometry import Geometry
from tacit.ring.ring import RING

__all__ = ["convolve", "input_gradient", "weight_gradient"]


def convolve(x: Tensor, w: Tensor, g: Geometry, places: Sequence[int] | None = None) -> Tensor:
    """[N, C, *size], [O, C / groups, *kernel] -> [N, O, *outputs], or the first `places` of them."""
    _check(x.shape[1] == g.groups * w.shape[1], "input", x, "weight", w, g)
    room = g.outputs(x.shape[2:])
    places = room if places is None else places
    if any(n > most for n, most in zip(places, room, strict=True)):
        raise ValueError(f"a convolution has {room} places, not {tuple(places)}")
    if _gathered(x, w):
        return windows.convolve(x, w, g, places)
    flat = kernels.matmul(_weight(w, g), _windows(x, g, places))
    y = flat.view(w.shape[0], x.shape[0], *places).transpose(0, 1)
    return y.contiguous()


def input_gradient(dy: Tensor, w: Tensor, g: Geometry, size: Sequence[int]) -> Tensor:
    """[N, O, *outputs], [O, C / groups, *kernel] -> [N, C, *size]; also a transposed convolution of dy."""
    _check(dy.shape[1] == w.shape[0] and len(size) == len(g.kernel), "gradient", dy, "weight", w, g)
    if _gathered(dy, w) and windows.worth(dy, w, g, size):
        return windows.input_gradient(dy, w, g, size)
    columns = kernels.matmul(_weight(w, g).transpose(1, 2), _channels(dy, g))
    shape = (g.groups * w.shape[1], math.prod(g.kernel), dy.shape[0], *dy.shape[2:])
    return _fold(columns.view(shape), g, size)


def weight_gradient(dy: Tensor, x: Tensor, g: Geometry) -> Tensor:
    """[N, O, *outputs], [N, C, *size] -> [O, C / groups, *kernel]."""
    fits = dy.shape[0] == x.shape[0] and not dy.shape[1] % g.groups and not x.shape[1] % g.groups
    if not fits or any(n > most for n, most in zip(dy.shape[2:], g.outputs(x.shape[2:]), strict=True)):
        raise ValueError(f"a gradient of shape {tuple(dy.shape)} does not fit an input of {tuple(x.shape)} under {g}")
    if _gathered(dy, x):
        return windows.weight_gradient(dy, x, g)
    flat = kernels.matmul(_channels(dy, g), _windows(x, g, dy.shape[2:]).transpose(1, 2))
    return flat.reshape(dy.shape[1], x.shape[1] // g.groups, *g.kernel)


def _check(channels_fit: bool, left: str, x: Tensor, right: str, w: Tensor, g: Geometry) -> None:
    """Refuse operands that do not fit each other, whoever calls: the products below take shapes for granted."""
    if not channels_fit or w.shape[2:] != g.kernel or x.dim() != w.dim() or w.shape[0] % g.groups:
        raise ValueError(f"a {left} of shape {tuple(x.shape)} does not fit a {right} of {tuple(w.shape)} under {g}")


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
