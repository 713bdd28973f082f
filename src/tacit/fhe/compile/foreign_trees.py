"""XGBoost's and LightGBM's trees as `Forest`s, read from the models' own JSON, and those of `tacit.ensemble`.

Neither library is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tacit.errors import DataError, FheError
from tacit.fhe.compile.conditions import Categories, Tree
from tacit.fhe.compile.forest import Forest, constant_term
from tacit.fhe.encode import Float
from tacit.fhe.read import Classes, ClassificationHead, Head, RegressionHead

_XGB_LOG = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")
_XGB_IDENTITY = (
    *("reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror"),
    *("rank:pairwise", "rank:ndcg", "rank:map"),
)
_XGB_CLASSES = ("binary:logistic", "multi:softprob", "multi:softmax")
_LGB_LOG = ("poisson", "gamma", "tweedie")
_LGB_IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")
_LGB_CLASSES = ("binary", "multiclass")


def refuse_codes(columns: Iterable[Sequence[Any]]) -> None:
    """Refuse a model of pandas categories that a client would send as other numbers than the model's.

    Both libraries number a column's categories, and their trees ask for that number. A client sends what is in the
    table. Words it cannot send at all; categories that are numbers must be their own number.
    """
    for known in columns:
        if any((value := _number(name)) is not None and value != code for code, name in enumerate(known)):
            raise DataError(
                f"this model was trained on a column of pandas categories {_listed(known)}, which it numbers from 0, "
                "while a client sends them as they are: train it on X[c].cat.rename_categories(range(k))"
            )


def _number(category: Any) -> float | None:
    try:
        return float(category)
    except (TypeError, ValueError):
        return None


def _listed(known: Sequence[Any]) -> str:
    return ", ".join(map(str, known[:4])) + ", ..." * (len(known) > 4)


def _xgboost_categories(body: dict[str, Any]) -> Iterator[Sequence[Any]]:
    """Yield the categories of each column that a model of XGBoost 3.1 or later was trained on."""
    for column in body.get("cats", {}).get("enc", ()):
        values = column["values"]
        if "offsets" in column:  # words, one after the other
            text, ends = np.array(values, dtype=np.int8).tobytes(), column["offsets"]
            values = [text[a:b].decode("utf-8", "replace") for a, b in pairwise(ends)]
        yield values


def _of_another_objective(library: str, objective: str, known: Sequence[str]) -> str:
    return f"{library} models with objective {objective!r} cannot be compiled: train with one of {', '.join(known)}"


def _head(classes: Any, shift: Float, exponential: bool) -> Any:
    def regression(scale: Float, centre: Float) -> Head:
        return RegressionHead(scale, shift + centre, exponential, shift.size == 1)

    def classification(scale: Float, centre: Float) -> Head:
        proba = "logistic" if shift.size == 1 else "softmax"
        return ClassificationHead(scale, shift + centre, Classes.of(classes), proba)

    return regression if classes is None else classification


def xgboost_forest(model: Any, x: Float) -> Forest:
    """Return the forest of an `XGBClassifier` or `XGBRegressor` (booster "gbtree" or "dart", numbers and categories).

    As `predict` does, it takes the trees up to the best iteration of a training that stopped early. Several targets or
    quantiles are several channels.
    """
    if not hasattr(model, "get_booster"):
        raise FheError("from_xgboost_model takes an XGBClassifier or XGBRegressor, not a raw Booster or another model")
    marker = getattr(model, "missing", None)
    if marker is not None and not np.isnan(marker):
        raise FheError(f"an XGBoost model with missing={marker!r} cannot be compiled: train it with NaN in such places")
    booster = model.get_booster()
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    kind, stored = learner["gradient_booster"]["name"], learner["gradient_booster"]
    if kind not in ("gbtree", "dart"):
        raise FheError('only XGBoost models with booster="gbtree" or "dart" can be compiled')
    body = stored["model"] if kind == "gbtree" else stored["gbtree"]["model"]
    refuse_codes(_xgboost_categories(body))
    if any(int(tree["tree_param"].get("size_leaf_vector") or 1) > 1 for tree in body["trees"]):
        raise FheError(
            'XGBoost models with multi_strategy="multi_output_tree" cannot be compiled: train with '
            '"one_output_per_tree"'
        )
    last = body["iteration_indptr"][getattr(model, "best_iteration", len(body["iteration_indptr"]) - 2) + 1]
    weight = stored["weight_drop"] if kind == "dart" else np.ones(len(body["trees"]))
    kept = zip(body["trees"][:last], body["tree_info"][:last], weight[:last], strict=True)
    trees = [_xgboost_tree(tree, channel, float(factor)) for tree, channel, factor in kept]
    objective = learner["objective"]["name"]
    if objective == "binary:logistic" and max(body["tree_info"], default=0) > 0:
        raise FheError("an XGBoost classifier of several labels a row cannot be compiled: train one for each label")
    classes = getattr(model, "classes_", None) if objective in _XGB_CLASSES else None
    if objective not in _XGB_LOG + _XGB_IDENTITY + _XGB_CLASSES:
        raise FheError(_of_another_objective("XGBoost", objective, (*_XGB_IDENTITY, *_XGB_LOG, *_XGB_CLASSES)))
    single = x.astype(np.float32).astype(np.float64)
    shift = constant_term(trees, single, np.asarray(model.predict(x, output_margin=True), dtype=np.float64))
    return Forest(trees, True, _head(classes, shift, objective in _XGB_LOG))


def _xgboost_tree(tree: dict[str, Any], channel: int, factor: float) -> Tree:
    left = np.array(tree["left_children"], dtype=np.int64)
    condition = np.array(tree["split_conditions"], dtype=np.float32)
    feature = np.where(left < 0, -1, np.array(tree["split_indices"], dtype=np.int64))
    # XGBoost goes left if x < condition, in single precision: that is x <= the number just below it.
    below = np.nextafter(condition, np.float32(-np.inf)).astype(np.float64)
    value = factor * condition.astype(np.float64)[:, None]  # at a leaf the condition is the leaf's value
    to_left = np.array(tree["default_left"], dtype=bool)
    sets = {}
    places = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
    for node, start, size in places:  # those that are listed go right, all others left
        listed = tuple(map(float, tree["categories"][start : start + size]))
        sets[int(node)] = Categories(listed, missing=not to_left[node], whole=True)
    return Tree(feature, below, left, np.array(tree["right_children"], dtype=np.int64), value, channel, to_left, sets)


def lightgbm_forest(model: Any, x: Float) -> Forest:
    """Return the forest of an `LGBMClassifier` or `LGBMRegressor` (boosting "gbdt", "dart" or "goss", numbers and
    categories)."""
    if not hasattr(model, "booster_"):
        raise FheError("from_lightgbm_model takes an LGBMClassifier or LGBMRegressor, not a raw Booster or another one")
    refuse_codes(model.booster_.pandas_categorical or ())
    dump = model.booster_.dump_model()
    if any("leaf_coeff" in json.dumps(tree["tree_structure"]) for tree in dump["tree_info"][:1]):
        raise FheError("LightGBM models with linear_tree=True cannot be compiled")
    if dump.get("average_output"):
        raise FheError('LightGBM models with boosting_type="rf" cannot be compiled')
    width = dump["num_tree_per_iteration"]
    trees = [_lightgbm_tree(tree, i % width) for i, tree in enumerate(dump["tree_info"])]
    objective = dump["objective"].split()[0]
    if objective not in _LGB_LOG + _LGB_IDENTITY + _LGB_CLASSES or "sqrt" in dump["objective"].split():
        raise FheError(_of_another_objective("LightGBM", dump["objective"], (*_LGB_IDENTITY, *_LGB_LOG, *_LGB_CLASSES)))
    sigmoid = [part for part in dump["objective"].split() if part.startswith("sigmoid:")]
    if sigmoid and float(sigmoid[0].removeprefix("sigmoid:")) != 1.0:
        raise FheError("LightGBM models with another sigmoid than 1 cannot be compiled")
    classes = model.classes_ if objective in _LGB_CLASSES else None
    shift = constant_term(trees, x, np.asarray(model.predict(x, raw_score=True), dtype=np.float64))
    return Forest(trees, False, _head(classes, shift, objective in _LGB_LOG))


def _lightgbm_tree(tree: dict[str, Any], channel: int) -> Tree:
    feature: list[int] = []
    threshold: list[float] = []
    value: list[float] = []
    children: list[list[int]] = []
    missing: dict[int, bool] = {}
    sets: dict[int, Categories] = {}
    stack: list[tuple[dict[str, Any], int, int]] = [(tree["tree_structure"], -1, 0)]
    while stack:
        node, parent, side = stack.pop()
        here = len(feature)
        if parent >= 0:
            children[parent][side] = here
        children.append([-1, -1])
        if "leaf_value" in node:
            feature.append(-1)
            threshold.append(0.0)
            value.append(float(node["leaf_value"]))
            continue
        if node["missing_type"] == "Zero":
            raise DataError("a LightGBM model with zero_as_missing cannot be compiled")
        feature.append(int(node["split_feature"]))
        value.append(0.0)
        sides = [(node["left_child"], here, 0), (node["right_child"], here, 1)]
        if node["decision_type"] == "==":  # those that are listed go left, all others and missing ones right
            sets[here] = Categories(tuple(map(float, node["threshold"].split("||"))), whole=True)
            sides = [(node["right_child"], here, 0), (node["left_child"], here, 1)]
        threshold.append(0.0 if here in sets else float(node["threshold"]))
        # Where training saw no missing value, LightGBM takes one for zero.
        missing[here] = node["default_left"] if node["missing_type"] == "NaN" else threshold[here] >= 0
        stack += sides
    left, right = np.array(children, dtype=np.int64).T
    to_left = np.array([missing.get(i, True) for i in range(len(feature))], dtype=bool)
    return Tree(np.array(feature), np.array(threshold), left, right, np.array(value)[:, None], channel, to_left, sets)


def tacit_forest(model: Any, x: Float) -> Forest:
    """Return the forest of a `tacit.ensemble.PlainTrees`. A node that splits nothing is left out."""
    if not hasattr(model, "leaves") or not hasattr(model, "kind"):
        raise FheError("from_tacit_model takes what tacit.ensemble.to_plain gave, not another model")
    if model.missing_left is not None:
        raise FheError("numbers are never missing among ciphertexts: fit with missing=False, on filled columns")
    outputs, count = len(model.start), len(model.leaves)
    averaged = model.kind == "forest of classes"
    values = model.leaves
    if averaged:  # of two classes the share of the second is there, and the last is what the others leave
        values = 1 - values if values.shape[1] == 1 else values[:, :-1]
    trees = [
        _full_tree(model.columns[k], model.thresholds[k], values[k].T, 0 if averaged else k % outputs)
        for k in range(count)
    ]
    if not averaged:
        return Forest(trees, False, _head(model.classes_ or None, np.asarray(model.start), False))
    classes = Classes.of(np.array(model.classes_))
    return Forest(trees, False, lambda s, c: ClassificationHead(s / count, c / count, classes, "fractions"))


def _full_tree(column: Any, threshold: Any, leaves: Any, channel: int) -> Tree:
    """A tree of full depth, without the nodes that send all rows left."""
    feature: list[int] = []
    bound: list[float] = []
    value: list[Any] = []
    children: list[list[int]] = []

    def add(at: int) -> int:
        while at < len(column) and column[at] < 0:
            at = 2 * at + 1
        here = len(feature)
        inner = at < len(column)
        feature.append(int(column[at]) if inner else -1)
        bound.append(float(threshold[at]) if inner else 0.0)
        value.append(np.zeros(leaves.shape[1]) if inner else leaves[at - len(column)])
        children.append([-1, -1])
        if inner:
            children[here] = [add(2 * at + 1), add(2 * at + 2)]
        return here

    add(0)
    left, right = np.array(children, dtype=np.int64).T
    return Tree(np.array(feature, dtype=np.int64), np.array(bound), left, right, np.stack(value), channel)
