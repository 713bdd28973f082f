"""Gradient boosting of numbers on secrets, by their squared error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from typing_extensions import override

from tacit.ensemble import targets
from tacit.ensemble.boosting import LEAST_LAMBDA, Boosting, Watched
from tacit.ensemble.columns import parts_of
from tacit.ensemble.losses import Squared
from tacit.ensemble.watching import EvalSet, eval_parts
from tacit.errors import ConfigError, DataError
from tacit.functions.labels import by_owner
from tacit.functions.linear import fractional
from tacit.protocols.number import Number
from tacit.protocols.remembered import owned
from tacit.ring.fixed_point import encode
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, secret

__all__ = ["GradientBoostingRegressor"]


class GradientBoostingRegressor(Boosting):
    """Boosted trees for numbers, by their squared error, grown on columns of several owners.

    Their owner takes their mean off and divides by their deviation, both of which are kept, as secrets; predictions are
    in the units of y. Targets that no single party knows are taken as they are.
    For `Args` see `GradientBoostingClassifier`.
    """

    def __init__(
        self,
        *,
        n_estimators: int = 100,
        learning_rate: float = 0.1,
        max_depth: int = 3,
        max_bins: int = 32,
        reg_lambda: float = 1.0,
        min_child_weight: float = 1.0,
        subsample: float = 1.0,
        colsample_bytree: float = 1.0,
        colsample_bylevel: float = 1.0,
        colsample_bynode: float = 1.0,
        missing: bool | Sequence[int] = False,
        random_state: int | None = None,
        early_stopping_rounds: int | None = None,
        eval_metric: str | None = None,
        validation_fraction: float = 0.1,
        reveal_splits: bool | Sequence[str] = False,
        progress: bool = True,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.max_depth = max_depth
        self.max_bins = max_bins
        self.reg_lambda = reg_lambda
        self.min_child_weight = min_child_weight
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.colsample_bylevel = colsample_bylevel
        self.colsample_bynode = colsample_bynode
        self.missing = missing
        self.random_state = random_state
        self.early_stopping_rounds = early_stopping_rounds
        self.eval_metric = eval_metric
        self.validation_fraction = validation_fraction
        self.reveal_splits = reveal_splits
        self.progress = progress

    predicts = "numbers"

    @override
    def fit(
        self,
        X: Tensor | Sequence[Tensor],
        y: Tensor,
        sample_weight: Tensor | None = None,
        *,
        eval_set: EvalSet | Sequence[EvalSet] | None = None,
    ) -> Self:
        """Boost trees on the owners' columns.

        Args:
            X: the owners' secret tensors [rows, columns], each as its owner shared it.
            y: secret numbers, of shape [rows] or [rows, 1]. Domain: those that no single party knows have a deviation
                of at most 8 from zero.
            sample_weight: secret weights of the rows, from 0 to 64.
            eval_set: columns and numbers of rows to watch, ([xa, xb], y); reveals `eval_metric` of them after each
                tree.
        """
        self._check()
        parts = parts_of(X)
        weights = targets.sample_weights(targets.counted(y, sample_weight), len(parts[0]))
        if weights[0] is not None and self.reg_lambda < LEAST_LAMBDA:
            raise ConfigError(f"reg_lambda of weighted rows is at least {LEAST_LAMBDA}, not {self.reg_lambda!r}")
        y_ = fractional(targets.column(y, len(parts[0])))
        scaled, self._mean, self._spread = _standardized(y_)
        start = y_.protocol.public(torch.zeros(1, 1, dtype=torch.int64), y_.protocol.frac_bits)
        watched = None
        if eval_set is not None:
            found = eval_parts(parts, eval_set)
            of_eval = fractional(targets.column(found.y, found.rows, "y of eval_set"))
            watched = Watched(found.parts, _likewise(of_eval, self._mean, self._spread))
        known = self._spread if owned(y_.facts) is not None else None
        self._boost(parts, scaled, start, Squared(), weights, watched, known)
        return self

    def predict(self, X: Tensor | Sequence[Tensor]) -> SecretTensor:
        """The number for each row, [rows].

        Domain: numbers below 2^(62 - f) (2^46) in magnitude, whole ones too. An owner's are checked; of those that no
        single party knows, larger ones give wrong results.
        """
        scores = self._scores(X)
        product = scores.protocol.multiply(scores, self._spread).settle()
        return secret((product + self._mean).move(lambda t: t.squeeze(1), view=False))

    @override
    def _fitted(self) -> dict[str, Any]:
        return {"mean": secret(self._mean.fork()), "spread": secret(self._spread.fork())}

    @override
    def take_over(self, start: Number, classes: int) -> None:
        one = torch.full((1, 1), 1 << start.frac_bits)
        self._mean, self._spread = start, start.protocol.public(one, start.frac_bits)
        self._start, self.n_estimators_ = (
            start.protocol.public(torch.zeros_like(one), start.frac_bits),
            self.n_estimators,
        )

    @override
    def _refit(self, fitted: dict[str, Any]) -> None:
        self._mean, self._spread = arithmetic(fitted["mean"]), arithmetic(fitted["spread"])
        self._start = self._mean.protocol.public(torch.zeros(1, 1, dtype=torch.int64), self._mean.frac_bits)


def _standardized(y: Number) -> tuple[Number, Number, Number]:
    """(y - mean) / deviation, mean and deviation, by the owner of y; y, 0 and 1 if it has none."""
    protocol = y.protocol
    bits = protocol.frac_bits
    one = torch.full((1, 1), 1 << bits)
    if owned(y.facts) is None:
        return y, protocol.public(torch.zeros_like(one), bits), protocol.public(one, bits)

    def moments(t: Tensor) -> Tensor:
        real = t.to(torch.float64)
        deviation = float(real.std(correction=0))
        return torch.tensor([[round(float(real.mean())), max(round(deviation), 1)]])

    def scaled(t: Tensor) -> Tensor:
        mean, deviation = moments(t)[0].tolist()
        return encode((t - mean).to(torch.float64) / deviation, bits, name="y")

    both, out = by_owner(y, moments, (1, 2), bits), by_owner(y, scaled, y.shape, bits)
    assert both is not None
    assert out is not None
    mean, deviation = (both.move(lambda t, k=k: t[:, k : k + 1], view=False) for k in range(2))  # type: ignore[misc]
    return out, mean, deviation


def _likewise(y: Number, mean: Number, deviation: Number) -> Number:
    """(y - mean) / deviation, by the owner of all three; y where nobody has them."""
    whose, who = owned(mean.facts), owned(y.facts)
    if whose is None:
        return y
    if who is None or who.party != whose.party:
        raise DataError("the y of eval_set must be of the owner that has y of the other rows")
    units = owned(deviation.facts)
    assert units is not None

    def scaled(t: Tensor) -> Tensor:
        assert whose.value is not None
        assert units.value is not None
        return encode((t - whose.value).to(torch.float64) / units.value, y.frac_bits, name="y of eval_set")

    found = by_owner(y, scaled, y.shape, y.frac_bits)
    assert found is not None
    return found
