"""What fitted models of scikit-learn, XGBoost and LightGBM say, as trees.

What a secret model could not repeat is refused. None of the libraries is imported here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tacit.errors import DataError

__all__ = ["Node", "Read", "read"]


MOST_VALUE = 2.0**30
"""What a leaf's value must stay below: sums of some thousand trees have room."""


@dataclass
class Node:
    """A node of a plain tree: where x[column] <= threshold goes left; or a leaf with its values."""

    column: int = -1
    threshold: float = 1.0
    strict: bool = False
    """Whether only x < threshold goes left."""
    missing_left: bool = False
    """Whether rows go left whose number is missing."""
    left: Node | None = None
    right: Node | None = None
    values: list[float] = field(default_factory=list)

    def depth(self) -> int:
        """Levels of inner nodes."""
        return 0 if self.left is None or self.right is None else 1 + max(self.left.depth(), self.right.depth())

    def all_values(self) -> list[float]:
        """Those of all leaves."""
        if self.left is None or self.right is None:
            return self.values
        return self.left.all_values() + self.right.all_values()


@dataclass
class Read:
    """A plain model, read."""

    kind: str
    columns: int
    classes: int
    start: list[float]
    trees: list[Node]


def read(model: Any) -> Read:
    """Read a fitted model.

    Raises:
        DataError: for a model that is not known, or has options that a secret one cannot have.
    """
    name, library = type(model).__name__, type(model).__module__.partition(".")[0]
    reader = READERS.get((library, name))
    if reader is None:
        raise DataError(
            f"from_model reads {', '.join(f'{kind} of {lib}' for lib, kind in READERS)}, not {name} of {library}"
        )
    found = reader(model)
    if not found.trees:
        raise DataError("this model has no trees")
    values = [value for tree in found.trees for value in tree.all_values()]
    if not all(math.isfinite(v) and abs(v) < MOST_VALUE for v in (*values, *found.start)):
        raise DataError(f"a value of this model is not finite, or {MOST_VALUE:g} or more: scale what it predicts")
    return found


def _single(model: Any) -> None:
    """Raise for a model of several outputs."""
    if getattr(model, "n_outputs_", 1) != 1:
        raise DataError("from_model reads models of one output: fit one for each")


def _numeric(fits: bool) -> None:
    if not fits:
        raise DataError("from_model reads splits of numbers, and this model has one of categories")


def _classes(labels: Any) -> int:
    """How many classes there are."""
    found = list(labels)
    if len(found) < 2 or found != list(range(len(found))):
        raise DataError("the model's classes must be 0, 1, and so on, two of them at least")
    return len(found)


def _sk_tree(tree: Any, values: Callable[[Any], list[float]], at: int = 0) -> Node:
    left, right = int(tree.children_left[at]), int(tree.children_right[at])
    if left < 0:
        return Node(values=values(tree.value[at]))
    sides = (_sk_tree(tree, values, left), _sk_tree(tree, values, right))
    missing = bool(tree.missing_go_to_left[at])
    return Node(int(tree.feature[at]), float(tree.threshold[at]), False, missing, *sides)


def _sk_forest(model: Any) -> Read:
    _single(model)
    classes = _classes(model.classes_)

    def shares(value: Any) -> list[float]:
        row = [float(v) for v in value[0]]
        total = sum(row)
        return [row[1] / total] if classes == 2 else [v / total for v in row]

    trees = [_sk_tree(e.tree_, shares) for e in _members(model)]
    return Read("forest of classes", int(model.n_features_in_), classes, [0.0], trees)


def _sk_averages(model: Any) -> Read:
    _single(model)
    members = _members(model)
    trees = [_sk_tree(e.tree_, lambda v: [float(v[0][0]) / len(members)]) for e in members]
    return Read("boosted numbers", int(model.n_features_in_), 2, [0.0], trees)


def _members(model: Any) -> Sequence[Any]:
    return list(model.estimators_) if hasattr(model, "estimators_") else [model]


def _sk_boosting(model: Any) -> Read:
    numbers = not hasattr(model, "classes_")
    classes = 2 if numbers else _classes(model.classes_)
    if not numbers and model.loss != "log_loss":
        raise DataError(f"from_model reads boosted classifiers of the loss log_loss, not {model.loss}")
    if model.init not in (None, "zero") and not type(model.init_).__name__.startswith("Dummy"):
        raise DataError("from_model reads boosted models that start from a constant, not from init=estimator")
    zero = torch.zeros(1, int(model.n_features_in_)).numpy()
    rate = float(model.learning_rate)
    start = [float(v) for v in model._raw_predict_init(zero).ravel()]
    trees = [_sk_tree(e.tree_, lambda v: [rate * float(v[0][0])]) for row in model.estimators_ for e in row]
    return Read("boosted numbers" if numbers else "boosted classes", int(model.n_features_in_), classes, start, trees)


def _sk_histogram(model: Any) -> Read:
    numbers = not hasattr(model, "classes_")
    classes = 2 if numbers else _classes(model.classes_)
    if model.loss not in ("log_loss", "squared_error", "absolute_error", "quantile"):
        raise DataError(f"from_model reads histogram-based models of log_loss or squared_error, not of {model.loss}")
    _numeric(model.is_categorical_ is None)

    def node(rows: Any, at: int = 0) -> Node:
        row = rows[at]
        if row["is_leaf"]:
            return Node(values=[float(row["value"])])
        sides = (node(rows, int(row["left"])), node(rows, int(row["right"])))
        missing = bool(row["missing_go_to_left"])
        return Node(int(row["feature_idx"]), float(row["num_threshold"]), False, missing, *sides)

    trees = [node(member.nodes) for stage in model._predictors for member in stage]
    start = [float(v) for v in model._baseline_prediction.ravel()]
    return Read("boosted numbers" if numbers else "boosted classes", int(model.n_features_in_), classes, start, trees)


