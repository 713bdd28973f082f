"""Operators that move, repeat or drop elements and look at none: the same operator, applied to the shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.registry import arithmetic, bits, implements, plain, protocol_of, public_secret, secret
from tacit.errors import DataError
from tacit.protocols.share import Arithmetic, Binary, Share
from tacit.tensor import SecretTensor

aten = torch.ops.aten


@implements(
    aten.view.default,
    aten.t.default,
    aten.transpose.int,
    aten.permute.default,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.expand.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.diagonal.default,
    aten.unfold.default,
)
def view(func: Any, x: SecretTensor, *args: Any, **kwargs: Any) -> SecretTensor:
    """A view of the shares; what is written to it is seen by the original."""
    return secret(x.share.move(lambda t: func(t, *args, **kwargs), view=True), x.dtype)


@implements(aten.as_strided.default)
def as_strided(func: Any, x: SecretTensor, size: Any, stride: Any, offset: int | None = None) -> SecretTensor:
    """A view by strides. Elements may appear twice, so it is a move like any other."""
    return secret(x.share.move(lambda t: func(t, size, stride, offset), view=True), x.dtype)


@implements(
    aten._unsafe_view.default,
    aten.repeat.default,
    aten.flip.default,
    aten.roll.default,
    aten.index_select.default,
    aten.tril.default,
    aten.triu.default,
    aten.constant_pad_nd.default,
)
def move(func: Any, x: SecretTensor, *args: Any, **kwargs: Any) -> SecretTensor:
    """A copy with elements moved, repeated, dropped or zeroed, by public positions."""
    if any(isinstance(a, SecretTensor) for a in args):
        raise NotImplementedError(f"{func} with secret positions")
    if func is aten.constant_pad_nd.default and len(args) > 1 and args[1] != 0:
        raise NotImplementedError("padding with anything but zero: pad with zero and add the public padding")

    def op(t: Tensor) -> Tensor:
        return func(t, *[a.to(t.device) if isinstance(a, Tensor) else a for a in args], **kwargs)

    return secret(x.share.move(op, view=False), x.dtype)


@implements(aten.index.Tensor)
def index(func: Any, x: SecretTensor, indices: Sequence[Tensor | None]) -> SecretTensor:
    """x[public indices or masks]."""
    if any(isinstance(i, SecretTensor) for i in indices):
        raise NotImplementedError("indexing by a secret: use torch.where with a mask, or torch.gather on one-hot rows")
    places = [_positions(i) for i in indices]

    def op(t: Tensor) -> Tensor:
        return func(t, [None if i is None else i.to(t.device) for i in places])

    return secret(x.share.move(op, view=False), x.dtype)


def _positions(i: Tensor | None) -> Tensor | None:
    """Masks as positions, so that the result's shape is known where there are no values."""
    if i is None or i.dtype not in (torch.bool, torch.uint8) or i.dim() != 1:
        return i
    return i.nonzero().flatten()


@implements(aten.detach.default, aten.alias.default, aten.lift_fresh.default, aten._conj.default)
def alias(func: Any, x: SecretTensor) -> SecretTensor:
    """Another tensor around the same share."""
    share = x._share
    return SecretTensor(share, x.dtype, protocol=x._protocol, shape=x.shape)


@implements(aten.unbind.int, aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)
def divide(func: Any, x: SecretTensor, *args: Any, **kwargs: Any) -> list[SecretTensor]:
    """Several views of one secret."""
    share = x.share
    count = len(func(share.tensors[0], *args, **kwargs))
    return [
        secret(share.move(lambda t, k=k: func(t, *args, **kwargs)[k], view=True), x.dtype) for k in range(count)
    ]


@implements(aten.cat.default, aten.stack.default)
def join(func: Any, tensors: Sequence[Tensor], dim: int = 0) -> SecretTensor:
    """Join along a dimension; public tensors among the parts are shared trivially."""
    protocol = protocol_of(*tensors)
    dtype = tensors[0].dtype
    for t in tensors[1:]:
        dtype = torch.promote_types(dtype, t.dtype)
    _check_sizes(func, tensors, dim)
    parts = [t if isinstance(t, SecretTensor) else public_secret(protocol, t) for t in tensors]
    public = [plain(p) for p in parts]
    if all(p is not None for p in public):
        return public_secret(protocol, func(public, dim))
    shares: list[Share]
    if dtype == torch.bool:
        shares = [bits(p) for p in parts]
        frac_bits = 0
    else:
        numbers = [arithmetic(p) for p in parts]
        frac_bits = max(n.frac_bits for n in numbers)
        if frac_bits > 2 * protocol.frac_bits:
            numbers = protocol.settle_all(numbers)
            frac_bits = max(n.frac_bits for n in numbers)
        shares = [n.lifted(frac_bits) for n in numbers]
    joined = [func(list(column), dim) for column in zip(*[s.tensors for s in shares], strict=True)]
    out = shares[0]._like(joined)
    out.storage.frac_bits = frac_bits
    out.storage.lasting = all(s.storage.lasting for s in shares)
    return secret(out, dtype)


def _check_sizes(func: Any, tensors: Sequence[Tensor], dim: int) -> None:
    """Say which part differs, where torch would name only its place: two owners rarely have the same rows by accident."""
    first = tensors[0]
    for place, t in enumerate(tensors[1:], start=2):
        if t.dim() != first.dim():
            continue
        skip = dim % max(first.dim(), 1) if func is aten.cat.default else None
        if any(a != b for d, (a, b) in enumerate(zip(first.shape, t.shape, strict=True)) if d != skip):
            raise DataError(
                f"torch.{'cat' if skip is not None else 'stack'} along dimension {dim}: tensor 1 has shape "
                f"{tuple(first.shape)} and tensor {place} has shape {tuple(t.shape)}; all other dimensions must be equal"
                + (" (do both owners hold the same rows?)" if skip == 1 and first.dim() == 2 else "")
            )


@implements(aten.clone.default, aten.contiguous.default)
def clone(func: Any, x: SecretTensor, **kwargs: Any) -> SecretTensor:
    """A copy that keeps what is known of the content."""
    return secret(x.share.move(lambda t: t.clone(memory_format=torch.contiguous_format), view=False), x.dtype)


@implements(aten._to_copy.default)
def to_copy(func: Any, x: SecretTensor, *, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> SecretTensor:
    """Change the logical dtype. Floats become integers by truncation towards minus infinity only where that is exact."""
    dtype = dtype or x.dtype
    known = plain(x)
    if known is not None:
        return public_secret(x.share.protocol, known.to(dtype))
    share = x.share
    if dtype == torch.bool and not isinstance(share, Binary):
        raise NotImplementedError("x.bool() on secret numbers: write x != 0")
    if isinstance(share, Binary) and dtype != torch.bool:
        share = share.arithmetic()
    if isinstance(share, Arithmetic):
        if not dtype.is_floating_point and x.dtype.is_floating_point:
            raise NotImplementedError("rounding secret floats to integers: compare with thresholds instead")
        if dtype.is_floating_point and share.frac_bits < share.protocol.frac_bits:
            return secret(share.lifted(share.protocol.frac_bits).fork(), dtype)
    return secret(share.fork(), dtype)
