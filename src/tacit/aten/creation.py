"""New tensors beside a secret, and writing into one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.tensor import SecretTensor
from tacit.tensor.dispatch import fingerprint
from tacit.tensor.operands import keep_precise, protocol_of, public_secret, write
from tacit.tensor.refusals import no_place_for_a_secret
from tacit.tensor.registry import implements

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
