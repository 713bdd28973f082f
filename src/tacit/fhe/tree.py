"""scikit-learn's decision trees, predicting on ciphertexts.

`n_bits` (default 6) bounds the thresholds of a column, `hide_thresholds` keeps from the client which ones the model
uses.
"""

from __future__ import annotations

from typing import Any, Self

from sklearn import tree as sk

from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.forest import Forest, compile_forest
from tacit.fhe.compile.sklearn_trees import averages, fractions
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, WithProba, adopt, quantized

__all__ = ["DecisionTreeClassifier", "DecisionTreeRegressor"]


class TreeSums(FheModel):
    """Compiles whatever `_forest` returns."""

    n_bits: int
    hide_thresholds: bool

    def _forest(self, x: Float) -> Forest:
        raise NotImplementedError

    def _lower(self, x: Float, before: Affine | None) -> Compiled:
        seen = x if before is None else before(x)
        return compile_forest(self._forest(seen), x, self.n_bits, self.hide_thresholds, before)

    @classmethod
    def from_sklearn_model(cls, trained: Any, x: Any, n_bits: int | None = None) -> Self:
        """Return the encrypted counterpart of a trained scikit-learn model, compiled with the representative rows x."""
        model: Any = adopt(cls, trained, n_bits)
        result: Self = model.compile(x)
        return result


@quantized(n_bits=6, hide_thresholds=False)
class DecisionTreeClassifier(WithProba, TreeSums, sk.DecisionTreeClassifier):
    """A decision tree for classes, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return fractions(self, [self])


@quantized(n_bits=6, hide_thresholds=False)
class DecisionTreeRegressor(TreeSums, sk.DecisionTreeRegressor):
    """A decision tree for numbers, on ciphertexts."""

    def _forest(self, x: Float) -> Forest:
        return averages(self, [self])
