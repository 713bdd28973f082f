"""Batch, layer, group and instance norm, and their gradients, which reuse what the forward pass has normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tacit.aten.arithmetic import combine, finish, multiply
from tacit.functions.linear import add_public, times_public
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.roots import rsqrt
from tacit.functions.standardize import VARIANCE_BITS, Standardized, standardized, standardized_backward
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.protocols.values import Value
from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import above_autograd
from tacit.tensor.compositions import in_terms_of_others
from tacit.tensor.deferred import Once
from tacit.tensor.operands import arithmetic, as_secret, number, plain, public_secret, secret, write
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]

SUMMABLE_BITS = 42
"""Fractional bits of a product that a sum takes as it is. More: finer factors; but the sum would be truncated first."""

STANDARDIZED: Remembered[Standardized] = Remembered("the rest, by the 1 / √(variance + ε) that PyTorch keeps")
INVERSE: Remembered[Number] = Remembered("1 / √(variance + ε), by ε")
SCALE: Remembered[tuple[object, Number]] = Remembered("weight / √(variance + ε), and the name of that weight's facts")


def _affine(normalized: SecretTensor, weight: Operand, bias: Operand, shape: Sequence[int]) -> SecretTensor:
    """normalized · weight + bias, with weight and bias in a shape that broadcasts."""
    out = normalized
    if weight is not None:
        out = finish(multiply(out, weight.reshape(shape)), out.dtype, out)
    if bias is not None:
        out = finish(combine(out, bias.reshape(shape)), out.dtype, out)
    return out if out is not normalized else as_secret(out.clone())


class Deviation(Once):
    """1 / √(variance + ε), and all that is known beside it; it waits until somebody needs it."""

    __slots__ = ("of",)

    def __init__(self, of: Standardized, shape: Sequence[int]) -> None:
        def value() -> Value:
            inverse = of.inverse.move(lambda t: t.reshape(tuple(shape)), view=False)
            STANDARDIZED.keep(inverse, of)
            return inverse

        super().__init__(value)
        self.of = of


def _kept(of: Standardized, like: SecretTensor, shape: Sequence[int]) -> tuple[SecretTensor, SecretTensor]:
    """The mean and 1 / √(variance + ε) as PyTorch keeps them, which nobody may ever look at."""

    def mean() -> Value:
        return times_public(of.total, torch.tensor(1 / of.size)).move(lambda t: t.reshape(tuple(shape)), view=False)

    return _waiting(Once(mean), like, shape), _waiting(Deviation(of, shape), like, shape)


def _waiting(value: Once, like: SecretTensor, shape: Sequence[int]) -> SecretTensor:
    return SecretTensor(value, like.dtype, protocol=like._protocol, shape=torch.Size(shape))


def _remembered(inverse: Tensor | None) -> Standardized | None:
    """What the forward pass has found, if it was ours."""
    if isinstance(inverse, SecretTensor) and isinstance(inverse._share, Deviation):
        return inverse._share.of
    if not isinstance(inverse, SecretTensor) or plain(inverse) is not None:
        return None
    return STANDARDIZED.of(inverse.share)


def _scaled_by(weight: Operand) -> Number | None:
    """A weight that is secret."""
    return arithmetic(weight) if isinstance(weight, SecretTensor) and plain(weight) is None else None


def _weighted(of: Standardized, x: SecretTensor, weight: Operand, bias: Operand, shape: Sequence[int]) -> SecretTensor:
    """What is normalised, times weight plus bias."""
    if of.weighted is None:
        return _affine(SecretTensor(of.normalized, x.dtype), weight, bias, shape)
    return _affine(secret(of.weighted, x.dtype), None, bias, shape)


def _summed(grad: Tensor, normalized: Tensor, dims: Sequence[int], like: Operand) -> Tensor:
    """Σ grad · normalized over all dimensions but those of the weight."""
    product = finish(multiply(grad, normalized), grad.dtype, grad, normalized)
    return product.sum(list(dims)).reshape(like.shape) if dims else product.reshape(like.shape)


# --- layer norm -------------------------------------------------------------------------------------------------------


@implements(aten.native_layer_norm.default)
def layer_norm(
    func: Any, x: Tensor, shape: Sequence[int], weight: Operand, bias: Operand, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows with mean 0 and variance 1, times weight plus bias; see `functions.standardize`. 8 rounds, or 10."""
    if not isinstance(x, SecretTensor) or plain(x) is not None:
        return in_terms_of_others(func)(x, shape, weight, bias, eps)  # type: ignore[no-any-return]
    dims = range(x.dim() - len(shape), x.dim())
    of = standardized(arithmetic(x), dims, eps, weight=_scaled_by(weight))
    kept = _kept(of, x, of.deviation.shape)
    return _weighted(of, x, weight, bias, tuple(shape)), *kept


