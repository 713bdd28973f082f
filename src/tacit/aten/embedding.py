"""Rows of a table, by public or by secret indices: embeddings, bags of them, and their gradients.

A public index moves rows, which is local. A secret one becomes a one-hot row of integers, and reading the table a
matrix product, which is exact and hides which row was read. The one-hot rows are made and opened once for both passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import finish, multiply
from tacit.aten.matrix import product
from tacit.functions.labels import hot, wrapped
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, as_secret, public_secret, secret
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

__all__ = ["add_slices", "embedding", "slices"]

aten = torch.ops.aten
SUM, MEAN = 0, 1
IN_BAGS: Remembered[Number] = Remembered("one-hot rows summed over bags, by rows and bags")
HOT_ROWS: Remembered[Number] = Remembered(
    "one-hot rows, by their number and whether negative ones count from the end", anew=True
)


def hot_rows(index: SecretTensor, count: int, *, wrap: bool = False) -> Number:
    """[T, count] of integers: 1 where the index of a row points; with `wrap`, negative ones from the end.

    Cost: none for what one party owns and checks; else 1 round of 8 bytes, and 8 from the producer for each place, and
    twice as many with `wrap`.
    """
    share = arithmetic(index)

    def made() -> Number:
        column = share.move(lambda t: t.reshape(-1, 1), view=False)
        return (wrapped if wrap else hot)(column, count, 1, "a tensor of positions")

    return HOT_ROWS.once(share, made, (count, wrap))


def rows(table: Tensor, index: SecretTensor, *, wrap: bool = False) -> SecretTensor:
    """table[index] along the first dimension. Exact.

    Cost: what `hot_rows` costs, and 8 bytes for each index and row of a secret table, which is opened once.
    Domain: 0 <= index < rows, with `wrap` -rows <= index. Of what a party owns, it checks that; of what nobody owns, a
    session with `range_check`: without it, others choose a row of zeros, or another row.   Reveals: nothing.
    """
    picked = SecretTensor(hot_rows(index, table.shape[0], wrap=wrap), torch.int64)
    flat = product(picked, table.reshape(table.shape[0], -1))
    return as_secret(finish(flat, table.dtype, index).reshape(*index.shape, *table.shape[1:]))


def add_rows(grad: Tensor, index: SecretTensor, count: int, *, wrap: bool = False) -> SecretTensor:
    """The sum of grad[t] over all t that point to a row, for each of `count` rows: the transpose of `rows`."""
    picked = hot_rows(index, count, wrap=wrap).move(lambda t: t.t(), view=False)
    inner = grad.shape[index.dim() :]
    flat = product(SecretTensor(picked, torch.int64), grad.reshape(index.numel(), -1))
    return as_secret(finish(flat, grad.dtype, index).reshape(count, *inner))


@implements(aten.embedding.default)
def embedding(
    func: Any, weight: Tensor, indices: Tensor, padding_idx: int = -1, scale: bool = False, sparse: bool = False
) -> SecretTensor:
    """weight[indices]. Local for public indices; see `rows` for secret ones."""
    if isinstance(indices, SecretTensor):
        return rows(weight, indices)
    return secret(as_secret(weight).share.move(lambda t: t[indices.to(t.device)], view=False), weight.dtype)


@implements(aten.embedding_dense_backward.default)
def embedding_backward(
    func: Any, grad: Tensor, indices: Tensor, count: int, padding_idx: int, scale_grad_by_freq: bool
) -> SecretTensor:
    """Every row's gradient is the sum over the places it went to; none for the padding."""
    if isinstance(indices, SecretTensor):
        if scale_grad_by_freq:
            raise unsupported("scale_grad_by_freq with secret indices", "leave it out: how often each occurs is secret")
        return _without(add_rows(grad, indices, count), padding_idx)
    flat = indices.flatten()
    if scale_grad_by_freq:
        frequency = torch.bincount(flat, minlength=count)[indices]
        grad = finish(multiply(grad, 1 / frequency.unsqueeze(-1)), grad.dtype, grad)

    def op(t: Tensor) -> Tensor:
        summands = t.reshape(flat.numel(), t.shape[-1])
        return t.new_zeros((count, t.shape[-1])).index_add(0, flat.to(t.device), summands)

    return _without(secret(arithmetic(as_secret(grad)).linear(op), grad.dtype), padding_idx)


def _without(x: SecretTensor, row: int) -> SecretTensor:
    """x with one row zero, if there is a row to be left out."""
    if row < 0:
        return x
    keep = (torch.arange(x.shape[0]) != row).long()
    return secret(arithmetic(x).linear(lambda t: t * keep.to(t.device)[:, None]), x.dtype)


# --- bags -------------------------------------------------------------------------------------------------------------


