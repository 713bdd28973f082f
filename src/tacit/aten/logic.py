"""Logic: on bits, and on the bits of integers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish, wrapped
from tacit.aten.comparison import compare
from tacit.aten.rounding import torch_broadcast
from tacit.errors import DataError
from tacit.functions.whole import bits_of, floor
from tacit.protocols.number import Number
from tacit.ring.fixed_point import VALUE_BITS
from tacit.ring.shapes import broadcast
from tacit.tensor import SecretTensor
from tacit.tensor.operands import (
    arithmetic,
    as_bits,
    as_secret,
    number,
    plain,
    protocol_of,
    public_secret,
    result_dtype,
    scalar,
    secret,
)
from tacit.tensor.public import publicly_first
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any


def both_set(x: Operand, y: Operand) -> tuple[Number | Tensor, torch.dtype]:
    """x & y of integers: Σ 2^k x_k y_k, less 2^62 for the sign.

    By public ones only the bits that are set there are found. 5 rounds, 6 for two secrets; about 60 bytes a bit.
    """
    dtype = result_dtype(x, y)
    if dtype.is_floating_point:
        raise unsupported("bits of numbers that are no integers", "write x.long() first")
    a, b = number(x), number(y)
    if isinstance(a, Tensor):
        a, b = b, a
    if isinstance(a, Tensor):
        assert isinstance(b, Tensor)
        return a.long() & b.long(), dtype
    if isinstance(b, Tensor):
        values = b.to(torch.int64)
        places = [k for k in range(VALUE_BITS) if bool(((values >> k) & 1).any())]
        places += [VALUE_BITS] if bool((values < 0).any()) else []
        if not places:
            return torch.zeros(torch.broadcast_shapes(a.shape, b.shape), dtype=torch.int64), dtype
        found = bits_of(a, places)
        terms = [
            found.move(lambda t, n=n: t[n], view=False).linear(  # type: ignore[misc]
                lambda t, k=k: t * (((values >> min(k, 63)) & 1) * _weight(k)).to(t.device)  # type: ignore[misc]
            )
            for n, k in enumerate(places)
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total, dtype
    a, b = torch_broadcast(a, b)
    every = range(VALUE_BITS + 1)
    left, right = bits_of(a, every), bits_of(b, every)
    weights = torch.tensor([_weight(k) for k in every]).view(-1, *[1] * len(a.shape))
    return left.protocol.multiply(left, right).linear(lambda t: (t * weights.to(t.device)).sum(0)), dtype


def _weight(place: int) -> int:
    return -(1 << VALUE_BITS) if place == VALUE_BITS else 1 << place


def bitwise(kind: str, x: Operand, y: Operand) -> SecretTensor:
    """x & y, x | y = x + y - (x & y), x ^ y = x + y - 2 (x & y), of integers."""
    x, y = (v if isinstance(v, Tensor) else scalar(v) for v in (x, y))
    common, dtype = both_set(x, y)
    if kind == "and":
        return finish(common, dtype, x, y)
    both = finish(common, torch.int64, x, y)
    total = as_secret(x, y).long() + y.long()
    out = total - both * (1 if kind == "or" else 2)
    return finish(number(out), dtype, x, y)


@implements(
    aten.bitwise_left_shift.Tensor,
    aten.bitwise_left_shift.Tensor_Scalar,
    aten.bitwise_right_shift.Tensor,
    aten.bitwise_right_shift.Tensor_Scalar,
    aten.__lshift__.Scalar,
    aten.__lshift__.Tensor,
    aten.__rshift__.Scalar,
    aten.__rshift__.Tensor,
)
def shift(func: Any, x: Operand, places: Operand) -> Tensor:
    """x 2^k, which is local and must stay below 2^62, or floor(x / 2^k), in 5 rounds, for one public k of 0 to 62."""
    known = plain(places)
    if known is None:
        raise unsupported("a shift by secret places", "multiply by powers of two that the places choose")
    k = torch.as_tensor(known)
    if k.numel() != 1 or not isinstance(x, SecretTensor) or x.dtype.is_floating_point or x.dtype == torch.bool:
        raise unsupported("a shift by several places, or of what are no integers", "shift integers by one number")
    count = int(k)
    if not 0 <= count <= VALUE_BITS:
        raise DataError(f"a shift of secret integers is by 0 to {VALUE_BITS} places, not {count}")
    value = plain(x)
    if value is not None:
        return public_secret(x._protocol, func(value, count))
    if "left" in func.__name__ or "lshift" in func.__name__:
        return wrapped(arithmetic(x).times_integer(1 << count), x.dtype, x)
    return secret(floor(arithmetic(x), count), x.dtype)


def truth(x: Operand) -> Operand:
    """x as bits: of numbers, whether they are not zero, which is a comparison of 3 rounds."""
    if isinstance(x, SecretTensor) and x.dtype != torch.bool:
        return compare(aten.ne.Scalar, x, 0)
    return x.to(torch.bool) if isinstance(x, Tensor) else x


@publicly_first(aten.logical_not.default)
def negation(func: Any, x: SecretTensor) -> SecretTensor:
    """Whether x is false, or 0. Local; see `truth` for numbers."""
    return invert(aten.bitwise_not.default, truth(x))


@publicly_first(aten.logical_and.default, aten.logical_or.default, aten.logical_xor.default)
def connective(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x and y, x or y, either of the two, where a number other than 0 counts as true; see `truth`."""
    known, other = plain(x), plain(y)
    if known is not None and other is not None:
        return public_secret(protocol_of(x, y), func(torch.as_tensor(known), torch.as_tensor(other)))
    combined = {"and": conjunction, "or": disjunction, "xor": difference}[func.__name__.split(".")[0].split("_")[1]]
    return combined(func, truth(x), truth(y))


@publicly_first(aten.bitwise_not.default)
def invert(func: Any, x: SecretTensor) -> SecretTensor:
    """not x; of integers -x - 1. Local."""
    if x.dtype not in (torch.bool, torch.uint8) and not x.dtype.is_floating_point:
        return finish(combine(-1, x, -1), x.dtype, x)
    if x.dtype == torch.uint8:
        return finish(combine(255, x, -1), x.dtype, x)
    return secret(as_bits(x).invert())


@publicly_first(aten.bitwise_and.Tensor, aten.bitwise_and.Scalar, aten.bitwise_and.Scalar_Tensor)
def conjunction(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x and y. One round; of integers 5 or 6, see `bitwise`."""
    if result_dtype(x, y) != torch.bool:
        return bitwise("and", x, y)
    return secret(as_bits(x, y) & as_bits(y, x))


@publicly_first(aten.bitwise_or.Tensor, aten.bitwise_or.Scalar, aten.bitwise_or.Scalar_Tensor)
def disjunction(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """x or y. One round; of integers 5 or 6, see `bitwise`."""
    if result_dtype(x, y) != torch.bool:
        return bitwise("or", x, y)
    return secret(as_bits(x, y) | as_bits(y, x))


@publicly_first(aten.bitwise_xor.Tensor, aten.bitwise_xor.Scalar, aten.bitwise_xor.Scalar_Tensor)
def difference(func: Any, x: Operand, y: Operand) -> SecretTensor:
    """Either x or y. Local; of integers 5 or 6 rounds, see `bitwise`."""
    if result_dtype(x, y) != torch.bool:
        return bitwise("xor", x, y)
    a, b = as_bits(x, y), as_bits(y, x)
    shape = broadcast(a.shape, b.shape)
    a, b = (s.move(lambda t: t.expand(shape), view=False) for s in (a, b))
    return secret(a ^ b)
