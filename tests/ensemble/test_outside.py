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
    ("sklearn.tree", "DecisionTreeClassifier", {"max_depth": 3}),
    ("sklearn.tree", "DecisionTreeRegressor", {"max_depth": 3}),
    ("xgboost", "XGBClassifier", SMALL | {"n_jobs": 1}),
    ("xgboost", "XGBRegressor", SMALL | {"n_jobs": 1}),
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
    with pytest.raises(DataError, match="not GradientBoostingClassifier of tacit"):
        from_model(GradientBoostingClassifier())
