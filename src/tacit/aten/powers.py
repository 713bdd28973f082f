"""Powers: of secrets, of public bases, with public exponents and secret ones."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tacit.aten.gelu import cube
from tacit.aten.pointwise import apply
from tacit.functions.exponential import exp, exp2
from tacit.functions.linear import apply_public, fractional
from tacit.functions.logarithm import log
from tacit.functions.reciprocal import reciprocal
from tacit.functions.roots import rsqrt, sqrt
from tacit.protocols.number import Number
from tacit.ring.shapes import broadcast
from tacit.tensor import SecretTensor
from tacit.tensor.operands import (
    arithmetic,
    as_secret,
    number,
    plain,
    public_secret,
    result_dtype,
    secret,
)
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any


@implements(aten.pow.Tensor_Scalar)
def power(func: Any, x: SecretTensor, exponent: float) -> SecretTensor:
    """x^n for a whole number n, by repeated squaring, of 1/x where n < 0; for odd multiples of ½, powers of √x or 1/√x;
    else exp(n log x).

    Domain: |x^n| < 2^30 at 16 fractional bits; for fractions x > 0, and for those that are no multiples of ½
    x^n < 2^45.
    """
    waiting = cube(x, partial(_power_of, 3)) if exponent == 3 else None
    return _power_of(exponent, x) if waiting is None else waiting


def _power_of(exponent: float, x: SecretTensor) -> SecretTensor:
    dtype = result_dtype(x, exponent)
    twice = int(2 * exponent)
    if exponent == 0:
        return public_secret(x._protocol, torch.ones(tuple(x.shape), dtype=dtype))
    value = number(x)
    if isinstance(value, Tensor):
        return public_secret(x._protocol, (value**exponent).to(dtype))
    if twice != 2 * exponent:  # 0^p is 0 for p > 0, and large for p < 0
        logarithm = log(value, zero=max(-EXP_END / abs(exponent), LOG_OF_ZERO))
        return secret(exp(times_fine(logarithm, exponent)), dtype)
    if twice % 2:
        return secret(whole_power((sqrt if twice > 0 else rsqrt)(value), abs(twice)), dtype)
    if exponent < -1:  # first, for a small x has a large inverse, but no digits left in its own powers
        value = reciprocal(value).settle()
    return secret(reciprocal(value) if exponent == -1 else whole_power(value, abs(twice // 2)), dtype)


EXP_END = 31.0
"""Where `exp` has become zero, at its negative, or nearly as large as it may."""


LOG_OF_ZERO = -(2.0**13)
"""What stands for the logarithm of zero, at the least: it must fit with the 48 fractional bits of a series."""


EXPONENT_BITS = 24
"""Fractional bits of a public factor of a logarithm, whose error the size of the power multiplies."""


def times_fine(logarithm: Number, factor: Tensor | float) -> Number:
    """A logarithm times public numbers below 2^9, exact to 2^-25. Local; to be exponentiated."""
    ring = (torch.as_tensor(factor, dtype=torch.float64) * 2.0**EXPONENT_BITS).round().to(torch.int64)
    out = apply_public(logarithm, ring, torch.mul, broadcast(logarithm.shape, ring.shape))
    return out.rescaled(logarithm.frac_bits + EXPONENT_BITS)


def whole_power(x: Number, exponent: int) -> Number:
    """x^n for n >= 1. 2 log2(n) rounds at most; |x^n| < 2^30 at 16 fractional bits."""
    result: Number | None = None
    even = exponent % 2 == 0
    while True:
        if exponent & 1:
            result = x if result is None else result * x
        exponent >>= 1
        if not exponent:
            assert result is not None
            return x.fork() if result is x else result.declare(positive=even or x.scale.positive)
        x = x * x


@implements(aten.pow.Scalar)
def public_base(func: Any, base: float, x: SecretTensor) -> SecretTensor:
    """b^x = 2^(x log2 b), for a public b > 0."""
    if not 0 < base < math.inf:
        raise NotImplementedError("a public base of a secret power must be positive")
    if base == 1:
        return public_secret(x._protocol, torch.ones(tuple(x.shape), dtype=x.dtype))
    rate = math.log2(base)
    return apply(func, x, lambda v: exp2(v if rate > 0 else -v, abs(rate)))


@implements(aten.pow.Tensor_Tensor)
def power_of_tensors(func: Any, x: Operand, exponent: Operand) -> Tensor:
    """x^y = exp(y log x) for x > 0, and by multiplications where one public whole number is the exponent of all."""
    known = plain(exponent)
    if known is not None and known.numel() and bool((known == known.reshape(-1)[0]).all()):
        out: Tensor = x ** known.reshape(-1)[0].item()
        return out.expand(broadcast(x.shape, exponent.shape)).clone()
    if known is not None and len(values := known.unique()) <= DISTINCT and bool((values == values.round()).all()):
        terms = [torch.where(known == v, x ** v.item(), torch.zeros(())) for v in values]
        return sum(terms[1:], terms[0])
    return secret(_power(x, exponent, known), result_dtype(x, exponent))


DISTINCT = 8
"""Whole numbers among public exponents that are taken by multiplications, one after the other."""


def _power(x: Operand, exponent: Operand, known: Tensor | None) -> Number:
    base = plain(x)
    power_of_tensors = None if known is not None else fractional(arithmetic(as_secret(exponent)))
    if power_of_tensors is not None and base is not None:
        if not bool((base > 0).all()):
            raise unsupported(
                "a secret power_of_tensors of a public number that is not positive", "select those that are first"
            )
        return exp(times_fine(power_of_tensors, _logarithm(base)))
    logarithm = log(arithmetic(as_secret(x)), zero=LOG_OF_ZERO)
    return exp(times_fine(logarithm, known) if power_of_tensors is None else power_of_tensors.settle() * logarithm)  # type: ignore[arg-type]


def _logarithm(x: Tensor) -> Tensor:
    """log x from single sums, products and quotients, which all machines round alike:  2 artanh((m - 1) / (m + 1))."""
    mantissa, exponent = torch.frexp(x.double())
    t = (mantissa - 1) / (mantissa + 1)
    total = torch.full_like(t, 1 / 39)
    for k in range(37, 0, -2):
        total = total * (t * t)
        total = total + 1 / k
    return 2 * t * total + exponent * math.log(2)
