"""scikit-learn's nearest neighbours on ciphertexts. The client learns all distances: read `fhe_report()` first."""

from __future__ import annotations

from sklearn import neighbors as sk

from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.neighbors import compile_neighbors
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, WithProba, quantized

__all__ = ["KNeighborsClassifier", "KNeighborsRegressor"]


class Distances(FheModel):
    """Compiles the training points."""

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        return compile_neighbors(self, x, n_bits, before)


@quantized(n_bits=None)
class KNeighborsClassifier(WithProba, Distances, sk.KNeighborsClassifier):
    """The classes of the nearest training points, on ciphertexts."""


@quantized(n_bits=None)
class KNeighborsRegressor(Distances, sk.KNeighborsRegressor):
    """The average target of the nearest training points, on ciphertexts."""
