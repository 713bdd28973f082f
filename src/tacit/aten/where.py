"""Choices between two tensors by a condition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish
from tacit.aten.logic import truth
from tacit.functions.linear import FAR, masking, unreachable
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol
from tacit.ring.shapes import broadcast
from tacit.tensor import SecretTensor
from tacit.tensor.operands import (
    arithmetic,
    as_bits,
    bits,
    number,
    plain,
    protocol_of,
    public_secret,
    result_dtype,
    secret,
)
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any


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
    change.declare(far=max(change.scale.far, far))
    base, precise = number(y), change.scale.precise
    if isinstance(base, Number) and base.frac_bits > base.protocol.frac_bits:
        change.declare(precise=True)  # a truncation would leave something of y beside x
    (step,) = change.protocol.select([(b, change)])
    step.declare(precise=precise)
    base_ = base if isinstance(base, Tensor) else SecretTensor(base, dtype)
    return _flagged(finish(combine(base_, SecretTensor(step, dtype)), dtype, y, condition), far)


def _held(x: Number | Tensor, protocol: Protocol) -> Number | Tensor:
    """A choice; what fixed point does not hold of a public one by what stands for it."""
    return masking(x, protocol) if isinstance(x, Tensor) else x


def _farthest(protocol: Protocol, *choices: Number | Tensor) -> float:
    """What stands for infinity in any of the choices."""
    return max(x.scale.far if isinstance(x, Number) else FAR * (unreachable(x, protocol) is not None) for x in choices)


def _flagged(x: SecretTensor, far: float) -> SecretTensor:
    """A result in which something may stand for infinity."""
    x.share.declare(far=max(x.share.scale.far, far))
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
