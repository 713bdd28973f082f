"""Gradient boosting on secrets, with scikit-learn's names and XGBoost's second-order gain.

    F <- F + learning_rate tree(g, h)        g, h the first two derivatives of the loss by F, of every row

Public are the shapes, the parameters, and which rows and columns a tree takes part in, which are drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from typing_extensions import override

from tacit.api import reveal
from tacit.data.batches import leads, progress_bar
from tacit.ensemble import targets
from tacit.ensemble.columns import Columns, binned, parts_of
from tacit.ensemble.estimator import Estimator, barred_columns, check_fraction, check_whole
from tacit.ensemble.grow import Barred, grow
from tacit.ensemble.losses import Logistic, Loss, Multinomial, Squared
from tacit.ensemble.splits import Scoring
from tacit.ensemble.trees import Trees
from tacit.errors import ConfigError, DataError
from tacit.functions.labels import by_owner
from tacit.functions.linear import fractional
from tacit.functions.maximum import Maximum
from tacit.functions.sigmoid import sigmoid
from tacit.functions.softmax import Softmax
from tacit.protocols.number import Number
from tacit.protocols.remembered import owned
from tacit.ring.fixed_point import encode
from tacit.session.ledger import where
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, secret

__all__ = ["GradientBoostingClassifier", "GradientBoostingRegressor"]

LEAST_LAMBDA = 2.0**-6
"""The smallest `reg_lambda` of a loss whose curvature may vanish: below, a leaf's value might be as large as 64 n."""


class _Boosting(Estimator):
    """What classifiers and regressors have in common."""

    learning_rate: float
    subsample: float
    colsample_bytree: float
    early_stopping_rounds: int | None
    validation_fraction: float
    reveal_splits: bool
    progress: bool

    def _check(self) -> None:
        self._check_common()
        check_fraction("learning_rate", self.learning_rate)
        check_fraction("subsample", self.subsample)
        check_fraction("colsample_bytree", self.colsample_bytree)
        check_fraction("validation_fraction", self.validation_fraction)
        if self.early_stopping_rounds is not None:
            check_whole("early_stopping_rounds", self.early_stopping_rounds, 1, 100_000)

    def _boost(
        self,
        parts: Sequence[SecretTensor],
        y: Number,
        start: Number,
        loss: Loss,
        weights: tuple[Number | None, float],
    ) -> None:
        """Grow trees for targets [rows, outputs], from the scores [1, outputs]."""
        rows, outputs = y.shape
        described = f"{type(self).__name__}.fit({rows} rows, {outputs} outputs, {self.get_params()})"
        y.protocol.session.transcript.record(described, b"", where())
        columns = binned(parts, self.max_bins, chosen=2 * outputs << self.max_depth)
        scores = start.move(lambda t: t.expand(rows, outputs).contiguous(), view=False)
        drawn = self._drawn()
        held = self._held_out(rows, drawn)
        watch = _Watch(loss, y, held, self.early_stopping_rounds)
        grown = []
        w, most = weights
        with progress_bar(self.n_estimators, shown=self.progress and leads(parts)) as advance:
            for k in range(self.n_estimators):
                g, h = loss.gradients(scores, y)
                if w is not None:
                    g, h = _weighed(g, h, w)
                scoring = Scoring.of(
                    rows * most,
                    loss.curvature,
                    h.frac_bits,
                    reg_lambda=self.reg_lambda,
                    min_child_weight=self.min_child_weight,
                    learning_rate=self.learning_rate,
                    least=loss.least if w is None else None,
                )
                sums = _sums(g, h)
                if self.subsample < 1 or held is not None:
                    sums = _of_rows(sums, self.subsample, held, drawn)
                barred = self._barred(columns, outputs, drawn)
                tree = grow(columns, sums, self.max_depth, scoring, barred)
                grown.append(tree)
                assert tree.update is not None
                scores = scores + tree.update.move(lambda t: t.squeeze(2), view=False)
                advance(f"tree {k + 1}/{self.n_estimators}")
                if watch.stops(scores):
                    break
        self.validation_scores_ = watch.losses
        grown = grown[: watch.best or len(grown)]
        self.n_estimators_ = len(grown)
        self.trees_ = Trees.of(columns, grown)
        self._start = start
        self.n_features_in_ = self.trees_.columns
        if self.reveal_splits:
            self.trees_.give_splits(columns)

    def _held_out(self, rows: int, drawn: torch.Generator | None) -> Tensor | None:
        """The rows that no tree is grown on, if early stopping needs some; public."""
        if self.early_stopping_rounds is None:
            return None
        count = max(1, round(rows * self.validation_fraction))
        if count >= rows:
            raise DataError(f"early stopping holds {count} of {rows} rows out, and none is left to grow trees on")
        return torch.randperm(rows, generator=drawn)[:count]

    def _barred(self, columns: Sequence[Columns], trees: int, drawn: torch.Generator | None) -> Barred | None:
        """The candidates of columns that a tree may not look at."""
        count = sum(c.columns for c in columns)
        keep = max(1, round(count * self.colsample_bytree))
        if keep == count:
            return None
        barred = barred_columns(count, keep, self.max_bins, (trees, 1), drawn)
        return lambda nodes: barred

    def _scores(self, x: Tensor | Sequence[Tensor]) -> Number:
        """F of each row, [rows, outputs]."""
        parts = self._rows(x)
        outputs = self._start.shape[1]
        values = self.trees_.values(parts, lambda t: t.reshape(len(t), -1, outputs).sum(1))
        return values + self._start.move(lambda t: t.expand(values.shape), view=False)