@implements(aten._embedding_bag.default, aten._embedding_bag_forward_only.default)
def embedding_bag(
    func: Any,
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = SUM,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sum or mean of the rows of each bag. Secret indices are counted first: one product, for bags, not indices."""
    if isinstance(offsets, SecretTensor):
        raise unsupported("an EmbeddingBag with secret offsets", "lengths are public; pad the bags to one length")
    if mode not in (SUM, MEAN) or per_sample_weights is not None or padding_idx >= 0:
        raise unsupported("an EmbeddingBag that takes maxima, weights its rows or pads", "use mode sum or mean")
    offsets = offsets[:-1] if include_last_offset else offsets
    bags, sizes = _bags(offsets, indices.numel())
    if isinstance(indices, SecretTensor):
        counts = SecretTensor(_counts(indices, weight.shape[0], bags, len(sizes)), torch.int64)
        sums = finish(product(counts, weight), weight.dtype, indices)
    else:
        sums = _in_bags(embedding(aten.embedding.default, weight, indices), bags, len(sizes))
    if mode == MEAN:
        sums = finish(multiply(sums, _inverse(sizes)), weight.dtype, sums)
    beside = [public_secret(sums._protocol, t) for t in (bags, sizes, torch.zeros_like(sizes))]
    return sums, beside[0], beside[1], beside[2]


@implements(aten._embedding_bag_backward.default)
def embedding_bag_backward(
    func: Any, grad: Tensor, indices: Tensor, offsets: Tensor, bag: Any, size: Any, maxima: Any, count: int, *rest: Any
) -> SecretTensor:
    """Every row's gradient is the sum over the bags it was in."""
    _, mode = rest[:2]
    grad = as_secret(grad, indices, bag, size)
    offsets = offsets[: len(grad)]  # without the last one, where it was included
    bags, sizes = _bags(offsets, indices.numel())
    if mode == MEAN:
        grad = finish(multiply(grad, _inverse(sizes)), grad.dtype, grad)
    if isinstance(indices, SecretTensor):
        counts = _counts(indices, count, bags, len(sizes)).move(lambda t: t.t(), view=False)
        return finish(product(SecretTensor(counts, torch.int64), grad), grad.dtype, indices)
    return embedding_backward(aten.embedding_dense_backward.default, grad[bags], indices, count, -1, rest[0])


def _bags(offsets: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The bag that each of `count` indices is in, and the size of each bag."""
    sizes = torch.diff(offsets, append=torch.tensor([count], dtype=offsets.dtype))
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes), sizes


def _inverse(sizes: Tensor) -> Tensor:
    """1 / n for each bag, as a factor of its row; an empty bag has the sum 0 and the mean 0."""
    return 1 / sizes.clamp(min=1).unsqueeze(-1)


def _in_bags(x: SecretTensor, bags: Tensor, count: int) -> SecretTensor:
    def op(t: Tensor) -> Tensor:
        return t.new_zeros((count, *t.shape[1:])).index_add(0, bags.to(t.device), t)

    return secret(arithmetic(x).linear(op), x.dtype)


def _counts(indices: SecretTensor, rows: int, bags: Tensor, count: int) -> Number:
    """How often each row occurs in each bag, made once for both passes."""

    def made() -> Number:
        hot = SecretTensor(hot_rows(indices, rows), torch.int64)
        return arithmetic(_in_bags(hot, bags, count))

    return IN_BAGS.once(arithmetic(indices), made, (rows, tuple(bags.tolist()), count))


# --- by indices along any dimension -----------------------------------------------------------------------------------


@implements(aten.index_select.default)
def index_select(func: Any, x: Tensor, dim: int, index: Tensor) -> SecretTensor:
    """Slices of x along a dimension. Local for a public index; see `rows` for a secret one."""
    if isinstance(index, SecretTensor):
        if not x.dim():
            return as_secret(x.reshape(1).index_select(0, index.reshape(1)).reshape(()))
        return slices(x, [None] * (dim % x.dim()) + [index.reshape(-1)], wrap=False)
    return secret(as_secret(x).share.move(lambda t: func(t, dim, index.to(t.device)), view=False), x.dtype)


def slices(x: Tensor, indices: Sequence[Tensor | None], *, wrap: bool = True) -> SecretTensor:
    """x[.., index, ..], for one tensor of secret indices."""
    dim, index = secret_index(x, indices)
    chosen = rows(x.movedim(dim, 0), index, wrap=wrap)
    order = list(range(index.dim()))
    return as_secret(chosen.movedim(order, [dim + d for d in order]).contiguous())


def add_slices(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, *, wrap: bool = True) -> Tensor:
    """A copy of x with values added at x[.., index, ..], for one tensor of secret indices."""
    dim, index = secret_index(x, indices)
    order = list(range(index.dim()))
    values = values.expand(*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])
    added = add_rows(values.movedim([dim + d for d in order], order), index, x.shape[dim], wrap=wrap)
    return x + added.movedim(0, dim)


def secret_index(x: Tensor, indices: Sequence[Tensor | None]) -> tuple[int, SecretTensor]:
    """The one secret index of an indexing expression, and the dimension it is for."""
    given = [(dim, i) for dim, i in enumerate(indices) if i is not None]
    dim, index = given[0]
    if len(given) > 1 or not isinstance(index, SecretTensor) or index.dtype == torch.bool or x.dtype == torch.bool:
        raise unsupported(
            "indexing by several secrets, or by a secret mask, or of bits",
            "index numbers by one tensor of integers, use torch.gather, or torch.where with a mask",
        )
    return dim, index


@implements(aten.scatter_reduce.two)
def scatter_reduce(
    func: Any, x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Sums at indices along a dimension; see `placement.scatter`."""
    if reduce != "sum" or not include_self:
        raise unsupported(f"scatter_reduce by {reduce}, include_self={include_self}", "use scatter_add")
    return x.scatter_add(dim, index, source)
