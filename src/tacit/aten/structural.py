"""Operators that move, repeat or drop elements and look at none: the same operator, applied to the shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.embedding import slices
from tacit.aten.indexing import chosen, on_device, positions
from tacit.functions.linear import fractional
from tacit.functions.whole import SMALL, toward_zero, wrap
from tacit.protocols.number import Number
from tacit.protocols.values import Bits
from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import above_autograd
from tacit.tensor.operands import plain, public_secret, secret
from tacit.tensor.refusals import public_name, unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten


@implements(
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
    return SecretTensor(x.share.move(lambda t: func(t, *args, **kwargs), view=True), x.dtype)


@implements(aten.view.default)
def reshape(func: Any, x: SecretTensor, size: Sequence[int]) -> SecretTensor:
    """A view in another shape, where the strides of the shares allow it; those of masks may differ."""
    func(x.share.content.like, size)
    return SecretTensor(x.share.move(lambda t: t.reshape(size), view=True), x.dtype)


@implements(aten.as_strided.default)
def as_strided(func: Any, x: SecretTensor, size: Any, stride: Any, offset: int | None = None) -> SecretTensor:
    """A view by strides. It says where in its own storage elements are, which masks need not share: nothing known is
    kept. PyTorch refuses what is beyond it."""
    start = x.storage_offset() if offset is None else offset

    def reads(extent: int) -> None:
        func(torch.empty(extent, dtype=x.dtype), size, stride, start)

    return SecretTensor(x.share.strided(lambda t, begin: func(t, size, stride, begin + start), reads), x.dtype)


@implements(
    aten._unsafe_view.default,
    aten.repeat.default,
    aten.flip.default,
    aten.roll.default,
)
def move(func: Any, x: SecretTensor, *args: Any, **kwargs: Any) -> SecretTensor:
    """A copy with elements moved, repeated or dropped, by public positions."""
    if any(isinstance(a, SecretTensor) for a in args):
        raise unsupported(f"{public_name(func)} with secret positions", "use torch.gather")

    def op(t: Tensor) -> Tensor:
        moved: Tensor = func(t, *[a.to(t.device) if isinstance(a, Tensor) else a for a in args], **kwargs)
        return moved

    return secret(x.share.move(op, view=False), x.dtype)


@implements(
    aten.tril.default,
    aten.triu.default,
    aten.constant_pad_nd.default,
    aten.diag_embed.default,
    aten.select_backward.default,
    aten.slice_backward.default,
    aten.diagonal_backward.default,
)
def embed(func: Any, x: SecretTensor, *args: Any, **kwargs: Any) -> SecretTensor:
    """A copy with elements moved and zeros put beside them. What is opened stays open; comparisons are made anew."""
    if func is aten.constant_pad_nd.default and len(args) > 1 and args[1] != 0:
        rim = func(torch.zeros(tuple(x.shape), dtype=x.dtype), *args)
        padded: SecretTensor = embed(func, x, args[0]) + rim
        return padded
    known = plain(x)
    if known is not None:
        return public_secret(x._protocol, func(known, *args, **kwargs))

    def op(t: Tensor) -> Tensor:
        moved: Tensor = func(t, *args, **kwargs)
        return moved

    out = x.share.combined(op)
    out.descend(x.share, lambda known: known.map(op))
    return secret(out, x.dtype)


@implements(aten.index.Tensor)
def index(func: Any, x: Tensor, indices: Sequence[Tensor | None]) -> SecretTensor:
    """x[public indices or masks], or x[.., one tensor of secret indices, ..], or both; see `indexing`.

    Domain: -length <= index < length; of secret ones that nobody owns, others choose nothing, or another element.
    """
    if any(isinstance(i, SecretTensor) for i in indices):
        return slices(x, indices) if sum(i is not None for i in indices) == 1 else chosen(x, indices)
    assert isinstance(x, SecretTensor)
    places = positions(indices)

    def op(t: Tensor) -> Tensor:
        moved: Tensor = func(t, on_device(places, t))
        return moved

    return secret(x.share.move(op, view=False), x.dtype)


@implements(aten.detach.default, aten.alias.default, aten._pin_memory.default)
def alias(func: Any, x: SecretTensor, device: Any = None) -> SecretTensor:
    """Another tensor around the same share."""
    share = x._share
    return SecretTensor(share, x.dtype, protocol=x._protocol, shape=x.shape)


@implements(aten.unbind.int, aten.split.Tensor, aten.split_with_sizes.default)
def divide(func: Any, x: SecretTensor, *args: Any, **kwargs: Any) -> list[SecretTensor]:
    """Several views of one secret. Those of a product are opened together, to truncate them."""
    share = x.share
    count = len(func(share.content.like, *args, **kwargs))
    product = isinstance(share, Number) and share.frac_bits > share.settled_bits and func is not aten.unbind.int

    def part(k: int) -> SecretTensor:
        return SecretTensor(share.move(lambda t: func(t, *args, **kwargs)[k], view=True, cut=product), x.dtype)

    return [part(k) for k in range(count)]


@implements(aten.clone.default)
def clone(func: Any, x: SecretTensor, **kwargs: Any) -> SecretTensor:
    """A copy that keeps what is known of the content."""
    return secret(x.share.move(lambda t: t.clone(memory_format=torch.contiguous_format), view=False), x.dtype)


@implements(aten._to_copy.default)
def to_copy(
    func: Any, x: SecretTensor, *, dtype: torch.dtype | None = None, device: Any = None, **_: Any
) -> SecretTensor:
    """Change the logical dtype. Numbers become bits by [x != 0], 3 rounds; floats lose their fraction to integers, 9.

    What smaller integers do not hold wraps, in 5 rounds.
    """
    dtype = dtype or x.dtype
    if dtype.is_complex:
        raise unsupported("a complex dtype", "keep the real and the imaginary part as two tensors")
    known = plain(x)
    if known is not None:
        return public_secret(x.share.protocol, known.to(dtype))
    share = x.share
    if dtype == torch.bool and isinstance(share, Number):
        below, upto = share.protocol.less(share, [0, 1])
        return secret((below ^ upto).invert())
    if isinstance(share, Bits) and dtype != torch.bool:
        return secret(
            fractional(share.arithmetic()).fork() if dtype.is_floating_point else share.arithmetic().fork(), dtype
        )
    if isinstance(share, Number):
        if dtype.is_floating_point:
            return secret(fractional(share).fork(), dtype)
        whole = toward_zero(share) if x.dtype.is_floating_point else share
        if dtype in SMALL and x.dtype != dtype:
            bits, signed = SMALL[dtype]
            inside = SMALL.get(x.dtype, (64, True))
            if x.dtype.is_floating_point or inside[0] > bits - (signed and not inside[1]) or inside[1] > signed:
                whole = wrap(whole, bits, signed=signed)
        return secret(whole.fork(), dtype)
    return secret(share.fork(), dtype)


@implements(aten.is_pinned.default, aten.sparse_dim.default, aten.dense_dim.default)
def layout(func: Any, x: SecretTensor, device: Any = None) -> int:
    """Secrets are dense, and in memory as it comes."""
    return x.dim() if func is aten.dense_dim.default else 0


def _sparse(indices: Tensor, values: Tensor, *args: Any, **options: Any) -> None:
    """Refuse."""
    raise unsupported("torch.sparse_coo_tensor", "the places of a sparse tensor would be public; keep it dense")


for _overload in (aten.sparse_coo_tensor.indices, aten.sparse_coo_tensor.indices_size):
    above_autograd(_overload)(_sparse)
