"""New tensors beside a secret, and writing into one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.aten.registry import arithmetic, bits, implements, plain, protocol_of, public_secret
from tacit.errors import DataError
from tacit.protocols.number import Number
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import encode
from tacit.tensor import SecretTensor
from tacit.tensor.compositions import HANDLERS
from tacit.tensor.refusals import public_name
from tacit.tensor.tensor import fingerprint, no_place_for_a_secret

aten = torch.ops.aten


@implements(
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
    aten.empty_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
)
def constant(func: Any, x: SecretTensor, *args: Any, dtype: torch.dtype | None = None, **_: Any) -> SecretTensor:
    """A secret of public values: it may be written to, and until then it costs what public operands cost."""
    name = func.__name__.split(".")[0]
    shape = x.shape if name.endswith("_like") else args[0]
    fill: Any = {"ones": 1, "full": args[-1] if args else 0}.get(name.removeprefix("new_").removesuffix("_like"), 0)
    return public_secret(x._protocol, torch.full(tuple(shape), fill, dtype=dtype or x.dtype))


@implements(aten._has_same_storage_numel.default)
def same_storage(func: Any, x: Tensor, other: Tensor) -> bool:
    """Whether a tangent can take the layout of its primal, which that of a secret always can."""
    return True


@implements(aten._new_zeros_with_same_feature_meta.default)
def zero_tangent(func: Any, x: Tensor, other: Tensor, *, self_num_batch_dims: int = 0) -> SecretTensor:
    """A tangent of zeros for a primal, `other`; the batch dimensions of x come first."""
    shape = (*x.shape[:self_num_batch_dims], *other.shape)
    return public_secret(protocol_of(x, other), torch.zeros(shape, dtype=x.dtype))


@implements(aten.rand_like.default, aten.randn_like.default, aten.bernoulli.p, aten.randint_like.default)
def random(func: Any, x: SecretTensor, *args: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    """Public random numbers, the same at every role, from PyTorch's generator."""
    drawn: Tensor = func(torch.empty(x.shape, dtype=dtype or x.dtype), *args)
    return drawn


@implements(
    aten.bernoulli_.float,
    aten.uniform_.default,
    aten.normal_.default,
    aten.random_.default,
    getattr(aten.random_, "from"),
    aten.random_.to,
)
def random_(func: Any, x: SecretTensor, *args: Any, generator: torch.Generator | None = None) -> SecretTensor:
    """Overwrite with public random numbers, the same at every role: dropout masks, initial weights."""
    protocol = protocol_of(x)
    drawn = func(torch.empty(x.shape, dtype=x.dtype), *args, generator=generator)
    protocol.session.transcript.record("what was drawn", fingerprint(drawn))  # other machines may round differently
    write(x, public_secret(protocol, drawn))
    return x


@implements(aten.copy_.default)
def copy_(func: Any, x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """Overwrite a secret in place, by a secret or by public values."""
    if not isinstance(x, SecretTensor):
        raise no_place_for_a_secret("x.copy_(secret) would write a secret into a plain tensor")
    protocol = protocol_of(x)
    if not isinstance(source, SecretTensor):
        source = public_secret(protocol, source.to(x.dtype))
    keep_precise(x, source)
    write(x, source)
    return x


def is_precise(x: Any) -> bool:
    """Whether an operand keeps more fractional bits than others: an optimizer's running squares, see `Storage`."""
    return isinstance(x, SecretTensor) and x.share.storage.precise


def keep_precise(x: Tensor, source: Any) -> None:
    """Before an overwrite: keep what is precise as precise."""
    if isinstance(x, SecretTensor) and is_precise(source):
        x.share.storage.precise = True


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
    if known is not None and isinstance(mine, Number) and other.storage.frac_bits < mine.frac_bits:
        assert isinstance(other, Number)
        if x.dtype.is_floating_point and not other.storage.far:
            other = mine.protocol.public(encode(known, mine.frac_bits, name="what is written"), mine.frac_bits)
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


@implements(aten.set_.source_Tensor)
def set_(func: Any, x: Tensor, source: Tensor) -> Tensor:
    """Have x stand for another secret, whose memory it has from then on, or for a copy of a public value."""
    if not isinstance(x, SecretTensor):
        raise no_place_for_a_secret("x.set_(secret) would leave a plain tensor x without memory")
    if not isinstance(source, SecretTensor):
        source = public_secret(protocol_of(x), source)
    with torch._C._DisableTorchDispatch():  # as in `in_place_view`; PyTorch refuses another dtype
        func(x, source)
    x._share, x._kind = source._share, source._kind
    return x


@implements(aten.fill_.Scalar, aten.zero_.default)
def fill_(func: Any, x: SecretTensor, value: Any = 0) -> SecretTensor:
    """Overwrite with one public number."""
    write(x, public_secret(protocol_of(x), torch.full(tuple(x.shape), value, dtype=x.dtype)))
    return x


@implements(aten.fill_.Tensor)
def fill_tensor_(func: Any, x: SecretTensor, value: Tensor) -> SecretTensor:
    """Overwrite with one number, public or secret."""
    source = value if isinstance(value, SecretTensor) else public_secret(protocol_of(x), value.to(x.dtype))
    write(x, source)
    return x


def in_place(overload: Any, functional: Any) -> None:
    """Register `op_` as `op` followed by a write."""

    def handler(func: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not isinstance(x, SecretTensor):
            raise no_place_for_a_secret(f"{public_name(func)} would write a secret into a plain tensor")
        result = HANDLERS[functional](functional, x, *args, **kwargs)
        if result.shape != x.shape:
            shapes = f"{tuple(result.shape)} and does not fit into {tuple(x.shape)}"
            raise DataError(f"{public_name(func)}: the result has shape {shapes}")
        if not torch.can_cast(result.dtype, x.dtype):
            raise DataError(
                f"{public_name(func)}: the result has dtype {result.dtype} and cannot be written to {x.dtype}"
            )
        write(x, result)
        return x

    HANDLERS[overload] = handler


def in_place_view(overload: Any, functional: Any) -> None:
    """Register `view_` as `view` of the share, and the same change of shape of the tensor that wraps it."""

    def handler(func: Any, x: SecretTensor, *args: Any, **kwargs: Any) -> SecretTensor:
        x._share = HANDLERS[functional](functional, x, *args, **kwargs)._share
        with torch._C._DisableTorchDispatch():  # the wrapper has no values, only sizes and strides to change
            func(x, *args, **kwargs)
        x._kind = x.shape, x.stride(), x.dtype
        return x

    HANDLERS[overload] = handler


def register_in_place() -> None:
    """Give every functional operator with a handler its in-place twin, where PyTorch has one."""
    for overload in list(HANDLERS):
        name, _, kind = overload.__name__.partition(".")
        packet = getattr(aten, f"{name}_", None)
        twin = getattr(packet, kind, None) if packet is not None else None
        if twin is not None and twin not in HANDLERS and twin._schema.arguments[0].alias_info is not None:
            (in_place_view if torch.Tag.inplace_view in twin.tags else in_place)(twin, overload)
    in_place(aten.pow_.Scalar, aten.pow.Tensor_Scalar)
    in_place_view(aten.transpose_.default, aten.transpose.int)
