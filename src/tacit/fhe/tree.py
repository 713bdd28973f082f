"""scikit-learn's decision trees, predicting on ciphertexts.

`n_bits` (default 6) bounds the thresholds of a column, `hide_thresholds` keeps from the client which ones the model
uses. With `hide_structure=False` the client gets the trees without the values of their leaves: exact thresholds, and a
hundredth of the time for large forests.
"""

from __future__ import annotations

from typing import Any

from sklearn import tree as sk

from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.forest import Forest, Hiding, compile_forest
from tacit.fhe.compile.sklearn_trees import averages, fractions
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, WithProba, quantized

__all__ = ["DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"]


class TreeSums(FheModel):
    """Compiles whatever `_forest` returns."""

    hide_thresholds: bool
    hide_structure: bool

    def _forest(self, x: Float) -> Forest:
        raise NotImplementedError

    def _allows_missing(self) -> bool:
        tags: Any = self
        return bool(tags.__sklearn_tags__().input_tags.allow_nan)

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        seen = x if before is None else before(x)
        hide = Hiding(n_bits, self.hide_thresholds, self.hide_structure)
        return compile_forest(self._forest(seen), x, hide, before)


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class DecisionTreeClassifier(WithProba, TreeSums, sk.DecisionTreeClassifier):
    """A decision tree for classes, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return fractions(self, [self])


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class DecisionTreeRegressor(TreeSums, sk.DecisionTreeRegressor):
    """A decision tree for numbers, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return averages(self, [self])


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class ExtraTreeClassifier(WithProba, TreeSums, sk.ExtraTreeClassifier):
    """A decision tree of random splits for classes, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return fractions(self, [self])


@quantized(n_bits=6, hide_thresholds=False, hide_structure=True)
class ExtraTreeRegressor(TreeSums, sk.ExtraTreeRegressor):
    """A decision tree of random splits for numbers, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return averages(self, [self])
