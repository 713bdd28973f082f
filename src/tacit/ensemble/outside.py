"""Plain models of scikit-learn, XGBoost and LightGBM as secret ones, whose trees are filled up to one depth.

The owner of the model reads it; the others learn what kind it is, and how many trees, levels, columns and classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tacit.api import current_session, share
from tacit.ensemble.boosting import GradientBoostingClassifier, GradientBoostingRegressor
from tacit.ensemble.estimator import DEEPEST
from tacit.ensemble.forest import RandomForestClassifier
from tacit.ensemble.trees import Trees
from tacit.errors import DataError
from tacit.tensor.operands import arithmetic

__all__ = ["from_model"]

Model = GradientBoostingClassifier | GradientBoostingRegressor | RandomForestClassifier
KINDS: dict[str, Callable[[], Model]] = {
    "boosted classes": GradientBoostingClassifier,
    "boosted numbers": GradientBoostingRegressor,
    "forest of classes": RandomForestClassifier,
}


@dataclass
class Node:
    """A node of a plain tree: where x[column] <= threshold goes left; or a leaf with its values."""

    column: int = -1
    threshold: float = 1.0
    strict: bool = False
    """Whether only x < threshold goes left."""
    left: Node | None = None
    right: Node | None = None
    values: list[float] = field(default_factory=list)

    def depth(self) -> int:
        """Levels of inner nodes."""
        return 0 if self.left is None or self.right is None else 1 + max(self.left.depth(), self.right.depth())


@dataclass
class Read:
    """A plain model, read."""

    kind: str
    columns: int
    classes: int
    start: list[float]
    trees: list[Node]


def from_model(model: Any, owner: str | None = None) -> Model:
    """Make a secret model of a fitted plain one.

    Args:
        model: scikit-learn's GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier,
            RandomForestRegressor, DecisionTreeClassifier or DecisionTreeRegressor; XGBoost's XGBClassifier or
            XGBRegressor; LightGBM's LGBMClassifier or LGBMRegressor. All numeric columns, none of which may be missing.
        owner: the party that has the model; the others pass None. Without one, all roles have it.

    Reveals: the kind of model, and the numbers of its trees, levels, columns and classes, to all roles.

    Raises:
        DataError: at the owner, for a model that is none of these, or a tree of more than ten levels.
    """
    session = current_session()
    hosted = owner is None or owner in session.transport.hosted
    read = _read(model) if hosted else None
    facts: list[Any] = []
    if read is not None:
        if not read.trees:
            raise DataError("this model has no trees")
        depth = max(1, *(tree.depth() for tree in read.trees))
        if depth > DEEPEST:
            raise DataError(f"a tree of this model has {depth} levels, and a secret one has at most {DEEPEST}")
        facts = [read.kind, read.columns, read.classes, len(read.trees), depth, len(read.start)]
    if owner is not None:
        facts = _announced(owner, session.announce(owner, json.dumps(facts).encode() if facts else None))
    kind, columns, classes, count, depth, outputs = facts
    inner = (1 << depth) - 1
    width = classes if kind == "forest of classes" and classes > 2 else 1
    shapes = ((columns, count, inner), (count, inner), (count, width, inner + 1), (1, outputs))
    tensors = [None] * 4 if read is None else _filled(read, depth, width)
    secrets = [
        arithmetic(share(t, owner, shape=s, dtype=d) if owner else share(t))
        for t, s, d in zip(tensors, shapes, (torch.int64, torch.float64, torch.float64, torch.float64), strict=True)
    ]
    features, thresholds, leaves, start = secrets
    out = KINDS[kind]()
    out.n_estimators, out.max_depth = count // max(1, outputs), depth
    zeros = leaves.protocol.public(torch.zeros(count, inner, dtype=torch.int64), leaves.frac_bits)
    out.trees_ = Trees(features, thresholds, zeros, leaves)
    out.n_features_in_ = columns
    out.take_over(start, classes)
    return out


def _announced(owner: str, message: bytes) -> list[Any]:
    """Check what a model's owner announced: it may be anything."""
    try:
        kind, *numbers = json.loads(message)
        sound = kind in KINDS and len(numbers) == 5 and all(type(n) is int and 1 <= n < 1 << 24 for n in numbers)
    except (ValueError, TypeError, RecursionError):
        sound = False
    if not sound or numbers[3] > DEEPEST or numbers[2] * numbers[0] << numbers[3] > 1 << 32:
        raise DataError(f"{owner} announced a model of an impossible kind or size")
    return [kind, *numbers]


