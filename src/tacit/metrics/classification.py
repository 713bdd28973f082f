"""Measures of predicted classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.metrics.given import Given, given, indicator, mean_of, positive, ratio
from tacit.protocols.remembered import within
from tacit.tensor import SecretTensor
from tacit.tensor.operands import plain

__all__ = [
    "accuracy_score",
    "balanced_accuracy_score",
    "confusion_matrix",
    "f1_score",
    "precision_score",
    "recall_score",
]

MOST_CLASSES = 1000
"""More are hardly classes, and each takes a comparison for every row."""

AVERAGES = ("binary", "macro", "micro", "weighted", None)


def accuracy_score(y_true: Any, y_pred: Any, *, normalize: bool = True, sample_weight: Any = None) -> Tensor:
    """Return the part of rows, or with normalize=False the number or weight of them, whose class is predicted.

    Shape: [n] or [n, 1] each -> [].   Error: <= 2^-16.   Cost: a comparison of n.   Reveals: nothing.
    """
    found = given("accuracy_score", y_true, y_pred, "y_pred", sample_weight)
    hits = _equal(found.true, found.other)
    if normalize:
        return mean_of(hits, found.weight)
    return hits.sum() if found.weight is None else (hits * found.weight).sum()


def _equal(x: Tensor, y: Tensor) -> Tensor:
    """[x = y] as integers; classes may be bool at one side and numbers at the other."""
    if x.dtype != y.dtype:
        x, y = (v.to(torch.int64) if v.dtype == torch.bool else v for v in (x, y))
    return (x == y).to(torch.int64)


def confusion_matrix(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Sequence[float] | None = None,
    sample_weight: Any = None,
    normalize: str | None = None,
) -> Tensor:
    """Return C[i, j], the number (weight) of rows of class i that are predicted as class j; others are not counted.

    `labels` are the classes; without, those that the labels are publicly known to be of: 0 and 1 of secret bools, and
    what `tacit.share(…, classes=…)` has said. `normalize` is "true", "pred", "all" or None; over zero it is 0.

    Shape: [n] or [n, 1] each -> [k, k].   Error: none; <= 2^-16 if normalized.
    Cost: k comparisons of each column and a matrix product.   Reveals: nothing.
    """
    found = given("confusion_matrix", y_true, y_pred, "y_pred", sample_weight)
    if normalize not in ("true", "pred", "all", None):
        raise DataError(f"confusion_matrix(normalize=…) is 'true', 'pred', 'all' or None, not {normalize!r}")
    counts = _counts(found, _classes("confusion_matrix", found, labels), "confusion_matrix")
    if normalize is None:
        return counts
    if normalize == "all":
        return ratio(counts, counts.sum())
    return ratio(counts, counts.sum(1, keepdim=True) if normalize == "true" else counts.sum(0, keepdim=True))


def precision_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Sequence[float] | None = None,
    pos_label: float | None = None,
    average: str | None = "binary",
    sample_weight: Any = None,
) -> Tensor:
    """Return tp / (tp + fp), and 0 where nothing is predicted positive: zero_division=0.

    `average` is "binary", which counts `pos_label`, "macro", "micro", "weighted" or None, over `labels`.

    Shape: [n] or [n, 1] each -> [], or [k] with average=None.   Error: <= 2^-16.   Cost: see `confusion_matrix`.
    Reveals: nothing.
    """
    return _score("precision_score", y_true, y_pred, labels, pos_label, average, sample_weight)


def recall_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Sequence[float] | None = None,
    pos_label: float | None = None,
    average: str | None = "binary",
    sample_weight: Any = None,
) -> Tensor:
    """Return tp / (tp + fn), and 0 where no row is positive. See `precision_score`."""
    return _score("recall_score", y_true, y_pred, labels, pos_label, average, sample_weight)


def f1_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Sequence[float] | None = None,
    pos_label: float | None = None,
    average: str | None = "binary",
    sample_weight: Any = None,
) -> Tensor:
    """Return 2 tp / (2 tp + fp + fn), and 0 where that is 0 / 0. See `precision_score`."""
    return _score("f1_score", y_true, y_pred, labels, pos_label, average, sample_weight)


def balanced_accuracy_score(
    y_true: Any, y_pred: Any, *, labels: Sequence[float] | None = None, sample_weight: Any = None
) -> Tensor:
    """Return the mean of the recalls of all classes; a class of no rows counts 0, for which are there is secret."""
    return _score("balanced_accuracy_score", y_true, y_pred, labels, 1, "macro", sample_weight, kind="recall_score")


def _score(
    name: str,
    y_true: Any,
    y_pred: Any,
    labels: Sequence[float] | None,
    pos_label: float | None,
    average: str | None,
    sample_weight: Any,
    *,
    kind: str | None = None,
) -> Tensor:
    if average not in AVERAGES:
        raise DataError(f"{name}(average=…) is one of {', '.join(map(repr, AVERAGES))}, not {average!r}")
    found = given(name, y_true, y_pred, "y_pred", sample_weight)
    if average == "binary":
        true, called = (positive(x, pos_label, name).unsqueeze(1) for x in (found.true, found.other))
    else:
        classes = _classes(name, found, labels)
        true, called = (_spread(x, classes, name) for x in (found.true, found.other))
    weight = found.weight
    weighted = true if weight is None else true * weight.unsqueeze(1)
    hits = (weighted * called).sum(0)
    actual = weighted.sum(0)
    predicted = (called if weight is None else called * weight.unsqueeze(1)).sum(0)
    kind = kind or name
    if average == "micro":
        hits, actual, predicted = hits.sum(), actual.sum(), predicted.sum()
    if kind == "f1_score":
        scores = ratio(hits * 2, actual + predicted)
    else:
        scores = ratio(hits, predicted if kind == "precision_score" else actual)
    if average in ("binary", "micro"):
        return scores.reshape(())
    if average == "macro":
        return scores.mean()
    return scores if average is None else ratio((scores * actual).sum(), actual.sum())


def _counts(found: Given, classes: Sequence[float], name: str) -> Tensor:
    true, called = (_spread(x, classes, name) for x in (found.true, found.other))
    if found.weight is not None:
        true = true * found.weight.unsqueeze(1)
    if not true.dtype.is_floating_point:
        return true.t() @ called
    return true.t() @ called.to(true.dtype)


def _spread(y: Tensor, classes: Sequence[float], name: str) -> Tensor:
    """[y_i = class j] as integers."""
    return torch.stack([indicator(y, c, name) for c in classes], dim=1)


def _classes(name: str, found: Given, labels: Sequence[float] | None) -> list[float]:
    if labels is not None:
        classes = [float(c) if isinstance(c, float) else int(c) for c in labels]
        if not classes or len(set(classes)) < len(classes):
            raise DataError(f"{name}(labels=…) takes each class once, and one at least")
    else:
        classes = sorted({c for x in (found.true, found.other) for c in _known(x, name)})
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{name} of {len(classes)} classes: it takes up to {MOST_CLASSES}; say which with labels=[…]")
    return classes


def _known(y: Tensor, name: str) -> Sequence[float]:
    """The classes that are public."""
    known = plain(y)
    if known is not None:
        found: list[float] = known.unique().tolist()
        return found
    assert isinstance(y, SecretTensor)
    inside = range(2) if y.dtype == torch.bool else within(y.share.facts)
    if inside is None or len(inside) > MOST_CLASSES:
        raise DataError(
            f"which classes there are is secret: say {name}(…, labels=[0, 1]), or share labels with classes=…"
        )
    return inside
