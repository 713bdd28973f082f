"""Softmax and its logarithm. Training computes no logarithm: a loss nobody reveals has no value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish, multiply
from tacit.aten.draws import BEHIND as DRAWN_BY
from tacit.aten.reduction import total
from tacit.functions.exponential import exp_nonpositive
from tacit.functions.softmax import Softmax
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.protocols.values import Value
from tacit.tensor import SecretTensor
from tacit.tensor.compositions import in_terms_of_others
from tacit.tensor.deferred import Once
from tacit.tensor.operands import arithmetic, as_secret, plain, public_secret, secret
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any

MOST = 2.0**20
"""Public multiples of a softmax between this and its inverse are those of its last factor; see `Softmax.scaled`."""

SOFTMAX: Remembered[Softmax] = Remembered("the parts of a softmax, by its dimension")
SUMS: Remembered[Tensor] = Remembered("public sums along a dimension")
BEHIND: Remembered[Logits] = Remembered("what a logarithm is that of")


def softmax_of(x: SecretTensor, dim: int, *, weighted: bool = False) -> Softmax:
    """The parts of softmax, computed once for each content of x; `weighted` as `Softmax.of` has it."""
    share = arithmetic(x)
    dim %= max(x.dim(), 1)
    return SOFTMAX.once(share, lambda: Softmax.of(share.without_headroom(), dim, weighted=weighted), dim)


@implements(aten._softmax.default)
def softmax(func: Any, x: SecretTensor, dim: int, half_to_float: bool) -> SecretTensor:
    """exp(x) / Σ exp(x); see `functions.softmax`."""
    if not x.dim() or not x.numel():  # of one element softmax is 1, of none nothing
        return public_secret(x._protocol, torch.ones(tuple(x.shape), dtype=x.dtype))
    found = softmax_of(x, dim)
    out = secret(found.value(), x.dtype)
    if x.dim() <= 2:  # as many as weights to draw by have
        DRAWN_BY.keep(out.share, (found.difference, found.dim))
    return out


@implements(aten._softmax_backward_data.default)
def softmax_backward(func: Any, grad: Operand, y: SecretTensor, dim: int, dtype: torch.dtype) -> SecretTensor:
    """y (grad - Σ grad y)."""
    product = finish(multiply(grad, y), y.dtype, y)
    inner = total(aten.sum.dim_IntList, product, [dim], keepdim=True)
    return finish(multiply(finish(combine(grad, inner, -1), y.dtype, y), y), y.dtype, y)


@implements(aten.logsumexp.default)
def logarithm_of_sum(func: Any, x: SecretTensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """log Σ exp(x) = x_0 - log softmax(x)_0: a maximum, exponentials of what is not positive, and one logarithm."""
    dims = [d % max(x.dim(), 1) for d in ([dim] if isinstance(dim, int) else dim)] or list(range(x.dim()))
    if plain(x) is not None or not x.dim() or not x.numel() or not x.is_floating_point():
        return in_terms_of_others(func)(x, dim, keepdim)  # type: ignore[no-any-return]
    rest = [d for d in range(x.dim()) if d not in dims]
    rows = as_secret(x.permute(*rest, *dims).reshape(*(x.shape[d] for d in rest), -1))
    first = arithmetic(as_secret(rows[..., :1]))
    parts = softmax_of(rows, -1)
    out = secret(first - parts.log_value().move(lambda t: t[..., :1], view=False), x.dtype)
    return out.reshape([1 if d in dims else n for d, n in enumerate(x.shape) if keepdim or d not in dims])


class Logits:
    """What a logarithm is that of: x as it was, and its softmax once somebody asks for it."""

    __slots__ = ("_softmax", "dim", "x")

    def __init__(self, x: SecretTensor, dim: int) -> None:
        self.dim = dim % max(x.dim(), 1)
        self.x: Any = x.detach().clone()
        self._softmax: Number | None = None

    def softmax(self) -> Number:
        """exp(x) / Σ exp(x)."""
        if self._softmax is None:
            self._softmax = softmax_of(self.x, self.dim).value()
        return self._softmax

    def times(self, v: Operand) -> SecretTensor:
        """v exp(x) / Σ exp(x) for a v with one element along the dimension."""
        known = plain(v)
        if self._softmax is None:
            if known is None:
                return secret(softmax_of(self.x, self.dim).times(arithmetic(v)), self.x.dtype)
            c = float(known.reshape(-1)[0]) if known.numel() else 0.0
            if MOST**-1 < abs(c) < MOST and bool((known == c).all()):
                return secret(softmax_of(self.x, self.dim).scaled(c), self.x.dtype)
        found = self.softmax()
        if known is None:
            found.protocol.together(found, arithmetic(v))
            found = found.settle()
        return finish(multiply(secret(found, self.x.dtype), v), self.x.dtype, self.x)


class LogSoftmax(Once):
    """A log-softmax whose logarithm waits until it is needed; its gradient needs only the softmax."""

    __slots__ = ("logits",)

    def __init__(self, logits: Logits) -> None:
        def logarithm() -> Value:
            out = softmax_of(logits.x, logits.dim).log_value()
            BEHIND.keep(out, logits)
            return out

        super().__init__(logarithm)
        self.logits = logits


@implements(aten._log_softmax.default)
def log_softmax(func: Any, x: SecretTensor, dim: int, half_to_float: bool) -> SecretTensor:
    """x - log Σ exp(x), computed when its value is needed."""
    if not x.dim() or not x.numel():
        return public_secret(x._protocol, torch.zeros(tuple(x.shape), dtype=x.dtype))
    return SecretTensor(LogSoftmax(Logits(x, dim)), x.dtype, protocol=x._protocol, shape=x.shape)


def logits_behind(y: SecretTensor) -> Logits | None:
    """What y is the logarithm of, if it still is that."""
    return y._share.logits if isinstance(y._share, LogSoftmax) else BEHIND.of(y.share)


def open_beside(y: Tensor, labels: Value) -> None:
    """Open labels in the round in which what y is the logarithm of is opened for its softmax."""
    if isinstance(y, SecretTensor) and isinstance(y._share, LogSoftmax):
        logits = y._share.logits
        if logits.x.shape[logits.dim] > 1:
            labels.protocol.together(labels, arithmetic(logits.x))


@implements(aten._log_softmax_backward_data.default)
def log_softmax_backward(func: Any, grad: Operand, y: SecretTensor, dim: int, dtype: torch.dtype) -> SecretTensor:
    """grad - softmax Σ grad. Where the sum of the gradient is public, as for class indices, no product is needed."""
    behind = logits_behind(y)
    known = SUMS.of(grad.share, dim % max(y.dim(), 1)) if isinstance(grad, SecretTensor) else None
    inner = grad.sum(dim, keepdim=True) if known is None else known
    if behind is not None:
        product = behind.times(inner)
    else:
        product = finish(multiply(secret(exp_nonpositive(arithmetic(y)), y.dtype), inner), y.dtype, y)
    return finish(combine(grad, product, -1), y.dtype, y)
