"""The largest or smallest element along a dimension, by a tournament."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tacit.protocols.share import Arithmetic

__all__ = ["Extremum", "extremum"]


class Extremum(NamedTuple):
    """The winning values and, where asked for, their indices, both without the reduced dimension."""

    values: Arithmetic
    indices: Arithmetic | None


def extremum(x: Arithmetic, dim: int, *, largest: bool, indices: bool) -> Extremum:
    """Return max (or min) of x along `dim`, and the first index where it is.

    Each level pairs the elements, compares, and selects value and index with the same bit: d = right - left, and
    left + [d > 0] d wins. Exact, once x is truncated to the session's fractional bits.
    Shape: [.., n, ..] -> [.., ..].   Domain: differences below 2^62 in the ring.
    Cost: 4 rounds for each of ceil(log2 n) levels, 1 before if x is an untruncated product; 12.4 bytes for each pair
    and party, 8 more with indices.
    Reveals: nothing.
    """
    size = x.shape[dim]
    if size == 0:
        raise IndexError("max() and min() need at least one element along the dimension")
    x = x.settle()
    values = x.move(lambda t: t.movedim(dim, 0), view=False)
    places: Arithmetic | None = None
    if indices:
        column = torch.arange(size).view(-1, *[1] * (len(values.shape) - 1)).expand(values.shape)
        places = x.protocol.public(column.contiguous(), 0)
    while size > 1:
        half = size // 2
        left, right, rest = _split(values, half)
        difference = right - left
        wins = x.protocol.less(difference, [1])[0].invert() if largest else x.protocol.less(difference, [0])[0]
        pairs = [(wins, difference)]
        if places is not None:
            first, second, other = _split(places, half)
            pairs.append((wins, second - first))
        steps = x.protocol.select(pairs)
        values = (left + steps[0]).joined(rest)
        if places is not None:
            places = (first + steps[1]).joined(other)
        size -= half
    return Extremum(_first(values), None if places is None else _first(places))


def _split(x: Arithmetic, half: int) -> tuple[Arithmetic, Arithmetic, Arithmetic]:
    """Neighbours (0, 1), (2, 3) …, and the odd one that is left over: an earlier index stays on the left."""

    def take(start: int, stop: int, step: int) -> Arithmetic:
        return x.move(lambda t: t[start:stop:step].contiguous(), view=False)

    return take(0, 2 * half, 2), take(1, 2 * half, 2), take(2 * half, 2 * half + 1, 1)


def _first(x: Arithmetic) -> Arithmetic:
    def op(t: Tensor) -> Tensor:
        return t[0].clone()

    return x.move(op, view=False)
