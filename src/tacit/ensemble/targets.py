"""What trees are fitted to: labels and numbers that their owner checks, and what it says of them in the clear.

Whoever owns the targets computes there, at no cost, what others would take rounds for: whether labels are classes,
where to start from, and weights by class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tacit.aten.rows import weight_of
from tacit.errors import ConfigError, DataError
from tacit.functions.labels import by_owner, check_within, hot
from tacit.functions.linear import fractional
from tacit.protocols.number import Number
from tacit.protocols.remembered import owned, within
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import encode
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic

__all__ = ["MOST_WEIGHT", "class_weights", "column", "counted", "labels", "log_odds", "sample_weights", "spread"]

MOST_WEIGHT = 64
"""The largest weight of a row. More: larger ones; but sums have to have room for as many rows of it."""


def column(y: Tensor, rows: int, what: str = "y") -> Number:
    """Targets as numbers of shape [rows, 1]."""
    if not isinstance(y, SecretTensor):
        raise DataError(f"{what} is no secret: share it, with tacit.share({what}, owner=…) or tacit.read_csv")
    if y.shape not in ((rows,), (rows, 1)):
        raise DataError(f"{what} has shape {tuple(y.shape)}, but X has {rows} rows: it has one number for each")
    if isinstance(y.share, Bits):
        return y.share.arithmetic().move(lambda t: t.reshape(rows, 1), view=False)
    return arithmetic(y).move(lambda t: t.reshape(rows, 1), view=False)


def counted(y: Tensor, sample_weight: Tensor | None) -> Tensor | None:
    """Weights of rows: those given, and none for rows of nobody, which a join has filled up with."""
    counts = weight_of(y)
    if counts is None:
        return sample_weight
    counts = counts.reshape(-1)
    return counts if sample_weight is None else counts * sample_weight.reshape(-1)


def labels(y: Number, classes: int | None, what: str = "y") -> tuple[Number, int]:
    """Labels as integers, and how many classes there are: those given, those that `share` was told of, or two.

    Raises:
        DataError: at the owner, for a label that is none of them.
    """
    known = within(y.facts)
    if classes is None:
        classes = max(2, known.stop) if known is not None else 2
    count = classes
    bits = y.frac_bits

    def checked(t: Tensor) -> Tensor:
        whole = t >> bits
        wrong = (whole << bits) != t
        if bool(wrong.any()):
            raise DataError(f"{what} holds a label at index {int(wrong.nonzero()[0, 0])} that is no whole number")
        check_within(whole.squeeze(1), range(count), what)
        return whole

    mine = by_owner(y, checked, y.shape)
    if mine is not None:
        return mine, classes
    if known is not None and (known.start < 0 or known.stop > classes):
        raise DataError(f"{what} holds labels from {known.start} to {known.stop - 1}, and there are {classes} classes")
    return (y.settle(0) if bits else y), classes


def spread(y: Number, classes: int, what: str = "y") -> Number:
    """Labels as one-hot rows, or as they are where there are two classes; with the session's fractional bits."""
    if classes == 2:
        return fractional(y)
    return fractional(hot(y, classes, 1, what))


def log_odds(y: Number, weights: Number | None, classes: int) -> Number:
    """Where boosting starts from, [1, outputs]: the log-odds of the share of ones, or the log of each class's share.

    Of labels that no single party knows, or weights that their owner does not, zero.
    """
    outputs = 1 if classes == 2 else classes
    bits = y.protocol.frac_bits
    who, whose = owned(y.facts), None if weights is None else owned(weights.facts)
    if who is None or (weights is not None and (whose is None or whose.party != who.party)):
        return y.protocol.public(torch.zeros(1, outputs, dtype=torch.int64), bits)

    def start(t: Tensor) -> Tensor:
        w = torch.ones(len(t), dtype=torch.float64)
        if whose is not None and whose.value is not None:
            w = whose.value.squeeze(1).to(torch.float64)
        total = float(w.sum())
        if not total:
            raise DataError("all rows have weight zero")
        sums = [float(w[t.squeeze(1) == c].sum()) / total for c in range(classes)]
        shares = [min(max(s, 1 / (len(t) + 1)), len(t) / (len(t) + 1)) for s in sums]
        logs = [math.log(s) for s in shares]
        found = [logs[1] - math.log(1 - shares[1])] if classes == 2 else logs
        return encode(torch.tensor([found], dtype=torch.float64), bits)

    found = by_owner(y, start, (1, outputs), bits)
    assert found is not None
    return found


def class_weights(y: Number, given: Mapping[int, float] | str | None, classes: int) -> tuple[Number | None, float]:
    """A weight for each row by its class, [rows, 1], and the largest there may be."""
    if given is None:
        return None, 1.0
    bits = y.protocol.frac_bits
    if given == "balanced":

        def balanced(t: Tensor) -> Tensor:
            counts = torch.bincount(t.squeeze(1), minlength=classes)
            ratio = len(t) / (classes * counts.clamp(min=1).to(torch.float64))
            return encode(ratio.clamp(max=MOST_WEIGHT)[t], bits)

        found = by_owner(y, balanced, y.shape, bits)
        if found is None:
            raise DataError('class_weight="balanced" needs the labels\' owner to count them: give a dict of weights')
        return found, float(MOST_WEIGHT)
    if not isinstance(given, Mapping) or set(given) - set(range(classes)):
        raise ConfigError(f'class_weight is "balanced", or a dict of weights for the classes 0 to {classes - 1}')
    values = [given.get(c, 1.0) for c in range(classes)]
    if not all(isinstance(v, int | float) and 0 <= v <= MOST_WEIGHT for v in values):
        raise ConfigError(f"a class's weight is from 0 to {MOST_WEIGHT}")
    table = encode(torch.tensor(values, dtype=torch.float64), bits)
    found = by_owner(y, lambda t: table[t], y.shape, bits)
    if found is None:
        rows = hot(y, classes, 1, "y")
        found = rows.linear(lambda t: (t * table.to(t.device)).sum(1, keepdim=True)).declare(frac_bits=bits)
    return found, max(1.0 / MOST_WEIGHT, *values)


def sample_weights(weight: Tensor | None, rows: int) -> tuple[Number | None, float]:
    """Weights that were given, [rows, 1], and the largest there may be. Their owner checks them."""
    if weight is None:
        return None, 1.0
    w = fractional(column(weight, rows, "sample_weight"))
    bits = w.protocol.frac_bits

    def checked(t: Tensor) -> Tensor:
        wrong = (t < 0) | (t > MOST_WEIGHT << bits)
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0, 0])
            raise DataError(f"sample_weight holds a number at index {place} that is none of 0 to {MOST_WEIGHT}")
        if not bool(t.any()):
            raise DataError("sample_weight is zero in all rows")
        return t

    mine = by_owner(w, checked, w.shape, w.frac_bits)
    return (w if mine is None else mine), float(MOST_WEIGHT)
