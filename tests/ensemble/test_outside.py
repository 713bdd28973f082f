"""Plain models of three libraries predict the same as secret ones."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.ensemble import GradientBoostingClassifier, from_model
from tacit.errors import DataError
from tacit.session.session import Session

from .conftest import Array, on_grid, shared

SMALL: dict[str, Any] = {"n_estimators": 4, "max_depth": 3}
MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("sklearn.ensemble", "GradientBoostingClassifier", SMALL),
    ("sklearn.ensemble", "GradientBoostingRegressor", SMALL),
    ("sklearn.ensemble", "RandomForestClassifier", SMALL),
    ("sklearn.ensemble", "RandomForestRegressor", SMALL),
    ("sklearn.ensemble", "ExtraTreesClassifier", SMALL),
    ("sklearn.ensemble", "ExtraTreesRegressor", SMALL),
    ("sklearn.ensemble", "HistGradientBoostingClassifier", {"max_iter": 4, "max_depth": 3, "min_samples_leaf": 3}),
    ("sklearn.ensemble", "HistGradientBoostingRegressor", {"max_iter": 4, "max_depth": 3, "min_samples_leaf": 3}),
    ("sklearn.tree", "DecisionTreeClassifier", {"max_depth": 3}),
    ("sklearn.tree", "DecisionTreeRegressor", {"max_depth": 3}),
    ("xgboost", "XGBClassifier", SMALL | {"n_jobs": 1}),
    ("xgboost", "XGBRegressor", SMALL | {"n_jobs": 1}),
    ("xgboost", "XGBRFClassifier", SMALL | {"n_jobs": 1}),
    ("xgboost", "XGBClassifier", SMALL | {"n_jobs": 1, "num_parallel_tree": 2, "scale_pos_weight": 3.0}),
    ("lightgbm", "LGBMClassifier", SMALL | {"n_jobs": 1, "verbose": -1, "min_child_samples": 3, "sigmoid": 0.5}),
    ("lightgbm", "LGBMClassifier", SMALL | {"n_jobs": 1, "verbose": -1, "min_child_samples": 3}),
    ("lightgbm", "LGBMRegressor", SMALL | {"n_jobs": 1, "verbose": -1, "min_child_samples": 3}),
]


def fitted(library: str, name: str, settings: dict[str, Any], x: Array, y: Array) -> Any:
    module = pytest.importorskip(library)
    return getattr(module, name)(**settings).fit(x, y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("library", "name", "settings", "classes"),
    [(*m, k) for m in MODELS for k in ((1,) if m[1].endswith("Regressor") else (2, 3))],
    ids=lambda v: "" if isinstance(v, dict) else str(v),
)
def test_a_plain_model_predicts_the_same_as_its_secret_one(
    session: Session, random: np.random.Generator, library: str, name: str, settings: dict[str, Any], classes: int
) -> None:
    x = on_grid(random.normal(size=(80, 4)))
    scores = x[:, 0] + 0.7 * x[:, 1] * x[:, 2]
    numbers = classes == 1
    y = on_grid(5 * scores) if numbers else np.digitize(scores, [0, 0.8][: classes - 1])
    model = fitted(library, name, settings, x, y)

    secret = from_model(model, owner="alice")

    parts = shared(x, 2, 2)
    if numbers:
        assert tacit.reveal(secret.predict(parts)).numpy() == pytest.approx(model.predict(x), abs=2e-3)
    else:
        assert tacit.reveal(secret.predict_proba(parts)).numpy() == pytest.approx(model.predict_proba(x), abs=2e-3)
        assert secret.n_classes_ == classes
    assert secret.n_features_in_ == 4


def test_a_model_that_all_roles_have(session: Session, random: np.random.Generator) -> None:
    x = on_grid(random.normal(size=(50, 3)))
    sk = importlib.import_module("sklearn.tree")
    model = sk.DecisionTreeClassifier(max_depth=2).fit(x, x[:, 0] > 0)

    with pytest.raises(DataError, match="classes must be"):
        from_model(sk.DecisionTreeClassifier(max_depth=2).fit(x, np.where(x[:, 0] > 0, "a", "b")))
    secret = from_model(model)

    assert torch.equal(tacit.reveal(secret.predict(shared(x, 2, 1))), torch.from_numpy(model.predict(x)).long())


def test_models_that_cannot_be_read_are_refused(session: Session, random: np.random.Generator) -> None:
    x = on_grid(random.normal(size=(3000, 2)))
    sk = importlib.import_module("sklearn.tree")

    with pytest.raises(DataError, match="has at most 10"):
        from_model(sk.DecisionTreeRegressor().fit(x, random.normal(size=3000)), owner="bob")
    with pytest.raises(DataError, match="one output"):
        from_model(sk.DecisionTreeRegressor(max_depth=2).fit(x, x))
    with pytest.raises(DataError, match="not GradientBoostingClassifier of tacit"):
        from_model(GradientBoostingClassifier())


OPTIONS: list[tuple[str, str, dict[str, Any], str]] = [
    ("sklearn.ensemble", "GradientBoostingClassifier", {"loss": "exponential"}, "log_loss"),
    ("sklearn.ensemble", "GradientBoostingClassifier", {"init": "tree"}, "init=estimator"),
    ("sklearn.ensemble", "HistGradientBoostingRegressor", {"loss": "gamma"}, "gamma"),
    ("sklearn.ensemble", "HistGradientBoostingClassifier", {"categorical_features": [3]}, "categories"),
    ("xgboost", "XGBClassifier", {"booster": "dart"}, "gbtree"),
    ("xgboost", "XGBClassifier", {"missing": 0.0}, "no number"),
    ("xgboost", "XGBRegressor", {"objective": "reg:absoluteerror"}, "absoluteerror"),
    ("lightgbm", "LGBMRegressor", {"reg_sqrt": True}, "reg_sqrt"),
    ("lightgbm", "LGBMClassifier", {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "rf"),
    ("lightgbm", "LGBMRegressor", {"linear_tree": True, "min_child_samples": 20}, "linear_tree"),
    ("lightgbm", "LGBMClassifier", {"zero_as_missing": True}, "zero_as_missing"),
    ("lightgbm", "LGBMClassifier", {"objective": "multiclassova", "num_class": 2}, "multiclassova"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("library", "name", "options", "says"), OPTIONS, ids=[says for *_, says in OPTIONS])
def test_options_that_a_secret_model_cannot_have_are_refused(
    session: Session, random: np.random.Generator, library: str, name: str, options: dict[str, Any], says: str
) -> None:
    x = np.abs(on_grid(random.normal(size=(80, 4))))
    x[:, 3] = random.integers(0, 4, 80)
    y = x[:, 0] + x[:, 1] + 1.0
    if options.get("init") == "tree":
        options = {"init": importlib.import_module("sklearn.tree").DecisionTreeClassifier(max_depth=2)}
    small = {"max_depth": 3, ("max_iter" if name.startswith("Hist") else "n_estimators"): 3}
    if library == "lightgbm":
        small |= {"min_child_samples": 3, "verbose": -1, "n_jobs": 1}
    model = fitted(library, name, small | options, x, y if name.endswith("Regressor") else (y > 2.5).astype(int))

    with pytest.raises(DataError, match=says):
        from_model(model, owner="alice")
