"""Rows in another order: one that nobody knows, or one that follows from secrets."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tacit.protocols.number import Number
from tacit.protocols.values import Value

__all__ = ["by_class", "shuffled"]


def shuffled(values: Sequence[Value]) -> list[Value]:
    """Return the rows of all values in one random order, which nobody knows.

    Cost: a round for each party, one after the other; 8 bytes for each element and other party.   Reveals: nothing.
    """
    return list(values[0].protocol.shuffled(values)) if values else []


def by_class(hots: Sequence[Number], values: Sequence[Value]) -> list[Value]:
    """Return rows in the order of their classes, those of one class in the order that they had.

    `hots` say for each class but the first whether a row is in it, as integers of which one at most is 1. With n_c rows
    in class c, row i goes to place

        Σ_c hot_c(i) (Σ_(b < c) n_b + Σ_(j < i) hot_c(j))

    which is a permutation whatever the bits are, so that the rows can be shuffled with their places, and these opened.

    Shape: [n] and [n, ..].   Cost: 2 rounds and those of a shuffle; for each class 16 bytes a row.   Reveals: nothing.
    """
    protocol = values[0].protocol
    count = values[0].shape[0]
    if not hots:
        return list(values)
    rest = -hots[0]
    for hot in hots[1:]:
        rest = rest - hot
    rows = [rest.plus(torch.ones(count, dtype=torch.int64)), *hots]
    stacked = rows[0].combined(lambda *t: torch.stack(t), *rows[1:])
    before = stacked.linear(lambda t: t.reshape(-1).cumsum(0).view(t.shape) - t)  # those of the classes below, too
    places = protocol.multiply(stacked, before).sum([0])
    return list(protocol.arranged(places, values))
