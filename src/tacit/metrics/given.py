"""What measures are given: columns of one length, of which one at least is secret, and weights of rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

import tacit.aten  # noqa: F401 - registers the operators
from tacit.aten.rows import weight_of
from tacit.errors import DataError
from tacit.functions.labels import by_owner, known_within
from tacit.functions.linear import fractional
from tacit.functions.ranking import MOST_WEIGHT, WEIGHT_BITS
from tacit.protocols.number import Number
from tacit.protocols.remembered import within
from tacit.ring.given import real_tensor
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, as_secret, plain, secret

__all__ = ["Given", "divided", "given", "indicator", "integers", "mean_of", "number_of", "positive", "ratio"]

LABELS = {torch.bool, torch.int64, torch.float32, torch.float64}


class Given(NamedTuple):
    """Two columns and weights, checked."""

    true: Tensor
    other: Tensor
    """Predictions, or scores."""
    weight: Tensor | None
    """None where all rows count alike; integers if they are 0 and 1."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.true)


def given(name: str, y_true: Any, other: Any, what: str, sample_weight: Any, *, columns: int = 1) -> Given:
    """Check the arguments of a measure; [n, 1] is taken as [n], as `tacit.read_csv` gives labels.

    `what` is the name of the second one, which may have so many columns.
    """
    true, second = column(y_true, name, "y_true"), column(other, name, what, columns)
    weight = None if sample_weight is None else column(sample_weight, name, "sample_weight")
    sizes = {"y_true": true, what: second} | ({} if weight is None else {"sample_weight": weight})
    if len({len(x) for x in sizes.values()}) > 1:
        told = ", ".join(f"{label} {len(x)}" for label, x in sizes.items())
        raise DataError(f"{name} needs columns of one length, and they have {told}")
    if not len(true):
        raise DataError(f"{name} of no rows is not defined")
    if not any(isinstance(x, SecretTensor) for x in sizes.values()):
        raise DataError(f"nothing that {name} was given is secret: sklearn.metrics has it for plain values")
    if weight is not None:
        weight = _weights(weight, name)
    counts = weight_of(true)
    if counts is not None:  # rows of nobody
        weight = counts if weight is None else counts * weight
    return Given(true, second, weight)


def column(value: Any, name: str, what: str, columns: int = 1) -> Tensor:
    """One argument as a tensor of rows."""
    x: Tensor = real_tensor(value, f"{what} of {name}").detach()
    if x.dtype not in LABELS:
        x = x.to(torch.float32 if x.dtype.is_floating_point else torch.int64)
    if x.dim() == 2 and x.shape[1] == 1 and columns == 1:
        x = x.squeeze(1)
    if x.dim() != 1 and not (columns > 1 and x.dim() == 2):
        raise DataError(f"{name} needs {what} of shape (rows,) or (rows, 1), not {tuple(x.shape)}")
    if not isinstance(x, SecretTensor) and x.dtype.is_floating_point and not bool(x.isfinite().all()):
        raise DataError(f"{what} of {name} holds NaN or infinity")
    return x


def _weights(weight: Tensor, name: str) -> Tensor:
    if not isinstance(weight, SecretTensor):
        if bool((weight < 0).any()):
            raise DataError(f"sample_weight of {name} holds a negative number")
        if float(weight.sum()) >= 2.0**MOST_WEIGHT and weight.dtype.is_floating_point:
            raise DataError(f"sample_weight of {name} sums up to 2^{MOST_WEIGHT} or more: divide it by a number")
        whole = weight.to(torch.int64)
        return whole if torch.equal(whole.to(weight.dtype), weight) else weight
    return weight.to(torch.int64) if weight.dtype == torch.bool else weight


def number_of(x: Tensor, beside: Tensor) -> Number:
    """A column's share; a public one is shared trivially."""
    return arithmetic(as_secret(x, beside))


def integers(weight: Tensor | None, beside: Tensor) -> Number | None:
    """Weights as products of two of them have room for: integers as they are, others with 12 fractional bits."""
    if weight is None:
        return None
    share = number_of(weight, beside)
    return share.settle(WEIGHT_BITS).lifted(WEIGHT_BITS) if weight.dtype.is_floating_point else share


def indicator(y: Tensor, label: Any, name: str) -> Tensor:
    """[y = label] as integers 0 and 1; free where the labels are known to be 0 and 1, or are one owner's."""
    if not isinstance(label, (bool, int, float)) or not math.isfinite(label):
        raise DataError(f"labels of {name} are numbers, not {label!r}")
    known: Tensor | None = plain(y)
    if known is not None:
        return (known == label).to(torch.int64)
    assert isinstance(y, SecretTensor)
    if y.dtype == torch.bool:
        return y.to(torch.int64) if label == 1 else 1 - y.to(torch.int64) if label == 0 else torch.zeros_like(y).long()
    share = arithmetic(y)
    if not share.frac_bits and known_within(share, range(2)) and label in (0, 1):
        return y.to(torch.int64) if label == 1 else 1 - y.to(torch.int64)
    ring = round(label * 2**share.frac_bits)
    exact = ring == label * 2**share.frac_bits
    found = by_owner(share, lambda t: ((t == ring) & exact).to(torch.int64), share.shape)
    return (y == label).to(torch.int64) if found is None else secret(found, torch.int64)


def positive(y: Tensor, label: float | None, name: str, say: str = "say which one is meant, pos_label=…") -> Tensor:
    """[y = label] for a measure of two classes, by default 1; it must be said where more are known to be there."""
    if label is None:
        known: Tensor | None = plain(y)
        if known is not None:
            count = len(known.unique())
        else:
            assert isinstance(y, SecretTensor)
            count = 2 if y.dtype == torch.bool else len(within(y.share.facts) or ())
        if count > 2:
            raise DataError(f"{name} is of two classes, and the labels have {count}: {say}")
    return indicator(y, 1 if label is None else label, name)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """n / d of sums, and 0 where d is 0."""
    out: Tensor = torch.div(numerator, denominator)
    return out


def mean_of(x: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of a column of numbers or of 0 and 1, weighted; 0 where no row has weight."""
    if weight is None:
        return divided(x.sum(), len(x))
    return ratio((x * weight).sum(), weight.sum())


def divided(x: Tensor, count: int) -> Tensor:
    """x / n for a public n, to the last digit: a product with 1 / n as a public number would have 16 of its bits."""
    if not isinstance(x, SecretTensor) or plain(x) is not None:
        return x / count
    share = fractional(arithmetic(x))
    found = None if count == 1 else share.protocol.scale(share, 1 / count, share.frac_bits)
    return secret(share.fork() if found is None else found, torch.float32)
