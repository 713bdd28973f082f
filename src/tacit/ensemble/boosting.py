"""Gradient boosting on secrets, with scikit-learn's names and XGBoost's second-order gain.

    F <- F + learning_rate tree(g, h)        g, h the first two derivatives of the loss by F, of every row

Public are the shapes, the parameters, and which rows and columns a tree takes part in, which are drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from typing_extensions import override

from tacit.data.batches import leads, progress_bar
from tacit.data.read import named_columns
from tacit.ensemble import targets
from tacit.ensemble.columns import binned, parts_of
from tacit.ensemble.estimator import Estimator, barred_columns, check_fraction, check_whole, drawn_columns
from tacit.ensemble.grow import Barred, grow
from tacit.ensemble.losses import Logistic, Loss, Multinomial
from tacit.ensemble.missing import Flags, flagged
from tacit.ensemble.splits import Scoring
from tacit.ensemble.trees import Trees
from tacit.ensemble.watching import EvalSet, Watch, check_metric, eval_parts
from tacit.errors import ConfigError, DataError
from tacit.functions.maximum import Maximum
from tacit.functions.sigmoid import sigmoid
from tacit.functions.softmax import Softmax
from tacit.protocols.number import Number
from tacit.protocols.remembered import owned
from tacit.session.ledger import where
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, secret

__all__ = ["LEAST_LAMBDA", "Boosting", "GradientBoostingClassifier", "Watched"]

LEAST_LAMBDA = 2.0**-6
"""The smallest `reg_lambda` of a loss whose curvature may vanish: below, a leaf's value might be as large as 64 n."""


class Watched(NamedTuple):
    """Rows that no tree is grown on, behind those that some are: the columns of all, and their own targets."""

    parts: list[SecretTensor]
    y: Number


class Boosting(Estimator):
    """What classifiers and regressors have in common."""

    learning_rate: float
    subsample: float
    colsample_bytree: float
    colsample_bylevel: float
    colsample_bynode: float
    early_stopping_rounds: int | None
    eval_metric: str | None
    validation_fraction: float
    reveal_splits: bool | Sequence[str]
    progress: bool
    predicts: ClassVar[str]
    """Whether "classes" or "numbers"."""

    def _check(self) -> None:
        self._check_common()
        check_fraction("learning_rate", self.learning_rate)
        check_fraction("subsample", self.subsample)
        for name in ("colsample_bytree", "colsample_bylevel", "colsample_bynode"):
            check_fraction(name, getattr(self, name))
        check_fraction("validation_fraction", self.validation_fraction)
        if self.early_stopping_rounds is not None:
            check_whole("early_stopping_rounds", self.early_stopping_rounds, 1, 100_000)
        check_metric(self.eval_metric, self.predicts)

    def _boost(
        self,
        parts: Sequence[SecretTensor],
        y: Number,
        start: Number,
        loss: Loss,
        weights: tuple[Number | None, float],
        watched: Watched | None = None,
        spread: Number | None = None,
    ) -> None:
        """Grow trees for targets [rows, outputs], from the scores [1, outputs]; rows to watch have their own targets.

        `spread` is what one of the loss is in units of y.
        """
        (w, most), (rows, outputs) = weights, y.shape
        names = [named_columns(p) for p in parts]
        described = f"{type(self).__name__}.fit({rows} rows, {outputs} outputs, {self.get_params()})"
        y.protocol.session.transcript.record(described, b"", where())
        if watched is not None:
            parts, y = watched.parts, y.joined(watched.y)
            if w is not None:
                none = torch.zeros(y.shape[0] - rows, 1, dtype=torch.int64)
                w = w.joined(w.protocol.public(none, w.frac_bits))
        every = y.shape[0]
        self._check_receivers(parts)
        flags = flagged(self.missing, sum(p.shape[1] for p in parts))
        columns = binned(parts, self.max_bins, flags, first=rows, chosen=2 * outputs << self.max_depth)
        scores = start.move(lambda t: t.expand(every, outputs).contiguous(), view=False)
        drawn = self._drawn()
        held = self._held_out(rows, drawn) if watched is None else torch.arange(rows, every)
        watch = Watch(loss, y, held, self.early_stopping_rounds, self.eval_metric, spread)
        grown = []
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
                    lightest=True,
                )
                sums = _sums(g, h)
                if self.subsample < 1 or held is not None:
                    sums = _of_rows(sums, self.subsample, held, drawn)
                barred = self._barred(flags, outputs, drawn)
                tree = grow(columns, sums, self.max_depth, scoring, barred)
                grown.append(tree)
                assert tree.update is not None
                scores = scores + tree.update.move(lambda t: t.squeeze(2), view=False)
                advance(f"tree {k + 1}/{self.n_estimators}")
                if watch.stops(scores):
                    break
        self.validation_scores_ = watch.scores
        grown = grown[: watch.best or len(grown)]
        self.n_estimators_ = len(grown)
        self._grown(Trees.of(columns, grown), len(flags))
        self._start = start
        self.feature_names_in_ = [name for part in names for name in part or ()] if all(names) else None
        if self.reveal_splits:
            self.trees_.give_splits(columns, None if self.reveal_splits is True else self.reveal_splits)

    def _check_receivers(self, parts: Sequence[SecretTensor]) -> None:
        """Raise for a name of `reveal_splits` that has no columns here."""
        if isinstance(self.reveal_splits, bool):
            return
        session = parts[0].share.protocol.session
        known = [owned(p.share.facts) for p in parts]
        owners = {session.parties[k.party] for k in known if k is not None}
        if isinstance(self.reveal_splits, str) or set(self.reveal_splits) - owners:
            raise ConfigError(f"reveal_splits is True, False or a list of owners of columns, {sorted(owners)}")

    def _held_out(self, rows: int, drawn: torch.Generator | None) -> Tensor | None:
        """The rows that no tree is grown on, if early stopping needs some; public."""
        if self.early_stopping_rounds is None:
            return None
        count = max(1, round(rows * self.validation_fraction))
        if count >= rows:
            raise DataError(f"early stopping holds {count} of {rows} rows out, and none is left to grow trees on")
        return torch.randperm(rows, generator=drawn)[:count]

    def _barred(self, flags: Flags, trees: int, drawn: torch.Generator | None) -> Barred | None:
        """The candidates of columns that a tree may not look at."""
        keep = [len(flags)]
        for share in (self.colsample_bytree, self.colsample_bylevel, self.colsample_bynode):
            keep.append(max(1, round(keep[-1] * share)))
        if keep[-1] == len(flags):
            return None
        of_tree = drawn_columns(torch.ones(len(flags), trees, 1, dtype=torch.bool), keep[1], 1, drawn)

        def barred(nodes: int) -> Tensor:
            of_level = drawn_columns(of_tree, keep[2], 1, drawn)
            return barred_columns(flags, self._edges(flags), drawn_columns(of_level, keep[3], nodes, drawn))

        return barred

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


