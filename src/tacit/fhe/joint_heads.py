"""What a client makes of the scores of several linear scorers: it votes, averages or calibrates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.special import expit

from tacit.fhe.encode import Float
from tacit.fhe.fields import counts, finite, flags, insist
from tacit.fhe.layout import Int
from tacit.fhe.read import Classes, Head, Labels, fits_affine


def _from_votes(votes: Float, confidences: Float) -> Float:
    """Return scikit-learn's scores of classes from votes and sums of confidences, which break ties."""
    out: Float = votes + confidences / (3 * (np.abs(confidences) + 1))
    return out


@final
@dataclass(frozen=True)
class PairHead(Head):
    """A score for each pair of classes i < j; times `sign` it speaks for j."""

    scale: Float
    shift: Float
    classes: Classes
    sign: float
    by_confidence: bool
    """Whether equal votes are decided by the sums of scores; otherwise the first class wins."""
    pairs: bool
    """Whether `decision_function` returns the scores of the pairs as they are."""

    def __post_init__(self) -> None:
        """Refuse a file whose numbers are none."""
        known = isinstance(self.classes, Classes) and flags(self.by_confidence, self.pairs) and self.sign in (1, -1)
        insist(finite(self.scale, self.shift) and known, "the scales")

    def fits(self, width: int) -> bool:
        """Return whether there is a score for each pair of classes."""
        k = len(self.classes)
        return width == k * (k - 1) // 2 and fits_affine(width, self.scale, self.shift)

    @property
    def labels(self) -> bool:
        """Whether predictions are labels, not quantities."""
        return True

    def _raw(self, values: Int) -> Float:
        out: Float = values * self.scale + self.shift
        return out

    def _counted(self, values: Int) -> tuple[Float, Float]:
        says = self.sign * self._raw(values)
        later = says > 0 if self.sign > 0 else says >= 0
        ends = np.stack(np.triu_indices(len(self.classes), 1), axis=1).ravel()  # i, j of the first pair, of the next, …
        votes, sums = np.zeros((2, len(self.classes), len(values)))
        np.add.at(votes, ends, np.stack([~later, later], axis=2).reshape(len(values), -1).T)
        np.add.at(sums, ends, np.stack([-says, says], axis=2).reshape(len(values), -1).T)
        return votes.T, sums.T

    def scores(self, values: Int, z: Int) -> Float:
        """Return `decision_function`."""
        if self.pairs:
            return self._raw(values)
        scores = _from_votes(*self._counted(values))
        return scores[:, 1] if len(self.classes) == 2 else scores

    def predict(self, values: Int, z: Int) -> Labels:
        """Return the class with most votes."""
        votes, sums = self._counted(values)
        return self.classes.pick((_from_votes(votes, sums) if self.by_confidence else votes).argmax(axis=1))


def pair_head(classes: Any, sign: float, by_confidence: bool, pairs: bool) -> Any:
    """Return a maker of heads for one classifier a pair of classes."""

    def make(scale: Any, rest: Float, cut: Any) -> Head:
        return PairHead(
            np.full(1, scale), np.where(cut, rest, 0.0), Classes.of(classes), sign, by_confidence, pairs
        )  # fmt: skip

    return make


class Members(Head):
    """Classifiers with heads of their own, `sizes` scores each, of which one is made."""

    heads: tuple[Head, ...]
    sizes: tuple[int, ...]
    classes: Classes

    def _check(self, fine: bool) -> None:
        """Refuse a file whose members are none."""
        lists = (
            isinstance(self.heads, tuple) and isinstance(self.sizes, tuple) and 0 < len(self.heads) == len(self.sizes)
        )
        members = lists and all(isinstance(head, Head) for head in self.heads) and counts(self.sizes)
        insist(members and isinstance(self.classes, Classes) and fine, "the members of a vote")

    def fits(self, width: int) -> bool:
        """Return whether each member can be given its scores."""
        return sum(self.sizes) == width and all(
            head.fits(size) for head, size in zip(self.heads, self.sizes, strict=True)
        )

    @property
    def labels(self) -> bool:
        """Whether predictions are labels, not quantities."""
        return True

    def _parts(self, values: Int) -> list[Int]:
        return np.split(values, np.cumsum(self.sizes)[:-1], axis=1)

    def predict(self, values: Int, z: Int) -> Labels:
        """Return the class of each row."""
        return self.classes.pick(self.scores(values, z).argmax(axis=1))


@final
@dataclass(frozen=True)
class VotingHead(Members):
    """Members with heads of their own, `sizes` scores each: their probabilities are averaged, or votes counted."""

    heads: tuple[Head, ...]
    sizes: tuple[int, ...]
    weights: Float
    classes: Classes
    soft: bool

    def __post_init__(self) -> None:
        """Refuse a file whose members or weights are none."""
        fine = finite(self.weights) and self.weights.ndim == 1 and self.weights.sum() != 0
        self._check(fine and len(self.weights) == len(self.heads) and flags(self.soft))

    def scores(self, values: Int, z: Int) -> Float:
        """Return the averaged probabilities, or the weights of the votes."""
        parts = self._parts(values)
        if self.soft:
            mean = np.zeros((len(values), len(self.classes)))
            for weight, head, part in zip(self.weights, self.heads, parts, strict=True):
                mean += weight * head.predict_proba(part, z)
            mean /= sum(self.weights.tolist())
            return mean
        says = [np.asarray(head.predict(part, z)) for head, part in zip(self.heads, parts, strict=True)]
        votes = np.zeros((len(values), len(self.classes)))
        for weight, said in zip(self.weights, says, strict=True):
            votes += weight * (said[:, None] == np.arange(len(self.classes)))
        return votes

    def predict_proba(self, values: Int, z: Int) -> Float:
        """Return class probabilities."""
        return self.scores(values, z) if self.soft else super().predict_proba(values, z)


@final
@dataclass(frozen=True)
class CalibratedHead(Members):
    """Members whose scores go through sigmoids, 1 / (1 + exp(a score + b)), normalised, and averaged."""

    heads: tuple[Head, ...]
    sizes: tuple[int, ...]
    slope: Float
    offset: Float
    classes: Classes

    def __post_init__(self) -> None:
        """Refuse a file whose members or sigmoids are none."""
        fine = finite(self.slope, self.offset) and self.slope.shape == self.offset.shape
        self._check(fine and self.slope.ndim == 2 and len(self.slope) == len(self.heads))

    def scores(self, values: Int, z: Int) -> Float:
        """Return the probabilities."""
        parts = self._parts(values)
        total = np.zeros((len(values), len(self.classes)))
        for head, part, a, b in zip(self.heads, parts, self.slope, self.offset, strict=True):
            one = expit(-(a * head.scores(part, z).reshape(len(part), -1) + b))
            if one.shape[1] == 1:
                total += np.concatenate([1 - one, one], axis=1)
                continue
            whole = one.sum(axis=1, keepdims=True)
            total += np.where(whole > 0, one / np.where(whole > 0, whole, 1), 1 / one.shape[1])
        mean: Float = total / len(self.heads)
        return mean

    def predict_proba(self, values: Int, z: Int) -> Float:
        """Return class probabilities."""
        return self.scores(values, z)