def _xgboost(model: Any) -> Read:
    booster = model.get_booster()
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective = learner["objective"]["name"]
    if objective not in ("binary:logistic", "multi:softprob", "multi:softmax", "reg:squarederror"):
        raise DataError(f"from_model reads models of logistic, softmax and squared losses, not {objective}")
    if learner["gradient_booster"]["name"] != "gbtree":
        raise DataError("from_model reads XGBoost's gbtree, no other booster")
    if not math.isnan(float(model.missing)):
        raise DataError(f"XGBoost takes {float(model.missing):g} for no number in this model, and a secret one cannot")
    body = learner["gradient_booster"]["model"]
    numbers = objective == "reg:squarederror"
    classes = 2 if numbers else int(model.n_classes_)
    outputs = classes if classes > 2 else 1
    if max(body["tree_info"], default=0) >= outputs:
        raise DataError("from_model reads models of one output: fit one for each")
    if any(int(tree["tree_param"].get("size_leaf_vector") or 1) > 1 for tree in body["trees"]):
        raise DataError('from_model reads no trees of multi_strategy="multi_output_tree"')
    bounds = body["iteration_indptr"]
    last = bounds[getattr(booster, "best_iteration", len(bounds) - 2) + 1]  # there if it has stopped early
    by_output: list[list[Node]] = [[] for _ in range(outputs)]
    for tree, output in zip(body["trees"][:last], body["tree_info"][:last], strict=True):
        by_output[output].append(_xgboost_tree(tree))
    trees = [tree for row in zip(*by_output, strict=True) for tree in row]  # one of each output, and again
    base = learner["learner_model_param"]["base_score"]
    starts = [float(v) for v in str(base).strip("[]").split(",")]
    starts = starts * outputs if len(starts) == 1 else starts
    if objective == "binary:logistic":
        starts = [math.log(p / (1 - p)) for p in starts]
    kind = "boosted numbers" if numbers else "boosted classes"
    return Read(kind, int(model.n_features_in_), classes, starts, trees)


def _xgboost_tree(tree: dict[str, Any], at: int = 0) -> Node:
    _numeric(not tree.get("categories"))
    number = float(torch.tensor(tree["split_conditions"][at], dtype=torch.float32))  # a leaf's value stands there, too
    left, right = tree["left_children"][at], tree["right_children"][at]
    if left < 0:
        return Node(values=[number])
    sides = (_xgboost_tree(tree, left), _xgboost_tree(tree, right))
    return Node(int(tree["split_indices"][at]), number, True, bool(tree["default_left"][at]), *sides)


def _lightgbm(model: Any) -> Read:
    dumped = model.booster_.dump_model()
    objective, *options = str(dumped.get("objective", "none")).split()
    if objective not in ("binary", "multiclass", "regression"):
        raise DataError(f"from_model reads models of logistic, softmax and squared losses, not {objective}")
    if "sqrt" in options:
        raise DataError("from_model reads no LightGBM model with reg_sqrt=True: it squares what its trees say")
    if dumped.get("average_output"):
        raise DataError('from_model reads no LightGBM model with boosting_type="rf"')
    numbers = objective == "regression"
    classes = 2 if numbers else _classes(model.classes_)
    slopes = [float(option.removeprefix("sigmoid:")) for option in options if option.startswith("sigmoid:")]
    slope = slopes[0] if slopes and objective == "binary" else 1.0

    def node(d: dict[str, Any]) -> Node:
        if "left_child" not in d:
            if "leaf_coeff" in d:
                raise DataError("from_model reads no LightGBM model with linear_tree=True")
            return Node(values=[slope * float(d["leaf_value"])])
        _numeric(d["decision_type"] == "<=")
        if d.get("missing_type") == "Zero":
            raise DataError("LightGBM takes 0 for no number in this model (zero_as_missing), and a secret one cannot")
        sides, threshold = (node(d["left_child"]), node(d["right_child"])), float(d["threshold"])
        missing = bool(d["default_left"]) if d.get("missing_type") == "NaN" else threshold >= 0  # it takes NaN for 0
        return Node(int(d["split_feature"]), threshold, False, missing, *sides)

    trees = [node(tree["tree_structure"]) for tree in dumped["tree_info"]]
    start = [0.0] * (classes if classes > 2 else 1)
    kind = "boosted numbers" if numbers else "boosted classes"
    return Read(kind, int(model.n_features_in_), classes, start, trees)


READERS: dict[tuple[str, str], Callable[[Any], Read]] = {
    ("sklearn", "GradientBoostingClassifier"): _sk_boosting,
    ("sklearn", "GradientBoostingRegressor"): _sk_boosting,
    ("sklearn", "HistGradientBoostingClassifier"): _sk_histogram,
    ("sklearn", "HistGradientBoostingRegressor"): _sk_histogram,
    ("sklearn", "RandomForestClassifier"): _sk_forest,
    ("sklearn", "ExtraTreesClassifier"): _sk_forest,
    ("sklearn", "DecisionTreeClassifier"): _sk_forest,
    ("sklearn", "RandomForestRegressor"): _sk_averages,
    ("sklearn", "ExtraTreesRegressor"): _sk_averages,
    ("sklearn", "DecisionTreeRegressor"): _sk_averages,
    ("xgboost", "XGBClassifier"): _xgboost,
    ("xgboost", "XGBRegressor"): _xgboost,
    ("xgboost", "XGBRFClassifier"): _xgboost,
    ("xgboost", "XGBRFRegressor"): _xgboost,
    ("lightgbm", "LGBMClassifier"): _lightgbm,
    ("lightgbm", "LGBMRegressor"): _lightgbm,
}