def _filled(read: Read, depth: int, width: int) -> list[Any]:
    """One-hot columns, thresholds, leaves and where to start from, of trees that are full."""
    inner, count = (1 << depth) - 1, len(read.trees)
    features = torch.zeros(read.columns, count, inner, dtype=torch.int64)
    thresholds = torch.ones(count, inner, dtype=torch.float64)
    leaves = torch.zeros(count, width, inner + 1, dtype=torch.float64)
    unit = 2.0 ** -current_session().config.frac_bits
    for k, tree in enumerate(read.trees):
        level = [tree]
        for d in range(depth):
            following = []
            for place, node in enumerate(level):
                if node.left is None or node.right is None:
                    following += [node, node]
                    continue
                at = (1 << d) - 1 + place
                features[node.column, k, at] = 1
                steps = math.ceil(node.threshold / unit) - 1 if node.strict else math.floor(node.threshold / unit)
                thresholds[k, at] = steps * unit
                following += [node.left, node.right]
            level = following
        leaves[k] = torch.tensor([node.values for node in level], dtype=torch.float64).t()
    return [features, thresholds, leaves, torch.tensor([read.start], dtype=torch.float64)]


# --- what libraries have ----------------------------------------------------------------------------------------------


def _read(model: Any) -> Read:
    name, library = type(model).__name__, type(model).__module__.partition(".")[0]
    reader = READERS.get((library, name))
    if reader is None:
        raise DataError(
            f"from_model reads {', '.join(f'{kind} of {lib}' for lib, kind in READERS)}, not {name} of {library}"
        )
    return reader(model)


def _sk_tree(tree: Any, values: Callable[[Any], list[float]], at: int = 0) -> Node:
    left, right = int(tree.children_left[at]), int(tree.children_right[at])
    if left < 0:
        return Node(values=values(tree.value[at]))
    sides = (_sk_tree(tree, values, left), _sk_tree(tree, values, right))
    return Node(int(tree.feature[at]), float(tree.threshold[at]), False, *sides)


def _sk_classes(model: Any) -> int:
    labels = list(model.classes_)
    if labels != list(range(len(labels))) or len(labels) < 2:
        raise DataError("the model's classes must be 0, 1, and so on, two of them at least")
    return len(labels)


def _sk_forest(model: Any) -> Read:
    classes = _sk_classes(model)

    def shares(value: Any) -> list[float]:
        row = [float(v) for v in value[0]]
        total = sum(row)
        return [row[1] / total] if classes == 2 else [v / total for v in row]

    trees = [_sk_tree(e.tree_, shares) for e in _members(model)]
    return Read("forest of classes", int(model.n_features_in_), classes, [0.0], trees)


def _sk_averages(model: Any) -> Read:
    members = _members(model)
    trees = [_sk_tree(e.tree_, lambda v: [float(v[0][0]) / len(members)]) for e in members]
    return Read("boosted numbers", int(model.n_features_in_), 2, [0.0], trees)


def _members(model: Any) -> Sequence[Any]:
    return list(model.estimators_) if hasattr(model, "estimators_") else [model]


def _sk_boosting(model: Any) -> Read:
    numbers = not hasattr(model, "classes_")
    classes = 2 if numbers else _sk_classes(model)
    if not numbers and model.loss != "log_loss":
        raise DataError(f"from_model reads boosted classifiers of the loss log_loss, not {model.loss}")
    import numpy as np

    zero = np.zeros((1, int(model.n_features_in_)))
    rate = float(model.learning_rate)
    start = [float(v) for v in np.ravel(model._raw_predict_init(zero))]
    trees = [_sk_tree(e.tree_, lambda v: [rate * float(v[0][0])]) for row in model.estimators_ for e in row]
    return Read("boosted numbers" if numbers else "boosted classes", int(model.n_features_in_), classes, start, trees)


