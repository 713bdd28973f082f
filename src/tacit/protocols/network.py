"""Batcher's sorting network: which elements are compared, and how elements change places."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tacit.protocols.number import Number

__all__ = ["difference", "exchanged", "in_order", "layers"]


def layers(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The comparators of odd-even merge sort, those that are independent together.   [Knu98] Alg. M."""
    if count < 2:
        return
    top = 1 << ((count - 1).bit_length() - 1)
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            places = torch.arange(count - d)
            lower = places[(places & p) == r]
            if lower.numel():
                yield lower, lower + d
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1


def difference(x: Number, lower: Tensor, upper: Tensor) -> Number:
    """x[upper] - x[lower]."""
    return x.linear(lambda t: t[upper.to(t.device)] - t[lower.to(t.device)])


def exchanged(x: Number, step: Number, lower: Tensor, upper: Tensor) -> Number:
    """x with the step added at its lower places and subtracted at the upper ones."""

    def op(t: Tensor, s: Tensor) -> Tensor:
        return t.index_add(0, lower.to(t.device), s).index_add(0, upper.to(t.device), -s)

    return x.combined(op, step)


def in_order(key: Number, *beside: Number) -> list[Number]:
    """Return integer keys in ascending order, and rows of integers that go with them. Equal keys may change places.

    Shape: [n, *k], each k by itself, and [n, *k, ..].   Domain: differences of keys below 2^62.   Error: none.
    Cost: 4 rounds for each of k (k + 1) / 2 layers, k = ceil(log2 n), of at most n / 2 comparisons, each of which is a
    comparison with a selection, and one more selection for each number beside.
    Reveals: nothing.   Ref: [Knu98] Alg. M.
    """
    rows = [key, *beside]
    for lower, upper in layers(key.shape[0]):
        steps = [difference(x, lower, upper) for x in rows]
        (swapped,) = key.protocol.less(steps[0], [0])
        pairs = []
        for step in steps:
            wide = (..., *[None] * (len(step.shape) - len(swapped.shape)))
            shape = step.shape
            pairs.append((swapped.move(lambda t, w=wide, s=shape: t[w].expand(s), view=False), step))  # type: ignore[misc]
        steps = key.protocol.select(pairs)
        rows = [exchanged(x, step, lower, upper) for x, step in zip(rows, steps, strict=True)]
    return rows
