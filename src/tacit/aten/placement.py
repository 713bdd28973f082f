"""Operators that put elements of one tensor into another, at public positions or, one a row, at secret ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish, multiply
from tacit.aten.comparison import where
from tacit.aten.registry import arithmetic, bits, implements, plain, protocol_of, public_secret, secret
from tacit.aten.structural import on_device, positions
from tacit.errors import DataError
from tacit.functions.step import one_hot
from tacit.protocols.share import Share
from tacit.tensor import SecretTensor, unsupported

aten = torch.ops.aten
Operand = Any


def assemble(operands: Sequence[Tensor], op: Callable[..., Tensor]) -> SecretTensor:
    """op(*operands) for an operator that only places elements, or adds them up, on shares of one kind and scale.

    Public operands among them are shared trivially.
    """
    protocol = protocol_of(*operands)
    dtype = operands[0].dtype
    for t in operands[1:]:
        dtype = torch.promote_types(dtype, t.dtype)
    parts = [t if isinstance(t, SecretTensor) else public_secret(protocol, t) for t in operands]
    public = [plain(p) for p in parts]
    if all(p is not None for p in public):
        return public_secret(protocol, op(*public).to(dtype))
    shares: list[Share]
    frac_bits = 0
    if dtype == torch.bool:
        shares = [bits(p) for p in parts]
    else:
        numbers = [arithmetic(p) for p in parts]
        if max(n.frac_bits for n in numbers) > 2 * protocol.frac_bits:
            numbers = protocol.settle_all(numbers)
        frac_bits = max(n.frac_bits for n in numbers)
        shares = [n.lifted(frac_bits) for n in numbers]
    out = shares[0]._like([op(*column) for column in zip(*[s.tensors for s in shares], strict=True)])
    out.storage.frac_bits = frac_bits
    out.storage.lasting = all(s.storage.lasting for s in shares)
    return secret(out, dtype)


@implements(aten.cat.default, aten.stack.default)
def join(func: Any, tensors: Sequence[Tensor], dim: int = 0) -> SecretTensor:
    """Join along a dimension. Local."""
    _check_sizes(func, tensors, dim)
    return assemble(tensors, lambda *column: func(list(column), dim))


def _check_sizes(func: Any, tensors: Sequence[Tensor], dim: int) -> None:
    """Say which part differs, and ask what is usually wrong: two owners that do not hold the same rows."""
    first = tensors[0]
    for place, t in enumerate(tensors[1:], start=2):
        if t.dim() != first.dim():
            continue
        skip = dim % max(first.dim(), 1) if func is aten.cat.default else None
        if any(a != b for d, (a, b) in enumerate(zip(first.shape, t.shape, strict=True)) if d != skip):
            raise DataError(
                f"torch.{'cat' if skip is not None else 'stack'} along dimension {dim}: tensor 1 has shape "
                f"{tuple(first.shape)} and tensor {place} has {tuple(t.shape)}; all other dimensions must be equal"
                + (" (do both owners hold the same rows?)" if skip == 1 and first.dim() == 2 else "")
            )


@implements(aten.index_put.default)
def index_put(
    func: Any, x: Operand, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> SecretTensor:
    """A copy of x with x[indices] = values, or += values. Local; by a secret mask and for one value, a selection."""
    if any(isinstance(i, SecretTensor) for i in indices):
        mask = indices[0]
        if len(indices) != 1 or mask is None or mask.dtype != torch.bool or values.numel() != 1 or accumulate:
            raise unsupported("writing to secret positions", "x[mask] = number does, and torch.where")
        return where(aten.where.self, mask.reshape(*mask.shape, *[1] * (x.dim() - mask.dim())), values, x)
    places = positions(indices)
    return assemble([x, values], lambda t, v: func(t, on_device(places, t), v, accumulate))


@implements(aten.index_add.default)
def index_add(func: Any, x: Operand, dim: int, index: Tensor, source: Operand, *, alpha: float = 1) -> SecretTensor:
    """A copy of x with alpha source added to its slices. Local."""
    scaled = source if alpha == 1 else finish(multiply(source, alpha), source.dtype, x, source)
    return assemble([x, scaled], lambda t, v: func(t, dim, index.to(t.device), v))


@implements(aten.scatter.src, aten.scatter.value, aten.scatter_add.default)
def scatter(func: Any, x: Operand, dim: int, index: Tensor, source: Operand) -> SecretTensor:
    """A copy of x with source written to (added at) indices along a dimension: how max(dim) is differentiated."""
    if func is aten.scatter.value:
        func, source = aten.scatter.src, torch.full(tuple(index.shape), source, dtype=x.dtype)
    if not isinstance(index, SecretTensor):
        return assemble([x, source], lambda t, v: func(t, dim, index.to(t.device), v))
    hot = _one_hot(func, index, x.shape, dim)
    if func is aten.scatter.src:
        return where(aten.where.self, hot, source, x)
    return finish(combine(x, finish(multiply(hot, source), x.dtype, hot)), x.dtype, hot)


@implements(aten.gather.default)
def gather(func: Any, x: Operand, dim: int, index: Tensor, *, sparse_grad: bool = False) -> SecretTensor:
    """The elements of x at indices along a dimension."""
    if not isinstance(index, SecretTensor):
        return secret(x.share.move(lambda t: func(t, dim, index.to(t.device)), view=False), x.dtype)
    chosen = finish(multiply(_one_hot(func, index, x.shape, dim), x), x.dtype, index)
    return secret(arithmetic(chosen).linear(lambda t: t.sum(dim, keepdim=True)), x.dtype)


def _one_hot(func: Any, index: SecretTensor, shape: torch.Size, dim: int) -> SecretTensor:
    """Where a row's secret index points. 3 rounds, 4.25 bytes for each place, from one opening of the index."""
    dim %= max(len(shape), 1)
    rows = torch.Size((*shape[:dim], 1, *shape[dim + 1 :]))
    if index.shape != rows:
        raise unsupported(
            f"{func} with secret indices of shape {tuple(index.shape)}", f"give one index a row, of shape {tuple(rows)}"
        )
    return SecretTensor(one_hot(arithmetic(index), shape[dim], dim), torch.bool)
