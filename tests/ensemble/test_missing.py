"""Numbers may be missing: each split learns where such rows go, as XGBoost's default direction; predictions follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.ensemble import (
    MISSING,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    from_model,
    to_plain,
)
from tacit.ensemble.columns import edges_of
from tacit.errors import ConfigError, DataError, UnusableTable
from tacit.session.session import Session

from .conftest import Array, on_grid, shared


def drawn(random: np.random.Generator, rows: int) -> tuple[Array, Array]:
    """Columns, NaN where a number is missing, which says something in the first; and log-odds of them."""
    x = on_grid(random.normal(size=(rows, 4)))
    gone = random.random(x.shape) < [0.3, 0.2, 0.0, 0.1]
    return np.where(gone, np.nan, x), np.where(gone[:, 0], 2.0, x[:, 0]) + np.where(gone[:, 3], -1.0, x[:, 1])


def marked(x: Array) -> Array:
    return np.where(np.isnan(x), MISSING, x)


def codes(x: Array, bins: int, known: int) -> Array:
    """The bin of each number, by the edges of those that there are."""
    out = np.full(x.shape, np.nan)
    for k, column in enumerate(x.T):
        there = ~np.isnan(column)
        units = torch.from_numpy(np.round(column[there] * 65536).astype(np.int64))
        edges = edges_of(units[: there[:known].sum()], bins)
        out[there, k] = torch.bucketize(units, edges).numpy()
    return out


@pytest.mark.parametrize("missing", [True, [0, 1, 3]], ids=["all columns", "some columns"])
def test_rows_without_a_number_go_where_xgboost_sends_them(
    session: Session, random: np.random.Generator, missing: Any
) -> None:
    xgboost = pytest.importorskip("xgboost")
    x, odds = drawn(random, 500)
    y = (odds > random.normal(size=500) + 0.3).astype(np.int64)
    settings: dict[str, Any] = {"n_estimators": 3, "max_depth": 2, "learning_rate": 0.5, "base_score": 0.5}
    binned = codes(x, 8, 200)
    plain = xgboost.XGBClassifier(**settings, tree_method="hist", n_jobs=1).fit(binned[:200], y[:200])

    model = GradientBoostingClassifier(**settings, max_bins=8, missing=missing, reveal_splits=["alice"])
    model.fit(shared(marked(x[:200]), 3, 1), tacit.share(torch.from_numpy(y[:200]), owner="bob"))

    want = plain.predict_proba(binned[200:])[:, 1]
    parts = shared(marked(x[200:]), 3, 1)
    found = tacit.reveal(model.predict_proba(parts)).numpy()[:, 1]
    assert ((found > 0.5) == (want > 0.5)).mean() > 0.9  # of splits that are nearly as good another may be taken
    assert (abs(found - want) < 5e-3).mean() > 0.5
    joined = tacit.reveal(model.predict_proba(torch.cat(parts, 1))).numpy()[:, 1]  # of nobody
    assert joined == pytest.approx(found, abs=1e-4)
    revealed = to_plain(model, to="bob")
    assert revealed is not None
    assert revealed.predict_proba(x[200:])[:, 1] == pytest.approx(found, abs=1e-3)
    again = GradientBoostingClassifier().load_state_dict(model.state_dict())
    assert tacit.reveal(again.predict_proba(parts)).numpy()[:, 1] == pytest.approx(found, abs=1e-4)
    assert model.feature_importances_.shape == (4,)
    assert {s.column for s in model.splits_of("alice") or []} <= {0, 1, 2}


@pytest.mark.parametrize("kind", [GradientBoostingRegressor, RandomForestClassifier])
def test_a_number_that_is_missing_says_something(
    session: Session, random: np.random.Generator, kind: type[Any]
) -> None:
    x = on_grid(random.normal(size=(120, 2)))
    gone = random.random(120) < 0.4
    x[gone, 1] = MISSING
    y = tacit.share(torch.from_numpy(gone.astype(np.int64)), owner="alice")
    settings: dict[str, Any] = {"n_estimators": 2, "max_depth": 2, "max_bins": 4, "missing": [1]}
    if kind is RandomForestClassifier:
        settings["max_features"] = None

    model = kind(**settings).fit(shared(x, 1, 1), y)

    said = tacit.reveal(model.predict(shared(x, 1, 1))).numpy()
    assert said[gone].min() > said[~gone].max()


PLAIN: list[tuple[str, str, dict[str, Any]]] = [
    ("sklearn.tree", "DecisionTreeClassifier", {"max_depth": 3}),
    ("sklearn.ensemble", "HistGradientBoostingClassifier", {"max_iter": 3, "max_depth": 3, "min_samples_leaf": 3}),
    ("xgboost", "XGBClassifier", {"n_estimators": 3, "max_depth": 3, "n_jobs": 1}),
    ("lightgbm", "LGBMClassifier", {"n_estimators": 3, "max_depth": 3, "n_jobs": 1, "verbose": -1}),
    (
        "lightgbm",
        "LGBMClassifier",
        {"n_estimators": 3, "max_depth": 3, "n_jobs": 1, "verbose": -1, "use_missing": False},
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("library", "name", "settings"), PLAIN, ids=range(len(PLAIN)))
def test_a_plain_model_sends_rows_without_a_number_the_same_way(
    session: Session, random: np.random.Generator, library: str, name: str, settings: dict[str, Any]
) -> None:
    x, odds = drawn(random, 150)
    model = getattr(pytest.importorskip(library), name)(**settings).fit(x, (odds > 0.3).astype(int))

    secret = from_model(model, owner="alice", missing=True)

    found = tacit.reveal(secret.predict_proba(shared(marked(x), 2, 2))).numpy()
    assert found == pytest.approx(model.predict_proba(x), abs=2e-3)
    assert secret.n_features_in_ == 4
    with pytest.raises(DataError, match="missing=True"):
        from_model(model, owner="alice").predict(shared(marked(x), 2, 2))


def test_what_may_not_be_missing_is_refused_at_its_owner(session: Session) -> None:
    x = np.arange(24.0).reshape(6, 4)
    y = tacit.share(torch.tensor([0, 1, 0, 1, 1, 0]), owner="bob")
    gone, far = x.copy(), x.copy()
    gone[2, 3], far[0, 1] = MISSING, -(2.0**29)

    with pytest.raises(UnusableTable, match=r"column 1 of these the number of row 2 is missing.*missing=True"):
        GradientBoostingClassifier(n_estimators=1).fit(shared(gone, 2, 2), y)
    with pytest.raises(DataError, match="column 1 of these may miss numbers"):
        GradientBoostingClassifier(n_estimators=1, missing=True).fit(shared(far, 2, 2), y)
    for wrong in ([4], ["x"], "all", 1, [-1], [True]):
        with pytest.raises(ConfigError, match="missing is True, False or a list"):
            GradientBoostingClassifier(n_estimators=1, missing=wrong).fit(shared(x, 2, 2), y)  # type: ignore[arg-type]
    model = GradientBoostingClassifier(n_estimators=1, max_depth=1, max_bins=4).fit(shared(x, 2, 2), y)
    with pytest.raises(DataError, match="missing=True"):
        model.predict(shared(gone, 2, 2))
    plain = to_plain(model, to="bob")
    assert plain is not None
    for cell in (np.nan, MISSING):
        gone[2, 3] = cell
        with pytest.raises(DataError, match="missing=True"):
            plain.predict(gone)


def test_a_file_may_miss_numbers(session: Session, tmp_path: Any) -> None:
    rows = [f"{'' if k % 3 == 0 else k},{int(k % 3 == 0)}" for k in range(30)]
    (tmp_path / "bob.csv").write_text("\n".join(["age,label", *rows]) + "\n")

    x, y = tacit.read_csv(tmp_path / "bob.csv", owner="bob", label="label", fill={"age": MISSING})
    model = GradientBoostingClassifier(n_estimators=3, learning_rate=1.0, max_depth=1, max_bins=4, missing=True)
    model.fit([x], y)

    assert torch.equal(tacit.reveal(model.predict([x])), torch.arange(30).remainder(3).eq(0).long())
