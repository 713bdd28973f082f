"""Comparisons, logic on their results, and choices by them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish
from tacit.aten.whole import bitwise
from tacit.functions.linear import FAR, fractional, masking, unreachable
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS
from tacit.ring.shapes import broadcast
from tacit.tensor import SecretTensor
from tacit.tensor.operands import (
    arithmetic,
    as_bits,
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
from tacit.tensor.refusals import unsupported
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
        return secret(relation(_difference(x, y, kind), 0, kind).fork())
    share = arithmetic(x)
    if x.dtype.is_floating_point:
        share = fractional(share)
    if share.storage.far and abs(value) >= share.storage.far / 2:
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
    edge = math.copysign(x.storage.far / 2, value)
    if math.isinf(value) and kind == ("lt" if value < 0 else "gt"):
        return value, kind  # nothing is beyond infinity
    if math.isinf(value) and kind == ("ge" if value < 0 else "le"):
        return value, kind
    if kind in ("eq", "ne"):
        kind = {"eq": "lt", "ne": "ge"}[kind] if value < 0 else {"eq": "gt", "ne": "le"}[kind]
    return edge, kind


def _difference(x: SecretTensor, y: Operand, kind: str) -> Number:
    """x - y. Whether two secrets are equal is asked of their truncated values, if their scales differ."""
    a, b = number(x), number(y)
    if kind in ("eq", "ne") and isinstance(a, Number) and isinstance(b, Number) and a.frac_bits != b.frac_bits:
        a, b = a.protocol.settle_all([a, b], a.protocol.frac_bits)
        return a - b
    difference = combine(x, y, -1)
    assert isinstance(difference, Number)
    return difference


def relation(x: Number, threshold: int, kind: str) -> Bits:
    """[x kind t] for a public ring element t at the scale of x; memoised with x."""
    less = x.protocol.less
    if kind in ("lt", "ge"):
        (found,) = less(x, [threshold])
        return found if kind == "lt" else found.invert()
    if kind in ("le", "gt"):
        (found,) = less(x, [threshold + 1])
        return found if kind == "le" else found.invert()
    below, upto = less(x, [threshold, threshold + 1])
    equal = below ^ upto
    return equal if kind == "eq" else equal.invert()


def truth(x: Operand) -> Operand:
    """x as bits: of numbers, whether they are not zero, which is a comparison of 3 rounds."""
    if isinstance(x, SecretTensor) and x.dtype != torch.bool:
        return compare(aten.ne.Scalar, x, 0)
    return x.to(torch.bool) if isinstance(x, Tensor) else x


@implements(aten.logical_not.default)
def negation(func: Any, x: SecretTensor) -> SecretTensor:
    """Whether x is false, or 0. Local; see `truth` for numbers."""
    return invert(aten.bitwise_not.default, truth(x))


@implements(aten.logical_and.default, aten.logical_or.default, aten.logical_xor.default)
def connective(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x and y, x or y, either of the two, where a number other than 0 counts as true; see `truth`."""
    known, other = plain(x), plain(y)
    if known is not None and other is not None:
        return public_secret(protocol_of(x, y), func(torch.as_tensor(known), torch.as_tensor(other)))
    combined = {"and": conjunction, "or": disjunction, "xor": difference}[func.__name__.split(".")[0].split("_")[1]]
    return combined(func, truth(x), truth(y))


@implements(aten.bitwise_not.default)
def invert(func: Any, x: SecretTensor) -> SecretTensor:
    """not x; of integers -x - 1. Local."""
    if x.dtype not in (torch.bool, torch.uint8) and not x.dtype.is_floating_point:
        return finish(combine(-1, x, -1), x.dtype, x)
    if x.dtype == torch.uint8:
        return finish(combine(255, x, -1), x.dtype, x)
    return secret(as_bits(x).invert())


