"""Indices of several dimensions, some public and some secret: `x[torch.arange(n), secret]` and its kin.

Public indices move elements first, which is local. Each secret one then chooses along its own dimension, beside every
place that the others have chosen: a product with a one-hot row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.aten.arithmetic import finish
from tacit.aten.embedding import hot_rows
from tacit.aten.matrix import product
from tacit.tensor import SecretTensor
from tacit.tensor.operands import as_secret
from tacit.tensor.refusals import unsupported

__all__ = ["add_chosen", "chosen", "on_device", "positions", "write_chosen"]


def positions(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Masks as positions, so that the result's shape is known where there are no values."""
    out: list[Tensor | None] = []
    for i in indices:
        if i is not None and not isinstance(i, SecretTensor) and i.dtype in (torch.bool, torch.uint8):
            out.extend(i.nonzero().unbind(1))
        else:
            out.append(i)
    return out


def on_device(indices: Sequence[Tensor | None], beside: Tensor) -> list[Tensor | None]:
    """Indices where a share is: in memory, or without values at the producer."""
    return [None if i is None else i.to(beside.device) for i in indices]


class Places(NamedTuple):
    """Indices of one shape, as they choose in a tensor whose dimensions lie in this order: public, secret, the rest."""

    order: list[int]
    public: list[Tensor]
    secret: list[SecretTensor]
    shape: torch.Size
    """Of the indices together."""
    front: int
    """Where in the result their dimensions begin."""

    def back(self) -> list[int]:
        """The order that undoes `order`."""
        return sorted(range(len(self.order)), key=lambda d: self.order[d])


def _places(x: Tensor, indices: Sequence[Tensor | None]) -> Places:
    given = [(dim, i) for dim, i in enumerate(positions(indices)) if i is not None]
    if x.dtype == torch.bool or any(i.dtype == torch.bool for _, i in given):
        raise unsupported(
            "indexing by a secret mask, or of bits",
            "index numbers by tensors of integers, use torch.gather, or torch.where with a mask",
        )
    shape = torch.broadcast_shapes(*(i.shape for _, i in given))
    dims = [dim for dim, _ in given]
    secret = [dim for dim, i in given if isinstance(i, SecretTensor)]
    public = [dim for dim in dims if dim not in secret]
    found = {dim: i.expand(shape) for dim, i in given}
    rest = [dim for dim in range(x.dim()) if dim not in found]
    adjacent = all(b == a + 1 for a, b in pairwise(dims))
    return Places(
        [*public, *secret, *rest],
        [found[dim].reshape(-1) for dim in public],
        [as_secret(found[dim].reshape(-1)) for dim in secret],
        shape,
        dims[0] if adjacent else 0,
    )


def _rows(x: Tensor, places: Places) -> Tensor:
    """What the public indices choose: [T, secret dimensions, the rest]."""
    ordered = x.permute(places.order)
    if places.public:
        return ordered[tuple(places.public)]
    return ordered.expand(places.shape.numel(), *ordered.shape)


def _hot(index: SecretTensor, count: int) -> SecretTensor:
    """[T, count]: 1 where an index points."""
    return SecretTensor(hot_rows(index, count, wrap=True), torch.int64)


def chosen(x: Tensor, indices: Sequence[Tensor | None]) -> SecretTensor:
    """x[indices]. Exact.   Cost: for each secret index a one-hot row, and a product with all that it chooses from."""
    places = _places(x, indices)
    rows = _rows(x, places)
    for index in places.secret:
        hot = _hot(index, rows.shape[1]).unsqueeze(1)
        rest = rows.shape[2:]
        rows = finish(product(hot, rows.flatten(2) if rest else rows.unsqueeze(2)), x.dtype, index)
        rows = rows.reshape(-1, *rest)
    out = rows.reshape(*places.shape, *rows.shape[1:])
    return as_secret(_moved(out, places.front, len(places.shape)).contiguous())


def _moved(x: Tensor, front: int, count: int) -> Tensor:
    return x.movedim(list(range(count)), [front + d for d in range(count)]) if front and count else x


def _values(x: Tensor, places: Places, values: Tensor) -> Tensor:
    """What is written, [T, the rest]."""
    rest = [x.shape[dim] for dim in places.order[len(places.public) + len(places.secret) :]]
    count = len(places.shape)
    shape = [*rest[: places.front], *places.shape, *rest[places.front :]]
    spread = values.expand(shape)
    if places.front and count:
        spread = spread.movedim([places.front + d for d in range(count)], list(range(count)))
    return spread.reshape(-1, *rest)


def _spread(values: Tensor, hot: Sequence[SecretTensor]) -> Tensor:
    """The outer product of what is written with the one-hot rows: [T, secret dimensions, the rest]."""
    for row in reversed(hot):
        column = row.reshape(*row.shape, *[1] * (values.dim() - 1))
        values = column * values.unsqueeze(1)
    return values


def add_chosen(x: Tensor, indices: Sequence[Tensor | None], values: Tensor) -> SecretTensor:
    """A copy of x with values added at x[indices]: the transpose of `chosen`."""
    places = _places(x, indices)
    ordered = x.permute(places.order)
    hot = [_hot(i, n) for i, n in zip(places.secret, ordered.shape[len(places.public) :], strict=False)]
    added = _spread(_values(x, places, values), hot)
    if places.public:
        out = torch.index_put(ordered, tuple(places.public), added, accumulate=True)
    else:
        out = ordered + added.sum(0).to(x.dtype)
    return as_secret(out.permute(places.back()).contiguous())


def write_chosen(x: Tensor, indices: Sequence[Tensor | None], values: Tensor) -> SecretTensor:
    """A copy of x with x[indices] = values, where the public indices alone say that no place is written twice."""
    places = _places(x, indices)
    count = places.shape.numel()
    where = {tuple(i) for i in zip(*(p.tolist() for p in places.public), strict=True)} if places.public else {()}
    if len(where) < count:
        raise unsupported(
            "writing to secret positions that may meet",
            "let a public index beside the secret one tell rows apart: x[torch.arange(n), secret] = values",
        )
    rows = _rows(x, places)
    hot = [_hot(i, n) for i, n in zip(places.secret, rows.shape[1:], strict=False)]
    mask = _spread(torch.ones([count] + [1] * (rows.dim() - 1 - len(hot)), dtype=torch.int64), hot) != 0
    spread = _values(x, places, values).reshape(count, *[1] * len(hot), *rows.shape[1 + len(hot) :])
    written: Any = torch.where(mask, spread, rows)
    ordered = x.permute(places.order)
    out = torch.index_put(ordered, tuple(places.public), written) if places.public else written[0]
    return as_secret(out.permute(places.back()).contiguous())
