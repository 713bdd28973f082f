"""Sorting along a dimension: by counting, in few rounds, where there are few elements, and by a network where many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.protocols.network import difference, exchanged, layers
from tacit.protocols.number import Number
from tacit.protocols.values import Bits

__all__ = ["Sorted", "count_below", "ranked", "sort"]


class Sorted(NamedTuple):
    """Values in order, and the places they had, along the dimension that was asked for."""

    values: Number
    indices: Number


def sort(x: Number, dim: int, *, descending: bool = False) -> Sorted:
    """Return x sorted along `dim`; equal elements keep their order.

    Exact, once x is truncated to the session's fractional bits.
    Shape: any.   Domain: differences below 2^62 / n in the ring.
    Cost: 8 rounds for up to 48 elements, and 1 before if x is an untruncated product; else 4 rounds for each of
    k (k + 1) / 2 layers, k = ceil(log2 n).   Reveals: nothing.   Ref: [Bat68], Alg. M of [Knu98].
    """
    count = x.shape[dim]
    if count <= 1:
        places = torch.zeros(x.shape, dtype=torch.int64)
        return Sorted(x.settle().fork(), x.protocol.public(places, 0))
    if count <= x.protocol.prices.few:
        return ranked(x, dim, range(count), descending=descending)
    return _by_network(x, dim, descending)


def ranked(x: Number, dim: int, ranks: range, *, descending: bool = False) -> Sorted:
    """Return those elements of the sorted x that have the given ranks: an element's rank counts those before it.

    Cost: 8 rounds; comparisons of all pairs of elements, and of each element's rank with each rank in the range.
    Reveals: nothing.
    """
    count = x.shape[dim]
    x = x.settle()
    values = x.move(lambda t: t.movedim(dim, 0), view=False)
    rank = _ranks(values, descending=descending)
    below = rank.protocol.less(rank, range(ranks.start, ranks.stop + 1))
    hot = Bits.stack([b ^ a for a, b in pairwise(below)])  # [rank of i = k], as [k, i, ..]
    spread = values.move(lambda t: t.expand(hot.shape), view=False)
    (chosen,) = x.protocol.select([(hot, spread)])
    places = torch.arange(count).view(-1, *[1] * (len(values.shape) - 1))

    def back(t: Tensor) -> Tensor:
        return t.sum(1).movedim(0, dim)

    return Sorted(chosen.linear(back), hot.arithmetic().linear(lambda t: back(t * places.to(t.device))))


def _ranks(values: Number, *, descending: bool) -> Number:
    """The number of elements before each, from the comparisons of all pairs i < j: j comes first if it is smaller."""
    count = values.shape[0]
    first, second = torch.triu_indices(count, count, 1)
    left = values.move(lambda t: t[first.to(t.device)], view=False)
    right = values.move(lambda t: t[second.to(t.device)], view=False)
    difference = right - left
    if descending:
        swapped = values.protocol.less(difference, [1])[0].invert()
    else:
        (swapped,) = values.protocol.less(difference, [0])

    def tally(t: Tensor) -> Tensor:
        zero = torch.zeros(values.shape, dtype=t.dtype, device=t.device)
        return zero.index_add(0, first.to(t.device), t).index_add(0, second.to(t.device), -t)

    ahead = torch.arange(count).view(-1, *[1] * (len(values.shape) - 1))
    return swapped.arithmetic().linear(tally).plus(ahead.expand(values.shape))


def _by_network(x: Number, dim: int, descending: bool) -> Sorted:
    """Compare and exchange along Batcher's network, with the place as the last digits of what is compared."""
    count = x.shape[dim]
    x = x.settle()
    values = x.move(lambda t: t.movedim(dim, 0), view=False)
    column = torch.arange(count).view(-1, *[1] * (len(values.shape) - 1)).expand(values.shape)
    places = x.protocol.public(column.contiguous(), 0)
    digits = count.bit_length()
    for lower, upper in layers(count):
        value_step, place_step = (difference(v, lower, upper) for v in (values, places))
        order = -value_step if descending else value_step
        key = order.times_integer(1 << digits).added(place_step)
        (swapped,) = x.protocol.less(key, [0])
        steps = x.protocol.select([(swapped, value_step), (swapped, place_step)])
        values, places = (exchanged(v, s, lower, upper) for v, s in zip((values, places), steps, strict=True))

    def back(t: Tensor) -> Tensor:
        return t.movedim(0, dim)

    return Sorted(values.move(back, view=False), places.move(back, view=False))


def count_below(x: Number, thresholds: Sequence[int]) -> Number:
    """The number of thresholds that are at most x: Σ (1 - [x < t]). 4 rounds."""
    below = Bits.stack(x.protocol.less(x, thresholds)).arithmetic()
    return (-below.sum([0])).plus(torch.tensor(len(thresholds)))
