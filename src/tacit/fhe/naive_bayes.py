"""scikit-learn's naive Bayes classifiers on ciphertexts."""

from __future__ import annotations

import numpy as np
from sklearn import naive_bayes as sk

from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.linear import compile_bits
from tacit.fhe.encode import Affine, Float, Thermometer
from tacit.fhe.estimator import WithProba, quantized
from tacit.fhe.scores import ClassScores, Scores

__all__ = ["BernoulliNB", "ComplementNB", "GaussianNB", "MultinomialNB"]


@quantized(n_bits=None)
class GaussianNB(WithProba, ClassScores, sk.GaussianNB):
    """Gaussian naive Bayes on ciphertexts: the client sends its columns and their squares."""

    usual_bits = 7

    def _scores(self) -> Scores:
        v = self.var_
        constant = np.log(self.class_prior_) - 0.5 * (np.log(2 * np.pi * v) + self.theta_**2 / v).sum(axis=1)
        return Scores(self.theta_ / v, constant, -0.5 / v).relative


@quantized(n_bits=None)
class BernoulliNB(WithProba, ClassScores, sk.BernoulliNB):
    """Bernoulli naive Bayes on ciphertexts: the client sends which columns exceed `binarize`."""

    def _scores(self) -> Scores:
        absent = np.log1p(-np.exp(self.feature_log_prob_))
        constant = self.class_log_prior_ + absent.sum(axis=1)
        return Scores(self.feature_log_prob_ - absent, constant).relative

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        if self.binarize is None:
            return super()._lower(x, before, n_bits)
        columns = len(self.feature_log_prob_[0])
        level = np.full(columns, float(self.binarize))
        encoder = Thermometer(x.shape[1], np.arange(columns, dtype=np.intp), level, False, before)
        scores = self._scores()
        return compile_bits(scores.linear, scores.constant, encoder, n_bits, self._head())


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
