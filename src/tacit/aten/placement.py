"""Operators that put elements of one tensor into another, at public positions or, one a row, at secret ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish, multiply
from tacit.aten.embedding import add_slices
from tacit.aten.indexing import add_chosen, on_device, positions, write_chosen
from tacit.aten.sorting import DISTINCT
from tacit.aten.where import where
from tacit.errors import DataError
from tacit.functions.labels import hot_bits
from tacit.protocols.scale import coarsest
from tacit.protocols.values import Value
from tacit.ring.shapes import broadcast
from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import above_autograd
from tacit.tensor.operands import arithmetic, as_secret, bits, plain, protocol_of, public_secret, secret
from tacit.tensor.refusals import public_name, unsupported, unsupported_operator
from tacit.tensor.registry import implements

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
    shares: list[Value]
    frac_bits, rounded = 0, None
    if dtype == torch.bool:
        shares = [bits(p) for p in parts]
    else:
        numbers = [arithmetic(p) for p in parts]
        if max(n.frac_bits for n in numbers) > 2 * protocol.frac_bits:
            numbers = protocol.settle_all(numbers)
        frac_bits, rounded = max(n.frac_bits for n in numbers), coarsest(*(n.scale for n in numbers))
        shares = [n.lifted(frac_bits) for n in numbers]
    out = shares[0].combined(lambda *column: op(*column), *shares[1:])
    out.storage.lasting = all(s.storage.lasting for s in shares)
    out.declare(frac_bits=frac_bits, headroom=min(s.scale.headroom for s in shares), rounded=rounded)
    return secret(out, dtype)


def added(operands: Sequence[Tensor], op: Callable[..., Tensor]) -> SecretTensor:
    """`assemble` for an operator that adds elements up; of truth values, whether any of them is true: a comparison."""
    if any(t.dtype != torch.bool for t in operands):
        return assemble(operands, op)
    return as_secret(assemble([t.long() for t in operands], op) != 0)


@implements(aten.cat.default, aten.stack.default)
def join(func: Any, tensors: Sequence[Tensor], dim: int = 0) -> SecretTensor:
    """Join along a dimension. Local."""
    known = _from_one(func, tensors, dim)
    return assemble(tensors, lambda *column: func(list(column), dim)) if known is None else known


def _from_one(func: Any, tensors: Sequence[Tensor], dim: int) -> SecretTensor | None:
    """Parts of one secret, joined as one move of it: of rows that a `DataLoader` stacks none is opened twice."""
    lineages = [t.share.facts.lineage for t in tensors if isinstance(t, SecretTensor) and t.dtype == tensors[0].dtype]
    moves = [lineage.move for lineage in lineages if lineage is not None and lineage.move is not None]
    first = lineages[0] if lineages else None
    if first is None or len(moves) < len(tensors) or first.parent.facts is not first.facts:
        return None
    if any(lineage is None or lineage.facts is not first.facts for lineage in lineages):
        return None
    joined = first.parent.move(lambda t: func([move(t) for move in moves], dim), view=False)
    return secret(joined, tensors[0].dtype)


@implements(aten.index_put.default)
def index_put(
    func: Any, x: Operand, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> SecretTensor:
    """A copy of x with x[indices] = values, or += values. Local; by a secret mask and for one value, a selection.

    Values can be added at secret positions, too: a product with one-hot rows.
    """
    if any(isinstance(i, SecretTensor) for i in indices):
        mask = indices[0]
        if accumulate:
            single = sum(i is not None for i in indices) == 1
            return as_secret(add_slices(x, indices, values)) if single else add_chosen(x, indices, values)
        if mask is None or mask.dtype != torch.bool:
            return write_chosen(x, indices, values)
        if len(indices) != 1 or values.numel() != 1:
            raise unsupported("writing to secret positions", "x[mask] = number does, and torch.where")
        return where(aten.where.self, mask.reshape(*mask.shape, *[1] * (x.dim() - mask.dim())), values, x)
    places = positions(indices)
    put = added if accumulate else assemble
    return put([x, values], lambda t, v: func(t, on_device(places, t), v, accumulate))


@implements(aten.index_add.default)
def index_add(func: Any, x: Operand, dim: int, index: Tensor, source: Operand, *, alpha: float = 1) -> SecretTensor:
    """A copy of x with alpha source added to its slices. Local; at secret positions a product with one-hot rows."""
    scaled = source if alpha == 1 else finish(multiply(source, alpha), source.dtype, x, source)
    if isinstance(index, SecretTensor):
        if not x.dim():
            return as_secret(x.reshape(1).index_add(0, index.reshape(1), scaled.reshape(1)).reshape(()))
        return as_secret(add_slices(x, [None] * (dim % x.dim()) + [index], scaled, wrap=False))
    return added([x, scaled], lambda t, v: func(t, dim, index.to(t.device), v))


@implements(aten.scatter.src, aten.scatter.value, aten.scatter_add.default)
def scatter(func: Any, x: Operand, dim: int, index: Tensor, source: Operand) -> Tensor:
    """A copy of x with source written to (added at) indices along a dimension: how max(dim) is differentiated.

    Where indices of one row meet the last one is written, as PyTorch does on a CPU, or all are added.
    Cost, of k secret indices a row that are none of a sort: k^2 / 2 comparisons a row, if something secret is written.
    Domain: 0 <= index < length; of secret ones that nobody owns, others are no error: see `functions.labels.hot`.
    """
    same = func is aten.scatter.value
    if same:
        func, source = aten.scatter.src, torch.full(tuple(index.shape), source, dtype=x.dtype)
    if not isinstance(index, SecretTensor):
        put = added if func is aten.scatter_add.default else assemble
        return put([x, source], lambda t, v: func(t, dim, index.to(t.device), v))
    if not x.dim():
        return scatter(func, x.reshape(1), 0, index.reshape(1), source.reshape(1)).reshape(())
    dim %= x.dim()
    hot = _one_hot(func, index, x.shape, dim)
    part = source[tuple(slice(n) for n in index.shape)]
    if same and index.numel():
        return where(aten.where.self, hot.any(dim + 1), part.select(dim, 0).unsqueeze(dim), x)
    if func is aten.scatter.src and index.shape[dim] > 1 and DISTINCT.of(index.share, dim) is None:
        part = part * _last(index, dim)
    part = part.unsqueeze(dim)
    placed = _chosen(hot, part, dim + 1)
    if func is aten.scatter.src:
        return where(aten.where.self, hot.any(dim + 1), placed, x)
    return finish(combine(x, placed), x.dtype, hot)


def _last(index: SecretTensor, dim: int) -> Tensor:
    """Whether no later index along a dimension is the same."""
    first, second = torch.triu_indices(index.shape[dim], index.shape[dim], 1)
    same = index.index_select(dim, first) == index.index_select(dim, second)
    later = torch.zeros(tuple(index.shape), dtype=torch.int64).index_add(dim, first, same.long())
    return later == 0


@implements(aten.gather.default)
def gather(func: Any, x: Operand, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """The elements of x at indices along a dimension.

    Domain: 0 <= index < length; of secret ones that nobody owns, others choose nothing, or another element.
    """
    if not isinstance(index, SecretTensor):
        return secret(x.share.move(lambda t: func(t, dim, index.to(t.device)), view=False), x.dtype)
    if not x.dim():
        return secret(x.share.fork(), x.dtype)
    dim %= x.dim()
    beside = x[tuple(slice(None if d == dim else n) for d, n in enumerate(index.shape))].unsqueeze(dim + 1)
    return _chosen(_one_hot(func, index, x.shape, dim), beside, dim)


def _chosen(hot: SecretTensor, x: Tensor, dim: int) -> Tensor:
    """Σ hot x over a dimension in which one is chosen at most, with the dtype of x."""
    if x.dtype == torch.bool:
        return (hot & x).any(dim)
    return finish(multiply(hot, x), x.dtype, hot).sum(dim, dtype=x.dtype)


def _one_hot(func: Any, index: SecretTensor, shape: torch.Size, dim: int) -> SecretTensor:
    """[index = n] as [.., n, k, ..], for an index of shape [.., k, ..]. 3 rounds, 4.25 bytes for each n and k."""
    others = [n for d, n in enumerate(shape) if d != dim]
    if func is not aten.gather.default and [n for d, n in enumerate(index.shape) if d != dim] != others:
        raise unsupported(
            f"{public_name(func)} with secret indices of shape {tuple(index.shape)}",
            f"give indices for all rows of {tuple(shape)} along the other dimensions",
        )
    if index.dim() != len(shape) or not shape:
        raise unsupported(
            f"{public_name(func)} with secret indices of {index.dim()} dimensions", f"give {len(shape)}, at least one"
        )
    column = arithmetic(index).move(lambda t: t.unsqueeze(dim), view=False)
    return SecretTensor(hot_bits(column, shape[dim], dim, "a tensor of positions"), torch.bool)


# --- by public masks --------------------------------------------------------------------------------------------------


@implements(aten.masked_select.default)
def masked_select(func: Any, x: Operand, mask: Tensor) -> Tensor:
    """The elements at a public mask, one after the other. Local."""
    places = _true_places(func, mask, broadcast(x.shape, mask.shape))
    chosen: Tensor = x.expand(broadcast(x.shape, mask.shape))[places]
    return chosen


@implements(aten.masked_scatter.default)
def masked_scatter(func: Any, x: Operand, mask: Tensor, source: Operand) -> Tensor:
    """A copy of x with the first elements of source, in their order, at a public mask. Local."""
    shape = broadcast(x.shape, mask.shape)
    places = _true_places(func, mask, shape)
    count = len(places[0]) if places else int(mask)
    if source.numel() < count:
        raise DataError(f"torch.masked_scatter writes {count} elements, and the source has {source.numel()}")
    if source.dtype != x.dtype:
        raise DataError(f"torch.masked_scatter of {x.dtype} and a source of {source.dtype}: make them alike")
    if not shape:
        return as_secret(source.reshape(-1)[0].clone() if count else x.clone(), x, source)
    return as_secret(x, source).expand(shape).index_put(places, source.reshape(-1)[:count])


@implements(aten.masked_scatter_backward.default)
def masked_scatter_backward(func: Any, grad: Tensor, mask: Tensor, sizes: Sequence[int]) -> Tensor:
    """What was written goes back to the first elements of the source; nothing was read of the others. Local."""
    places = _true_places(func, mask, grad.shape)
    came = grad[places].reshape(-1)
    size = torch.Size(sizes).numel()
    padded: Tensor = torch.nn.functional.pad(came, (0, size - came.numel()))
    return padded.view(list(sizes))


def _true_places(func: Any, mask: Tensor, shape: torch.Size) -> tuple[Tensor, ...]:
    known = plain(mask)
    if known is None:
        raise unsupported_operator(func, [])
    return tuple(known.expand(shape).nonzero().unbind(1))


@implements(aten.diagonal_scatter.default, aten.as_strided_scatter.default)
def view_scatter(func: Any, x: Operand, source: Operand, *args: Any, **kwargs: Any) -> Tensor:
    """A copy of x with source written through a view of it. Local."""
    out = as_secret(x, source).clone()
    (out.diagonal if func is aten.diagonal_scatter.default else out.as_strided)(*args, **kwargs).copy_(source)
    return out


# --- what PyTorch would take apart into something else ----------------------------------------------------------------


@above_autograd(aten.take_along_dim.default)
def take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None) -> Tensor | None:
    """`gather` with broadcasting; secret indices are wrapped by a comparison, where PyTorch divides."""
    if not isinstance(indices, SecretTensor):
        return None
    if dim is None:
        x, indices, dim = x.reshape(-1), indices.reshape(-1), 0
    if x.dim() != indices.dim():
        return None
    dim %= max(x.dim(), 1)
    beside = torch.broadcast_shapes(*(t.select(dim, 0).shape if t.dim() else t.shape for t in (x, indices)))
    x, indices = (t.expand(*beside[:dim], t.shape[dim], *beside[dim:]) for t in (x, indices))
    return torch.gather(x, dim, indices + (indices < 0) * x.shape[dim])


@above_autograd(aten.vander.default)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor | None:  # noqa: N803
    """The powers of each element, the highest first; PyTorch writes them into plain memory."""
    if x.dim() != 1:
        return None
    count = x.shape[0] if N is None else N
    powers = [torch.ones_like(x)]
    for _ in range(1, count):
        powers.append(powers[-1] * x)
    ordered = powers[:count] if increasing else powers[:count][::-1]
    return torch.stack(ordered, 1) if ordered else x.new_zeros((x.shape[0], 0))


@above_autograd(aten.tensor_split.tensor_indices_or_sections)
def tensor_split(x: Tensor, places: Tensor, dim: int = 0) -> Tensor | None:
    """Parts of lengths that are public."""
    if isinstance(places, SecretTensor):
        raise unsupported("torch.tensor_split at secret places", "lengths are public; give plain numbers")
    return None


@implements(aten.put.default)
def put(func: Any, x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of x with elements at places, counted through all of x, replaced or added to. Local."""
    flat = x.reshape(-1)
    return flat.index_put((index.reshape(-1),), source.reshape(-1), accumulate).view(x.shape)
