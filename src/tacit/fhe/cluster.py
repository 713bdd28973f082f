"""scikit-learn's k-means on ciphertexts: which centre is nearest, not how far any is."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import cluster as sk

from tacit.errors import DataError
from tacit.fhe.compile.linear import classification_head
from tacit.fhe.estimator import quantized
from tacit.fhe.scores import ScoreModel, Scores, of_centres

__all__ = ["AffinityPropagation", "KMeans", "MeanShift", "MiniBatchKMeans"]


class Centres(ScoreModel):
    """Compiles `cluster_centers_`."""

    cluster_centers_: Any

    def _scores(self) -> Scores:
        if len(self.cluster_centers_) < 2:
            raise DataError("a model of one cluster puts every row into it: there is nothing to predict")
        return of_centres(self.cluster_centers_).relative

    def _head(self) -> Any:
        kind = self.labels_.dtype if hasattr(self, "labels_") else np.int32
        return classification_head(np.arange(len(self.cluster_centers_), dtype=kind), "none")


@quantized(n_bits=None)
class KMeans(Centres, sk.KMeans):
    """k-means on ciphertexts."""


@quantized(n_bits=None)
class MiniBatchKMeans(Centres, sk.MiniBatchKMeans):
    """k-means by mini-batches, on ciphertexts."""


@quantized(n_bits=None)
class AffinityPropagation(Centres, sk.AffinityPropagation):
    """Clusters around rows that stand for them, on ciphertexts."""


@quantized(n_bits=None)
class MeanShift(Centres, sk.MeanShift):
    """Clusters around peaks of density, on ciphertexts."""
