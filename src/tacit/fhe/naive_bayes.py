"""scikit-learn's naive Bayes classifiers on ciphertexts."""

from __future__ import annotations

import numpy as np
from sklearn import naive_bayes as sk

from tacit.fhe.estimator import WithProba, quantized
from tacit.fhe.scores import ClassScores, Scores

__all__ = ["ComplementNB", "GaussianNB", "MultinomialNB"]


@quantized(n_bits=None)
class GaussianNB(WithProba, ClassScores, sk.GaussianNB):
    """Gaussian naive Bayes on ciphertexts: the client sends its columns and their squares."""

    usual_bits = 7

    def _scores(self) -> Scores:
        v = self.var_
        constant = np.log(self.class_prior_) - 0.5 * (np.log(2 * np.pi * v) + self.theta_**2 / v).sum(axis=1)
        return Scores(self.theta_ / v, constant, -0.5 / v).relative


@quantized(n_bits=None)
class MultinomialNB(WithProba, ClassScores, sk.MultinomialNB):
    """Multinomial naive Bayes on ciphertexts."""

    def _scores(self) -> Scores:
        return Scores(self.feature_log_prob_, self.class_log_prior_).relative


@quantized(n_bits=None)
class ComplementNB(WithProba, ClassScores, sk.ComplementNB):
    """Complement naive Bayes on ciphertexts."""

    def _scores(self) -> Scores:
        alone = len(self.classes_) == 1
        constant = self.class_log_prior_ if alone else np.zeros(len(self.classes_))
        return Scores(self.feature_log_prob_, constant).relative
