"""Exponentials, powers, waves, and the activation functions that are made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import finish, multiply
from tacit.functions.exponential import exp, exp2, exp_nonpositive
from tacit.functions.linear import add_public, times_public
from tacit.functions.logarithm import log
from tacit.functions.sigmoid import erf, sigmoid
from tacit.functions.waves import cosine, sine
from tacit.protocols.number import Number
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, as_secret, plain, public_secret, secret
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any
Function = Callable[[Number], Number]

CUBED_BITS = 20
"""Fractional bits of what is squared or cubed for a GELU, at most. More: finer results; fewer: larger numbers fit, for
their cubes are below 2^22 now."""


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


@implements(aten.sin.default, aten.cos.default)
def wave(func: Any, x: SecretTensor) -> SecretTensor:
    """sin x, cos x; see `functions.waves`."""
    return apply(func, x, sine if func is aten.sin.default else cosine)


@implements(aten.erf.default)
def error_function(func: Any, x: SecretTensor) -> SecretTensor:
    """erf x; see `functions.sigmoid`."""
    return apply(func, x, erf)


@implements(aten.erfc.default)
def complementary(func: Any, x: SecretTensor) -> SecretTensor:
    """1 - erf x."""
    return apply(func, x, lambda v: add_public(-erf(v), torch.tensor(1.0)))


@implements(aten.silu.default)
def silu(func: Any, x: SecretTensor) -> SecretTensor:
    """x sigmoid(x). 5 rounds."""
    return apply(func, x, lambda v: v * sigmoid(v))


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
    """x Φ(x), Φ = (1 + erf(x / √2)) / 2, or the form with tanh. 6 rounds at most."""
    return apply(func, x, lambda v: v.settle() * _gaussian(v.settle(), approximate))


def _gaussian(x: Number, approximate: str) -> Number:
    """Φ(x), or sigmoid(2 √(2/π) (x + 0.044715 x³)), which stands for it."""
    if approximate == "none":
        half = erf(scaled(x, 1 / math.sqrt(2)))
        return add_public(half, torch.tensor(1.0)).rescaled(half.frac_bits + 1)
    coarse = x.settle(CUBED_BITS)
    cube = (coarse * coarse).settle(CUBED_BITS) * coarse
    inner = times_public(cube, torch.tensor(0.044715)).settle() + x
    return sigmoid(times_public(inner, torch.tensor(2 * math.sqrt(2 / math.pi))))


@implements(aten.gelu_backward.default)
def gelu_backward(func: Any, grad: Operand, x: Tensor, *, approximate: str = "none") -> SecretTensor:
    """grad (Φ(x) + x φ(x)); for the form with tanh, the derivative of that form."""
    x = as_secret(x, grad)
    share = arithmetic(x).settle()
    phi = _gaussian(share, approximate)
    if approximate == "none":
        coarse = share.settle(CUBED_BITS)
        square = (coarse * coarse).settle()
        density = exp_nonpositive(-square.rescaled(square.frac_bits + 1))
        slope = phi + (share * times_public(density, torch.tensor(1 / math.sqrt(2 * math.pi)))).settle()
    else:
        coarse = share.settle(CUBED_BITS)
        square = (coarse * coarse).settle(CUBED_BITS)
        inner = add_public(times_public(square, torch.tensor(3 * 0.044715)), torch.tensor(1.0)).settle()
        outer = times_public((phi - phi * phi).settle(), torch.tensor(2 * math.sqrt(2 / math.pi)))
        slope = phi + ((share * inner).settle() * outer.settle()).settle()
    return finish(multiply(grad, secret(slope, x.dtype)), x.dtype, x)


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


@implements(aten.pow.Scalar)
def public_base(func: Any, base: float, x: SecretTensor) -> SecretTensor:
    """b^x = 2^(x log2 b), for a public b > 0."""
    if not 0 < base < math.inf:
        raise NotImplementedError("a public base of a secret power must be positive")
    if base == 1:
        return public_secret(x._protocol, torch.ones(tuple(x.shape), dtype=x.dtype))
    rate = math.log2(base)
    return apply(func, x, lambda v: exp2(v if rate > 0 else -v, abs(rate)))
