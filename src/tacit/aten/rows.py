"""Losses of labels whose rows may not count: rows of nobody, which a join has filled up with, are left out.

PyTorch's losses are caught for such labels only, and not before somebody has made some.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.functions.labels import inverse_count
from tacit.functions.rows import row_weight, weigh
from tacit.protocols.values import Value
from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import Unlike, above_autograd
from tacit.tensor.operands import arithmetic, secret

__all__ = ["weighed_loss", "weight_of", "weighted"]

aten = torch.ops.aten
NONE, MEAN, SUM = 0, 1, 2

LOSSES = (
    aten.binary_cross_entropy.default,
    aten.binary_cross_entropy_with_logits.default,
    aten.huber_loss.default,
    aten.kl_div.default,
    aten.l1_loss.default,
    aten.mse_loss.default,
    aten.nll_loss_nd.default,
    aten.poisson_nll_loss.default,
    aten.smooth_l1_loss.default,
    aten.soft_margin_loss.default,
)
"""Beside cross_entropy, which is caught in `labels`."""

BY_CLASS = (aten.cross_entropy_loss.default, aten.nll_loss_nd.default)
"""Whose mean is divided by the weights of classes."""

_inside = threading.local()
_caught: list[Callable[..., Any]] = []
_lock = threading.Lock()


def weighted(labels: SecretTensor, weight: SecretTensor) -> SecretTensor:
    """The labels, which go with their weights 0 and 1 from now on: losses and measures leave rows of weight 0 out."""
    weigh(labels.share, arithmetic(weight))
    with _lock:
        if not _caught:
            _caught.extend(above_autograd(loss)(partial(weighed_loss, loss)) for loss in LOSSES)
    return labels


def weight_of(labels: Any) -> Tensor | None:
    """The weights of labels, integers 0 and 1 in their shape; None where all rows count."""
    if not isinstance(labels, SecretTensor) or not isinstance(labels._share, Value):
        return None
    found = row_weight(labels.share)
    return None if found is None else secret(found, torch.int64)


def weighed_loss(overload: Any, *args: Any, **kwargs: Any) -> Unlike | None:
    """Σ w l, for a mean divided by Σ w, or the elements w l; None for labels of which all rows count.

    Where no row of a batch counts, the mean is 0.

    Cost: beside the loss, 1 round, and for a mean 4 or 9 more, which wait for nothing.   Reveals: nothing.
    """
    if getattr(_inside, "loss", False):
        return None
    given = {a.name: v for a, v in zip(overload._schema.arguments, args, strict=False)} | kwargs
    names = [a.name for a in overload._schema.arguments[:2]]
    weight = next((w for w in map(weight_of, (given[name] for name in reversed(names))) if w is not None), None)
    if weight is None:
        return None
    reduction = given.get("reduction", MEAN)
    if overload in BY_CLASS and given.get("weight") is not None:
        raise DataError("of these rows some do not count, and a loss of theirs takes no weights of classes, weight=…")
    _inside.loss = True
    try:
        each = overload(given.pop(names[0]), **{**given, "reduction": NONE})
    finally:
        _inside.loss = False
    if each.shape != weight.shape:
        raise DataError(
            f"rows of shape {tuple(weight.shape)} count or do not, and their loss has shape {tuple(each.shape)}: bring "
            f"labels and predictions to one shape"
        )
    counted = each * weight
    if reduction == NONE:
        return Unlike(counted)
    total = counted.sum()
    if reduction == SUM:
        return Unlike(total)
    count = arithmetic(weight.sum())  # type: ignore[arg-type]
    return Unlike(total * secret(inverse_count(count, weight.numel()), torch.float32))
