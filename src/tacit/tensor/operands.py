"""Operands as shares and results as secrets: what the functions for operators begin and end with."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.functions.linear import FAR, masking, unreachable
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol
from tacit.protocols.scale import SLACK_BITS
from tacit.protocols.values import Bits, Value
from tacit.ring.fixed_point import encode
from tacit.tensor import SecretTensor
from tacit.tensor.registry import HANDLERS

__all__ = [
    "arithmetic",
    "as_bits",
    "as_secret",
    "bits",
    "is_precise",
    "keep_precise",
    "number",
    "places",
    "plain",
    "protocol_of",
    "public_secret",
    "result_dtype",
    "scalar",
    "secret",
    "write",
    "zeros",
]

aten = torch.ops.aten


def secret(share: Value, dtype: torch.dtype | None = None) -> SecretTensor:
    """Wrap the share of a result, not of a view, in a tensor of its natural dtype, or the one given.

    Results are contiguous: strides are public, and whether `x.reshape` is a view must not differ between roles.
    """
    if dtype is None:
        dtype = torch.bool if isinstance(share, Bits) else torch.get_default_dtype()
    share.content.pack()
    return SecretTensor(share, dtype)


def scalar(x: float) -> Tensor:
    """A Python number as it is: PyTorch's default of float32 would drop what a float64 secret keeps."""
    return torch.tensor(x, dtype=torch.float64 if isinstance(x, float) else None)


def places(share: Value, count: int) -> SecretTensor:
    """The share of positions among so many elements, which nobody has to wrap."""
    share.facts.within = range(max(count, 1))
    return secret(share, torch.int64)


def plain(x: Any) -> Any:
    """The public value of an operand: a number, a plain tensor, or a secret tensor made of public values only.

    None if the operand is truly secret.
    """
    if isinstance(x, SecretTensor):
        return x.share.known_public()
    return x


def number(x: Any) -> Number | Tensor:
    """An operand of an arithmetic operator: a share, or a plain tensor where it is public."""
    if not isinstance(x, SecretTensor):
        return x if isinstance(x, Tensor) else scalar(x)
    known = x.share.known_public()
    if known is not None:
        return known
    return arithmetic(x)


def arithmetic(x: SecretTensor) -> Number:
    """The share of a secret as numbers; bits become the integers 0 and 1."""
    share = x.share
    return share.arithmetic() if isinstance(share, Bits) else _arithmetic(share)


def bits(x: SecretTensor) -> Bits:
    """The share of a secret of dtype bool."""
    share = x.share
    if not isinstance(share, Bits):
        raise TacitError(f"expected a secret of dtype bool, the result of a comparison, not {x.dtype}")
    return share


def as_secret(x: Tensor, *beside: Any) -> SecretTensor:
    """A tensor operand as a secret; a public one is shared trivially, in the session of the secrets beside it."""
    return x if isinstance(x, SecretTensor) else public_secret(protocol_of(*beside), x)


def as_bits(x: Any, beside: Any = None) -> Bits:
    """An operand of a logical operator: secret bits, or public ones shared trivially."""
    if isinstance(x, SecretTensor):
        return bits(x)
    return bits(public_secret(protocol_of(beside), torch.as_tensor(x).to(torch.bool)))


def _arithmetic(share: Value) -> Number:
    assert isinstance(share, Number)
    return share


def protocol_of(*operands: Any) -> Protocol:
    """The protocol of the first secret among the operands; all secrets of an operator live in one session."""
    found = [x._protocol for x in operands if isinstance(x, SecretTensor)]
    if any(p is not found[0] for p in found):
        raise TacitError("two secrets of different sessions cannot be combined")
    return found[0]


def result_dtype(*operands: Any) -> torch.dtype:
    """PyTorch's dtype for an arithmetic result of these operands, numbers included."""
    kinds: list[Any] = [(x.dtype, x.dim() > 0) if isinstance(x, Tensor) else type(x) for x in operands]
    return _promoted(torch.get_default_dtype(), *kinds)


@cache
def _promoted(default: torch.dtype, *kinds: Any) -> torch.dtype:
    """The dtype that operands have together: tensors of a dtype, with dimensions or without, and types of numbers.

    Fractions have the default dtype where the tensors are of whole numbers.
    """
    first, *others = (torch.empty((0,) * k[1], dtype=k[0]) if isinstance(k, tuple) else k(1) for k in kinds)
    for other in others:
        first = torch.empty((0,), dtype=torch.result_type(first, other))
    assert isinstance(first, Tensor)
    dtype: torch.dtype = first.dtype
    return dtype


def zeros(protocol: Protocol, shape: Any, dtype: torch.dtype) -> SecretTensor:
    """A trivially shared tensor of zeros."""
    return public_secret(protocol, torch.zeros(tuple(shape), dtype=dtype))


def public_secret(protocol: Protocol, value: Tensor) -> SecretTensor:
    """A secret tensor made of a public value, remembered as such: operators with it cost what public operands cost."""
    value = value.detach()
    beyond = unreachable(value, protocol)
    share: Value
    if value.dtype == torch.bool:
        share = protocol.public_bits(value.to(torch.uint8))
    else:
        frac_bits = protocol.frac_bits if value.dtype.is_floating_point else 0
        held = value if beyond is None else masking(value, protocol)
        share = protocol.public(encode(held, frac_bits, name="a public tensor"), frac_bits)
        share.declare(far=FAR if beyond is not None else 0.0)
    share.facts.public = value
    return SecretTensor(share, value.dtype)


def is_precise(x: Any) -> bool:
    """Whether an operand keeps more fractional bits than others: an optimizer's running squares, see `Storage`."""
    return isinstance(x, SecretTensor) and x.share.scale.precise


def keep_precise(x: Tensor, source: Any) -> None:
    """Before an overwrite: keep what is precise as precise."""
    if isinstance(x, SecretTensor) and is_precise(source):
        x.share.declare(precise=True)


def write(x: SecretTensor, source: SecretTensor, **scale: bool) -> None:
    """x[...] = source, with broadcasting; a public source is remembered as such. For `scale` see `Number.write`."""
    if source.dtype != x.dtype:
        source = HANDLERS[aten._to_copy.default](aten._to_copy.default, source, dtype=x.dtype)
    mine = x.share
    if isinstance(mine, Bits):
        other: Bits | Number = bits(source)
    else:
        other = arithmetic(source)
    known = plain(source)
    if known is not None and isinstance(mine, Number) and other.scale.frac_bits < mine.frac_bits:
        assert isinstance(other, Number)
        if x.dtype.is_floating_point and not other.scale.far:
            other = mine.protocol.public(encode(known, mine.frac_bits, name="what is written"), mine.frac_bits)
            if not mine.whole and not known.any():  # zeros beside small numbers leave these as fine as they are
                other.declare(headroom=SLACK_BITS)
    if other.shape != mine.shape:
        shape = mine.shape
        other = other.move(lambda t: t.expand(shape), view=False)
    if isinstance(mine, Bits):
        assert isinstance(other, Bits)
        mine.write(other)
    else:
        assert isinstance(mine, Number)
        assert isinstance(other, Number)
        mine.write(other, **scale)
    if known is not None:
        mine.facts.public = known.expand(mine.shape).to(x.dtype)
