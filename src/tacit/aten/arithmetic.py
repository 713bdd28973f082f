"""Sums, differences, products and quotients, with public and secret operands."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.functions.clip import clip
from tacit.functions.linear import FAR, add_public, finest_sum, times_public
from tacit.functions.reciprocal import quotient, reciprocal
from tacit.functions.whole import SMALL, wrap
from tacit.protocols import followed
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.protocols.scale import SLACK_BITS
from tacit.protocols.values import Value
from tacit.ring.shapes import broadcast
from tacit.tensor import SecretTensor
from tacit.tensor.deferred import deferring
from tacit.tensor.operands import (
    arithmetic,
    as_bits,
    bits,
    is_precise,
    keep_precise,
    number,
    plain,
    protocol_of,
    public_secret,
    result_dtype,
    scalar,
    secret,
    write,
)
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any

HALF: Remembered[object] = Remembered("the name of what it is the half of")


def combine(x: Operand, y: Operand, alpha: float = 1) -> Number | Tensor:
    """x + alpha y, where either may be public."""
    a, b = number(x), number(y)
    if alpha != 1 and isinstance(a, Number) and isinstance(b, Number) and not a.scale.headroom:
        b = b.without_headroom()  # the sum has none
    if alpha != 1:
        factor = followed.number("alpha", alpha)  # asked for of public operands as well, which use it as it is
        b = b * alpha if isinstance(b, Tensor) else scaled(b, scalar(alpha), factor)
    if isinstance(a, Tensor):
        return a + b if isinstance(b, Tensor) else add_public(b, a)
    if isinstance(b, Tensor):
        return add_public(a, b)
    return finest_sum(a, b) if a.scale.precise or b.scale.precise else a + b


def multiply(x: Operand, y: Operand) -> Number | Tensor:
    """x y, where either may be public, and a secret bit selects."""
    selected = _selection(x, y)
    if selected is not None:
        return selected
    a, b = number(x), number(y)
    if isinstance(a, Tensor):
        return a * b if isinstance(b, Tensor) else scaled(b, a)
    return scaled(a, b) if isinstance(b, Tensor) else a * b


def scaled(x: Number, v: Tensor, number: float | None = None) -> Number:
    """x v for a public v; see `times_public`.

    In a backward pass a factor below 1, such as a mean's 1/n, adds to the headroom of x.
    """
    out = times_public(x, v, number)
    out.declare(headroom=x.scale.headroom)
    if v.numel() and v.dtype.is_floating_point and torch._C._current_autograd_node() is not None:
        mantissa, exponent = math.frexp(float(v.abs().max()))
        gain = (mantissa == 0.5) - exponent  # the bits that every |v| is below 1 by
        out.declare(headroom=min(x.scale.headroom + max(gain, 0), SLACK_BITS))
    return out


def _selection(x: Operand, y: Operand) -> Number | None:
    """x y where one of them is a secret bit and the other a secret number: a selection, cheaper than a product."""
    if (
        not (isinstance(x, SecretTensor) and isinstance(y, SecretTensor))
        or plain(x) is not None
        or plain(y) is not None
    ):
        return None
    if y.dtype == torch.bool:
        x, y = y, x
    if x.dtype != torch.bool or y.dtype == torch.bool:
        return None
    shape = broadcast(x.shape, y.shape)
    b, v = (s if s.shape == shape else s.move(lambda t: t.expand(shape), view=False) for s in (bits(x), arithmetic(y)))
    return b.protocol.select([(b, v)])[0]  # type: ignore[list-item]


def finish(result: Number | Tensor, dtype: torch.dtype, *operands: Operand) -> SecretTensor:
    """Wrap a result; one that is public stays known as public."""
    if isinstance(result, Tensor):
        return public_secret(protocol_of(*operands), result.to(dtype))
    return secret(result, dtype)


def wrapped(result: Number | Tensor, dtype: torch.dtype, *operands: Operand) -> SecretTensor:
    """`finish` a sum or product. One of small integers wraps as PyTorch's does: 5 rounds, for |result| < 2^61."""
    if dtype in SMALL and isinstance(result, Number):
        bits_, signed = SMALL[dtype]
        result = wrap(result, bits_, signed=signed)
    return finish(result, dtype, *operands)