def _xgboost(model: Any) -> Read:
    booster = model.get_booster()
    numbers = not hasattr(model, "n_classes_")
    classes = 2 if numbers else int(model.n_classes_)
    config = json.loads(booster.save_config())
    objective = config["learner"]["objective"]["name"]
    if objective not in ("binary:logistic", "multi:softprob", "multi:softmax", "reg:squarederror"):
        raise DataError(f"from_model reads models of logistic, softmax and squared losses, not {objective}")
    if config["learner"]["gradient_booster"]["name"] != "gbtree":
        raise DataError("from_model reads XGBoost's gbtree, no other booster")
    base = config["learner"]["learner_model_param"]["base_score"]
    starts = [float(v) for v in str(base).strip("[]").split(",")]
    outputs = classes if classes > 2 else 1
    starts = starts * outputs if len(starts) == 1 else starts
    if objective == "binary:logistic":
        starts = [math.log(p / (1 - p)) for p in starts]
    names = booster.feature_names
    places = {name: k for k, name in enumerate(names)} if names else None

    def node(d: dict[str, Any]) -> Node:
        if "leaf" in d:
            return Node(values=[float(d["leaf"])])
        by_id = {child["nodeid"]: child for child in d["children"]}
        column = places[d["split"]] if places else int(d["split"].removeprefix("f"))
        if not isinstance(d["split_condition"], int | float):
            raise DataError("from_model reads splits of numbers, and this model has one of categories")
        sides = (node(by_id[d["yes"]]), node(by_id[d["no"]]))
        threshold = torch.tensor(d["split_condition"], dtype=torch.float32)  # the dump has its shortest decimals
        return Node(column, float(threshold), True, *sides)

    trees = [node(json.loads(text)) for text in booster.get_dump(dump_format="json")]
    best = getattr(booster, "best_iteration", None)  # there if it has stopped early
    trees = trees if best is None else trees[: (best + 1) * outputs]
    kind = "boosted numbers" if numbers else "boosted classes"
    return Read(kind, int(model.n_features_in_), classes, starts, trees)


def _lightgbm(model: Any) -> Read:
    dumped = model.booster_.dump_model()
    numbers = not hasattr(model, "n_classes_")
    classes = 2 if numbers else int(model.n_classes_)
    objective = str(dumped.get("objective", "")).split()[0]
    if objective not in ("binary", "multiclass", "regression"):
        raise DataError(f"from_model reads models of logistic, softmax and squared losses, not {objective}")

    def node(d: dict[str, Any]) -> Node:
        if "leaf_value" in d and "left_child" not in d:
            return Node(values=[float(d["leaf_value"])])
        if d["decision_type"] != "<=":
            raise DataError("from_model reads splits of numbers, and this model has one of categories")
        sides = (node(d["left_child"]), node(d["right_child"]))
        return Node(int(d["split_feature"]), float(d["threshold"]), False, *sides)

    trees = [node(tree["tree_structure"]) for tree in dumped["tree_info"]]
    start = [0.0] * (classes if classes > 2 else 1)
    kind = "boosted numbers" if numbers else "boosted classes"
    return Read(kind, int(model.n_features_in_), classes, start, trees)


READERS: dict[tuple[str, str], Callable[[Any], Read]] = {
    ("sklearn", "GradientBoostingClassifier"): _sk_boosting,
    ("sklearn", "GradientBoostingRegressor"): _sk_boosting,
    ("sklearn", "RandomForestClassifier"): _sk_forest,
    ("sklearn", "DecisionTreeClassifier"): _sk_forest,
    ("sklearn", "RandomForestRegressor"): _sk_averages,
    ("sklearn", "DecisionTreeRegressor"): _sk_averages,
    ("xgboost", "XGBClassifier"): _xgboost,
    ("xgboost", "XGBRegressor"): _xgboost,
    ("lightgbm", "LGBMClassifier"): _lightgbm,
    ("lightgbm", "LGBMRegressor"): _lightgbm,
}
