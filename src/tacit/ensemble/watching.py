"""How well trees do on rows that they are not grown on: a measure that is revealed after each of them.

The rows stand behind those that count, or among them, and are grown on by no tree: so their scores come along with the
others', and nothing of them is revealed but the measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.api import reveal
from tacit.aten.rows import weight_of
from tacit.ensemble.columns import parts_of
from tacit.ensemble.losses import Loss
from tacit.errors import ConfigError, DataError
from tacit.metrics import roc_auc_score
from tacit.protocols.number import Number
from tacit.protocols.remembered import owned
from tacit.tensor import SecretTensor
from tacit.tensor.operands import secret

__all__ = ["METRICS", "EvalSet", "Watch", "check_metric", "eval_parts"]

METRICS: dict[str, tuple[str, ...]] = {"classes": ("logloss", "error", "auc"), "numbers": ("rmse", "mae")}
"""By what is predicted; the first of them is what is lowered."""

EvalSet = tuple[Tensor | Sequence[Tensor], Tensor]
"""Columns and targets of rows to watch, as `fit` takes them."""


def check_metric(name: str | None, kind: str) -> None:
    """Raise for a measure that there is none of."""
    if name is not None and name not in METRICS[kind]:
        raise ConfigError(f"eval_metric is one of {', '.join(METRICS[kind])}, or None for the loss, not {name!r}")


class EvalParts(NamedTuple):
    """Rows to watch behind those to grow trees on: the columns of both, and the targets."""

    parts: list[SecretTensor]
    y: Tensor
    rows: int


def eval_parts(parts: Sequence[SecretTensor], given: EvalSet | Sequence[EvalSet]) -> EvalParts:
    """Put an evaluation set behind the rows of `fit`, each owner its own."""
    one: Any = given[0] if isinstance(given, list) and len(given) == 1 else given  # a list of one, as XGBoost has it
    if not isinstance(one, tuple) or len(one) != 2:
        raise DataError("eval_set is the columns and targets of one set of rows, ([xa, xb], y)")
    x, y = one
    if not isinstance(y, Tensor):
        raise DataError("the second part of eval_set is the targets, a secret tensor")
    if weight_of(y) is not None:
        raise DataError("of the rows of eval_set some are nobody's, and it counts all: take one whose rows all count")
    others = parts_of(x, "eval_set")
    if [p.shape[1] for p in others] != [p.shape[1] for p in parts]:
        raise DataError("eval_set has other columns than X, or other owners of them")
    stacked = [_stacked(mine, theirs) for mine, theirs in zip(parts, others, strict=True)]
    return EvalParts(stacked, y, len(others[0]))


def _stacked(first: SecretTensor, second: SecretTensor) -> SecretTensor:
    """Rows of one owner, one after the other."""
    a, b = first.share, second.share
    assert isinstance(a, Number)
    assert isinstance(b, Number)
    one, two = owned(a.facts), owned(b.facts)
    if one is None or two is None or one.party != two.party or a.frac_bits != b.frac_bits:
        raise DataError(
            "the columns of eval_set must be of the owner that has those of X, and of their dtype: share them so"
        )
    value = None if one.value is None or two.value is None else torch.cat([one.value, two.value])
    protocol = a.protocol
    shape = (a.shape[0] + b.shape[0], a.shape[1])
    number = protocol.share(value, protocol.session.parties[one.party], shape, a.frac_bits)
    return secret(number, first.dtype)


class Watch:
    """A measure on rows that no tree is grown on, revealed to all after each tree, and when it gets no better."""

    def __init__(
        self,
        loss: Loss,
        y: Number,
        held: Tensor | None,
        patience: int | None,
        metric: str | None = None,
        spread: Number | None = None,
    ) -> None:
        self._loss, self._y, self.held, self._patience = loss, y, held, patience
        self._metric, self._spread = metric, spread
        self.scores: list[float] = []

    @property
    def best(self) -> int | None:
        """How many trees have the best score, the first of them; None where nothing stops early."""
        if self._patience is None or not self.scores:
            return None
        best = max(self.scores) if self._metric == "auc" else min(self.scores)
        return 1 + self.scores.index(best)

    def stops(self, scores: Number) -> bool:
        """Whether the measure is no better than so many trees before."""
        if self.held is None:
            return False
        held = self.held
        f, y = (secret(x.move(lambda t: t[held.to(t.device)], view=False)) for x in (scores, self._y))
        name = "validation loss" if self._metric is None else f"validation {self._metric}"
        self.scores.append(float(reveal(self._measured(f, y), to="all", name=name)))
        return self._patience is not None and len(self.scores) - (self.best or 0) >= self._patience

    def _measured(self, f: SecretTensor, y: SecretTensor) -> Tensor:
        if self._metric == "auc":
            return roc_auc_score(y.squeeze(1), f.squeeze(1))
        if self._metric == "error":
            if f.shape[1] == 1:
                return ((f > 0).float() - y).abs().mean()
            return 1 - (f.argmax(1) == y.argmax(1)).float().mean()
        if self._metric in ("rmse", "mae"):
            found = (f - y).abs().mean() if self._metric == "mae" else self._loss.mean(f, y).sqrt()
            return found if self._spread is None else found * secret(self._spread).squeeze()
        return self._loss.mean(f, y)
