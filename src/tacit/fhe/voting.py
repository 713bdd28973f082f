"""scikit-learn's voting, of linear members or of trees, on ciphertexts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn import ensemble as sk
from sklearn.utils.metaestimators import available_if

from tacit.errors import DataError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.forest import Forest, Hiding, compile_forest
from tacit.fhe.compile.linear import compile_linear, quantizer, regression_head
from tacit.fhe.encode import Affine, Float
from tacit.fhe.estimator import FheModel, Mode, quantized
from tacit.fhe.joint import after, compile_members, joined, member_of
from tacit.fhe.joint_heads import VotingHead
from tacit.fhe.read import Classes, ClassificationHead, RegressionHead
from tacit.fhe.scores import ScoreModel
from tacit.fhe.tree import TreeSums

__all__ = ["VotingClassifier", "VotingRegressor"]


def _merged(members: list[TreeSums], weights: Float, x: Float, kind: type[Any]) -> tuple[Forest, list[Any]]:
    """Return the trees of all members, each times its member's weight, and the members' heads for sums of trees."""
    trees, heads = [], []
    for member, weight in zip(members, weights, strict=True):
        forest = member._forest(x)
        head: Any = forest.head(np.ones(1), np.zeros(1))
        trees += [replace(tree, value=tree.value * (weight * float(head.scale[0]))) for tree in forest.trees]
        heads.append((head, forest.single))
    if not all(isinstance(head, kind) for head, _ in heads) or len({single for _, single in heads}) > 1:
        raise DataError("voting on ciphertexts takes trees of one family: forests, or gradient boosting")
    return Forest(trees, heads[0][1], lambda s, c: heads[0][0]), [head for head, _ in heads]


class _Voting(FheModel):
    estimators_: list[Any]
    weights: Any

    def _members(self) -> list[tuple[FheModel, Affine | None]]:
        return [member_of(one, "voting") for one in self.estimators_]

    def _shares(self) -> Float:
        used: Any = self
        given = used._weights_not_none
        weights = np.ones(len(self.estimators_)) if given is None else np.asarray(given, dtype=np.float64)
        return weights

    def _trees(self) -> list[TreeSums]:
        """Return the members if all are trees, and none if none is."""
        found = [member for member, _ in self._members() if isinstance(member, TreeSums)]
        if found and (len(found) < len(self.estimators_) or any(inner for _, inner in self._members())):
            raise DataError(
                "voting on ciphertexts takes linear members or trees, not both: train two, and average what they return"
            )
        return found

    def _hiding(self, n_bits: int) -> Hiding:
        mine: Any = self
        return Hiding(n_bits, mine.hide_thresholds, mine.hide_structure)


@quantized(n_bits=None, hide_thresholds=False, hide_structure=True)
class VotingClassifier(_Voting, sk.VotingClassifier):
    """Linear classifiers, or forests, that vote, on ciphertexts. The client learns the scores of each linear member."""

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        if trees := self._trees():
            return self._of_trees(trees, x, before, n_bits)
        program, encoder, heads, sizes = compile_members(self._members(), x, n_bits, before, "voting")
        head = VotingHead(heads, sizes, self._shares(), Classes.of(self.classes_), self.voting == "soft")
        return joined(program, encoder, head)

    def _of_trees(self, members: list[TreeSums], x: Float, before: Affine | None, n_bits: int) -> Compiled:
        if self.voting != "soft":
            raise DataError("forests on ciphertexts vote by their probabilities: use voting='soft'")
        seen, shares = x if before is None else before(x), self._shares()
        forest, heads = _merged(members, shares / shares.sum(), seen, ClassificationHead)
        if any(head.proba != "fractions" for head in heads):
            raise DataError("forests that vote on ciphertexts average class fractions; boosted ones do not")
        classes = Classes.of(self.classes_)

        def make(scale: Float, centre: Float) -> ClassificationHead:
            return ClassificationHead(scale, centre, classes, "fractions")

        return compile_forest(replace(forest, head=make), x, self._hiding(n_bits), before)

    @available_if(lambda self: self.voting == "soft")
    def predict_proba(self, X: Any, fhe: Mode = "disable") -> Float:  # noqa: N803
        """Return class probabilities (voting="soft"); see `predict` for `fhe`."""
        return self._proba(super().predict_proba, X, fhe)


@quantized(n_bits=None, hide_thresholds=False, hide_structure=True)
class VotingRegressor(_Voting, sk.VotingRegressor):
    """Linear regressors, or trees, that are averaged, on ciphertexts: one sum, and what each member says is hidden."""

    def _lower(self, x: Float, before: Affine | None, n_bits: int) -> Compiled:
        shares = self._shares() / self._shares().sum()
        if trees := self._trees():
            seen = x if before is None else before(x)
            forest, heads = _merged(trees, shares, seen, RegressionHead)
            if any(head.exponential for head in heads):
                raise DataError("voting on ciphertexts averages sums of trees, not their exponentials")
            more = np.array([float(share * head.shift[0]) for share, head in zip(shares, heads, strict=True)]).sum()
            make: Any = lambda s, c: RegressionHead(s, c + more, False, True)  # noqa: E731
            return compile_forest(replace(forest, head=make), x, self._hiding(n_bits), before)
        weights, bias = np.zeros((1, x.shape[1])), np.zeros(1)
        for (member, inner), share in zip(self._members(), shares, strict=True):
            if not isinstance(member, ScoreModel):
                raise DataError(f"voting on ciphertexts takes linear members, not {type(member).__name__}")
            scores, steps = member._scores(), after(inner, before)
            head = member._head()(np.float64(1.0), np.zeros(1), np.zeros(1, dtype=bool))
            if scores.square is not None or not isinstance(head, RegressionHead) or head.exponential:
                raise DataError(f"voting on ciphertexts takes linear members, not {type(member).__name__}")
            linear, constant = scores.linear, scores.constant
            if steps is not None:
                linear, constant = linear @ steps.matrix, constant + linear @ steps.offset
            weights, bias = weights + share * linear, bias + share * constant
        return compile_linear(weights, bias, quantizer(x, n_bits), n_bits, regression_head(False, True))