@deferring(aten.add.Tensor, aten.add.Scalar)
def add(func: Any, x: Operand, y: Operand, *, alpha: float = 1) -> SecretTensor:
    """x + alpha y; of bits, whether either is set."""
    dtype = result_dtype(x, y)
    if dtype == torch.bool:
        return secret(as_bits(x, y) | as_bits(y, x))
    return wrapped(combine(x, y, alpha), dtype, x, y)


@deferring(aten.sub.Tensor, aten.sub.Scalar)
def subtract(func: Any, x: Operand, y: Operand, *, alpha: float = 1) -> SecretTensor:
    """x - alpha y."""
    return wrapped(combine(x, y, -alpha), _number_dtype(x, y), x, y)


@deferring(aten.rsub.Scalar, aten.rsub.Tensor)
def reverse_subtract(func: Any, x: Operand, y: Operand, alpha: float = 1) -> SecretTensor:
    """y - alpha x."""
    return wrapped(combine(y, x, -alpha), _number_dtype(x, y), x, y)


@deferring(aten.neg.default)
def negate(func: Any, x: SecretTensor) -> SecretTensor:
    """-x. Local."""
    value = number(x)
    return wrapped(-value, _number_dtype(x), x)


@deferring(aten.mul.Tensor, aten.mul.Scalar)
def mul(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x y; of bits, whether both are set."""
    dtype = result_dtype(x, y)
    if dtype == torch.bool:
        return secret(as_bits(x, y) & as_bits(y, x))
    out = wrapped(multiply(x, y), dtype, x, y)
    if isinstance(x, SecretTensor) and isinstance(y, float) and y == 0.5:
        HALF.keep(out.share, x.share.facts.name)
    return out


def half_of(share: Value) -> object:
    """The name of the content that this one is the half of; None if it was not said to be."""
    return HALF.of(share)


@deferring(aten.div.Tensor, aten.div.Scalar)
def divide(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x / y. By a public number: a product with its inverse. By a secret: see `functions.reciprocal`."""
    dtype = result_dtype(x, y)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    divisor = number(y)
    if isinstance(divisor, Tensor):
        inverse = divisor.to(torch.float64).reciprocal()
        if not bool(inverse.isfinite().all()):
            raise ZeroDivisionError("a secret divided by a public zero, NaN or infinity: fixed point holds no infinity")
        dividend = number(x)
        factor = followed.number("inverse", float(inverse)) if followed.follower() and inverse.numel() == 1 else None
        result = dividend * inverse if isinstance(dividend, Tensor) else scaled(dividend, inverse, factor)
        return finish(result, dtype, x, y)
    dividend = number(x)
    if isinstance(dividend, Tensor) and bool(dividend.isinf().any()):
        return _unbounded(dividend, y, dtype)
    return finish(quotient(dividend, divisor), dtype, x, y)


def _unbounded(x: Tensor, y: SecretTensor, dtype: torch.dtype) -> SecretTensor:
    """x / y where x is infinite: beyond any limit that clipping of gradients would hold it against; see `masking`."""
    far = y.sign() * torch.where(x.isinf(), x.sign() * FAR, 0.0)
    far.share.declare(far=FAR)  # type: ignore[attr-defined]
    rest = torch.where(x.isinf(), 0.0, x)
    return finish(combine(far, divide(aten.div.Tensor, rest, y)) if bool(rest.any()) else number(far), dtype, y)


@implements(aten.reciprocal.default)
def invert(func: Any, x: SecretTensor) -> SecretTensor:
    """1 / x; see `functions.reciprocal` for domain and error."""
    return secret(reciprocal(arithmetic(x)), _float(x.dtype))


@implements(aten.square.default)
def square(func: Any, x: SecretTensor) -> SecretTensor:
    """x²: one opening, for both factors are the same secret."""
    return wrapped(multiply(x, x), _number_dtype(x), x)


@implements(aten.addcmul.default)
def addcmul(func: Any, x: Operand, left: Operand, right: Operand, *, value: float = 1) -> SecretTensor:
    """x + value left right. What is added to something precise is as precise; see `LARGEST_FACTOR`."""
    product: Number | Tensor
    a, b = number(left), number(right)
    if is_precise(x) and isinstance(a, Number) and isinstance(b, Number):
        product = times_public(precise_product(a, b), torch.tensor(value))
    else:
        product = multiply(left, right)
        product = times_public(product, torch.tensor(value)) if isinstance(product, Number) else product * value
    base = number(x)
    if isinstance(product, Tensor):
        total = base + product if isinstance(base, Tensor) else add_public(base, product)
    else:
        total = add_public(product, base) if isinstance(base, Tensor) else finest_sum(product, base)
    return finish(total, x.dtype, x, left, right)


LARGEST_FACTOR = 2.0**9
"""What is multiplied for a precise storage is clipped here, unless it is precise. Larger: more gradients stay as they
are; but sums of their squares must stay below 2^20, where precise storages and the domain of the square root end."""


def precise_product(x: Number, y: Number) -> Number:
    """x y with the fractional bits of a precise storage. One round, 5 for what has to be clipped."""
    left = x if x.scale.precise else clip(x, LARGEST_FACTOR)
    right = left if y is x else y if y.scale.precise else clip(y, LARGEST_FACTOR)
    product = left * right
    product.declare(precise=True)
    return product


def gradients(*operands: Operand) -> bool:
    """Whether all operands are gradients: precise ones, as optimizers make them, or those of a loss that is a mean."""
    shares = [x.share for x in operands if isinstance(x, SecretTensor) and isinstance(x.share, Number)]
    return len(shares) == len(operands) and all(s.scale.precise or s.scale.headroom > 0 for s in shares)


@implements(aten.addcmul_.default)
def addcmul_(func: Any, x: SecretTensor, left: Operand, right: Operand, *, value: float = 1) -> SecretTensor:
    """`addcmul` in place; what products of gradients are added to is precise from then on: Adam's must not vanish."""
    if gradients(left, right):
        x.share.declare(precise=True)
    write(x, addcmul(aten.addcmul.default, x, left, right, value=value))
    return x


@implements(aten.addcdiv.default)
def addcdiv(func: Any, x: Operand, numerator: Operand, denominator: Operand, *, value: float = 1) -> SecretTensor:
    """x + value numerator / denominator."""
    if isinstance(numerator, SecretTensor) or isinstance(denominator, SecretTensor):
        change: Operand = divide(aten.div.Tensor, numerator, denominator)
    else:
        change = numerator / denominator
    return finish(combine(x, change, value), x.dtype, x, change)


@implements(aten.lerp.Scalar)
def lerp(func: Any, start: Operand, end: Operand, weight: float) -> SecretTensor:
    """start + weight (end - start); of secrets as two products with 12 bits more than the session's."""
    a, b = number(start), number(end)
    if isinstance(b, Tensor) or not 0 < weight < 1:
        difference = subtract(aten.sub.Tensor, end, start)
        return finish(combine(start, difference, weight), start.dtype, start, end)
    protocol = b.protocol
    protocol.together(*(v for v in (a, b) if isinstance(v, Number)))
    change = _part(b, weight)
    if isinstance(a, Tensor):
        return finish(add_public(change, a * (1 - weight)), start.dtype, start, end)
    return finish(finest_sum(_part(a, 1 - weight), change), start.dtype, start, end)


def _part(x: Number, factor: float) -> Number:
    """x times a factor between 0 and 1, as fine as a precise storage if x is precise, else with 12 bits more."""
    if x.scale.precise:
        return times_public(x, torch.tensor(factor, dtype=torch.float64))
    fine = x.protocol.frac_bits + SLACK_BITS
    part = x.protocol.scale(x.lifted(max(x.frac_bits, fine)), factor, fine)
    assert part is not None
    return part


@implements(aten.lerp_.Scalar)
def lerp_(func: Any, start: SecretTensor, end: Operand, weight: float) -> SecretTensor:
    """`lerp` in place; averages of what is precise are precise."""
    keep_precise(start, end)
    write(start, lerp(aten.lerp.Scalar, start, end, weight))
    return start


def _number_dtype(*operands: Operand) -> torch.dtype:
    """The dtype of a result that bits do not have."""
    dtype = result_dtype(*operands)
    if dtype == torch.bool:
        raise DataError("bools are not numbers: write ~x for not, x ^ y for either but not both, or x.float()")
    return dtype


def _float(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.get_default_dtype()