@implements(aten.bitwise_and.Tensor, aten.bitwise_and.Scalar, aten.bitwise_and.Scalar_Tensor)
def conjunction(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x and y. One round; of integers 5 or 6, see `whole`."""
    if result_dtype(x, y) != torch.bool:
        return bitwise("and", x, y)
    return secret(as_bits(x, y) & as_bits(y, x))


@implements(aten.bitwise_or.Tensor, aten.bitwise_or.Scalar, aten.bitwise_or.Scalar_Tensor)
def disjunction(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x or y. One round; of integers 5 or 6, see `whole`."""
    if result_dtype(x, y) != torch.bool:
        return bitwise("or", x, y)
    return secret(as_bits(x, y) | as_bits(y, x))


@implements(aten.bitwise_xor.Tensor, aten.bitwise_xor.Scalar, aten.bitwise_xor.Scalar_Tensor)
def difference(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """Either x or y. Local; of integers 5 or 6 rounds, see `whole`."""
    if result_dtype(x, y) != torch.bool:
        return bitwise("xor", x, y)
    a, b = as_bits(x, y), as_bits(y, x)
    shape = broadcast(a.shape, b.shape)
    a, b = (s.move(lambda t: t.expand(shape), view=False) for s in (a, b))
    return secret(a ^ b)


@implements(aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar)
def where(func: Any, condition: Tensor, x: Operand, y: Operand) -> SecretTensor:
    """y + condition (x - y): a selection, one round; by a public condition, local. For -inf see `functions.linear`."""
    dtype = result_dtype(x, y)
    condition = truth(condition)
    protocol = protocol_of(condition, x, y)
    if not isinstance(condition, SecretTensor) or plain(condition) is not None:
        mask = plain(condition)
        first, second = number(x), number(y)
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            return public_secret(protocol, torch.where(mask.bool(), first, second).to(dtype))
        far = _farthest(protocol, first, second)
        chosen = finish(_times_mask(_held(first, protocol), mask.to(torch.int64)), dtype, condition, x, y)
        rest = finish(_times_mask(_held(second, protocol), 1 - mask.to(torch.int64)), dtype, condition, x, y)
        return _flagged(finish(combine(chosen, rest), dtype, x, y), far)
    if any(v is not None and bool(torch.as_tensor(v).isnan().any()) for v in (plain(x), plain(y))):
        raise unsupported(
            "a public NaN where a secret says so",
            "secrets are finite; in place of torch.logdet, write torch.linalg.slogdet(x).logabsdet",
        )
    if dtype == torch.bool:
        b = bits(condition)
        return secret((b & as_bits(x, condition)) ^ (b.invert() & as_bits(y, condition)))
    x, y = number(x), number(y)
    far = _farthest(protocol, x, y)
    x, y = (_held(v, protocol) if isinstance(v, Tensor) else SecretTensor(v, dtype) for v in (x, y))
    change = combine(x, y, -1)
    if isinstance(change, Tensor):
        change = arithmetic(public_secret(condition._protocol, change.to(dtype)))
    shape = broadcast(condition.shape, change.shape)
    b = bits(condition).move(lambda t: t.expand(shape), view=False)
    change = change.move(lambda t: t.expand(shape), view=False)
    change.storage.far = max(change.storage.far, far)
    base, precise = number(y), change.storage.precise
    if isinstance(base, Number) and base.frac_bits > base.protocol.frac_bits:
        change.storage.precise = True  # a truncation would leave something of y beside x
    (step,) = change.protocol.select([(b, change)])
    step.storage.precise = precise
    base_ = base if isinstance(base, Tensor) else SecretTensor(base, dtype)
    return _flagged(finish(combine(base_, SecretTensor(step, dtype)), dtype, y, condition), far)


def _held(x: Number | Tensor, protocol: Protocol) -> Number | Tensor:
    """A choice; what fixed point does not hold of a public one by what stands for it."""
    return masking(x, protocol) if isinstance(x, Tensor) else x


def _farthest(protocol: Protocol, *choices: Number | Tensor) -> float:
    """What stands for infinity in any of the choices."""
    return max(
        x.storage.far if isinstance(x, Number) else FAR * (unreachable(x, protocol) is not None) for x in choices
    )


def _flagged(x: SecretTensor, far: float) -> SecretTensor:
    """A result in which something may stand for infinity."""
    x.share.storage.far = max(x.share.storage.far, far)
    return x


def _times_mask(x: Number | Tensor, mask: Tensor) -> Number | Tensor:
    if isinstance(x, Tensor):
        return x * mask
    shape = broadcast(x.shape, mask.shape)
    return x.linear(lambda t: (t * mask.to(t.device)).expand(shape).contiguous())


@implements(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(func: Any, x: SecretTensor, mask: Tensor, value: Operand) -> SecretTensor:
    """x with `value` where the mask is set."""
    return where(aten.where.self, mask, torch.as_tensor(value, dtype=x.dtype), x)


@implements(aten.maximum.out, aten.minimum.out)
def larger_into(func: Any, x: Operand, y: Operand, *, out: SecretTensor) -> SecretTensor:
    """The larger (smaller) of two, written into a third: what Adam's amsgrad calls."""
    keep_precise(out, y)
    write(out, larger(aten.maximum.default if func is aten.maximum.out else aten.minimum.default, x, y))
    return out


@implements(aten.isnan.default, aten.isinf.default)
def never(func: Any, x: SecretTensor) -> SecretTensor:
    """False everywhere: fixed point holds neither NaN nor infinity, but for what a mask has put there."""
    far = x.share.storage.far if func is aten.isinf.default else 0.0
    if far and plain(x) is None:
        share = fractional(arithmetic(x))
        edge = round(far / 2 * 2**share.frac_bits)
        low, high = share.protocol.less(share, [-edge, edge])
        return secret((low ^ high).invert())
    return public_secret(x._protocol, torch.zeros(tuple(x.shape), dtype=torch.bool))


@implements(aten.sign.default, aten.sgn.default)
def sign(func: Any, x: SecretTensor) -> SecretTensor:
    """[x > 0] - [x < 0]; both comparisons share their rounds."""
    share = arithmetic(x)
    low, high = share.protocol.less(share, [0, 1])
    share.protocol.together(low, high)
    out = high.invert().arithmetic() - low.arithmetic()
    return secret(out.lifted(share.protocol.frac_bits) if x.dtype.is_floating_point else out, x.dtype)


@implements(aten.maximum.default, aten.minimum.default)
def larger(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """The larger (smaller) of two, elementwise: x + [y > x] (y - x). 4 rounds."""
    change = combine(y, x, -1)
    dtype = result_dtype(x, y)
    if isinstance(change, Tensor):
        return public_secret(protocol_of(x, y), func(number(x), number(y)))
    b = relation(change, 0, "gt" if func is aten.maximum.default else "lt")
    (step,) = change.protocol.select([(b, change)])
    return finish(combine(x, SecretTensor(step, dtype)), dtype, x, y)
