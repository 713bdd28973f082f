"""Pooling by windows, fixed or adaptive: averages, which are local, and maxima, which remember what they chose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.aten.arithmetic import finish, multiply
from tacit.aten.windows import Windows, adaptive, fixed, gathered, scattered
from tacit.functions.maximum import Maximum
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.ring.fixed_point import VALUE_BITS
from tacit.tensor import SecretTensor
from tacit.tensor.deferred import Once
from tacit.tensor.operands import arithmetic, as_secret, secret
from tacit.tensor.registry import implements

aten = torch.ops.aten
WON: Remembered[Maximum] = Remembered("the maxima of all windows, by their places")
Operand = Any
Sizes = Sequence[int]

LOWEST = -(1 << VALUE_BITS)
"""The ring element that padding holds in a maximum: below every number, and every difference to it is comparable."""


# --- averages ---------------------------------------------------------------------------------------------------------


@implements(aten.avg_pool2d.default, aten.avg_pool3d.default)
def average(
    func: Any,
    x: SecretTensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> SecretTensor:
    """The mean of each window. Local."""
    dims = int(func.__name__[8])
    windows = fixed(x.shape[-dims:], kernel, stride, padding, (1,), ceil_mode)
    return _mean(x, windows, _weights(windows, count_include_pad, divisor))


@implements(aten._adaptive_avg_pool2d.default, aten._adaptive_avg_pool3d.default)
def adaptive_average(func: Any, x: SecretTensor, outputs: Sizes) -> SecretTensor:
    """The mean of each window, of a given number of windows. Local."""
    windows = adaptive(x.shape[-len(outputs) :], outputs)
    return _mean(x, windows, _weights(windows, count_include_pad=True, divisor=None))


def _mean(x: SecretTensor, windows: Windows, weights: Tensor) -> SecretTensor:
    sums = secret(gathered(arithmetic(x), windows).sum([0]), x.dtype)
    return finish(multiply(sums, weights), x.dtype, x)


def _weights(windows: Windows, count_include_pad: bool, divisor: int | None) -> Tensor:
    """What each output's sum is multiplied by: one number, if it is the same for all."""
    counts = windows.extents if count_include_pad else windows.inside.sum(0)
    first = divisor or int(counts.flatten()[0])
    return torch.tensor(1 / first) if divisor or bool((counts == first).all()) else 1 / counts


