"""scikit-learn's elliptic envelope on ciphertexts: which rows are anomalies."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import covariance as sk

from tacit.fhe.compile.linear import classification_head
from tacit.fhe.estimator import WithDecision, quantized
from tacit.fhe.scores import ScoreModel, Scores

__all__ = ["EllipticEnvelope"]


@quantized(n_bits=None)
class EllipticEnvelope(WithDecision, ScoreModel, sk.EllipticEnvelope):
    """An ellipse around the ordinary rows, on ciphertexts: the score is -(x - m)' P (x - m) less an offset."""

    usual_bits = 7

    def _head(self) -> Any:
        return classification_head(np.array([-1, 1]), "none")

    def _scores(self) -> Scores:
        precision, centre = self.get_precision(), self.location_
        pull = precision @ centre
        constant = -float(centre @ pull) - float(self.offset_)
        return Scores(2 * pull[None], np.array([constant]), -precision[None])
