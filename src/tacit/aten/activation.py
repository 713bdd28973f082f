"""Activation functions and their derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish, multiply
from tacit.aten.comparison import relation
from tacit.aten.pointwise import apply, relations, smooth
from tacit.functions import gates
from tacit.functions.exponential import exp, exp_nonpositive
from tacit.functions.linear import add_public, fractional, times_public
from tacit.functions.sigmoid import sigmoid, softplus, tanh
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS
from tacit.tensor import SecretTensor
from tacit.tensor.deferred import deferring
from tacit.tensor.operands import arithmetic, as_secret, public_secret, secret, zeros
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any

POSITIVE: Remembered[Bits] = Remembered("the bit of a ReLU, by its result")
"""The backward pass selects by it and compares nothing."""


@implements(aten.relu.default)
def relu(func: Any, x: SecretTensor) -> SecretTensor:
    """max(x, 0). 4 rounds, in which a product that x still is gets truncated, too. Exact.

    But for the gradient of a product above zero by less than a quarter of a unit, which may be that of zero.
    """
    share = arithmetic(x)
    out, bit = share.protocol.positive_part(share)
    POSITIVE.keep(out, bit)
    return secret(out, x.dtype)


@implements(aten.threshold_backward.default)
def relu_backward(func: Any, grad: Operand, x: Tensor, threshold: float) -> SecretTensor:
    """grad where x > threshold; one round, with the bit of the forward pass."""
    x = as_secret(x, grad)
    share = arithmetic(x)
    bit = POSITIVE.of(share) if threshold == 0 else None
    if bit is None:
        share = fractional(share)
        if abs(threshold) >= 2.0 ** (VALUE_BITS - share.frac_bits):  # which no number reaches
            passed = as_secret(grad, x) if threshold < 0 else zeros(x._protocol, x.shape, x.dtype)
            return secret(passed.share.fork(), x.dtype)
        bit = relation(share, round(threshold * 2**share.frac_bits), "gt")
    return finish(_select(bit, grad, x), x.dtype, x)


def _select(bit: Bits, grad: Operand, x: SecretTensor) -> Number:
    return multiply(
        SecretTensor(bit, torch.bool), grad if isinstance(grad, SecretTensor) else public_secret(x._protocol, grad)
    )  # type: ignore[return-value]


@implements(aten.leaky_relu.default)
def leaky_relu(func: Any, x: SecretTensor, negative_slope: float = 0.01) -> SecretTensor:
    """slope x + (1 - slope) max(x, 0)."""
    positive = relu(aten.relu.default, x)
    scaled = finish(multiply(x, negative_slope), x.dtype, x)
    return finish(combine(scaled, positive, 1 - negative_slope), x.dtype, x)


@implements(aten.leaky_relu_backward.default)
def leaky_relu_backward(func: Any, grad: Operand, x: Tensor, negative_slope: float, _: bool) -> SecretTensor:
    """grad, times the slope where x <= 0."""
    x = as_secret(x, grad)
    positive = finish(_select(relation(arithmetic(x), 0, "gt"), grad, x), x.dtype, x)
    return finish(combine(finish(multiply(grad, negative_slope), x.dtype, x), positive, 1 - negative_slope), x.dtype, x)


@implements(aten.hardtanh_backward.default)
def hardtanh_backward(func: Any, grad: Operand, x: Tensor, low: float, high: float) -> SecretTensor:
    """grad where low < x < high: x <= low implies x < high, so one bit is the other's complement within it."""
    x = as_secret(x, grad)
    if not low < high:
        return zeros(x._protocol, x.shape, x.dtype)
    share = fractional(arithmetic(x))
    above_low, below_high = relations(share, [("gt", float(low)), ("lt", float(high))])
    return finish(_select(above_low ^ below_high.invert(), grad, x), x.dtype, x)


@implements(aten.sigmoid.default)
def logistic(func: Any, x: SecretTensor) -> SecretTensor:
    """1 / (1 + exp(-x)); see `functions.sigmoid`."""
    return smooth(sigmoid, x)


@deferring(aten.tanh.default)
def hyperbolic(func: Any, x: SecretTensor) -> SecretTensor:
    """tanh x; see `functions.sigmoid`."""
    return smooth(tanh, x)


@implements(aten.softplus.default)
def soft(func: Any, x: SecretTensor, beta: float = 1, threshold: float = 20) -> SecretTensor:
    """log(1 + exp(beta x)) / beta, and x where beta x > threshold."""
    scaled = arithmetic(x) if beta == 1 else times_public(arithmetic(x), torch.tensor(float(beta)))
    out = softplus(scaled, threshold)
    return secret(out if beta == 1 else times_public(out, torch.tensor(1 / beta)), x.dtype)