@implements(aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default)
def average_backward(
    func: Any,
    grad: SecretTensor,
    x: Tensor,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> SecretTensor:
    """Each output's gradient, divided among its window. Local."""
    dims = int(func.__name__[8])
    windows = fixed(x.shape[-dims:], kernel, stride, padding, (1,), ceil_mode)
    return _spread(grad, x, windows, _weights(windows, count_include_pad, divisor))


@implements(aten._adaptive_avg_pool2d_backward.default, aten._adaptive_avg_pool3d_backward.default)
def adaptive_average_backward(func: Any, grad: SecretTensor, x: Tensor) -> SecretTensor:
    """Each output's gradient, divided among its window. Local."""
    dims = int(func.__name__[18])
    windows = adaptive(x.shape[-dims:], grad.shape[-dims:])
    return _spread(grad, x, windows, _weights(windows, count_include_pad=True, divisor=None))


def _spread(grad: Tensor, x: Tensor, windows: Windows, weights: Tensor) -> SecretTensor:
    share = arithmetic(finish(multiply(as_secret(grad, x), weights), grad.dtype, grad, x))
    count = windows.places.shape[0]
    return secret(scattered(share.linear(lambda t: t.expand(count, *t.shape)), windows), grad.dtype)


# --- maxima -----------------------------------------------------------------------------------------------------------


class Chosen(NamedTuple):
    """PyTorch's result: the maxima, and their places in the flattened input."""

    values: SecretTensor
    indices: SecretTensor


@implements(aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default)
def maximum(
    func: Any,
    x: SecretTensor,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    dilation: Sizes = (1,),
    ceil_mode: bool = False,
) -> Chosen:
    """The largest of each window, by comparisons. Exact; the indices cost nothing unless somebody uses them."""
    dims = int(func.__name__[8])
    return _chosen(func, x, fixed(x.shape[-dims:], kernel, stride, padding, dilation, ceil_mode))


@implements(aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)
def adaptive_maximum(func: Any, x: SecretTensor, outputs: Sizes) -> Chosen:
    """The largest of each window, of a given number of windows."""
    return _chosen(func, x, adaptive(x.shape[-len(outputs) :], outputs))


class Places(Once):
    """The places of maxima, which nobody but the gradient asks for: to it they stand for the comparisons."""

    __slots__ = ("found",)

    def __init__(self, found: Maximum, windows: Windows) -> None:
        def indices() -> Number:
            """Σ [window element k won] (place of k)."""
            lead = len(found.values.shape) - windows.dims
            places = windows.places.view(windows.places.shape[0], *[1] * lead, *windows.places.shape[1:])
            out = found.winner.arithmetic().linear(lambda t: (t * places.to(t.device)).sum(0))
            WON.keep(out, found)
            return out

        super().__init__(indices)
        self.found = found

    @staticmethod
    def behind(indices: Tensor) -> Maximum | None:
        """The comparisons that places came from, if they came from any."""
        if not isinstance(indices, SecretTensor):
            return None
        held = indices._share
        return held.found if isinstance(held, Places) else WON.of(indices.share)


def _chosen(func: Any, x: SecretTensor, windows: Windows) -> Chosen:
    found = _maximum(x, windows)
    values = secret(found.values.fork(), x.dtype)
    indices = SecretTensor(Places(found, windows), torch.int64, protocol=x._protocol, shape=values.shape)
    return Chosen(values, indices)


def _maximum(x: SecretTensor, windows: Windows) -> Maximum:
    """The maxima of all windows."""
    share, whole = arithmetic(x), bool(windows.inside.all())
    players = gathered(share if whole else share.settle(), windows)
    if not whole:
        lead = len(x.shape) - windows.dims
        outside = (~windows.inside).long() * LOWEST
        players = players.plus(outside.view(outside.shape[0], *[1] * lead, *outside.shape[1:]))
    return Maximum(players)


@implements(aten.max_pool2d_with_indices_backward.default, aten.max_pool3d_with_indices_backward.default)
def maximum_backward(
    func: Any,
    grad: Tensor,
    x: Tensor,
    kernel: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    indices: Tensor,
) -> SecretTensor:
    """Each output's gradient goes to the element that was chosen: a selection, by the bits of the forward pass."""
    dims = int(func.__name__[8])
    return _returned(grad, x, indices, fixed(x.shape[-dims:], kernel, stride, padding, dilation, ceil_mode))


@implements(aten.adaptive_max_pool2d_backward.default, aten.adaptive_max_pool3d_backward.default)
def adaptive_maximum_backward(func: Any, grad: Tensor, x: Tensor, indices: Tensor) -> SecretTensor:
    """As `maximum_backward`."""
    dims = int(func.__name__[17])
    return _returned(grad, x, indices, adaptive(x.shape[-dims:], grad.shape[-dims:]))


def _returned(grad: Tensor, x: Tensor, indices: Tensor, windows: Windows) -> SecretTensor:
    count = windows.places.shape[0]
    share = arithmetic(as_secret(grad, x))
    if not isinstance(x, SecretTensor):
        hot = (windows.places == indices.unsqueeze(-windows.dims - 1)).long().movedim(-windows.dims - 1, 0)
        return secret(scattered(share.linear(lambda t: t * hot.to(t.device)), windows), grad.dtype)
    winner = (Places.behind(indices) or _maximum(x, windows)).winner
    spread = share.move(lambda t: t.expand(count, *t.shape), view=False)
    (routed,) = share.protocol.select([(winner, spread)])
    return secret(scattered(routed, windows), grad.dtype)