@implements(aten.native_layer_norm_backward.default)
def layer_norm_backward(
    func: Any,
    grad: Tensor,
    x: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    inverse: Tensor,
    weight: Operand,
    bias: Operand,
    mask: Sequence[bool],
) -> Gradients:
    """The derivative of a row times the weight; sums over the rows for weight and bias."""
    of = _remembered(inverse)
    if of is None:
        return in_terms_of_others(func)(grad, x, shape, mean, inverse, weight, bias, mask)  # type: ignore[no-any-return]
    grad = as_secret(grad, x)
    dx, dw, db = None, None, None
    rows = range(x.dim() - len(shape))
    if mask[0]:
        inner = grad if weight is None else finish(multiply(grad, weight), grad.dtype, grad)
        dx = secret(standardized_backward(arithmetic(as_secret(inner)), of)[0], x.dtype)
    if mask[1] and weight is not None:
        dw = _summed(grad, SecretTensor(of.normalized, grad.dtype), rows, weight)
    if mask[2] and bias is not None:
        db = grad.sum(list(rows)) if rows else grad
    return dx, dw, db


# --- RMS norm ---------------------------------------------------------------------------------------------------------


@above_autograd(aten.rms_norm.default)
def rms_norm(x: Tensor, shape: Sequence[int], weight: Operand = None, eps: float | None = None) -> Tensor | None:
    """Rows of a mean square of 1, times weight, with a gradient of its own.

    Autograd would take the cube of 1 / √(mean square), of which nothing is left for rows of 100.
    """
    if not isinstance(x, SecretTensor) or plain(x) is not None:
        return None
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    out: Tensor = _RmsNorm.apply(x, weight, shape, eps)  # type: ignore[no-untyped-call]
    return out


