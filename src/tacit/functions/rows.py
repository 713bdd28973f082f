"""Labels of rows that may not count: their weights, 1 or 0, go with them wherever the labels are moved."""

from __future__ import annotations

from torch import Size

from tacit.errors import DataError
from tacit.protocols.number import Number
from tacit.protocols.remembered import Facts, Remembered
from tacit.protocols.values import Value

__all__ = ["row_weight", "weigh"]

WEIGHT: Remembered[Number] = Remembered("weights of rows")


def weigh(labels: Value, weight: Number) -> None:
    """Say which labels count: those whose weight is 1, and not 0. Measures and losses of these labels will know it."""
    if weight.frac_bits or weight.shape != labels.shape:
        raise DataError("weights of rows are the integers 0 and 1, one for each label")
    WEIGHT.keep(labels, weight)


def row_weight(labels: Value) -> Number | None:
    """Integers 0 and 1 in the shape of the labels, or None where all rows count.

    Weights follow labels through indexing, changes of shape and dtype, and copies; not through arithmetic.
    """
    found = _of(labels.facts, labels.shape)
    return None if found is None else WEIGHT.keep(labels, found)


def _of(facts: Facts, shape: Size) -> Number | None:
    found: Number | None = facts.memo.get((WEIGHT, None))
    lineage = facts.lineage
    if found is not None or lineage is None:
        return found
    above = _of(lineage.facts, lineage.parent.shape)
    if above is None:
        return None
    if lineage.move is not None:
        return above.move(lineage.move, view=False)
    return above if above.shape == shape else None
