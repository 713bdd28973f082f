"""Gradients and curvatures of the losses that trees are boosted for, of scores F and targets y."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, mse_loss
from typing_extensions import override

from tacit.functions.sigmoid import sigmoid
from tacit.functions.softmax import Softmax
from tacit.protocols.number import Number

__all__ = ["Logistic", "Loss", "Multinomial", "Squared"]

CURVATURE_BITS = 32
"""Fractional bits of a curvature, at most. More: finer ones; but the sum of 2^20 rows, times 2^20, must fit."""

FLOOR = 2.0**-15
"""What is added to p (1 - p), which an approximate p just below 0 makes negative: p is off by 2^-14. XGBoost's is
1e-16. More: a row that is right counts for more than it should; fewer: a sum of many might not be positive."""


class Loss(ABC):
    """What boosting asks of a loss. Scores and targets are [rows, outputs]."""

    curvature: ClassVar[float]
    """The largest second derivative of a row."""
    least: ClassVar[float | None]
    """The smallest, if there is one."""

    @abstractmethod
    def gradients(self, scores: Number, targets: Number) -> tuple[Number, Number]:
        """The derivatives by each row's score, and the second ones, with at most `CURVATURE_BITS`."""

    @abstractmethod
    def mean(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of some rows."""


class Squared(Loss):
    """(F - y)² / 2."""

    curvature = 1.0
    least = 1.0

    @override
    def gradients(self, scores: Number, targets: Number) -> tuple[Number, Number]:
        ones = torch.full(tuple(scores.shape), 1 << scores.protocol.frac_bits)
        return scores - targets, scores.protocol.public(ones, scores.protocol.frac_bits)

    @override
    def mean(self, scores: Tensor, targets: Tensor) -> Tensor:
        return mse_loss(scores, targets)


class Logistic(Loss):
    """log(1 + exp(F)) - y F for y of 0 or 1:  p - y and p (1 - p) with p = sigmoid F."""

    curvature = 0.25 + FLOOR
    least = None

    @override
    def gradients(self, scores: Number, targets: Number) -> tuple[Number, Number]:
        p = sigmoid(scores).settle()
        return p - targets, _curvature(p, 1)

    @override
    def mean(self, scores: Tensor, targets: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(scores, targets)


class Multinomial(Loss):
    """Cross-entropy, with a tree for each class:  p - y and 2 p (1 - p), as XGBoost has it, with p = softmax F."""

    curvature = 0.5 + FLOOR
    least = None

    @override
    def gradients(self, scores: Number, targets: Number) -> tuple[Number, Number]:
        p = Softmax.of(scores, 1).value().settle()
        return p - targets, _curvature(p, 2)

    @override
    def mean(self, scores: Tensor, targets: Tensor) -> Tensor:
        return -(log_softmax(scores, 1) * targets).sum(1).mean()


def _curvature(p: Number, times: int) -> Number:
    """times p (1 - p), and a little more than none. One round, or two in sessions of more than 16 fractional bits."""
    square = p.protocol.multiply(p, p)
    h = (p.lifted(square.frac_bits) - square).times_integer(times).settle(CURVATURE_BITS)
    return h.plus(torch.tensor(round(FLOOR * 2.0**h.frac_bits)))
