"""Loss functions. The value of a loss is computed when somebody reveals or uses it; its gradient never needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish, multiply
from tacit.aten.reduction import mean, total
from tacit.functions.linear import add_public
from tacit.functions.logarithm import log
from tacit.functions.reciprocal import reciprocal
from tacit.functions.sigmoid import softplus
from tacit.ring.shapes import broadcast
from tacit.tensor import SecretTensor
from tacit.tensor.deferred import Once, held
from tacit.tensor.operands import arithmetic, as_secret, protocol_of, secret
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any
NONE, MEAN, SUM = 0, 1, 2


def deferred(
    operands: Sequence[Operand], reduction: int, shape: torch.Size, value: Callable[..., SecretTensor]
) -> SecretTensor:
    """A loss whose value waits until it is needed, of the operands as they are now, whatever is written to them."""
    now = [held(v) for v in operands]
    x = next(v for v in operands if isinstance(v, SecretTensor))
    shape = shape if reduction == NONE else torch.Size()
    compute = Once(lambda: reduce(value(*now), reduction).share)
    return SecretTensor(compute, x.dtype, protocol=protocol_of(*operands), shape=shape)


def reduce(x: SecretTensor, reduction: int) -> SecretTensor:
    """PyTorch's reductions of a loss."""
    if reduction == NONE:
        return x
    return mean(aten.mean.default, x) if reduction == MEAN else total(aten.sum.default, x)


def reduced_gradient(grad: Operand, x: SecretTensor, reduction: int) -> Operand:
    """The gradient of each element, from that of the reduced loss."""
    return finish(multiply(grad, 1 / x.numel()), x.dtype, x) if reduction == MEAN else grad


@implements(aten.mse_loss.default)
def mse_loss(func: Any, x: Operand, y: Operand, reduction: int = MEAN) -> SecretTensor:
    """(x - y)²."""

    def value(x: Operand, y: Operand) -> SecretTensor:
        d = finish(combine(x, y, -1), x.dtype, x, y)
        return finish(multiply(d, d), x.dtype, d)

    if not isinstance(x, SecretTensor):
        x, y = y, x
    return deferred((x, y), reduction, broadcast(x.shape, y.shape), value)


@implements(aten.mse_loss_backward.default)
def mse_loss_backward(func: Any, grad: Operand, x: Operand, y: Operand, reduction: int) -> SecretTensor:
    """2 grad (x - y)."""
    dtype = torch.promote_types(x.dtype, y.dtype)
    d = finish(combine(x, y, -1), dtype, grad, x, y)
    d = finish(multiply(d, 2 / d.numel() if reduction == MEAN else 2), dtype, d)
    return finish(multiply(grad, d), dtype, d)


@implements(aten.binary_cross_entropy_with_logits.default)
def bce_with_logits(
    func: Any, x: Operand, y: Operand, weight: Operand = None, pos_weight: Operand = None, reduction: int = MEAN
) -> SecretTensor:
    """softplus(x) - x y, or (1 - y) x + (1 + (p - 1) y) softplus(-x) with a weight p of the positive class."""

    def value(x: SecretTensor, y: Operand, weight: Operand, pos_weight: Operand) -> SecretTensor:
        dtype = x.dtype
        if pos_weight is None:
            product = finish(multiply(x, y), dtype, x)
            out = finish(combine(secret(softplus(arithmetic(x)), dtype), product, -1), dtype, x)
        else:
            extra = finish(multiply(y, pos_weight - 1), dtype, x)
            negative = finish(multiply(finish(combine(1.0, y, -1), dtype, x), x), dtype, x)
            steep = secret(softplus(-arithmetic(x)), dtype)
            positive = finish(multiply(finish(combine(1.0, extra), dtype, x), steep), dtype, x)
            out = finish(combine(negative, positive), dtype, x)
        return out if weight is None else finish(multiply(out, weight), dtype, x)

    operands = (as_secret(x, x, y, weight, pos_weight), y, weight, pos_weight)
    return deferred(operands, reduction, x.shape, value)


@implements(aten.binary_cross_entropy.default)
def bce(func: Any, p: Operand, y: Operand, weight: Operand = None, reduction: int = MEAN) -> SecretTensor:
    """-y log p - (1 - y) log(1 - p).  p is at least 2^-14 away from 0 and 1, or the value is that of log 2^-14."""

    def value(p: SecretTensor, y: Operand, weight: Operand) -> SecretTensor:
        dtype = p.dtype
        share = arithmetic(p).settle()
        yes, no = secret(log(share), dtype), secret(log(add_public(-share, torch.tensor(1.0))), dtype)
        chosen = finish(multiply(finish(combine(yes, no, -1), dtype, p), y), dtype, p)
        out = finish(combine(finish(multiply(no, -1), dtype, p), chosen, -1), dtype, p)
        return out if weight is None else finish(multiply(out, weight), dtype, p)

    return deferred((as_secret(p, p, y, weight), y, weight), reduction, p.shape, value)


@implements(aten.binary_cross_entropy_backward.default)
def bce_backward(
    func: Any, grad: Operand, p: Tensor, y: Operand, weight: Operand = None, reduction: int = MEAN
) -> SecretTensor:
    """grad (p - y) / (p (1 - p))."""
    p = as_secret(p, grad, p, y, weight)
    dtype = p.dtype
    share = arithmetic(p).settle()
    variance = share - share * share  # with all the bits of a product, for it is small where p is near 0 or 1
    variance.storage.positive = True
    inverse = secret(reciprocal(variance), dtype)
    scaled = reduced_gradient(grad, p, reduction)
    slope = finish(multiply(finish(combine(p, y, -1), dtype, p), inverse), dtype, p)
    out = finish(multiply(slope, scaled), dtype, p)
    return out if weight is None else finish(multiply(out, weight), dtype, p)
