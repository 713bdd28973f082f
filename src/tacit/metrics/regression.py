"""Measures of predicted numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.metrics.given import Given, divided, given, mean_of, ratio
from tacit.protocols.number import Number
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, plain, secret

__all__ = ["mean_absolute_error", "mean_squared_error", "r2_score", "root_mean_squared_error"]

CONSTANT = 2.0**-26
"""A variance up to this is that of a constant, whose mean is rounded."""


def mean_absolute_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> Tensor:
    """Return the mean of |y_true - y_pred|.

    Shape: [n] or [n, 1] each -> [].   Domain: sums below 2^45.   Error: <= 2^-15.   Cost: 4 rounds.
    Reveals: nothing.
    """
    found = _numbers("mean_absolute_error", y_true, y_pred, sample_weight)
    return mean_of((found.true - found.other).abs(), found.weight)


def mean_squared_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> Tensor:
    """Return the mean of (y_true - y_pred)².

    Shape: [n] or [n, 1] each -> [].   Domain: |y_true - y_pred| < 2^15.   Error: <= 2^-15, and 2^-20 relative.
    Cost: 3 rounds.   Reveals: nothing.
    """
    found = _numbers("mean_squared_error", y_true, y_pred, sample_weight)
    total = _squares(found.true - found.other, found)
    return divided(total, found.rows) if found.weight is None else ratio(total, found.weight.sum())


def root_mean_squared_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> Tensor:
    """Return the root of `mean_squared_error`."""
    return mean_squared_error(y_true, y_pred, sample_weight=sample_weight).sqrt()


def r2_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> Tensor:
    """Return 1 - Σ (y_true - y_pred)² / Σ (y_true - mean)². Where y_true is constant, up to a deviation of 2^-13: 1 if
    all is predicted as finely, else 0.

    Shape: [n] or [n, 1] each -> [], n >= 2.   Domain: deviations below 2^15.   Error: <= 2^-14 of what it takes off 1,
    if the variance is above 2^-4.   Cost: 15 rounds.   Reveals: nothing.
    """
    found = _numbers("r2_score", y_true, y_pred, sample_weight)
    if found.rows < 2:
        raise DataError("r2_score of fewer than two rows is not defined")
    left = _squares(found.true - found.other, found)
    centred = found.true - mean_of(found.true, found.weight)
    whole = _squares(centred, found)
    limit = CONSTANT * found.rows
    varies, exact = whole > limit, left <= limit
    return torch.where(varies, 1 - ratio(left, whole), exact.to(torch.float32))


def _numbers(name: str, y_true: Any, y_pred: Any, sample_weight: Any) -> Given:
    found = given(name, y_true, y_pred, "y_pred", sample_weight)
    true, other = (x if x.dtype.is_floating_point else x.to(torch.float32) for x in (found.true, found.other))
    if plain(true) is not None and plain(other) is not None:
        raise DataError(f"y_true and y_pred of {name} are public; with secret weights alone, multiply and add up")
    return Given(true, other, found.weight)


def _squares(d: Tensor, found: Given) -> Tensor:
    """Σ w d², each term truncated to as many fractional bits as let n terms of 2^30 fit."""
    if not isinstance(d, SecretTensor):
        return (d * d).sum() if found.weight is None else (d * d * found.weight).sum()
    share = arithmetic(d).settle()
    protocol = share.protocol
    spare = max(0, protocol.frac_bits - (found.rows - 1).bit_length())
    bits = protocol.frac_bits + spare
    terms: Number = protocol.multiply(share, share).settle(bits)
    if found.weight is None:
        return secret(terms.sum([0]), torch.float32)
    if isinstance(found.weight, SecretTensor):
        weight = arithmetic(found.weight)
        terms = protocol.multiply(terms.settle(), weight).settle(bits)
        return secret(terms.sum([0]), torch.float32)
    return (secret(terms, torch.float32) * found.weight).sum()
