"""Softmax and the losses of classification. Training computes no logarithm: a loss nobody reveals has no value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish, multiply
from tacit.aten.comparison import compare
from tacit.aten.reduction import total
from tacit.aten.registry import arithmetic, implements, plain, public_secret, secret
from tacit.aten.waiting import Once, held
from tacit.functions.exponential import exp_nonpositive
from tacit.functions.softmax import Softmax
from tacit.protocols.arithmetic import Arithmetic
from tacit.protocols.share import Share
from tacit.tensor import SecretTensor

aten = torch.ops.aten
Operand = Any
NONE, MEAN = 0, 1


def softmax_of(x: SecretTensor, dim: int) -> Softmax:
    """The parts of softmax, computed once for each content of x."""
    share = arithmetic(x)
    dim %= max(x.dim(), 1)
    memo = share.facts.memo
    if ("softmax", dim) not in memo:
        memo["softmax", dim] = Softmax.of(share.without_headroom(), dim)
    found = memo["softmax", dim]
    assert isinstance(found, Softmax)
    return found


@implements(aten._softmax.default)
def softmax(func: Any, x: SecretTensor, dim: int, half_to_float: bool) -> SecretTensor:
    """exp(x) / Σ exp(x); see `functions.softmax`."""
    if not x.dim() or not x.numel():  # of one element softmax is 1, of none nothing
        return public_secret(x._protocol, torch.ones(tuple(x.shape), dtype=x.dtype))
    return secret(softmax_of(x, dim).value(), x.dtype)


@implements(aten._softmax_backward_data.default)
def softmax_backward(func: Any, grad: Operand, y: SecretTensor, dim: int, dtype: torch.dtype) -> SecretTensor:
    """y (grad - Σ grad y)."""
    product = finish(multiply(grad, y), y.dtype, y)
    inner = total(aten.sum.dim_IntList, product, [dim], keepdim=True)
    return finish(multiply(finish(combine(grad, inner, -1), y.dtype, y), y), y.dtype, y)


class LogSoftmax(Once):
    """A log-softmax whose logarithm waits until it is needed; its gradient needs only the softmax."""

    __slots__ = ("_softmax", "_x", "dim")

    def __init__(self, x: SecretTensor, dim: int) -> None:
        super().__init__(self._logarithm)
        self.dim = dim % max(x.dim(), 1)
        self._x: Any = x.detach().clone()
        self._softmax: Arithmetic | None = None

    def _logarithm(self) -> Share:
        out = softmax_of(self._x, self.dim).log_value()
        out.facts.memo["log-softmax"] = self
        return out

    def softmax(self) -> Arithmetic:
        """exp of the value."""
        if self._softmax is None:
            self._softmax = softmax_of(self._x, self.dim).value()
        return self._softmax


@implements(aten._log_softmax.default)
def log_softmax(func: Any, x: SecretTensor, dim: int, half_to_float: bool) -> SecretTensor:
    """x - log Σ exp(x), computed when its value is needed."""
    if not x.dim() or not x.numel():
        return public_secret(x._protocol, torch.zeros(tuple(x.shape), dtype=x.dtype))
    return SecretTensor(LogSoftmax(x, dim), x.dtype, protocol=x._protocol, shape=x.shape)


def softmax_behind(y: SecretTensor) -> Arithmetic:
    """The softmax of which y is the logarithm."""
    if isinstance(y._share, LogSoftmax):
        return y._share.softmax()
    found = y.share.facts.memo.get("log-softmax")
    if isinstance(found, LogSoftmax):
        return found.softmax()
    return exp_nonpositive(arithmetic(y))


@implements(aten._log_softmax_backward_data.default)
def log_softmax_backward(func: Any, grad: Operand, y: SecretTensor, dim: int, dtype: torch.dtype) -> SecretTensor:
    """grad - softmax Σ grad. Where the sum of the gradient is public, as for class indices, no product is needed."""
    inner = grad.sum(dim, keepdim=True) if isinstance(grad, Tensor) else grad
    found = softmax_behind(y)
    if isinstance(inner, SecretTensor) and plain(inner) is None:
        found.protocol.mask(found, arithmetic(inner))
    product = finish(multiply(secret(found, y.dtype), inner), y.dtype, y)
    return finish(combine(grad, product, -1), y.dtype, y)


# --- negative log likelihood ----------------------------------------------------------------------------------------


def one_hot(indices: Tensor, classes: int, dtype: torch.dtype) -> Operand:
    """Rows of the unit matrix: public for public indices, by equality with every class for secret ones. 4 rounds."""
    places = torch.arange(classes)
    if not isinstance(indices, SecretTensor):
        return (indices.unsqueeze(-1) == places).to(dtype)
    spread = indices.unsqueeze(-1).expand(*indices.shape, classes)
    hot = compare(aten.eq.Tensor, spread, places)
    return secret(arithmetic(hot), dtype)


def class_weights(x: Tensor, target: Tensor, weight: Tensor | None, ignore: int) -> tuple[Operand, Operand]:
    """For log-probabilities [N, C, ...]: weights as [N, C, ...], zero but at the target class, and their sum."""
    classes = x.shape[1] if x.dim() > 1 else x.shape[0]
    hot = one_hot(target, classes, x.dtype)
    if isinstance(target, SecretTensor):
        count: Operand = target.numel()
    else:
        hot = hot * (target != ignore).unsqueeze(-1)
        count = int((target != ignore).sum())
    if weight is not None:
        hot = hot * weight
        count = hot.sum()
    return (hot.movedim(-1, 1) if x.dim() > 1 else hot), count


def mean_factor(count: Operand) -> Operand:
    """1 / count, where count may be secret (a sum of secret class weights)."""
    if isinstance(count, SecretTensor):
        return count.reciprocal()
    value = float(count)
    return 1 / value if value else float("nan")


@implements(aten.nll_loss_forward.default, aten.nll_loss2d_forward.default)
def nll_loss(
    func: Any, x: SecretTensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int
) -> tuple[SecretTensor, Tensor]:
    """-Σ w_t x_t / Σ w_t, computed when its value is needed."""
    x = x if isinstance(x, SecretTensor) else public_secret(target._protocol, x)
    shape = target.shape if reduction == NONE else torch.Size()
    scores, classes, weighting = held(x), held(target), held(weight)

    def value() -> Share:
        weights, count = class_weights(scores, classes, weighting, ignore)
        picked = finish(multiply(multiply_operand(scores, weights), -1), scores.dtype, scores)
        along = 1 if scores.dim() > 1 else 0
        loss = total(aten.sum.dim_IntList, picked, [along])
        if reduction == NONE:
            return loss.share
        out = total(aten.sum.default, loss)
        return out.share if reduction != MEAN else arithmetic(finish(multiply(out, mean_factor(count)), x.dtype, x))

    loss = SecretTensor(Once(value), x.dtype, protocol=x._protocol, shape=shape)
    return loss, public_secret(x._protocol, torch.zeros((), dtype=x.dtype))


def multiply_operand(x: Operand, y: Operand) -> SecretTensor:
    """x y as a tensor."""
    like = x if isinstance(x, SecretTensor) else y
    return finish(multiply(x, y), like.dtype, x, y)


@implements(aten.nll_loss_backward.default, aten.nll_loss2d_backward.default)
def nll_loss_backward(
    func: Any, grad: Operand, x: SecretTensor, target: Tensor, weight: Any, reduction: int, ignore: int, _: Any
) -> SecretTensor:
    """-w_t grad / Σ w_t at the target class, and zero elsewhere."""
    weights, count = class_weights(x, target, weight, ignore)
    along = 1 if x.dim() > 1 else 0
    known = plain(grad)
    grad = grad if known is None else known
    if reduction == NONE:
        grad = grad.unsqueeze(along)
    scaled = weights * mean_factor(count) if reduction == MEAN else weights
    result = -(scaled * grad)
    if isinstance(result, SecretTensor):
        return result
    return public_secret(x._protocol if isinstance(x, SecretTensor) else target._protocol, result)
