"""Padding by what is there, and interpolation. Where elements go is found by sending their positions the same way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tacit.aten.windows import Windows, gathered, scattered
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, as_secret, secret
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten

PADS = [getattr(aten, f"{kind}_pad{d}d") for kind in ("reflection", "replication") for d in (1, 2, 3)]
NEAREST = [getattr(aten, f"{kind}{d}d") for kind in ("upsample_nearest", "_upsample_nearest_exact") for d in (1, 2, 3)]


@implements(*(packet.default for packet in (*PADS, *NEAREST)))
def place(func: Any, x: SecretTensor, *args: Any) -> SecretTensor:
    """Padding that reflects or replicates, and interpolation by the nearest neighbour: mere moves."""
    dims = int(func.__name__.split(".")[0][-2])
    windows = _windows(func, tuple(x.shape[-dims:]), *_frozen(args))
    share = arithmetic(x)
    return secret(gathered(share, windows).move(lambda t: t[0], view=False), x.dtype)


@implements(*(getattr(aten, f"{packet.__name__}_backward").default for packet in PADS))
def pad_backward(func: Any, grad: Tensor, x: Tensor, padding: Sequence[int]) -> SecretTensor:
    """Each element's gradient is the sum over the places it went to. Local."""
    forward = getattr(aten, func.__name__.split(".")[0].removesuffix("_backward")).default
    dims = len(padding) // 2
    return _collected(grad, x, _windows(forward, tuple(x.shape[-dims:]), *_frozen([padding])))


@implements(*(getattr(aten, f"{packet.__name__}_backward").default for packet in NEAREST))
def nearest_backward(
    func: Any, grad: SecretTensor, outputs: Sequence[int], inputs: Sequence[int], *scales: float | None
) -> SecretTensor:
    """Each element's gradient is the sum over the places it went to. Local."""
    forward = getattr(aten, func.__name__.split(".")[0].removesuffix("_backward")).default
    return _collected(grad, grad, _windows(forward, tuple(inputs[2:]), *_frozen([outputs]), *scales))


def _collected(grad: Tensor, beside: Tensor, windows: Windows) -> SecretTensor:
    share = arithmetic(as_secret(grad, beside)).move(lambda t: t.unsqueeze(0), view=False)
    return secret(scattered(share, windows), grad.dtype)


def _frozen(args: Sequence[Any]) -> list[Any]:
    return [tuple(a) if isinstance(a, list | tuple) else a for a in args]


@cache
def _windows(func: Any, size: tuple[int, ...], *args: Any) -> Windows:
    """Windows of one element: the operator itself, applied to the positions. Those below 2^53 are exact."""
    positions = torch.arange(torch.Size(size).numel(), dtype=torch.float64).view(1, 1, *size)
    places = func(positions, *args)[0].to(torch.int64)
    return Windows(size, places, torch.ones_like(places, dtype=torch.bool), torch.ones(places.shape[1:]))


@implements(
    aten.upsample_linear1d_backward.default,
    aten.upsample_bilinear2d_backward.default,
    aten.upsample_trilinear3d_backward.default,
    aten.upsample_bicubic2d_backward.default,
)
def interpolation_backward(
    func: Any,
    grad: SecretTensor,
    outputs: Sequence[int],
    inputs: Sequence[int],
    align_corners: bool,
    *scales: float | None,
) -> Tensor:
    """The transposed interpolation, one dimension after the other. One round for each but the first."""
    cubic = func is aten.upsample_bicubic2d_backward.default
    out: Tensor = grad
    scales = scales or (None,) * len(outputs)
    for d, (n, m, scale) in enumerate(zip(inputs[2:], outputs, scales, strict=True), start=2):
        weights = _matrix(n, m, align_corners, scale, cubic)
        out = torch.matmul(out.movedim(d, -1), weights.t()).movedim(-1, d)
    return out


def _matrix(n: int, m: int, align_corners: bool, scale: float | None, cubic: bool) -> Tensor:
    """What interpolation along one dimension does to unit vectors: [n, m]."""
    units = torch.eye(n)
    if cubic:
        along = units.view(1, n, n, 1)
        return aten.upsample_bicubic2d(along, [m, 1], align_corners, scale, None)[0, :, :, 0]  # type: ignore[no-any-return]
    return aten.upsample_linear1d(units.view(1, n, n), [m], align_corners, scale)[0]  # type: ignore[no-any-return]


# --- interpolation that averages where it makes smaller ---------------------------------------------------------------

SMOOTH = [getattr(aten, f"_upsample_{kind}2d_aa") for kind in ("bilinear", "bicubic")]
SMOOTH_BACKWARD = [getattr(aten, f"_upsample_{kind}2d_aa_backward") for kind in ("bilinear", "bicubic")]


@implements(*(packet.default for packet in SMOOTH))
def smooth(func: Any, x: SecretTensor, outputs: Sequence[int], align_corners: bool, *scales: float | None) -> Tensor:
    """A product with public weights along each dimension. 2 rounds."""
    out: Tensor = x
    for d, (n, m, scale) in enumerate(zip(x.shape[2:], outputs, scales or (None, None), strict=True), start=2):
        out = torch.matmul(out.movedim(d, -1), _smooth_matrix(func, n, m, align_corners, scale)).movedim(-1, d)
    return out.contiguous()


@implements(*(packet.default for packet in SMOOTH_BACKWARD))
def smooth_backward(
    func: Any,
    grad: SecretTensor,
    outputs: Sequence[int],
    inputs: Sequence[int],
    align_corners: bool,
    *scales: float | None,
) -> Tensor:
    """The transposed products."""
    forward = SMOOTH[[packet.default for packet in SMOOTH_BACKWARD].index(func)].default
    out: Tensor = grad
    for d, (n, m, scale) in enumerate(zip(inputs[2:], outputs, scales or (None, None), strict=True), start=2):
        out = torch.matmul(out.movedim(d, -1), _smooth_matrix(forward, n, m, align_corners, scale).t()).movedim(-1, d)
    return out.contiguous()


def _smooth_matrix(func: Any, n: int, m: int, align_corners: bool, scale: float | None) -> Tensor:
    """What interpolation along one dimension does to unit vectors: [n, m]."""
    return func(torch.eye(n).view(1, 1, n, n), [m, n], align_corners, scale, None)[0, 0].t()  # type: ignore[no-any-return]


# --- places of a public grid ------------------------------------------------------------------------------------------


@implements(aten.grid_sampler_2d_backward.default)
def grid_backward(
    func: Any,
    grad: Tensor,
    x: Tensor,
    grid: Tensor,
    interpolation: int,
    padding: int,
    align_corners: bool,
    output_mask: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """The transposed product with what the grid makes of unit images; a public grid needs no gradient."""
    if isinstance(grid, SecretTensor) or output_mask[1]:
        what = "the gradient of torch.nn.functional.grid_sample by its grid"
        raise unsupported(
            what,
            "give a public grid that requires no gradient",
        )
    (height, width), channels = x.shape[2:], x.shape[1]
    units = torch.eye(height * width).view(1, height * width, height, width)
    parts = []
    for k in range(x.shape[0]):
        weights = aten.grid_sampler_2d(units, grid[k : k + 1], interpolation, padding, align_corners)[0].flatten(1)
        parts.append((grad[k].flatten(1) @ weights.t()).view(channels, height, width))
    return torch.stack(parts), torch.zeros(grid.shape)