class GradientBoostingClassifier(Boosting):
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
        colsample_bylevel: the share of these that each level of it may look at, likewise.
        colsample_bynode: the share of those that each node may look at, likewise.
        class_weight: a dict of weights by class, or "balanced", for which the labels' owner counts.
        n_classes: how many classes there are, if not two or what `tacit.share(…, classes=…)` was told.
        missing: whether numbers may be missing, as `tacit.ensemble.MISSING`: in all columns if True, or in those that
            are named by their places. Each split learns where such rows go. Such a column counts twice in the cost.
        random_state: seed of the public choices; the session's generator if not given.
        base_score: the probability to start from, for two classes; the share of ones, if their owner knows it.
        early_stopping_rounds: stop after so many trees that made the measure on rows that are held out no better, and
            keep the best number of trees. Reveals that measure to all after each tree, named "validation loss", or
            "validation" and `eval_metric`.
        eval_metric: "logloss", "error" or "auc"; the loss if not given. Of numbers "rmse" or "mae", in units of y; the
            loss is (y - F)² in deviations.
        validation_fraction: the share of rows that are held out for that, drawn in public, if `fit` gets no eval_set.
        reveal_splits: give owners the splits on their own columns, named "splits of" and the owner: all of them if
            True, or those that are named. `splits_of` shows them to their owner. Predictions for rows whose columns
            their owners have need neither products nor comparisons if all were given theirs.
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
        colsample_bylevel: float = 1.0,
        colsample_bynode: float = 1.0,
        class_weight: Mapping[int, float] | str | None = None,
        n_classes: int | None = None,
        missing: bool | Sequence[int] = False,
        random_state: int | None = None,
        base_score: float | None = None,
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
        self.class_weight = class_weight
        self.n_classes = n_classes
        self.missing = missing
        self.random_state = random_state
        self.base_score = base_score
        self.early_stopping_rounds = early_stopping_rounds
        self.eval_metric = eval_metric
        self.validation_fraction = validation_fraction
        self.reveal_splits = reveal_splits
        self.progress = progress

    predicts = "classes"

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
            y: secret labels 0 to classes - 1, of shape [rows] or [rows, 1].
            sample_weight: secret weights of the rows, from 0 to 64.
            eval_set: columns and labels of rows to watch, ([xa, xb], y); reveals `eval_metric` of them after each tree.

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
        weights = self._weights(label, classes, targets.counted(y, sample_weight), len(parts[0]))
        start = self._begin(label, classes, weights[0])
        loss: Loss = Logistic() if classes == 2 else Multinomial()
        watched = None
        if eval_set is not None:
            if self.eval_metric == "auc" and classes > 2:
                raise ConfigError('eval_metric="auc" is for two classes')
            found = eval_parts(parts, eval_set)
            of_eval, _ = targets.labels(targets.column(found.y, found.rows, "y of eval_set"), classes, "y of eval_set")
            watched = Watched(found.parts, targets.spread(of_eval, classes))
        self._boost(parts, targets.spread(label, classes), start, loss, weights, watched)
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
        """The scores F of each row: log-odds [rows], or one for each class [rows, classes].

        Domain: numbers below 2^(62 - f) (2^46) in magnitude, whole ones too. An owner's are checked; of those that no
        single party knows, larger ones give wrong results.
        """
        scores = self._scores(X)
        if self.n_classes_ == 2:
            scores = scores.move(lambda t: t.squeeze(1), view=False)
        return secret(scores)

    def predict_proba(self, X: Tensor | Sequence[Tensor]) -> SecretTensor:
        """The probability of each class, [rows, classes].

        Domain: numbers below 2^(62 - f) (2^46) in magnitude, whole ones too. An owner's are checked; of those that no
        single party knows, larger ones give wrong results.
        """
        scores = self._scores(X)
        if self.n_classes_ > 2:
            return secret(Softmax.of(scores, 1).value().settle())
        one = sigmoid(scores).settle()
        other = (-one).plus(torch.tensor(1 << one.frac_bits))
        return secret(other.joined(one, 1))

    def predict(self, X: Tensor | Sequence[Tensor]) -> SecretTensor:
        """The likeliest class of each row, int64 [rows].

        Domain: numbers below 2^(62 - f) (2^46) in magnitude, whole ones too. An owner's are checked; of those that no
        single party knows, larger ones give wrong results.
        """
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