class _RmsNorm(torch.autograd.Function):
    """What PyTorch has as operators, and differentiates where they are one kernel: on accelerators."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, shape: Sequence[int], eps: float) -> Tensor:
        func = aten._fused_rms_norm.default
        out, inverse = SecretTensor.__torch_dispatch__(func, (SecretTensor,), (x, shape, weight, eps))
        ctx.shape = shape
        ctx.save_for_backward(x, weight, inverse)
        result: Tensor = out
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        func, mask = aten._fused_rms_norm_backward.default, ctx.needs_input_grad[:2]
        args = (grad, x, ctx.shape, inverse, weight, list(mask))
        return (*SecretTensor.__torch_dispatch__(func, (SecretTensor,), args), None, None)


@implements(aten._fused_rms_norm.default)
def fused_rms_norm(
    func: Any, x: Tensor, shape: Sequence[int], weight: Operand, eps: float | None
) -> tuple[Tensor, Tensor]:
    """x / √(mean x² + ε) times weight; see `functions.standardize`. Rounds as for layer norm, but for the centring."""
    if not isinstance(x, SecretTensor) or plain(x) is not None:
        return in_terms_of_others(func)(x, shape, weight, eps)  # type: ignore[no-any-return]
    dims = range(x.dim() - len(shape), x.dim())
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    of = standardized(arithmetic(x), dims, eps, centre=False, weight=_scaled_by(weight))
    return _weighted(of, x, weight, None, tuple(shape)), _waiting(
        Deviation(of, of.deviation.shape), x, of.deviation.shape
    )


@implements(aten._fused_rms_norm_backward.default)
def fused_rms_norm_backward(
    func: Any, grad: Tensor, x: Tensor, shape: Sequence[int], inverse: Tensor, weight: Operand, mask: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """s (g - x̂ mean(g x̂)), with g = grad · weight; the sum of grad · x̂ over the rows for weight."""
    of = _remembered(inverse)
    if of is None:
        return in_terms_of_others(func)(grad, x, shape, inverse, weight, mask)  # type: ignore[no-any-return]
    grad = as_secret(grad, x)
    dx, dw = None, None
    rows = range(x.dim() - len(shape))
    if mask[0]:
        inner = grad if weight is None else finish(multiply(grad, weight), grad.dtype, grad)
        dx = secret(standardized_backward(arithmetic(as_secret(inner)), of, centre=False)[0], x.dtype)
    if mask[1] and weight is not None:
        dw = _summed(grad, SecretTensor(of.normalized, grad.dtype), rows, weight)
    return dx, dw


# --- group norm -------------------------------------------------------------------------------------------------------


@implements(aten.native_group_norm.default)
def group_norm(
    func: Any, x: Tensor, weight: Operand, bias: Operand, n: int, channels: int, size: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of channels with mean 0 and variance 1, times weight plus bias. 10 rounds, or 11."""
    if not isinstance(x, SecretTensor) or plain(x) is not None:
        return in_terms_of_others(func)(x, weight, bias, n, channels, size, groups, eps)  # type: ignore[no-any-return]
    grouped = arithmetic(x).move(lambda t: t.reshape(n, groups, channels // groups * size), view=False)
    of = standardized(grouped, [2], eps)
    kept = _kept(of, x, (n, groups))
    normalized = SecretTensor(of.normalized.move(lambda t: t.reshape(x.shape), view=False), x.dtype)
    return _affine(normalized, weight, bias, (channels, *[1] * (x.dim() - 2))), *kept


@implements(aten.native_group_norm_backward.default)
def group_norm_backward(
    func: Any,
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Operand,
    n: int,
    channels: int,
    size: int,
    groups: int,
    mask: Sequence[bool],
) -> Gradients:
    """The derivative of a group times the weight; sums over images and places for weight and bias."""
    of = _remembered(inverse)
    if of is None:
        return in_terms_of_others(func)(grad, x, mean, inverse, weight, n, channels, size, groups, mask)  # type: ignore[no-any-return]
    grad = as_secret(grad, x).reshape(n, channels, size)
    dx, dw, db = None, None, None
    if mask[0]:
        inner = grad
        if weight is not None:
            inner = finish(multiply(grad, weight.reshape(channels, 1)), grad.dtype, grad)
        shape = (n, groups, channels // groups * size)
        grouped = arithmetic(as_secret(inner)).move(lambda t: t.reshape(shape), view=False)
        share = standardized_backward(grouped, of)[0]
        dx = secret(share.move(lambda t: t.reshape(x.shape), view=False), x.dtype)
    if mask[1] and weight is not None:
        normalized = of.normalized.move(lambda t: t.reshape(n, channels, size), view=False)
        dw = _summed(grad, SecretTensor(normalized, grad.dtype), (0, 2), weight)
    if mask[2]:
        db = grad.sum((0, 2))
    return dx, dw, db


# --- batch norm -------------------------------------------------------------------------------------------------------


@implements(aten.native_batch_norm.default)
def batch_norm(
    func: Any,
    x: Tensor,
    weight: Operand,
    bias: Operand,
    running_mean: Operand,
    running_var: Operand,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Channels with mean 0 and variance 1 over a batch, or with those of the running statistics.

    10 to 12 rounds in training; in evaluation one, which costs nothing for a public module.
    """
    if not isinstance(x, SecretTensor) or plain(x) is not None:
        return in_terms_of_others(func)(  # type: ignore[no-any-return]
            x, weight, bias, running_mean, running_var, training, momentum, eps
        )
    channels = (-1, *[1] * (x.dim() - 2))
    if not training:
        empty = public_secret(x._protocol, torch.zeros(0, dtype=x.dtype))
        return _by_running_statistics(x, weight, bias, running_mean, running_var, eps), empty, empty
    if running_mean is not None and not _secret(running_mean):
        raise unsupported(
            "batch norm of secrets that keeps its running statistics in public buffers",
            "share the module with tacit.share, or construct it with track_running_stats=False",
        )
    of = standardized(arithmetic(x), [0, *range(2, x.dim())], eps)
    mean, inverse = _kept(of, x, (of.deviation.numel,))
    if running_mean is not None:
        _update(running_mean, running_var, of, momentum)
    return _affine(SecretTensor(of.normalized, x.dtype), weight, bias, channels), mean, inverse


def _secret(x: Operand) -> bool:
    return isinstance(x, SecretTensor)


def _update(running_mean: SecretTensor, running_var: SecretTensor, of: Standardized, momentum: float) -> None:
    """running <- (1 - m) running + m batch, with the unbiased variance of the batch, at the scales of both. 1 round."""
    running = running_mean, running_var
    batch = [v.move(lambda t: t.reshape(-1), view=False) for v in (of.total, of.squares)]
    old = [number(r) for r in running]
    running_mean._protocol.together(*batch, *(v for v in old if isinstance(v, Number) and momentum != 1))
    sizes = of.size, max(of.size - 1, 1) * of.ratio**2
    for target, v, new, size in zip(running, old, batch, sizes, strict=True):
        scale = target.share.frac_bits  # type: ignore[attr-defined]
        updated = _times(new, momentum / size, scale)
        if momentum != 1:
            kept = _times(v, 1 - momentum, scale) if isinstance(v, Number) else v * (1 - momentum)
            updated = updated + kept if isinstance(kept, Number) else add_public(updated, kept)
        write(target, SecretTensor(updated, target.dtype))


def _times(x: Number, factor: float, frac_bits: int) -> Number:
    """x times a public factor up to 1, truncated to so many fractional bits. One round, none if x is open."""
    out = x.protocol.scale(x.lifted(max(x.frac_bits, frac_bits + 1)), factor, frac_bits)
    return times_public(x, torch.tensor(factor)).settle(frac_bits) if out is None else out


def _by_running_statistics(
    x: SecretTensor, weight: Operand, bias: Operand, mean: Tensor, var: Tensor, eps: float
) -> SecretTensor:
    """x s + (bias - mean s) with s = weight / √(var + eps), which is made once for all predictions."""
    channels = (-1, *[1] * (x.dim() - 2))
    scale = _scale(weight, var, eps)
    y = as_secret(_scaled(x, scale.reshape(channels)))
    shift = _scaled(mean, scale)
    y = finish(combine(y, shift.reshape(channels), -1), x.dtype, y)
    return y if bias is None else finish(combine(y, bias.reshape(channels)), x.dtype, y)


def _scaled(x: Tensor, scale: Tensor) -> Tensor:
    """x times a scale, which keeps its 24 fractional bits; x keeps what makes 42 with them, to be summed as it is."""
    if isinstance(x, SecretTensor) and _secret(scale) and plain(x) is None:
        value = arithmetic(x)
        x = SecretTensor(value.settle(max(value.settled_bits, SUMMABLE_BITS - WORKING_BITS)), x.dtype)
    return finish(multiply(x, scale), x.dtype, x, scale) if _secret(x) or _secret(scale) else x * scale


def _inverse(var: SecretTensor, eps: float) -> Number:
    """1 / √(var + eps), made once for the present content of the running variance."""
    share = arithmetic(var)

    def made() -> Number:
        fine = share.lifted(max(share.frac_bits, VARIANCE_BITS))
        return rsqrt(add_public(fine, torch.tensor(eps, dtype=torch.float64)))

    return INVERSE.once(share, made, eps)


def keep_scale(
    var: SecretTensor, eps: float, weight: Tensor | None, inverse: SecretTensor, scale: SecretTensor | None = None
) -> None:
    """Remember 1 / √(var + eps), and that times weight, of somebody who knows them: as `_inverse` and `_scale` do."""
    known = arithmetic(inverse)
    known.declare(positive=True)
    INVERSE.keep(arithmetic(var), known, eps)
    if scale is not None and isinstance(weight, SecretTensor):
        SCALE.keep(known, (weight.share.facts.name, arithmetic(scale)))


def _scale(weight: Operand, var: Tensor, eps: float) -> Tensor:
    """weight / √(var + eps), public if both are; else with 24 fractional bits, made once for their present content."""
    if not isinstance(var, SecretTensor):
        deviation = (var + eps).rsqrt()
        return deviation if weight is None else _scaled(weight, deviation)
    inverse = _inverse(var, eps)
    if weight is None:
        return SecretTensor(inverse, var.dtype)
    if not isinstance(weight, SecretTensor):
        return SecretTensor(times_public(inverse, weight).settle(WORKING_BITS), var.dtype)
    name, kept = weight.share.facts.name, SCALE.of(inverse)
    if kept is None or kept[0] is not name:
        product = multiply(SecretTensor(inverse, var.dtype), weight)
        assert isinstance(product, Number)
        kept = SCALE.keep(inverse, (name, product.settle(WORKING_BITS)))
    return SecretTensor(kept[1], var.dtype)


@implements(aten.native_batch_norm_backward.default)
def batch_norm_backward(
    func: Any,
    grad: Tensor,
    x: Tensor,
    weight: Operand,
    running_mean: Operand,
    running_var: Operand,
    mean: Tensor | None,
    inverse: Tensor | None,
    train: bool,
    eps: float,
    mask: Sequence[bool],
) -> Gradients:
    """The derivative of a channel, which gives the sums for weight and bias on the way."""
    of = _remembered(inverse)
    if of is None and (train or not _secret(running_var)):
        return in_terms_of_others(func)(  # type: ignore[no-any-return]
            grad, x, weight, running_mean, running_var, mean, inverse, train, eps, mask
        )
    channels = (-1, *[1] * (x.dim() - 2))
    dims = [0, *range(2, x.dim())]
    grad = as_secret(grad, x)
    if of is None:
        dx = finish(multiply(grad, _scale(weight, running_var, eps).reshape(channels)), x.dtype, grad)
        deviation = SecretTensor(_inverse(running_var, eps), x.dtype).reshape(channels)
        normalized = _scaled(x - running_mean.reshape(channels), deviation)
        return (
            dx,
            _summed(grad, normalized, dims, running_var) if mask[1] else None,
            grad.sum(dims) if mask[2] else None,
        )
    scale = SecretTensor(of.inverse, x.dtype)
    if weight is not None:
        scale = finish(multiply(scale, weight.reshape(channels)), x.dtype, scale)
    gradient, total, aligned = standardized_backward(arithmetic(grad), of, arithmetic(scale).settle(WORKING_BITS))
    dw, db = (secret(v.linear(lambda t: t.reshape(-1)), x.dtype) for v in (aligned, total))
    return secret(gradient, x.dtype), dw if mask[1] else None, db if mask[2] else None
