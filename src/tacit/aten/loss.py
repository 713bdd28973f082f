"""Loss functions. The value of a loss is computed when somebody reveals or uses it; its gradient never needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish, multiply
from tacit.aten.labels import mean_factor, sum_of_weights, weights_of_labels
from tacit.aten.reduction import mean, total
from tacit.aten.softmax import SUMS, open_beside
from tacit.functions.linear import add_public
from tacit.functions.logarithm import log
from tacit.functions.reciprocal import reciprocal
from tacit.functions.sigmoid import softplus
from tacit.protocols.values import Value
from tacit.ring.shapes import broadcast
from tacit.tensor import SecretTensor
from tacit.tensor.deferred import Once, held
from tacit.tensor.operands import arithmetic, as_secret, plain, protocol_of, public_secret, secret
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
    variance.declare(positive=True)
    inverse = secret(reciprocal(variance), dtype)
    scaled = reduced_gradient(grad, p, reduction)
    slope = finish(multiply(finish(combine(p, y, -1), dtype, p), inverse), dtype, p)
    out = finish(multiply(slope, scaled), dtype, p)
    return out if weight is None else finish(multiply(out, weight), dtype, p)


# --- negative log likelihood ------------------------------------------------------------------------------------------


def class_weights(x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int) -> Operand:
    """The weights of log-probabilities [N, C, ...], in this shape; see `labels`."""
    classes = x.shape[1] if x.dim() > 1 else x.shape[0]
    found = weights_of_labels(target, classes, weight, ignore, reduction)
    return found.movedim(-1, 1) if x.dim() > 1 else found


@implements(aten.nll_loss_forward.default, aten.nll_loss2d_forward.default)
def nll_loss(
    func: Any, x: SecretTensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int
) -> tuple[SecretTensor, Tensor]:
    """-Σ w_t x_t / Σ w_t, computed when its value is needed. The mean where all labels are ignored is 0, not NaN."""
    protocol = protocol_of(x, target, weight)
    if func is aten.nll_loss_forward.default and target.dim() > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported: write y.squeeze(1)")
    if target.dtype not in (torch.int64, torch.uint8):
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}: class labels are y.long()")
    x = x if isinstance(x, SecretTensor) else public_secret(protocol, x)
    shape = target.shape if reduction == NONE else torch.Size()
    scores, classes, weighting = held(x), held(target), held(weight)

    def value() -> Value:
        hidden = any(isinstance(t, SecretTensor) and plain(t) is None for t in (classes, weighting))
        weights = class_weights(scores, classes, weighting, reduction if hidden else NONE, ignore)
        picked = finish(multiply(multiply_operand(scores, weights), -1), scores.dtype, scores)
        loss = total(aten.sum.dim_IntList, picked, [1 if scores.dim() > 1 else 0])
        if reduction == NONE:
            return loss.share
        out = total(aten.sum.default, loss)
        if reduction != MEAN or hidden:
            return out.share
        return arithmetic(finish(multiply(out, mean_factor(weights)), scores.dtype, scores))

    loss = SecretTensor(Once(value), x.dtype, protocol=protocol, shape=shape)
    return loss, public_secret(protocol, torch.zeros((), dtype=x.dtype))


def multiply_operand(x: Operand, y: Operand) -> SecretTensor:
    """x y as a tensor."""
    like = x if isinstance(x, SecretTensor) else y
    return finish(multiply(x, y), like.dtype, x, y)


@implements(aten.nll_loss_backward.default, aten.nll_loss2d_backward.default)
def nll_loss_backward(
    func: Any, grad: Operand, x: SecretTensor, target: Tensor, weight: Any, reduction: int, ignore: int, _: Any
) -> SecretTensor:
    """-w_t grad / Σ w_t at the target class, and zero elsewhere."""
    if isinstance(target, SecretTensor) and plain(target) is None:
        open_beside(x, target.share)
    weights = class_weights(x, target, weight, reduction, ignore)
    known, along = plain(grad), min(1, x.dim() - 1)
    grad = grad if known is None else known
    if reduction == NONE:
        grad = grad.unsqueeze(along)
    result = -(weights * grad)
    if isinstance(result, SecretTensor):
        out = finish(arithmetic(result), x.dtype, result)
        each = None if known is None else sum_of_weights(target, weights.shape[along], weight, reduction, ignore)
        if each is not None:
            SUMS.keep(out.share, (-each * grad).expand(out.shape).narrow(along, 0, 1), along)
        return out
    return public_secret(protocol_of(x, target, weight), result.to(x.dtype))


# --- margins ----------------------------------------------------------------------------------------------------------


@implements(aten.multi_margin_loss_backward.default)
def multi_margin_loss_backward(
    func: Any,
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    p: int,
    margin: float,
    weight: Tensor | None = None,
    reduction: int = 1,
) -> Tensor:
    """w_y [j ≠ y] [z_j > 0] p z_j^(p - 1) / C for z_j = margin - x_y + x_j, and minus their sum at y."""
    rows, y = (x, target) if x.dim() == 2 else (x.reshape(1, -1), target.reshape(1))
    hot = y.unsqueeze(1) == torch.arange(rows.shape[1])
    z = rows - (rows * hot).sum(1, keepdim=True) + margin
    slope = (z > 0) & ~hot
    slopes = slope * (grad.reshape(-1, 1) * ((2 * z if p == 2 else torch.ones(z.shape)) / rows.shape[1]))
    if weight is not None:
        slopes = slopes * (hot * weight).sum(1, keepdim=True)
    if reduction == MEAN:
        slopes = slopes / len(rows)
    return (slopes - hot * slopes.sum(1, keepdim=True)).reshape(x.shape)


def _labelled(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z_ij = 1 - x_i + x_j of each row, how often i is among its labels where j is not, and [i is a label]."""
    rows, labels = torch.atleast_2d(x), torch.atleast_2d(target)
    listed = (labels >= 0).cumprod(1)  # a list of labels ends at its first negative number
    often = torch.zeros(rows.shape).scatter_add(1, labels.clamp(min=0), listed.float())
    pairs = often.unsqueeze(2) * (often == 0).unsqueeze(1)
    return 1 - rows.unsqueeze(2) + rows.unsqueeze(1), pairs, (often > 0).float().reshape(x.shape)


@implements(aten.multilabel_margin_loss_forward.default)
def multilabel_margin_loss(func: Any, x: SecretTensor, target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    """Σ max(0, z_ij) / C over labels i and others j of a row of C classes. PyTorch's own decomposition is wrong."""
    z, pairs, is_target = _labelled(x, target)
    loss = (z.relu() * (pairs / z.shape[-1])).sum((1, 2)).reshape(x.shape[:-1])
    return (loss.mean() if reduction == MEAN else loss.sum() if reduction else loss), is_target


@implements(aten.multilabel_margin_loss_backward.default)
def multilabel_margin_loss_backward(
    func: Any, grad: Tensor, x: SecretTensor, target: Tensor, reduction: int, is_target: Tensor
) -> Tensor:
    """[z_ij > 0] / C, to j and with a minus to i."""
    z, pairs, _ = _labelled(x, target)
    factor = pairs / z.shape[-1] / (len(z) if reduction == MEAN else 1)
    slopes = (z > 0) * (grad.reshape(-1, 1, 1) * factor)
    return (slopes.sum(1) - slopes.sum(2)).reshape(x.shape)
