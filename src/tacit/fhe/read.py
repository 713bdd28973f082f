"""From decrypted integers to predictions: `Reader` undoes the server's masks, `Head` is what scikit-learn does with
scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from tacit.errors import DataError, FheError, MessageError
from tacit.fhe.fields import counts, dtype_named, finite, flags, insist, number
from tacit.fhe.layout import Int
from tacit.fhe.program import ascending

Float = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]

ROUNDING = 1e-9
"""More than float64 loses in a sum of probabilities, and less than any two of a forest differ by."""


@final
@dataclass(frozen=True)
class Classes:
    """The labels of a classifier, with their NumPy type: numbers, strings, truth values, dates (as whole numbers)."""

    values: tuple[Any, ...] = ()
    dtype: str = "float64"

    def __post_init__(self) -> None:
        dtype_named(self.dtype, "biufUOMm", "a type of label that this program does not know")
        plain = isinstance(self.values, tuple) and all(type(one) in (bool, int, float, str) for one in self.values)
        try:
            insist(plain and len(self.pick(np.arange(len(self.values)))) == len(self.values), "the labels")
        except (ValueError, TypeError, OverflowError) as error:
            raise MessageError("the labels in this model file are damaged") from error

    @classmethod
    def of(cls, labels: Any) -> Classes:
        """Return the labels of `classes_`.

        Raises:
            DataError: for labels that a file of data cannot hold.
        """
        array = np.asarray(labels)
        plain = array.dtype.kind != "O" or all(isinstance(one, (str, int, float, np.generic)) for one in array)
        if array.dtype.kind not in "biufUOMm" or not plain:
            raise DataError("the labels of a model on ciphertexts must be numbers, strings or dates: recode them")
        if array.dtype.kind in "Mm":
            return cls(tuple(array.view(np.int64).tolist()), array.dtype.str)
        return cls(tuple(array.tolist()), "object" if array.dtype.kind == "O" else array.dtype.str)

    def __len__(self) -> int:
        return len(self.values)

    def pick(self, which: npt.NDArray[np.intp]) -> Labels:
        """Return the labels at some indices."""
        dtype = np.dtype(self.dtype)
        if dtype.kind in "Mm":
            return np.array(self.values, dtype=np.int64).view(dtype)[which]
        return np.array(self.values, dtype=dtype)[which]


class Reader(ABC):
    """Turns the decrypted outputs of a program into the integers that its `simulate` gives."""

    @abstractmethod
    def read(self, outputs: Int, moduli: tuple[int, ...]) -> Int:
        """Return the integers of each row, from coefficients modulo the product of the moduli."""

    @abstractmethod
    def width(self, coefficients: int, moduli: int) -> int:
        """Return how many integers a row of that many coefficients has, 0 if it cannot be read."""


@final
@dataclass(frozen=True)
class PlainReader(Reader):
    """The outputs are the scores."""

    def read(self, outputs: Int, moduli: tuple[int, ...]) -> Int:
        """Return them as they are."""
        return outputs

    def width(self, coefficients: int, moduli: int) -> int:
        """Return how many there are."""
        return coefficients if moduli == 1 else 0


@final
@dataclass(frozen=True)
class ForestReader(Reader):
    """Finds the reached leaf of each tree (its masked cost is zero) and adds their values: the masks cancel."""

    leaves: tuple[int, ...]
    trees: tuple[int, ...]
    values: int

    def __post_init__(self) -> None:
        """Refuse a file whose numbers are none."""
        lists = isinstance(self.leaves, tuple) and isinstance(self.trees, tuple) and len(self.leaves) == len(self.trees)
        insist(
            lists and counts((*self.leaves, *self.trees), 0) and counts((self.values, sum(self.leaves))), "the trees"
        )

    def width(self, coefficients: int, moduli: int) -> int:
        """Return the number of sums, where each leaf has a form for its cost and one for each value."""
        fits = coefficients * moduli == sum(self.leaves) * (1 + self.values)
        return len(self.leaves) * self.values if fits else 0

    def read(self, outputs: Int, moduli: tuple[int, ...]) -> Int:
        """Return the sums (rows, channels x values), centred modulo t."""
        sums, t = [], moduli[-1]
        ends = np.cumsum(self.leaves)
        parts = outputs if len(moduli) == 1 else np.mod(outputs[:, :, None], np.array(moduli, dtype=np.int64))
        table = parts.reshape(len(outputs), ends[-1], 1 + self.values)
        for leaves, trees, end in zip(self.leaves, self.trees, ends, strict=True):
            part = table[:, end - leaves : end]
            reached = part[:, :, 0] == 0
            if (reached.sum(axis=1) != trees).any():
                raise MessageError("the answer does not name one leaf for each tree: it was forged or damaged")
            total = np.mod((part[:, :, 1:] * reached[:, :, None]).sum(axis=1), t)
            sums.append(np.where(total > t // 2, total - t, total))
        return np.concatenate(sums, axis=1)


@final
@dataclass(frozen=True)
class VoteReader(Reader):
    """Finds the reached leaf of each tree (its masked cost is zero) and counts their labels."""

    leaves: int
    trees: int
    labels: int

    def __post_init__(self) -> None:
        """Refuse a file whose numbers are none."""
        insist(counts((self.leaves, self.trees, self.labels)), "the trees")

    def width(self, coefficients: int, moduli: int) -> int:
        """Return how many labels are counted, where each leaf has a form for its cost and one for its label."""
        fits = moduli % 2 == 0 and coefficients == -(-2 * self.leaves // moduli)
        return max(self.labels - 1, 1) if fits else 0

    def read(self, outputs: Int, moduli: tuple[int, ...]) -> Int:
        """Return how often each label occurs, but for the last (rows, labels - 1)."""
        parts = np.mod(outputs[:, :, None], np.array(moduli, dtype=np.int64)).reshape(len(outputs), -1)
        table = parts[:, : 2 * self.leaves].reshape(len(outputs), -1, 2)
        row, entry = np.nonzero(table[:, :, 0] == 0)
        label = table[row, entry, 1]
        if (np.bincount(row, minlength=len(outputs)) != self.trees).any() or (label >= self.labels).any():
            raise MessageError("the answer does not name one leaf for each tree: it was forged or damaged")
        counts = np.zeros((len(outputs), self.labels), dtype=np.int64)
        np.add.at(counts, (row, label), 1)
        return counts[:, : max(self.labels - 1, 1)]


@final
@dataclass(frozen=True)
class NeighborReader(Reader):
    """Puts the (distance, label) pairs in ascending order."""

    def read(self, outputs: Int, moduli: tuple[int, ...]) -> Int:
        """Return the pairs, nearest first."""
        return ascending(outputs)

    def width(self, coefficients: int, moduli: int) -> int:
        """Return how many numbers the pairs have."""
        return coefficients if moduli == 1 and coefficients % 2 == 0 else 0


class Head(ABC):
    """Turns integers into what the user asked for. `z` is the client's own encoded row."""

    @abstractmethod
    def scores(self, values: Int, z: Int) -> Float:
        """Return `decision_function` of a classifier, the linear predictor or the prediction of a regressor."""

    @abstractmethod
    def predict(self, values: Int, z: Int) -> Labels:
        """Return the predictions."""

    def predict_proba(self, values: Int, z: Int) -> Float:
        """Return class probabilities."""
        raise FheError("this model has no predict_proba")

    @abstractmethod
    def fits(self, width: int) -> bool:
        """Return whether it can be given rows of that many integers."""

    @property
    def labels(self) -> bool:
        """Whether predictions are labels, not quantities."""
        return False


