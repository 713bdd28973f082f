"""scikit-learn's nearest neighbours on ciphertexts. The client learns all distances: read `fhe_report()` first."""

from __future__ import annotations

from typing import Any, Self

from sklearn import neighbors as sk

from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.neighbors import compile_neighbors
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, WithProba, adopt, quantized

__all__ = ["KNeighborsClassifier", "KNeighborsRegressor"]


class Distances(FheModel):
    """Compiles the training points."""

    def _lower(self, x: Float, before: Affine | None) -> Compiled:
        return compile_neighbors(self, x, self.n_bits, before)

    @classmethod
    def from_sklearn_model(cls, trained: Any, x: Any, n_bits: int | None = None) -> Self:
        """Return the encrypted counterpart of a trained scikit-learn model, compiled with the representative rows x."""
        model: Any = adopt(cls, trained, n_bits)
        result: Self = model.compile(x)
        return result


@quantized(n_bits=8)
class KNeighborsClassifier(WithProba, Distances, sk.KNeighborsClassifier):
    """The classes of the nearest training points, on ciphertexts."""


@quantized(n_bits=8)
class KNeighborsRegressor(Distances, sk.KNeighborsRegressor):
    """The average target of the nearest training points, on ciphertexts."""
