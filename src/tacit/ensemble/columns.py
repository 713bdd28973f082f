"""Owners bin their own columns, in the clear: where the edges are and which rows lie below each, as secrets.

Of an owner's columns follow two secrets that it knows, and nothing is sent: the edges, B - 1 for each of its columns
whatever they hold, and for each edge and row whether x <= edge, an integer 0 or 1. These cumulative indicators, not the
bins themselves, are what a split needs: "go left" is one of their rows, and their product with the gradients is the sum
of what goes left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.functions.labels import by_owner
from tacit.functions.linear import fractional
from tacit.protocols.number import Number
from tacit.protocols.remembered import owned
from tacit.protocols.values import Bits
from tacit.tensor import SecretTensor

__all__ = ["Columns", "binned", "coarse", "edges_of", "parts_of"]


class Columns(NamedTuple):
    """One owner's columns, binned."""

    edges: Number
    """The largest number of each bin but the last, column after column, with the session's fractional bits."""
    below: Number
    """[x <= edge], of shape [edges, rows], which the owner knows. The first owner's begins with a row of ones."""
    rows: Number
    """The same, of shape [rows, edges]."""
    columns: int


def parts_of(x: Tensor | Sequence[Tensor], what: str = "X") -> list[SecretTensor]:
    """The tensors of columns that fit and predict are given, checked to be secret, two-dimensional, of equal length."""
    parts = [x] if isinstance(x, Tensor) else list(x)
    if not parts:
        raise DataError(f"{what} holds no columns: give the owners' secret tensors, [xa, xb]")
    for k, part in enumerate(parts):
        name = what if isinstance(x, Tensor) else f"{what}[{k}]"
        if not isinstance(part, SecretTensor):
            raise DataError(f"{name} is no secret: share it, with tacit.share({name}, owner=…) or tacit.read_csv")
        if part.dim() != 2 or not part.shape[1]:
            raise DataError(f"{name} has shape {tuple(part.shape)}: it must have rows, and one column at least")
        if isinstance(part.share, Bits):
            raise DataError(f"{name} is of dtype bool: share it as numbers, with dtype=torch.int64")
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise DataError(f"the owners' columns in {what} have different numbers of rows: {', '.join(map(str, lengths))}")
    if not lengths[0]:
        raise DataError(f"{what} has no rows")
    return parts  # type: ignore[return-value]


def binned(parts: Sequence[SecretTensor], bins: int) -> list[Columns]:
    """Have every owner bin its columns.

    Raises:
        DataError: if no single party knows a part.
    """
    out = []
    for k, part in enumerate(parts):
        x = part.share
        assert isinstance(x, Number)
        if owned(x.facts) is None:
            raise DataError(
                "no single owner knows these columns, so nobody can bin them: give fit a list of each owner's own "
                "secrets, [xa, xb], as tacit.read_csv and tacit.share(…, owner=…) return them, not what is joined or "
                "computed of them"
            )
        out.append(_binned(x, bins, constant=k == 0))
    return out


def coarse(x: Number) -> Number:
    """x with the session's fractional bits. No round for what one party owns."""
    bits = x.frac_bits - x.protocol.frac_bits
    if bits <= 0:
        return fractional(x)
    owned = by_owner(x, lambda t: t >> bits, x.shape, x.protocol.frac_bits)
    return x.settle(x.protocol.frac_bits) if owned is None else owned


def _binned(x: Number, bins: int, *, constant: bool) -> Columns:
    x = coarse(x)
    rows, columns = x.shape
    count = columns * (bins - 1)

    def edges(t: Tensor) -> Tensor:
        return torch.stack([edges_of(column, bins) for column in t.unbind(1)])

    def below(t: Tensor) -> Tensor:
        hits = (t.t().unsqueeze(1) <= edges(t).unsqueeze(2)).view(count, rows)
        out = torch.ones(count + constant, rows, dtype=torch.int64)
        out[int(constant) :] = hits
        return out

    cuts = by_owner(x, lambda t: edges(t).view(-1), (count,), x.frac_bits)
    indicators = by_owner(x, below, (count + constant, rows))
    assert cuts is not None
    assert indicators is not None
    return Columns(cuts, indicators, indicators.move(lambda t: t.t(), view=True), columns)


def edges_of(x: Tensor, bins: int) -> Tensor:
    """B - 1 edges of a column of ring elements, so that about as many rows lie between any two.

    An edge lies halfway between two numbers of the column. Where there are no more of them than bins, each gets its
    own; what edges are too many repeat the largest number, below which everything is, and split nothing.
    """
    values, counts = x.unique(return_counts=True)
    if len(values) > bins:
        upto = counts.cumsum(0)
        wanted = torch.arange(1, bins) * (len(x) / bins)
        last = torch.searchsorted(upto, wanted.to(upto.dtype)).clamp(max=len(values) - 2).unique()
    else:
        last = torch.arange(len(values) - 1)
    low, high = values[last], values[last + 1]
    out: Tensor = values[-1:].repeat(bins - 1)
    out[: len(last)] = low + (high - low) // 2
    return out