def fits_affine(width: int, *items: Float) -> bool:
    """Return whether scales and shifts are one for all of that many integers, or one for each."""
    return all(item.shape in ((1,), (width,)) for item in items)


@final
@dataclass(frozen=True)
class RegressionHead(Head):
    """scale * value + shift, through exp if `exponential` (the log link of a GLM)."""

    scale: Float
    shift: Float
    exponential: bool
    flat: bool

    def __post_init__(self) -> None:
        """Refuse a file whose numbers are none."""
        insist(finite(self.scale, self.shift) and flags(self.exponential, self.flat), "the scales")

    def fits(self, width: int) -> bool:
        """Return whether there is a scale for each integer."""
        return fits_affine(width, self.scale, self.shift) and (width == 1 or not self.flat)

    def scores(self, values: Int, z: Int) -> Float:
        """Return the linear predictor."""
        out: Float = values * self.scale + self.shift
        return out[:, 0] if self.flat else out

    def predict(self, values: Int, z: Int) -> Labels:
        """Return the mean of the target."""
        out = self.scores(values, z)
        return np.exp(out) if self.exponential else out


PROBABILITIES = (
    "logistic", "softmax", "samme", "one-vs-rest", "modified-huber", "exponential", "fractions", "none",
)  # fmt: skip


