"""scikit-learn's trees, forests and boosted forests as `Forest`s."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tacit.errors import DataError, FheError
from tacit.fhe.compile.conditions import Categories, Tree
from tacit.fhe.compile.forest import VALUE_BITS, Forest, constant_term
from tacit.fhe.encode import Float
from tacit.fhe.read import Classes, ClassificationHead, Head, IsolationHead, RegressionHead


def tree_of(fitted: Any, value: Float, channel: int = 0) -> Tree:
    """Return a fitted `sklearn.tree._tree.Tree` with the given value (nodes, values) at its nodes."""
    feature = np.where(fitted.children_left < 0, -1, fitted.feature).astype(np.int64)
    left, right = fitted.children_left.astype(np.int64), fitted.children_right.astype(np.int64)
    threshold = np.asarray(fitted.threshold, dtype=np.float64)
    missing = np.asarray(fitted.missing_go_to_left).astype(bool) if hasattr(fitted, "missing_go_to_left") else None
    return Tree(feature, threshold, left, right, value, channel, missing)


def decided(share: Float) -> Float:
    """Return the class fractions of one tree's nodes, so that rounding them changes no largest one.

    Where two are all but equal, as in a leaf of two rows, that which `argmax` takes gets half a unit (reach / limit)
    for each class more.
    """
    rows, width = np.arange(len(share)), share.shape[1]
    first = share.argmax(axis=1)
    others = share.copy()
    others[rows, first] = 0.0
    missing = np.maximum(0.505 * width * 2.0**-VALUE_BITS - (share[rows, first] - others.max(axis=1)), 0.0)
    out = share.copy()
    out[rows, first] += missing
    return np.asarray(out / (1 + missing[:, None]))


def fractions(model: Any, members: list[Any]) -> Forest:
    """Return a classifier that averages the class fractions of its trees. The last class is what the others leave."""
    if getattr(model, "n_outputs_", 1) != 1:
        raise FheError("a classifier of several outputs cannot be compiled: train one for each output")
    trees, labels, pure = [], [], len(model.classes_) > 1
    for member in members:
        counts = member.tree_.value[:, 0, :]
        share = counts / counts.sum(axis=1, keepdims=True)
        share = decided(share) if len(members) == 1 else share
        trees.append(tree_of(member.tree_, share[:, : max(len(model.classes_) - 1, 1)]))
        labels.append(share.argmax(axis=1)[:, None].astype(np.int64))
        pure = pure and bool((share[trees[-1].feature < 0].max(axis=1) == 1).all())
    classes, count = Classes.of(model.classes_), len(members)
    if len(classes) == 1:
        twice = Classes(classes.values * 2, classes.dtype)
        return Forest(trees, True, lambda s, c: ClassificationHead(np.zeros(1), np.ones(1), twice, "fractions"))
    return Forest(
        trees, True, lambda s, c: ClassificationHead(s / count, c / count, classes, "fractions"),
        labels if pure else None, len(classes),
    )  # fmt: skip


def averages(model: Any, members: list[Any]) -> Forest:
    """Return a regressor that averages its trees."""
    trees = [tree_of(member.tree_, member.tree_.value[:, :, 0]) for member in members]
    flat, count = getattr(model, "n_outputs_", 1) == 1, len(members)
    return Forest(trees, True, lambda s, c: RegressionHead(s / count, c / count, False, flat))


def gradient_boosting(model: Any, x: Float) -> Forest:
    """Return a GradientBoostingClassifier or -Regressor."""
    trees = [
        tree_of(member.tree_, model.learning_rate * member.tree_.value[:, 0, :1], channel)
        for stage in model.estimators_
        for channel, member in enumerate(stage)
    ]
    single = x.astype(np.float32).astype(np.float64)
    if not hasattr(model, "classes_"):
        shift = constant_term(trees, single, np.asarray(model.predict(x)))
        return Forest(trees, True, lambda s, c: RegressionHead(s, shift + c, False, True))
    shift = constant_term(trees, single, np.asarray(model.decision_function(x)))
    proba = "exponential" if model.loss == "exponential" else "logistic" if len(model.classes_) == 2 else "softmax"
    return Forest(trees, True, _classifier(shift, model.classes_, proba))


def _classifier(shift: Float, classes: Any, proba: str) -> Any:
    def head(scale: Float, centre: Float) -> Head:
        return ClassificationHead(scale, shift + centre, Classes.of(classes), proba)

    return head


def histogram_boosting(model: Any, x: Float) -> Forest:
    """Return a HistGradientBoostingClassifier or -Regressor."""
    columns, known = _histogram_columns(model)
    trees = []
    for stage in model._predictors:
        for channel, member in enumerate(stage):
            nodes = member.nodes
            leaf = nodes["is_leaf"].astype(bool)
            feature = np.where(leaf, -1, nodes["feature_idx"]).astype(np.int64)
            left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
            sets = {}
            for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf).tolist():
                words = member.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
                sets[node] = _category_set(words, known[feature[node]], bool(nodes["missing_go_to_left"][node]))
                if not sets[node][1]:
                    left[node], right[node] = right[node], left[node]
            feature = np.where(leaf, -1, columns[np.maximum(feature, 0)])
            trees.append(Tree(
                feature, nodes["num_threshold"], left, right, nodes["value"][:, None], channel,
                nodes["missing_go_to_left"].astype(bool), {node: asked for node, (asked, _) in sets.items()},
            ))  # fmt: skip
    if hasattr(model, "classes_"):
        shift = constant_term(trees, x, np.asarray(model.decision_function(x)))
        return Forest(trees, False, _classifier(shift, model.classes_, "logistic" if shift.size == 1 else "softmax"))
    exponential = model.loss in ("poisson", "gamma")
    margins = np.asarray(model.predict(x))
    shift = constant_term(trees, x, np.log(margins) if exponential else margins)
    return Forest(trees, False, lambda s, c: RegressionHead(s, shift + c, exponential, True))


def _histogram_columns(model: Any) -> tuple[Any, dict[int, Any]]:
    """Return the user's column for each of the model's (it puts categories first), and the categories of the model's.

    Raises:
        DataError: for categories that are no numbers.
    """
    chosen = model.is_categorical_
    if chosen is None:
        return np.arange(model.n_features_in_), {}
    known = model._preprocessor.named_transformers_["encoder"].categories_
    if any(values.dtype.kind not in "biuf" for values in known):
        raise DataError(
            "categories on ciphertexts are numbers: put an OrdinalEncoder in front of the model in a tacit.fhe.Pipeline"
        )
    columns = np.concatenate([np.flatnonzero(chosen), np.flatnonzero(~chosen)])
    return columns, {i: np.asarray(values, dtype=np.float64) for i, values in enumerate(known)}


def _category_set(words: Any, known: Any, missing_left: bool) -> tuple[Categories, bool]:
    """Return the categories on the side where missing and unknown ones do not go, and whether that is the right."""
    code = np.arange(len(known))
    left = (np.asarray(words)[code // 32] >> (code % 32).astype(np.uint32)) & 1 == 1
    side = known[(~left if missing_left else left) & ~np.isnan(known)]
    return Categories(tuple(side.tolist())), missing_left


def _members(model: Any, kind: str) -> list[tuple[Any, Any]]:
    """Return the trees of an ensemble of trees, each with the columns that it sees (None: all).

    Raises:
        DataError: for an ensemble of anything else.
    """
    seen = getattr(model, "estimators_features_", [None] * len(model.estimators_))
    for member in model.estimators_:
        if not hasattr(member, "tree_"):
            raise DataError(f"{kind} on ciphertexts takes decision trees, not {type(member).__name__}")
    return list(zip(model.estimators_, seen, strict=True))


def _over(tree: Tree, columns: Any) -> Tree:
    """Return a tree of some columns as one of all."""
    if columns is None:
        return tree
    return replace(tree, feature=np.where(tree.feature < 0, -1, np.asarray(columns)[np.maximum(tree.feature, 0)]))


def bagged_fractions(model: Any) -> Forest:
    """Return a BaggingClassifier of trees: it averages their class fractions."""
    count, width = len(model.estimators_), len(model.classes_)
    if width < 2:
        raise DataError("bagging on ciphertexts needs two classes or more")
    trees, labels, pure = [], [], True
    for member, columns in _members(model, "bagging"):
        counts = member.tree_.value[:, 0, :]
        share = np.zeros((len(counts), width))
        own = np.arange(width) if counts.shape[1] == width else member.classes_.astype(np.intp)
        share[:, own] = counts / counts.sum(axis=1, keepdims=True)
        share = decided(share) if count == 1 else share
        trees.append(_over(tree_of(member.tree_, share[:, : width - 1]), columns))
        labels.append(share.argmax(axis=1)[:, None].astype(np.int64))
        pure = pure and bool((share[trees[-1].feature < 0].max(axis=1) == 1).all())
    classes = Classes.of(model.classes_)
    return Forest(
        trees, True, lambda s, c: ClassificationHead(s / count, c / count, classes, "fractions"),
        labels if pure else None, width,
    )  # fmt: skip


def bagged_averages(model: Any) -> Forest:
    """Return a BaggingRegressor of trees."""
    members, count = _members(model, "bagging"), len(model.estimators_)
    trees = [_over(tree_of(member.tree_, member.tree_.value[:, :, 0]), columns) for member, columns in members]
    flat = trees[0].value.shape[1] == 1
    return Forest(trees, True, lambda s, c: RegressionHead(s / count, c / count, False, flat))


def weighted_votes(model: Any) -> Forest:
    """Return an AdaBoostClassifier of trees: tree T says w_T for its class and -w_T / (k - 1) for the others."""
    members, k = _members(model, "AdaBoost"), len(model.classes_)
    if k < 2:
        raise DataError("AdaBoost on ciphertexts needs two classes or more")
    weights = np.asarray(model.estimator_weights_)[: len(members)]
    trees = []
    for (member, columns), weight in zip(members, weights / weights.sum(), strict=True):
        label = np.searchsorted(model.classes_, member.classes_[member.tree_.value[:, 0, :].argmax(axis=1)])
        says = np.where(label[:, None] == np.arange(k), weight, -weight / (k - 1))
        says = says[:, 1:] - says[:, :1] if k == 2 else says
        trees.append(_over(tree_of(member.tree_, says), columns))
    return Forest(trees, True, _classifier(np.zeros(1), model.classes_, "logistic" if k == 2 else "samme"))


def isolation(model: Any) -> Forest:
    """Return an IsolationForest: the sum of the depths at which the trees isolate a row decides."""
    members = _members(model, "isolation")
    unit = 2 * (np.log(model._max_samples - 1) + np.euler_gamma) - 2 * (model._max_samples - 1) / model._max_samples
    if model._max_samples <= 2:
        raise DataError("an isolation forest on ciphertexts needs more than two samples a tree")
    trees = []
    for i, (member, columns) in enumerate(members):
        depth = model._decision_path_lengths[i] + model._average_path_length_per_tree[i] - 1.0
        trees.append(_over(tree_of(member.tree_, np.asarray(depth, dtype=np.float64)[:, None]), columns))
    return Forest(trees, True, lambda s, c: IsolationHead(s, c, float(len(members) * unit), float(model.offset_)))
