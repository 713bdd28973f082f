"""Measures of predicted probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.functions.logarithm import log
from tacit.metrics.given import given, indicator, mean_of, number_of, positive, ratio
from tacit.tensor import SecretTensor
from tacit.tensor.operands import as_secret, secret

__all__ = ["brier_score_loss", "calibration_curve", "log_loss"]

LEAST_BITS = 14
"""What came true with a probability below 2^-14 counts as that. More: larger losses, of which less is known."""


def log_loss(
    y_true: Any,
    y_pred: Any,
    *,
    normalize: bool = True,
    sample_weight: Any = None,
    labels: Sequence[float] | None = None,
) -> Tensor:
    """Return the mean (the sum, without `normalize`) of -log p, for the probability p of what came true.

    `y_pred` are probabilities of the class 1, or a column for each of `labels`, by default 0, 1, …. A p below 2^-14
    counts as 2^-14, as sklearn.metrics counts one below its own least.

    Shape: [n], and [n] or [n, k] -> [].   Domain: 0 <= y_pred <= 1.   Error: <= 2^-13 for what is above 2^-10.
    Cost: 13 rounds.   Reveals: nothing.
    """
    found = given("log_loss", y_true, y_pred, "y_pred", sample_weight, columns=2)
    p = found.other.to(torch.float32)
    if p.dim() == 2 and p.shape[1] == 1:
        p = p.squeeze(1)
    if p.dim() == 1:
        one = positive(found.true, None if labels is None else list(labels)[-1], "log_loss", "give a column for each")
        if labels is not None and len(labels) != 2:
            raise DataError(f"log_loss of {len(labels)} classes needs a column of probabilities for each")
        chosen = (1 - p) + one * (2 * p - 1)
    else:
        classes = list(range(p.shape[1])) if labels is None else list(labels)
        if len(classes) != p.shape[1]:
            raise DataError(
                f"log_loss needs a label for each of the {p.shape[1]} columns, and there are {len(classes)}"
            )
        hot = torch.stack([indicator(found.true, c, "log_loss") for c in classes], dim=1)
        chosen = (hot * p).sum(1)
    chosen = chosen.clamp(2.0**-LEAST_BITS, 1.0)
    like = chosen if isinstance(chosen, SecretTensor) else next(x for x in found if isinstance(x, SecretTensor))
    loss = secret(-log(number_of(chosen, like), least=2.0**-LEAST_BITS, most=1.0), torch.float32)
    if normalize:
        return mean_of(loss, found.weight)
    return loss.sum() if found.weight is None else (loss * found.weight).sum()


def brier_score_loss(y_true: Any, y_proba: Any, *, sample_weight: Any = None, pos_label: float | None = None) -> Tensor:
    """Return the mean of (p - y)² for probabilities of `pos_label`.

    Shape: [n] or [n, 1] each -> [].   Domain: 0 <= y_proba <= 1.   Error: <= 2^-14.   Cost: 3 rounds.
    Reveals: nothing.
    """
    found = given("brier_score_loss", y_true, y_proba, "y_proba", sample_weight)
    wrong = found.other.to(torch.float32) - positive(found.true, pos_label, "brier_score_loss")
    return mean_of(wrong * wrong, found.weight)


def calibration_curve(
    y_true: Any, y_prob: Any, *, pos_label: float | None = None, n_bins: int = 5, sample_weight: Any = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each of equal bins of [0, 1] the part of rows that are positive, their mean probability, their number.

    sklearn.calibration has the first two, and leaves out bins without rows. Which these are is secret here: they are
    zeros in all three.

    Shape: [n] or [n, 1] each -> [n_bins] each.   Domain: 0 <= y_prob <= 1.   Error: <= 2^-15.
    Cost: n_bins comparisons of each row, from one opening.   Reveals: nothing.
    """
    if type(n_bins) is not int or not 1 <= n_bins <= 1000:
        raise DataError(f"calibration_curve takes from 1 to 1000 bins, not {n_bins!r}")
    found = given("calibration_curve", y_true, y_prob, "y_prob", sample_weight)
    p = found.other.to(torch.float32)
    like = next(x for x in (p, found.true, found.weight) if isinstance(x, SecretTensor))
    inside: Tensor = as_secret(torch.ones((1, found.rows), dtype=torch.int64), like)
    if n_bins > 1:  # [p > edge below] - [p > edge above]
        beyond = torch.stack([(p > k / n_bins).to(torch.int64) for k in range(1, n_bins)])
        inside = torch.cat([1 - beyond[:1], beyond[:-1] - beyond[1:], beyond[-1:]])
    if found.weight is not None:
        inside = inside * found.weight
    one = positive(found.true, pos_label, "calibration_curve")
    counts = inside.sum(1)
    return ratio((inside * one).sum(1), counts), ratio((inside * p).sum(1), counts), counts
