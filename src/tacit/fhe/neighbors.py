"""scikit-learn's nearest neighbours on ciphertexts. The client learns all distances: read `fhe_report()` first."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import neighbors as sk

from tacit.errors import DataError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.linear import classification_head
from tacit.fhe.compile.neighbors import compile_neighbors
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, WithProba, quantized
from tacit.fhe.scores import ScoreModel, Scores, of_centres

__all__ = ["KNeighborsClassifier", "KNeighborsRegressor", "NearestCentroid"]


class Distances(FheModel):
    """Compiles the training points."""

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        return compile_neighbors(self, x, n_bits, before)


@quantized(n_bits=None)
class KNeighborsClassifier(WithProba, Distances, sk.KNeighborsClassifier):
    """The classes of the nearest training points, on ciphertexts."""


@quantized(n_bits=None)
class NearestCentroid(ScoreModel, sk.NearestCentroid):
    """The class whose centre is nearest, on ciphertexts. The client learns a score for each class, and no centre.

    Only `predict` knows `fhe`: scikit-learn's scores for equal priors are not those that it predicts by.
    """

    def _head(self) -> Any:
        return classification_head(self.classes_, "none")

    def _scores(self) -> Scores:
        if self.metric != "euclidean":
            raise DataError("nearest centroids on ciphertexts need the Euclidean metric")
        alike = np.isclose(self.class_prior_, 1 / len(self.classes_)).all()
        spread = np.where(self.within_class_std_dev_ != 0, self.within_class_std_dev_, 1.0)
        if alike:  # scikit-learn then compares plain distances
            return of_centres(self.centroids_).relative
        return of_centres(self.centroids_, spread, 2 * np.log(self.class_prior_)).relative


@quantized(n_bits=None)
class KNeighborsRegressor(Distances, sk.KNeighborsRegressor):
    """The average target of the nearest training points, on ciphertexts."""
