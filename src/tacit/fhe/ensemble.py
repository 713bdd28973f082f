"""scikit-learn's forests and boosted forests, predicting on ciphertexts, and those of XGBoost and LightGBM.

The client learns the sum over all trees, never a tree's own vote: see `ForestProgram`.
"""

from __future__ import annotations

from sklearn import ensemble as sk

from tacit.fhe.compile.forest import Forest
from tacit.fhe.compile.sklearn_trees import (
    averages,
    bagged_averages,
    bagged_fractions,
    fractions,
    gradient_boosting,
    histogram_boosting,
    isolation,
    weighted_votes,
)
from tacit.fhe.encode import Float
from tacit.fhe.estimator import WithDecision, WithProba, quantized
from tacit.fhe.tree import TreeSums
from tacit.fhe.voting import VotingClassifier, VotingRegressor

__all__ = [
    "AdaBoostClassifier",
    "BaggingClassifier",
    "BaggingRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "GradientBoostingClassifier",
    "GradientBoostingRegressor",
    "HistGradientBoostingClassifier",
    "HistGradientBoostingRegressor",
    "IsolationForest",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "VotingClassifier",
    "VotingRegressor",
]


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class RandomForestClassifier(WithProba, TreeSums, sk.RandomForestClassifier):
    """A random forest for classes, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return fractions(self, list(self.estimators_))


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class RandomForestRegressor(TreeSums, sk.RandomForestRegressor):
    """A random forest for numbers, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return averages(self, list(self.estimators_))


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class ExtraTreesClassifier(WithProba, TreeSums, sk.ExtraTreesClassifier):
    """Extremely randomised trees for classes, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return fractions(self, list(self.estimators_))


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class ExtraTreesRegressor(TreeSums, sk.ExtraTreesRegressor):
    """Extremely randomised trees for numbers, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return averages(self, list(self.estimators_))


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class GradientBoostingClassifier(WithProba, WithDecision, TreeSums, sk.GradientBoostingClassifier):
    """Gradient-boosted trees for classes, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return gradient_boosting(self, x)


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class GradientBoostingRegressor(TreeSums, sk.GradientBoostingRegressor):
    """Gradient-boosted trees for numbers, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return gradient_boosting(self, x)


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class HistGradientBoostingClassifier(WithProba, WithDecision, TreeSums, sk.HistGradientBoostingClassifier):
    """Histogram-based gradient-boosted trees for classes, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return histogram_boosting(self, x)


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class HistGradientBoostingRegressor(TreeSums, sk.HistGradientBoostingRegressor):
    """Histogram-based gradient-boosted trees for numbers, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return histogram_boosting(self, x)


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class BaggingClassifier(WithProba, TreeSums, sk.BaggingClassifier):
    """Bagged decision trees for classes, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return bagged_fractions(self)


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class BaggingRegressor(TreeSums, sk.BaggingRegressor):
    """Bagged decision trees for numbers, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return bagged_averages(self)


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class AdaBoostClassifier(WithProba, WithDecision, TreeSums, sk.AdaBoostClassifier):
    """AdaBoost of decision trees for classes, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return weighted_votes(self)


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class IsolationForest(WithDecision, TreeSums, sk.IsolationForest):
    """An isolation forest: which rows are anomalies, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return isolation(self)