@implements(aten.sigmoid_backward.default)
def sigmoid_backward(func: Any, grad: Operand, y: Tensor) -> SecretTensor:
    """grad y (1 - y)."""
    y = as_secret(y, grad)
    share = arithmetic(y)
    slope = secret(share - share * share, y.dtype)
    return finish(multiply(grad, slope), y.dtype, y)


@implements(aten.tanh_backward.default)
def tanh_backward(func: Any, grad: Operand, y: Tensor) -> SecretTensor:
    """grad (1 - y²)."""
    y = as_secret(y, grad)
    share = arithmetic(y)
    slope = secret(add_public(-(share * share), torch.tensor(1.0)), y.dtype)
    return finish(multiply(grad, slope), y.dtype, y)


@implements(aten.softplus_backward.default)
def softplus_backward(func: Any, grad: Operand, x: Tensor, beta: float, threshold: float) -> SecretTensor:
    """grad sigmoid(beta x), and grad where beta x > threshold."""
    x = as_secret(x, grad)
    scaled = arithmetic(x) if beta == 1 else times_public(arithmetic(x), torch.tensor(float(beta)))
    return finish(multiply(grad, secret(sigmoid(scaled, threshold), x.dtype)), x.dtype, x)


@implements(aten.log_sigmoid_forward.default)
def log_sigmoid(func: Any, x: SecretTensor) -> tuple[SecretTensor, SecretTensor]:
    """log sigmoid(x) = -log(1 + exp(-x)); PyTorch's second result is a buffer that only its own backward needs."""
    return secret(-softplus(-arithmetic(x)), x.dtype), public_secret(x._protocol, torch.zeros(0))


@implements(aten.log_sigmoid_backward.default)
def log_sigmoid_backward(func: Any, grad: Operand, x: Tensor, _: Any) -> SecretTensor:
    """grad sigmoid(-x)."""
    x = as_secret(x, grad)
    return finish(multiply(grad, secret(sigmoid(-arithmetic(x)), x.dtype)), x.dtype, x)


@implements(aten.silu.default)
def silu(func: Any, x: SecretTensor) -> SecretTensor:
    """x sigmoid(x); see `functions.gates`."""
    return apply(func, x, gates.silu)


@implements(aten.silu_backward.default)
def silu_backward(func: Any, grad: Operand, x: Tensor) -> SecretTensor:
    """grad s (1 + x (1 - s)), s = sigmoid(x)."""
    x = as_secret(x, grad)
    share = arithmetic(x).settle()
    s = sigmoid(share)
    slope = s + (share * (s - s * s)).settle()
    return finish(multiply(grad, secret(slope, x.dtype)), x.dtype, x)


@implements(aten.gelu.default)
def gelu(func: Any, x: SecretTensor, *, approximate: str = "none") -> SecretTensor:
    """x Φ(x), Φ = (1 + erf(x / √2)) / 2, or the form with tanh; see `functions.gates`."""
    function = gates.gelu if approximate == "none" else gates.tanh_gelu
    return apply(lambda v: func(v, approximate=approximate), x, function)


@implements(aten.gelu_backward.default)
def gelu_backward(func: Any, grad: Operand, x: Tensor, *, approximate: str = "none") -> SecretTensor:
    """grad (Φ(x) + x φ(x)); for the form with tanh, the derivative of that form. By the bits of the forward pass."""
    x = as_secret(x, grad)
    slope = gates.gelu_slope if approximate == "none" else gates.tanh_gelu_slope
    return finish(multiply(grad, secret(slope(arithmetic(x).without_headroom()), x.dtype)), x.dtype, x)


@implements(aten.elu.default)
def elu(func: Any, x: SecretTensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> SecretTensor:
    """scale (max(x, 0) + alpha (exp(min(input_scale x, 0)) - 1))."""
    share = arithmetic(x).settle()
    (below,) = share.protocol.less(share, [0])
    above, under = share.protocol.select([(below.invert(), share), (below, share)])
    power = exp_nonpositive if input_scale >= 0 else exp
    curve = add_public(power(times_public(under, torch.tensor(float(input_scale)))), torch.tensor(-1.0))
    total = above + times_public(curve, torch.tensor(float(alpha)))
    return secret(times_public(total, torch.tensor(float(scale))) if scale != 1 else total, x.dtype)


@implements(aten.softshrink_backward.default, aten.hardshrink_backward.default)
def shrink_backward(func: Any, grad: Tensor, x: Tensor, lambd: float) -> Tensor:
    """grad where |x| > lambda. Both comparisons come from one opening."""
    inside = (x > lambd) | (x < -lambd)
    return inside * grad
