"""A random forest on secrets: trees that are grown side by side, on rows and columns that are drawn in public.

With g = -[y = c] and h = 1 for each row, weighed by how often a tree has drawn it, the gain of `splits` is that of
Gini's impurity, and a leaf's value -G / H is the share of each class in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from typing_extensions import override

from tacit.data.batches import leads, progress_bar
from tacit.ensemble import targets
from tacit.ensemble.columns import binned, parts_of
from tacit.ensemble.estimator import Estimator, barred_columns, check_fraction, check_whole, drawn_columns
from tacit.ensemble.grow import grow
from tacit.ensemble.missing import flagged
from tacit.ensemble.splits import Scoring
from tacit.ensemble.trees import Trees
from tacit.errors import ConfigError, DataError
from tacit.functions.linear import times_public
from tacit.functions.maximum import Maximum
from tacit.protocols.number import Number
from tacit.session.ledger import where
from tacit.tensor import SecretTensor
from tacit.tensor.operands import secret

__all__ = ["RandomForestClassifier"]

BATCH, CANDIDATES = 1 << 22, 1 << 18
"""Rows times leaves, and candidates times nodes of the last level, of the trees that are grown side by side. More:
fewer rounds; fewer: less memory, some 100 bytes for each of the first, and some 2,000 for each of the second."""


class RandomForestClassifier(Estimator):
    """A random forest for classes, grown on columns of several owners.

    Args:
        n_estimators: trees.
        max_depth: levels of each tree; all trees are full.
        max_features: columns that are drawn for each node: "sqrt", "log2", a number, a share, or None for all.
        bootstrap: whether each tree has as many rows as there are, drawn with replacement.
        max_samples: the share of rows that a tree draws, if it does.
        min_samples_leaf: the least number of rows on either side of a split.
        max_bins: of each column, which its owner makes.
        n_classes: how many classes there are, if not two or what `tacit.share(…, classes=…)` was told.
        missing: whether numbers may be missing, as `tacit.ensemble.MISSING`: in all columns if True, or in those that
            are named by their places. Each split learns where such rows go. Such a column counts twice in the cost.
        random_state: seed of the public choices; the session's generator if not given.
        progress: whether to show a progress bar where there is a terminal.
    """

    reg_lambda = 0.0

    def __init__(
        self,
        *,
        n_estimators: int = 100,
        max_depth: int = 5,
        max_features: str | int | float | None = "sqrt",
        bootstrap: bool = True,
        max_samples: float = 1.0,
        min_samples_leaf: int = 1,
        max_bins: int = 32,
        n_classes: int | None = None,
        missing: bool | Sequence[int] = False,
        random_state: int | None = None,
        progress: bool = True,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.max_features = max_features
        self.bootstrap = bootstrap
        self.max_samples = max_samples
        self.min_samples_leaf = min_samples_leaf
        self.max_bins = max_bins
        self.n_classes = n_classes
        self.missing = missing
        self.random_state = random_state
        self.progress = progress

    @property
    def min_child_weight(self) -> float:  # type: ignore[override]
        """`min_samples_leaf`, as sums of curvatures have it."""
        return float(self.min_samples_leaf)

    @override
    def fit(self, X: Tensor | Sequence[Tensor], y: Tensor) -> Self:
        """Grow trees on the owners' columns; see `GradientBoostingClassifier.fit`."""
        check_whole("min_samples_leaf", self.min_samples_leaf, 1, 1 << 20)
        self._check_common()
        check_fraction("max_samples", self.max_samples)
        if self.n_classes is not None:
            check_whole("n_classes", self.n_classes, 2, 1000)
        if targets.counted(y, None) is not None:
            raise DataError("of these rows some are nobody's, and a forest counts all: boost trees, which take weights")
        parts = parts_of(X)
        rows = len(parts[0])
        flags = flagged(self.missing, sum(p.shape[1] for p in parts))
        keep = self._kept(len(flags))
        label, classes = targets.labels(targets.column(y, rows), self.n_classes)
        described = f"{type(self).__name__}.fit({rows} rows, {classes} classes, {self.get_params()})"
        label.protocol.session.transcript.record(described, b"", where())
        columns = binned(parts, self.max_bins, flags)
        of_class = targets.spread(label, classes)
        drawn = self._drawn()
        bits = label.protocol.frac_bits
        scoring = Scoring.of(
            rows, 1.0, bits, reg_lambda=0.0, min_child_weight=self.min_samples_leaf - 0.5, learning_rate=1.0, least=1.0
        )
        candidates = (1 + sum(c.candidates for c in columns)) << self.max_depth - 1
        batch = max(1, min(BATCH // (rows << self.max_depth), CANDIDATES // candidates))
        grown = []
        with progress_bar(self.n_estimators, shown=self.progress and leads(parts)) as advance:
            for start in range(0, self.n_estimators, batch):
                trees = min(batch, self.n_estimators - start)
                sums = _sums(of_class, self._counts(rows, trees, drawn))

                def barred(nodes: int, trees: int = trees) -> Tensor:
                    every = torch.ones(len(flags), trees, 1, dtype=torch.bool)
                    return barred_columns(flags, self._edges(flags), drawn_columns(every, keep, nodes, drawn))

                grown.append(grow(columns, sums, self.max_depth, scoring, barred, update=False))
                for k in range(trees):
                    advance(f"tree {start + k + 1}/{self.n_estimators}")
        self._grown(Trees.of(columns, grown), len(flags))
        self._name(classes)
        return self

    def _kept(self, columns: int) -> int:
        """How many columns are drawn for a node."""
        most = self.max_features
        if most is None:
            return columns
        if most in ("sqrt", "log2"):
            return max(1, int(columns**0.5 if most == "sqrt" else columns.bit_length() - 1))
        if isinstance(most, float) and 0 < most <= 1:
            return max(1, int(most * columns))
        if isinstance(most, int) and not isinstance(most, bool) and 1 <= most <= columns:
            return most
        raise ConfigError(
            f'max_features is "sqrt", "log2", a share, a number up to {columns}, or None for all, not {most!r}'
        )

    def _counts(self, rows: int, trees: int, drawn: torch.Generator | None) -> Tensor:
        """How often each tree has drawn each row, [rows, trees]. Public."""
        count = max(1, round(rows * self.max_samples))
        if not self.bootstrap:
            if count == rows:
                return torch.ones(rows, trees, dtype=torch.int64)
            order = torch.rand(rows, trees, generator=drawn, dtype=torch.float64).argsort(0)
            return torch.zeros(rows, trees, dtype=torch.int64).scatter(0, order[:count], 1)
        places = torch.randint(rows, (count, trees), generator=drawn)
        return torch.zeros(rows, trees, dtype=torch.int64).scatter_add(0, places, torch.ones_like(places))

    def _name(self, classes: int) -> None:
        self.classes_ = list(range(classes))
        self.n_classes_ = classes

    def _totals(self, x: Tensor | Sequence[Tensor]) -> Number:
        """The sum over trees of each class's share, [rows, classes], or that of class 1 alone where there are two."""
        return self.trees_.values(self._rows(x), lambda t: t.sum(1))

    def predict_proba(self, X: Tensor | Sequence[Tensor]) -> SecretTensor:
        """The probability of each class, [rows, classes]: the mean of the trees'.

        Domain: numbers below 2^(62 - f) (2^46) in magnitude, whole ones too. An owner's are checked; of those that no
        single party knows, larger ones give wrong results.
        """
        mean = times_public(self._totals(X), torch.tensor(1 / self.trees_.count, dtype=torch.float64)).settle()
        if self.n_classes_ > 2:
            return secret(mean)
        return secret((-mean).plus(torch.tensor(1 << mean.frac_bits)).joined(mean, 1))

    def predict(self, X: Tensor | Sequence[Tensor]) -> SecretTensor:
        """The likeliest class of each row, int64 [rows].

        Domain: numbers below 2^(62 - f) (2^46) in magnitude, whole ones too. An owner's are checked; of those that no
        single party knows, larger ones give wrong results.
        """
        totals = self._totals(X)
        if self.n_classes_ > 2:
            return secret(Maximum(totals.move(lambda t: t.t(), view=False)).indices, torch.int64)
        half = self.trees_.count << totals.frac_bits - 1
        above = totals.protocol.less(totals, [half + 1])[0].invert().arithmetic()
        return secret(above.move(lambda t: t.squeeze(1), view=False), torch.int64)

    @override
    def _fitted(self) -> dict[str, Any]:
        return {"classes": self.n_classes_}

    @override
    def take_over(self, start: Number, classes: int) -> None:
        self._name(classes)

    @override
    def _refit(self, fitted: dict[str, Any]) -> None:
        self._name(fitted["classes"])


def _sums(of_class: Number, counts: Tensor) -> Number:
    """-[y = c] and 1 of each row, as often as each tree has drawn it, [rows, trees, classes and 1]."""
    bits = of_class.frac_bits
    often = counts.unsqueeze(2)
    g = of_class.linear(lambda t: t.unsqueeze(1) * -often.to(t.device))
    h = of_class.protocol.public(often << bits, bits)
    return g.combined(lambda a, b: torch.cat([a, b], 2), h)