def _weighed(g: Number, h: Number, w: Number) -> tuple[Number, Number]:
    """Both times the weight of each row, as fine as before. Two rounds."""
    protocol = g.protocol
    fine = min(h.frac_bits, 24)
    protocol.together(g, w, *([h] if h.frac_bits > fine else []))
    products = [protocol.multiply(g, w), protocol.multiply(h.settle(fine), w)]
    weighed, curved = products[0].settle(protocol.frac_bits), products[1]
    return weighed, curved.settle(32)


def _sums(g: Number, h: Number) -> Number:
    """[rows, trees, 2], with the session's fractional bits by name."""
    h = h.move(lambda t: t, view=False).declare(frac_bits=g.frac_bits, positive=False)
    return g.combined(lambda a, b: torch.stack([a, b], 2), h)


def _of_rows(sums: Number, share: float, held: Tensor | None, drawn: torch.Generator | None) -> Number:
    """Zeros in all rows but those that each tree is grown on."""
    rows, trees, _ = sums.shape
    order = torch.rand(rows, trees, generator=drawn, dtype=torch.float64)
    if held is not None:
        order[held] = 2.0
    left = rows - (0 if held is None else len(held))
    keep = max(1, round(left * share))
    chosen = torch.zeros(rows, trees, dtype=torch.int64).scatter(0, order.argsort(0)[:keep], 1).unsqueeze(2)
    return sums.linear(lambda t: t * chosen.to(t.device))


class _Watch:
    """The loss on rows that were held out, revealed to all after each tree, and when it has stopped falling."""

    def __init__(self, loss: Loss, y: Number, held: Tensor | None, patience: int | None) -> None:
        self._loss, self._y, self._held, self._patience = loss, y, held, patience
        self.losses: list[float] = []

    @property
    def best(self) -> int | None:
        """How many trees have the lowest loss, the first of them."""
        return 1 + self.losses.index(min(self.losses)) if self.losses else None

    def stops(self, scores: Number) -> bool:
        """Whether the loss is no lower than so many trees before."""
        if self._held is None or self._patience is None:
            return False
        held = self._held
        f, y = (secret(x.move(lambda t: t[held.to(t.device)], view=False)) for x in (scores, self._y))
        self.losses.append(float(reveal(self._loss.mean(f, y), to="all", name="validation loss")))
        return len(self.losses) - (self.best or 0) >= self._patience


