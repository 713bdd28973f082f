"""Activation functions and their derivatives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish, multiply
from tacit.aten.comparison import relation
from tacit.errors import EncodingError
from tacit.functions.linear import add_public, fractional, times_public
from tacit.functions.logarithm import log
from tacit.functions.roots import rsqrt, sqrt
from tacit.functions.sigmoid import sigmoid, softplus, tanh
from tacit.protocols.number import Number
from tacit.protocols.remembered import Storage
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS
from tacit.session.ledger import source_line
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, as_secret, is_precise, plain, public_secret, result_dtype, secret, zeros
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any

POSITIVE = "positive"
"""The memo under which the result of a ReLU keeps its bit: the backward pass selects by it and compares nothing."""


@implements(aten.relu.default)
def relu(func: Any, x: SecretTensor) -> SecretTensor:
    """max(x, 0). 4 rounds, in which a product that x still is gets truncated, too. Exact."""
    share = arithmetic(x)
    bit = relation(share, 0, "gt")
    (out,) = share.protocol.select([(bit, share)])
    out.facts.memo[POSITIVE] = bit
    return secret(out, x.dtype)


@implements(aten.threshold_backward.default)
def relu_backward(func: Any, grad: Operand, x: Tensor, threshold: float) -> SecretTensor:
    """grad where x > threshold; one round, with the bit of the forward pass."""
    x = as_secret(x, grad)
    share = arithmetic(x)
    bit = share.facts.memo.get(POSITIVE) if threshold == 0 else None
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


@implements(aten.abs.default)
def absolute(func: Any, x: SecretTensor) -> SecretTensor:
    """|x| = 2 max(x, 0) - x. 4 rounds."""
    share = arithmetic(x)
    (positive,) = share.protocol.select([(relation(share, 0, "gt"), share)])
    out = positive.times_integer(2) - share.settle(positive.frac_bits)
    out.storage.positive = True
    return secret(out, x.dtype)


@implements(aten.clamp.default, aten.clamp_min.default, aten.clamp_max.default, aten.hardtanh.default)
def clamp(func: Any, x: SecretTensor, low: float | None = None, high: float | None = None) -> SecretTensor:
    """x - [x < low] x - [x > high] x + low [x < low] + high [x > high]. 4 rounds for both ends together. Exact.

    Where low > high, PyTorch gives high everywhere. Ends that no number reaches do nothing.
    """
    if func is aten.clamp_max.default:
        low, high = None, low
    if func is aten.hardtanh.default:
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    dtype = result_dtype(x, *(v for v in (low, high) if v is not None))
    if low is not None and high is not None and low > high:
        return public_secret(x._protocol, torch.full(tuple(x.shape), high, dtype=dtype))
    share = fractional(arithmetic(x)) if dtype.is_floating_point else arithmetic(x)
    share, ends = _reached(share, low, high)
    beyond = relations(share, ends)
    whole = share if share.storage.precise or not share.storage.wide else _undivided(share)
    steps = share.protocol.select([(bit, whole) for bit in beyond])
    out = whole if whole.storage.precise else share.settle()
    for bit, step, (_, value) in zip(beyond, steps, ends, strict=True):
        out = out - step + bit.arithmetic().times_integer(round(value * 2**out.frac_bits)).rescaled(out.frac_bits)
    out = out.fork() if out is share else out
    _clamped(out.storage, share.storage, low, high)
    return secret(out, dtype)


def _undivided(x: Number) -> Number:
    """x, to be selected with all its bits, as what is precise is."""
    x = x.fork()
    x.storage.precise = True
    return x


def _clamped(out: Storage, x: Storage, low: float | None, high: float | None) -> None:
    """What is known of numbers between two ends: gradients are clipped by what is at most 1, which may be small."""
    out.precise = x.precise
    out.positive = (x.positive and (high is None or high >= 0)) or (low is not None and low >= 0)
    least = low if low is not None else 0.0 if x.positive else -math.inf
    out.bounded = x.wide and least >= -1 and high is not None and high <= 1
    out.wide = x.wide and not out.bounded


def _reached(x: Number, low: float | None, high: float | None) -> tuple[Number, list[tuple[str, float]]]:
    """The ends that numbers may lie beyond, for comparisons with x, at a scale that holds them."""
    ends = [(kind, float(v)) for kind, v in (("lt", low), ("gt", high)) if v is not None]
    if any(2.0 ** (VALUE_BITS - x.frac_bits) <= abs(v) < math.inf for _, v in ends):
        x = x.settle()
    largest = 2.0 ** (VALUE_BITS - x.frac_bits)
    for kind, v in ends:
        if math.isnan(v) or (v >= largest if kind == "lt" else v <= -largest):
            raise EncodingError(f"torch.clamp to {v} ({source_line()}): fixed point does not hold what it would give")
    return x, [(kind, v) for kind, v in ends if abs(v) < largest]


def relations(x: Number, ends: list[tuple[str, float]]) -> list[Bits]:
    """[x < v] or [x > v] for public numbers, in the same three rounds."""
    edges = [(kind, round(v * 2**x.frac_bits)) for kind, v in ends]
    x.protocol.less(x, [t + (kind == "gt") for kind, t in edges])
    return [relation(x, t, kind) for kind, t in edges]


@implements(aten.native_dropout.default)
def native_dropout(func: Any, x: SecretTensor, p: float, train: bool | None) -> tuple[SecretTensor, Tensor]:
    """x / (1 - p) where a public random mask is set, and the mask."""
    mask = torch.rand(tuple(x.shape)) >= (p if train else 0.0)
    scale = 1 / (1 - p) if train and p < 1 else float(not train)
    return finish(multiply(x, mask * scale), x.dtype, x), mask


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
    return _smooth(sigmoid, x)


@implements(aten.tanh.default)
def hyperbolic(func: Any, x: SecretTensor) -> SecretTensor:
    """tanh x; see `functions.sigmoid`."""
    return _smooth(tanh, x)


@implements(aten.softplus.default)
def soft(func: Any, x: SecretTensor, beta: float = 1, threshold: float = 20) -> SecretTensor:
    """log(1 + exp(beta x)) / beta, and x where beta x > threshold."""
    scaled = arithmetic(x) if beta == 1 else times_public(arithmetic(x), torch.tensor(float(beta)))
    out = softplus(scaled, threshold)
    return secret(out if beta == 1 else times_public(out, torch.tensor(1 / beta)), x.dtype)


@implements(aten.log.default)
def logarithm(func: Any, x: SecretTensor) -> SecretTensor:
    """log x; see `functions.logarithm`."""
    return _smooth(log, x)


@implements(aten.logit.default)
def logit(func: Any, x: SecretTensor, eps: float | None = None) -> SecretTensor:
    """log x - log(1 - x)."""
    if eps is not None:
        x = clamp(aten.clamp.default, x, eps, 1 - eps)
    share = arithmetic(x).settle()
    return secret(log(share) - log(add_public(-share, torch.tensor(1.0))), x.dtype)


@implements(aten.sqrt.default)
def root(func: Any, x: SecretTensor) -> SecretTensor:
    """√x; see `functions.roots`.

    What is precise counts as one unit more, 2^-42: where squares vanish, steps of an optimizer are smaller, not larger.
    """
    if is_precise(x) and plain(x) is None:
        return _smooth(sqrt, SecretTensor(arithmetic(x).plus(torch.tensor(1)), x.dtype))
    return _smooth(sqrt, x)


@implements(aten.rsqrt.default)
def inverse_root(func: Any, x: SecretTensor) -> SecretTensor:
    """1/√x; see `functions.roots`."""
    return _smooth(rsqrt, x)


def _smooth(function: Any, x: SecretTensor) -> SecretTensor:
    """Apply a function of numbers; of public ones, in the clear."""
    dtype = x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()
    known = plain(x)
    if known is not None:
        return public_secret(
            x._protocol, getattr(torch, function.__name__, torch.nn.functional.softplus)(known.to(dtype))
        )
    return secret(function(arithmetic(x).without_headroom()), dtype)


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
