"""Pointwise operators: exponentials, logarithms, roots, ends and signs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tacit.aten.comparison import relation
from tacit.errors import EncodingError
from tacit.functions.exponential import exp, exp2
from tacit.functions.linear import add_public, fractional
from tacit.functions.logarithm import log
from tacit.functions.roots import rsqrt, sqrt
from tacit.functions.sigmoid import erf
from tacit.protocols.number import Number
from tacit.protocols.scale import Scale
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS
from tacit.session.ledger import source_line
from tacit.tensor import SecretTensor
from tacit.tensor.operands import (
    arithmetic,
    is_precise,
    plain,
    public_secret,
    result_dtype,
    secret,
)
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any
Function = Callable[[Number], Number]


def apply(func: Any, x: SecretTensor, function: Function) -> SecretTensor:
    """A function of numbers; of public ones, in the clear."""
    dtype = x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()
    known = plain(x)
    if known is not None:
        return public_secret(x._protocol, func(known.to(dtype)))
    share = arithmetic(x).without_headroom()
    return secret(function(share.lifted(max(share.frac_bits, share.protocol.frac_bits))), dtype)


def scaled(x: Number, factor: float) -> Number:
    """factor x, with 24 bits of the factor, and still open if x is."""
    return x.times_integer(round(factor * 2**24)).rescaled(x.frac_bits + 24)


@implements(aten.exp.default)
def exponential(func: Any, x: SecretTensor) -> SecretTensor:
    """exp x; see `functions.exponential`."""
    return apply(func, x, exp)


@implements(aten.exp2.default)
def exponential_2(func: Any, x: SecretTensor) -> SecretTensor:
    """2^x; see `functions.exponential`."""
    return apply(func, x, exp2)


@implements(aten.expm1.default)
def exponential_minus_1(func: Any, x: SecretTensor) -> SecretTensor:
    """exp(x) - 1."""
    return apply(func, x, lambda v: add_public(exp(v), torch.tensor(-1.0)))


@implements(aten.log1p.default)
def logarithm_plus_1(func: Any, x: SecretTensor) -> SecretTensor:
    """log(1 + x)."""
    return apply(func, x, lambda v: log(add_public(v, torch.tensor(1.0))))


@implements(aten.log2.default, aten.log10.default)
def logarithm_of_base(func: Any, x: SecretTensor) -> SecretTensor:
    """log x / log b."""
    base = 2 if func is aten.log2.default else 10
    return apply(func, x, lambda v: scaled(log(v), 1 / math.log(base)))


@implements(aten.erf.default)
def error_function(func: Any, x: SecretTensor) -> SecretTensor:
    """erf x; see `functions.sigmoid`."""
    return apply(func, x, erf)


@implements(aten.erfc.default)
def complementary(func: Any, x: SecretTensor) -> SecretTensor:
    """1 - erf x."""
    return apply(func, x, lambda v: add_public(-erf(v), torch.tensor(1.0)))


@implements(aten.abs.default)
def absolute(func: Any, x: SecretTensor) -> SecretTensor:
    """|x| = 2 max(x, 0) - x. 4 rounds."""
    share = arithmetic(x)
    (positive,) = share.protocol.select([(relation(share, 0, "gt"), share)])
    out = positive.times_integer(2) - share.settle(positive.frac_bits)
    out.declare(positive=True)
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
    whole = share if share.scale.precise or not share.scale.wide else _undivided(share)
    steps = share.protocol.select([(bit, whole) for bit in beyond])
    out = whole if whole.scale.precise else share.settle()
    for bit, step, (_, value) in zip(beyond, steps, ends, strict=True):
        out = out - step + bit.arithmetic().times_integer(round(value * 2**out.frac_bits)).rescaled(out.frac_bits)
    out = out.fork() if out is share else out
    return secret(out.declare(**_clamped(share.scale, low, high)), dtype)


def _undivided(x: Number) -> Number:
    """x, to be selected with all its bits, as what is precise is."""
    x = x.fork()
    return x.declare(precise=True)


def _clamped(x: Scale, low: float | None, high: float | None) -> dict[str, bool]:
    """What is known of numbers between two ends: gradients are clipped by what is at most 1, which may be small."""
    least = low if low is not None else 0.0 if x.positive else -math.inf
    bounded = x.wide and least >= -1 and high is not None and high <= 1
    positive = (x.positive and (high is None or high >= 0)) or (low is not None and low >= 0)
    return {"precise": x.precise, "positive": positive, "bounded": bounded, "wide": x.wide and not bounded}


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


@implements(aten.log.default)
def logarithm(func: Any, x: SecretTensor) -> SecretTensor:
    """log x; see `functions.logarithm`."""
    return smooth(log, x)


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
        return smooth(sqrt, SecretTensor(arithmetic(x).plus(torch.tensor(1)), x.dtype))
    return smooth(sqrt, x)


@implements(aten.rsqrt.default)
def inverse_root(func: Any, x: SecretTensor) -> SecretTensor:
    """1/√x; see `functions.roots`."""
    return smooth(rsqrt, x)


def smooth(function: Any, x: SecretTensor) -> SecretTensor:
    """Apply a function of numbers; of public ones, in the clear."""
    dtype = x.dtype if x.dtype.is_floating_point else torch.get_default_dtype()
    known = plain(x)
    if known is not None:
        return public_secret(
            x._protocol, getattr(torch, function.__name__, torch.nn.functional.softplus)(known.to(dtype))
        )
    return secret(function(arithmetic(x).without_headroom()), dtype)


@implements(aten.signbit.default)
def signbit(func: Any, x: SecretTensor) -> Tensor:
    """Whether x < 0: fixed point has one zero."""
    return x < 0


@implements(aten.copysign.Tensor, aten.copysign.Scalar)
def copysign(func: Any, x: Operand, y: Any) -> Tensor:
    """|x| with the sign of y, and that of a secret zero is positive."""
    size = x.abs()
    if isinstance(y, SecretTensor):
        return torch.where(y < 0, -size, size)
    negative = torch.signbit(torch.as_tensor(y))
    return torch.where(negative, -size, size)


@implements(aten.sign.default, aten.sgn.default)
def sign(func: Any, x: SecretTensor) -> SecretTensor:
    """[x > 0] - [x < 0]; both comparisons share their rounds."""
    share = arithmetic(x)
    low, high = share.protocol.less(share, [0, 1])
    share.protocol.together(low, high)
    out = high.invert().arithmetic() - low.arithmetic()
    return secret(out.lifted(share.protocol.frac_bits) if x.dtype.is_floating_point else out, x.dtype)


@implements(aten.xlogy.Tensor, aten.xlogy.Scalar_Self, aten.xlogy.Scalar_Other)
def xlogy(func: Any, x: Any, y: Any) -> Tensor:
    """x log y, and 0 where x is: the logarithm of a secret is finite, even of zero. 11 rounds."""
    return torch.mul(torch.as_tensor(y).log(), x)
