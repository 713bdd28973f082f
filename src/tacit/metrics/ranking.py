"""Measures of how scores rank two classes. See `tacit.functions.ranking`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.functions.linear import fractional
from tacit.functions.ranking import Ranking, area, average_precision, known_order, largest_gap, ranking
from tacit.metrics.given import given, integers, number_of, positive
from tacit.ring.ring import RING
from tacit.tensor import SecretTensor
from tacit.tensor.operands import plain, secret

__all__ = ["average_precision_score", "gini_score", "ks_score", "roc_auc_score"]

MOST_ROWS = 1 << 22
"""Fewer in sessions of more than 18 fractional bits: twice the pairs of rows must fit beside these, n² < 2^(62 - f)."""


def roc_auc_score(y_true: Any, y_score: Any, *, sample_weight: Any = None, pos_label: float | None = None) -> Tensor:
    """Return the area under the ROC curve of two classes; tied scores count half. With one class only it is 1/2.

    Labels other than `pos_label`, 1 by default, are the other class; where more are known to be there it must be said.
    Scores are compared with the session's fractional bits.

    Shape: [n] or [n, 1] each -> [].   Domain: n < 2^22 and n² < 2^(62 - f); |y_score| < 2^41 at 16 fractional bits,
    and 2^46 of two parties alone; weights 0 and 1, other integers, or numbers, which are rounded to 2^-12, with a sum
    below 2^19.   Error: <= 2^-16.
    Cost: that of sorting n numbers, `tacit.functions.ranking`.   Reveals: nothing.
    """
    ranks = _ranking("roc_auc_score", y_true, y_score, sample_weight, pos_label)
    return secret(area(ranks), torch.float32)


def gini_score(y_true: Any, y_score: Any, *, sample_weight: Any = None, pos_label: float | None = None) -> Tensor:
    """Return the Gini coefficient, 2 AUC - 1, which is 0 with one class only. See `roc_auc_score`."""
    ranks = _ranking("gini_score", y_true, y_score, sample_weight, pos_label)
    twice = area(ranks).times_integer(2)
    return secret(twice.plus(torch.tensor(-(1 << twice.frac_bits))), torch.float32)


def average_precision_score(
    y_true: Any, y_score: Any, *, sample_weight: Any = None, pos_label: float | None = None
) -> Tensor:
    """Return the area under the precision-recall curve, Σ (R_i - R_(i-1)) P_i. With no positive row it is 0.

    Shape, domain, error: as `roc_auc_score`.   Cost: that of sorting n numbers and dividing n.   Reveals: nothing.
    """
    ranks = _ranking("average_precision_score", y_true, y_score, sample_weight, pos_label)
    return secret(average_precision(ranks), torch.float32)


def ks_score(y_true: Any, y_score: Any, *, sample_weight: Any = None, pos_label: float | None = None) -> Tensor:
    """Return the Kolmogorov-Smirnov distance between the scores of the two classes, max |TPR - FPR|; with one class, 0.

    Shape, domain, error: as `roc_auc_score`.   Cost: that of sorting n numbers, and a maximum of 2 n.
    Reveals: nothing.
    """
    ranks = _ranking("ks_score", y_true, y_score, sample_weight, pos_label)
    return secret(largest_gap(ranks), torch.float32)


def _ranking(name: str, y_true: Any, y_score: Any, sample_weight: Any, pos_label: float | None) -> Ranking:
    found = given(name, y_true, y_score, "y_score", sample_weight)
    like = next(x for x in found if x is not None and isinstance(x, SecretTensor))
    most = min(MOST_ROWS, math.isqrt(1 << (RING.value_bits - like._protocol.frac_bits)))
    if found.rows >= most:
        raise DataError(f"{name} counts fewer than {most} rows here, not {found.rows}: take a sample of them")
    label = number_of(positive(found.true, pos_label, name), like)
    weight = integers(found.weight, like)
    known = plain(found.other)
    if known is not None:
        order = known.argsort()
        steps = known[order].diff() != 0
        return known_order(order, torch.cat([steps, torch.ones(1, dtype=torch.bool)]), label, weight)
    score = number_of(found.other, like)
    return ranking(fractional(score) if found.other.dtype.is_floating_point else score, label, weight)