class GradientBoostingClassifier(_Boosting):
    """Boosted trees for classes, grown on columns of several owners.

    ::

        model = GradientBoostingClassifier(n_estimators=20, max_depth=4)
        model.fit([xa, xb], y)
        chance = model.predict_proba([xa, xb])[:, 1]

    Args:
        n_estimators: rounds of boosting, each with a tree, or one for each of more than two classes.
        learning_rate: what each tree's values are multiplied by.
        max_depth: levels of each tree; all trees are full.
        max_bins: of each column, which its owner makes.
        reg_lambda: added to the sum of curvatures of a leaf.
        min_child_weight: the least sum of curvatures on either side of a split.
        subsample: the share of rows that each tree is grown on, drawn in public.
        colsample_bytree: the share of columns that each tree may look at, drawn in public.
        class_weight: a dict of weights by class, or "balanced", for which the labels' owner counts.
        n_classes: how many classes there are, if not two or what `tacit.share(…, classes=…)` was told.
        random_state: seed of the public choices; the session's generator if not given.
        base_score: the probability to start from, for two classes; the share of ones, if their owner knows it.
        early_stopping_rounds: stop after so many trees that did not lower the loss on rows that are held out, and keep
            the best number of trees. Reveals that loss to all after each tree, named "validation loss".
        validation_fraction: the share of rows that are held out for that, drawn in public.
        reveal_splits: give every owner the splits on its own columns, named "splits of" and the owner. Predictions for
            rows whose columns their owners have need neither products nor comparisons then.
        progress: whether to show a progress bar where there is a terminal.
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
        class_weight: Mapping[int, float] | str | None = None,
        n_classes: int | None = None,
        random_state: int | None = None,
        base_score: float | None = None,
        early_stopping_rounds: int | None = None,
        validation_fraction: float = 0.1,
        reveal_splits: bool = False,
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
        self.class_weight = class_weight
        self.n_classes = n_classes
        self.random_state = random_state
        self.base_score = base_score
        self.early_stopping_rounds = early_stopping_rounds
        self.validation_fraction = validation_fraction
        self.reveal_splits = reveal_splits
        self.progress = progress

    @override
    def fit(self, X: Tensor | Sequence[Tensor], y: Tensor, sample_weight: Tensor | None = None) -> Self:
        """Boost trees on the owners' columns.

        Args:
            X: the owners' secret tensors [rows, columns], each as its owner shared it.
            y: secret labels 0 to classes - 1, of shape [rows] or [rows, 1].
            sample_weight: secret weights of the rows, from 0 to 64.

        Raises:
            DataError: at the owner, for labels or weights that are none; at all, for shapes that do not fit.
        """
        self._check()
        if self.n_classes is not None:
            check_whole("n_classes", self.n_classes, 2, 1000)
        if self.reg_lambda < LEAST_LAMBDA:
            raise ConfigError(f"reg_lambda of a classifier is at least {LEAST_LAMBDA}, not {self.reg_lambda!r}")
        parts = parts_of(X)
        label, classes = targets.labels(targets.column(y, len(parts[0])), self.n_classes)
        weights = self._weights(label, classes, sample_weight, len(parts[0]))
        start = self._begin(label, classes, weights[0])
        loss: Loss = Logistic() if classes == 2 else Multinomial()
        self._boost(parts, targets.spread(label, classes), start, loss, weights)
        self._name(classes)
        return self

    def _weights(
        self, label: Number, classes: int, sample_weight: Tensor | None, rows: int
    ) -> tuple[Number | None, float]:
        by_class = targets.class_weights(label, self.class_weight, classes)
        given = targets.sample_weights(sample_weight, rows)
        if by_class[0] is None or given[0] is None:
            return given if by_class[0] is None else by_class
        raise ConfigError("give class_weight or sample_weight, not both: multiply them where the weights are known")

    def _begin(self, label: Number, classes: int, weights: Number | None) -> Number:
        if self.base_score is None:
            return targets.log_odds(label, weights, classes)
        if classes > 2:
            raise ConfigError("base_score is for two classes")
        p = self.base_score
        if not isinstance(p, float) or not 0 < p < 1:
            raise ConfigError(f"base_score is a probability above 0 and below 1, not {p!r}")
        bits = label.protocol.frac_bits
        return label.protocol.public(torch.tensor([[round(math.log(p / (1 - p)) * 2**bits)]]), bits)

    def _name(self, classes: int) -> None:
        self.classes_ = list(range(classes))
        self.n_classes_ = classes

    def decision_function(self, X: Tensor | Sequence[Tensor]) -> SecretTensor:
        """The scores F of each row: log-odds [rows], or one for each class [rows, classes]."""
        scores = self._scores(X)
        if self.n_classes_ == 2:
            scores = scores.move(lambda t: t.squeeze(1), view=False)
        return secret(scores)

    def predict_proba(self, X: Tensor | Sequence[Tensor]) -> SecretTensor:
        """The probability of each class, [rows, classes]."""
        scores = self._scores(X)
        if self.n_classes_ > 2:
            return secret(Softmax.of(scores, 1).value().settle())
        one = sigmoid(scores).settle()
        other = (-one).plus(torch.tensor(1 << one.frac_bits))
        return secret(other.joined(one, 1))

    def predict(self, X: Tensor | Sequence[Tensor]) -> SecretTensor:
        """The likeliest class of each row, int64 [rows]."""
        scores = self._scores(X)
        if self.n_classes_ > 2:
            turned = scores.move(lambda t: t.t(), view=False)
            return secret(Maximum(turned).indices, torch.int64)
        above = scores.protocol.less(scores, [1])[0].invert().arithmetic()
        return secret(above.move(lambda t: t.squeeze(1), view=False), torch.int64)

    @override
    def _fitted(self) -> dict[str, Any]:
        return {"start": secret(self._start.fork()), "classes": self.n_classes_}

    @override
    def take_over(self, start: Number, classes: int) -> None:
        self._start, self.n_estimators_ = start, self.n_estimators
        self._name(classes)

    @override
    def _refit(self, fitted: dict[str, Any]) -> None:
        self._start = arithmetic(fitted["start"])
        self._name(fitted["classes"])


class GradientBoostingRegressor(_Boosting):
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
        random_state: int | None = None,
        early_stopping_rounds: int | None = None,
        validation_fraction: float = 0.1,
        reveal_splits: bool = False,
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
        self.random_state = random_state
        self.early_stopping_rounds = early_stopping_rounds
        self.validation_fraction = validation_fraction
        self.reveal_splits = reveal_splits
        self.progress = progress

    @override
    def fit(self, X: Tensor | Sequence[Tensor], y: Tensor, sample_weight: Tensor | None = None) -> Self:
        """Boost trees on the owners' columns.

        Args:
            X: the owners' secret tensors [rows, columns], each as its owner shared it.
            y: secret numbers, of shape [rows] or [rows, 1]. Domain: those that no single party knows have a deviation
                of at most 8 from zero.
            sample_weight: secret weights of the rows, from 0 to 64.
        """
        self._check()
        parts = parts_of(X)
        weights = targets.sample_weights(sample_weight, len(parts[0]))
        if weights[0] is not None and self.reg_lambda < LEAST_LAMBDA:
            raise ConfigError(f"reg_lambda of weighted rows is at least {LEAST_LAMBDA}, not {self.reg_lambda!r}")
        y_ = fractional(targets.column(y, len(parts[0])))
        scaled, self._mean, self._spread = _standardized(y_)
        start = y_.protocol.public(torch.zeros(1, 1, dtype=torch.int64), y_.protocol.frac_bits)
        self._boost(parts, scaled, start, Squared(), weights)
        return self

    def predict(self, X: Tensor | Sequence[Tensor]) -> SecretTensor:
        """The number for each row, [rows]."""
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
