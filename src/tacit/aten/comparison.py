"""Comparisons, and the larger and smaller of two."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish
from tacit.functions.linear import fractional
from tacit.protocols.number import Number
from tacit.protocols.scale import coarsest
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS
from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import before_autograd
from tacit.tensor.operands import (
    arithmetic,
    bits,
    keep_precise,
    number,
    plain,
    protocol_of,
    public_secret,
    result_dtype,
    secret,
    write,
)
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any
FLIPPED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


@implements(
    *(getattr(aten, name).Scalar for name in FLIPPED),
    *(getattr(aten, name).Tensor for name in FLIPPED),
)
def compare(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x < y and its kin. 3 rounds; many comparisons of one x with public numbers open it once."""
    kind = func.__name__.split(".")[0]
    if not isinstance(x, SecretTensor):
        x, y, kind = y, x, FLIPPED[kind]
    known, other = plain(x), plain(y)
    if known is not None and other is not None:
        return public_secret(
            x._protocol, func(known, other) if kind == func.__name__.split(".")[0] else func(other, known)
        )
    if kind in ("eq", "ne") and all(isinstance(v, SecretTensor) and v.dtype == torch.bool for v in (x, y)):
        different = bits(x) ^ bits(y)
        return secret(different if kind == "ne" else different.invert())
    value = _scalar(x, y)
    if value is None:
        difference, slack = _difference(x, y, kind)
        return secret(relation(difference, 0, kind, slack).fork())
    share = arithmetic(x)
    if x.dtype.is_floating_point:
        share = fractional(share)
    if share.scale.far and abs(value) >= share.scale.far / 2:
        value, kind = _beyond(value, kind, share)
    constant = _constant(x, share, value, kind)
    if constant is not None:
        return public_secret(x._protocol, torch.full(tuple(x.shape), constant))
    rounded: Any = round if x.dtype.is_floating_point else math.ceil if kind in ("lt", "ge") else math.floor
    return secret(relation(share, rounded(value * 2**share.frac_bits), kind).fork())


def _scalar(x: SecretTensor, y: Operand) -> float | None:
    """The public number that all of x is compared with, if there is one."""
    threshold = number(y)
    if not isinstance(threshold, Tensor) or threshold.numel() != 1 or threshold.dim() > x.dim():
        return None
    if x.dtype.is_floating_point and threshold.dtype.is_floating_point:  # PyTorch compares in the dtype of both
        rounded = threshold.to(result_dtype(x, y)).item()
        return rounded if math.isfinite(rounded) else threshold.item()
    return threshold.item()


def _constant(x: SecretTensor, share: Number, value: float, kind: str) -> bool | None:
    """The answer that does not depend on x: no number in fixed point is so large, no integer so fractional."""
    if math.isnan(value):
        return kind == "ne"
    if abs(value) >= 2.0 ** (VALUE_BITS - share.frac_bits):
        return kind == "ne" or (kind != "eq" and (value > 0) == (kind in ("lt", "le")))
    if kind in ("eq", "ne") and not x.dtype.is_floating_point and value != int(value):
        return kind == "ne"
    return None


def _beyond(value: float, kind: str, x: Number) -> tuple[float, str]:
    """A comparison with what is out of reach, as one with half of what stands for infinity in x."""
    edge = math.copysign(x.scale.far / 2, value)
    if math.isinf(value) and kind == ("lt" if value < 0 else "gt"):
        return value, kind  # nothing is beyond infinity
    if math.isinf(value) and kind == ("ge" if value < 0 else "le"):
        return value, kind
    if kind in ("eq", "ne"):
        kind = {"eq": "lt", "ne": "ge"}[kind] if value < 0 else {"eq": "gt", "ne": "le"}[kind]
    return edge, kind


def _difference(x: SecretTensor, y: Operand, kind: str) -> tuple[Number, int]:
    """x - y, and by how many units of that they count as equal, if one is rounded and the other is not.

    So what was found among untruncated values, and truncated, is one of them, as in PyTorch, whatever way they came: no
    value is above the largest, and one is equal to it. Whether others of different scales are equal is asked of their
    truncated values.
    """
    a, b = number(x), number(y)
    slack = None
    if isinstance(a, Number) and isinstance(b, Number):
        if kind in ("eq", "ne") and a.frac_bits != b.frac_bits and coarsest(a.scale, b.scale) is None:
            a, b = a.protocol.settle_all([a, b], a.protocol.frac_bits)
            return a - b, 0
        slack = partial(a.scale.slack, b.scale, least=a.protocol.frac_bits)
    difference = combine(x, y, -1)
    assert isinstance(difference, Number)
    return difference, slack(difference.frac_bits) if slack else 0


def relation(x: Number, threshold: int, kind: str, slack: int = 0) -> Bits:
    """[x kind t] for a public ring element t at the scale of x, which equals t up to a slack; memoised with x."""
    less = x.protocol.less
    if kind in ("lt", "ge"):
        (found,) = less(x, [threshold - slack])
        return found if kind == "lt" else found.invert()
    if kind in ("le", "gt"):
        (found,) = less(x, [threshold + slack + 1])
        return found if kind == "le" else found.invert()
    below, upto = less(x, [threshold - slack, threshold + slack + 1])
    equal = below ^ upto
    return equal if kind == "eq" else equal.invert()


@implements(aten.maximum.out, aten.minimum.out)
def larger_into(func: Any, x: Operand, y: Operand, *, out: SecretTensor) -> SecretTensor:
    """The larger (smaller) of two, written into a third: what Adam's amsgrad calls."""
    keep_precise(out, y)
    write(out, larger(aten.maximum.default if func is aten.maximum.out else aten.minimum.default, x, y))
    return out


before_autograd(aten.isfinite.default, lambda x: torch.isnan(x).logical_not())  # PyTorch's definition compares


@implements(aten.isnan.default, aten.isinf.default)
def never(func: Any, x: SecretTensor) -> SecretTensor:
    """False everywhere: fixed point holds neither NaN nor infinity, but for what a mask has put there."""
    far = x.share.scale.far if func is aten.isinf.default else 0.0
    if far and plain(x) is None:
        share = fractional(arithmetic(x))
        edge = round(far / 2 * 2**share.frac_bits)
        low, high = share.protocol.less(share, [-edge, edge])
        return secret((low ^ high).invert())
    return public_secret(x._protocol, torch.zeros(tuple(x.shape), dtype=torch.bool))


@implements(aten.maximum.default, aten.minimum.default)
def larger(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """The larger (smaller) of two, elementwise: x + [y > x] (y - x). 4 rounds."""
    change = combine(y, x, -1)
    dtype = result_dtype(x, y)
    if isinstance(change, Tensor):
        return public_secret(protocol_of(x, y), func(number(x), number(y)))
    b = relation(change, 0, "gt" if func is aten.maximum.default else "lt")
    base, precise = number(x), change.scale.precise
    if isinstance(base, Number) and base.frac_bits > base.protocol.frac_bits:
        change.declare(precise=True)  # a truncation would leave something of x beside y
    (step,) = change.protocol.select([(b, change)])
    step.declare(precise=precise)
    return finish(combine(x, SecretTensor(step, dtype)), dtype, x, y)


@implements(aten.fmax.default, aten.fmin.default)
def larger_of_numbers(func: Any, x: Operand, y: Operand) -> Tensor:
    """The larger_of_numbers (smaller) of two: there is no NaN to be left out."""
    return torch.maximum(x, y) if func is aten.fmax.default else torch.minimum(x, y)