@final
@dataclass(frozen=True)
class ClassificationHead(Head):
    """Scores to classes: by sign (one score for two classes) or by the largest.

    `proba` says what the scores are: "logistic" (one sigmoid), "softmax", "samme" (softmax of scores over k - 1:
    AdaBoost), "one-vs-rest" (sigmoids, normalised), "modified-huber", "exponential" (one sigmoid of twice the score:
    the exponential loss), "fractions" (probabilities already; the last class is the rest) or "none".
    """

    scale: Float
    shift: Float
    classes: Classes
    proba: str

    def __post_init__(self) -> None:
        """Refuse a file whose numbers are none, or that makes probabilities in an unknown way."""
        known = isinstance(self.classes, Classes) and self.proba in PROBABILITIES
        insist(finite(self.scale, self.shift) and known, "the scales")

    def fits(self, width: int) -> bool:
        """Return whether there is a scale for each integer, and a class for each score."""
        scores = width + 1 if self.proba == "fractions" else max(width, 2)
        enough = width > 1 or self.proba != "samme"
        return fits_affine(width, self.scale, self.shift) and scores <= max(len(self.classes), 2) and enough

    def scores(self, values: Int, z: Int) -> Float:
        """Return the decision function, or the probabilities of a forest."""
        out: Float = values * self.scale + self.shift
        if self.proba == "fractions":
            return np.concatenate([out, 1 - out.sum(axis=1, keepdims=True)], axis=1)
        return out[:, 0] if out.shape[1] == 1 else out

    def predict(self, values: Int, z: Int) -> Labels:
        """Return the class of each row."""
        return self.classes.pick(self.winners(values, z))

    @property
    def labels(self) -> bool:
        """Whether predictions are labels, not quantities."""
        return True

    def winners(self, values: Int, z: Int) -> npt.NDArray[np.intp]:
        """Return the index of the class of each row. Where all that was fitted on had one class, it is that one."""
        scores = self.scores(values, z)
        if len(self.classes) == 1:
            return np.zeros(len(scores), dtype=np.intp)
        if self.proba == "fractions":  # what the others leave has their rounding, and the last class wins no tie
            scores = scores - np.append(np.zeros(scores.shape[1] - 1), ROUNDING)
        return (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)

    def predict_proba(self, values: Int, z: Int) -> Float:
        """Return class probabilities."""
        scores = self.scores(values, z)
        if self.proba == "fractions":
            return scores
        if self.proba == "softmax":
            both = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
            return np.asarray(softmax(both, axis=1))
        if self.proba == "samme":
            return np.asarray(softmax(scores / (scores.shape[1] - 1), axis=1))
        if self.proba in ("logistic", "exponential", "one-vs-rest", "modified-huber"):
            huber = self.proba == "modified-huber"
            one = (np.clip(scores, -1, 1) + 1) / 2 if huber else expit(scores * (1 + (self.proba == "exponential")))
            if one.ndim == 1:
                return np.stack([1 - one, one], axis=1)
            total = one.sum(axis=1, keepdims=True)
            return np.where(total > 0, one / np.where(total > 0, total, 1), 1 / one.shape[1])
        return super().predict_proba(values, z)


@final
@dataclass(frozen=True)
class IsolationHead(Head):
    """Depths to an anomaly: the score -2^(-depth / unit) less `offset`, and -1 where that is negative."""

    scale: Float
    shift: Float
    unit: float
    offset: float

    def __post_init__(self) -> None:
        """Refuse a file whose numbers are none."""
        insist(finite(self.scale, self.shift) and number(self.unit) and number(self.offset) and self.unit, "the scales")

    def fits(self, width: int) -> bool:
        """Return whether there is one integer."""
        return width == 1 and fits_affine(1, self.scale, self.shift)

    def scores(self, values: Int, z: Int) -> Float:
        """Return `decision_function`."""
        depth = (values * self.scale + self.shift)[:, 0]
        out: Float = -np.exp2(-depth / self.unit) - self.offset
        return out

    def predict(self, values: Int, z: Int) -> Labels:
        """Return 1 for ordinary rows, -1 for anomalies."""
        return np.where(self.scores(values, z) < 0, -1, 1)

    @property
    def labels(self) -> bool:
        """Whether predictions are labels, not quantities."""
        return True


@final
@dataclass(frozen=True)
class NeighborHead(Head):
    """Adds |z|^2 to the distances, takes the k nearest, and votes or averages (all alike, or by inverse distance)."""

    k: int
    by_distance: bool
    classes: Classes
    scale: float
    shift: float

    def __post_init__(self) -> None:
        """Refuse a file whose numbers are none."""
        known = isinstance(self.classes, Classes) and flags(self.by_distance) and counts([self.k])
        insist(known and number(self.scale) and number(self.shift), "the scales")

    def fits(self, width: int) -> bool:
        """Return whether these are pairs, of as many neighbours as are asked for."""
        return width % 2 == 0 and self.k <= width // 2

    @property
    def labels(self) -> bool:
        """Whether predictions are labels, not quantities."""
        return bool(self.classes)

    def _nearest(self, values: Int, z: Int) -> tuple[Float, Int]:
        pairs = values.reshape(len(values), -1, 2)[:, : self.k]
        distance = pairs[:, :, 0] + (z**2).sum(axis=1, keepdims=True)
        label = pairs[:, :, 1]
        if not self.by_distance:
            return np.ones(distance.shape), label
        exact = distance == 0
        weight = np.where(exact.any(axis=1, keepdims=True), exact, 1 / np.sqrt(np.maximum(distance, 1)))
        return weight.astype(np.float64), label

    def scores(self, values: Int, z: Int) -> Float:
        """Return the class probabilities, or the averaged target."""
        weight, label = self._nearest(values, z)
        total = weight.sum(axis=1)
        if not self.classes:
            mean: Float = (weight * label).sum(axis=1) / total * self.scale + self.shift
            return mean
        votes = [(weight * (label == c)).sum(axis=1) / total for c in range(len(self.classes))]
        return np.stack(votes, axis=1)

    def predict(self, values: Int, z: Int) -> Labels:
        """Return the majority class (the first one in a tie), or the averaged target."""
        scores = self.scores(values, z)
        return self.classes.pick(scores.argmax(axis=1)) if self.classes else scores

    def predict_proba(self, values: Int, z: Int) -> Float:
        """Return the votes."""
        return self.scores(values, z) if self.classes else super().predict_proba(values, z)
