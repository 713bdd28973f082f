"""Secret trees beside XGBoost's on the same bins, all columns in one place: as good, and the same where it is plain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from tacit.ensemble.columns import edges_of
from tacit.session.session import Session

from .conftest import Array, on_grid, shared

SETTINGS: dict[str, Any] = {"n_estimators": 12, "max_depth": 3, "learning_rate": 0.3}


def data(name: str, random: np.random.Generator) -> tuple[Array, Array]:
    sets = pytest.importorskip("sklearn.datasets")
    if name in ("breast cancer", "iris", "diabetes"):
        x, y = getattr(sets, f"load_{name.replace(' ', '_')}")(return_X_y=True)
    elif name == "numbers":
        x, y = sets.make_friedman1(600, random_state=int(random.integers(1 << 30)))
    else:
        classes = 2 if name == "easy" else 3
        x, y = sets.make_classification(
            900, 12, n_informative=6, n_classes=classes, random_state=int(random.integers(1 << 30))
        )
    order = random.permutation(len(x))
    return on_grid(x[order]), y[order]


def bins(x: Array, count: int, known: int) -> Array:
    """The bin of each number, by the edges of the rows that trees are grown on."""
    units = torch.from_numpy(np.round(x * 65536).astype(np.int64))
    columns = [c.contiguous() for c in units.unbind(1)]
    return torch.stack([torch.bucketize(c, edges_of(c[:known], count)) for c in columns], 1).numpy()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["breast cancer", "iris", "easy", "three classes", "diabetes", "numbers"])
def test_secret_trees_are_as_good_as_xgboosts(session: Session, random: np.random.Generator, name: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    measures = pytest.importorskip("sklearn.metrics")
    x, y = data(name, random)
    known, half = len(x) * 2 // 3, x.shape[1] // 2
    numbers = name in ("diabetes", "numbers")
    widths = (half, x.shape[1] - half)
    codes = bins(x, 16, known)
    if numbers:
        centre, spread = y[:known].mean(), y[:known].std()
        plain = xgboost.XGBRegressor(**SETTINGS, tree_method="exact", base_score=0.0, n_jobs=1)
        plain.fit(codes[:known], (y[:known] - centre) / spread)
        model: Any = GradientBoostingRegressor(**SETTINGS, max_bins=16)
        model.fit(shared(x[:known], *widths), tacit.share(torch.from_numpy(y[:known]), owner="bob"))
        found = tacit.reveal(model.predict(shared(x[known:], *widths))).numpy()
        want = plain.predict(codes[known:]) * spread + centre
        assert measures.r2_score(y[known:], found) > measures.r2_score(y[known:], want) - 0.02
        return
    classes = int(y.max()) + 1
    start = {"base_score": 0.5} if classes == 2 else {}
    plain = xgboost.XGBClassifier(**SETTINGS, tree_method="exact", n_jobs=1, **start).fit(codes[:known], y[:known])
    model = GradientBoostingClassifier(**SETTINGS, max_bins=16, **start)
    labels = tacit.share(torch.from_numpy(y[:known].astype(np.int64)), owner="bob", classes=classes)
    model.fit(shared(x[:known], *widths), labels)
    found = tacit.reveal(model.predict_proba(shared(x[known:], *widths))).numpy()
    want = plain.predict_proba(codes[known:])
    if classes == 2:
        found, want = found[:, 1], want[:, 1]
    auc = [
        measures.roc_auc_score(y[known:], p / p.sum(1, keepdims=True) if classes > 2 else p, multi_class="ovr")
        for p in (found, want)
    ]
    assert auc[0] > auc[1] - 0.02
    same = (found > 0.5) == (want > 0.5) if classes == 2 else found.argmax(1) == want.argmax(1)
    assert same.mean() > 0.9
    print(name, auc)


HARD = {
    "rows that are all alike": (np.full((40, 2), 1.0), np.arange(40) % 2),
    "columns that are alike": (np.repeat(np.arange(40.0)[:, None], 4, 1), (np.arange(40) > 25).astype(int)),
    "labels that are all alike": (np.arange(80.0).reshape(40, 2), np.zeros(40, dtype=int)),
    "numbers at the ends": (np.array([[-(2.0**40), 2.0**40], [2.0**40, -(2.0**40)]] * 20), np.arange(40) % 2),
    "whole numbers with ties": (np.arange(80.0).reshape(40, 2) // 10, (np.arange(40) // 13) % 2),
}


@pytest.mark.parametrize("name", HARD)
def test_ties_and_constants_end_as_in_xgboost(session: Session, name: str) -> None:
    x, y = HARD[name]
    widths = (x.shape[1] // 2, x.shape[1] - x.shape[1] // 2)
    settings: dict[str, Any] = {"n_estimators": 3, "max_depth": 2, "learning_rate": 0.5}
    model = GradientBoostingClassifier(**settings, max_bins=40, base_score=0.5, min_child_weight=0.5)
    model.fit(shared(x, *widths), tacit.share(torch.from_numpy(y), owner="alice"))

    found = tacit.reveal(model.predict_proba(shared(x, *widths))).numpy()[:, 1]

    codes = bins(x, 40, len(x))
    xgboost = pytest.importorskip("xgboost")
    plain = xgboost.XGBClassifier(**settings, tree_method="exact", base_score=0.5, n_jobs=1, min_child_weight=0.5)
    assert found == pytest.approx(plain.fit(codes, y).predict_proba(codes)[:, 1], abs=2e-3)


def test_rows_of_weight_zero_count_for_nothing(session: Session, random: np.random.Generator) -> None:
    x = on_grid(np.arange(60.0).reshape(30, 2))
    y = (np.arange(30) > 11).astype(np.int64)
    y[20:], weight = 0, np.where(np.arange(30) < 20, 1.0, 0.0)
    settings: dict[str, Any] = {"n_estimators": 2, "max_depth": 2, "max_bins": 40, "base_score": 0.5}
    secret_weight = tacit.share(torch.from_numpy(weight))  # nobody's, like what a join gives

    some = GradientBoostingClassifier(**settings).fit(
        shared(x, 1, 1), tacit.share(torch.from_numpy(y), owner="bob"), secret_weight
    )
    few = GradientBoostingClassifier(**settings).fit(
        shared(x[:20], 1, 1), tacit.share(torch.from_numpy(y[:20]), owner="bob")
    )

    found, want = (tacit.reveal(m.predict_proba(shared(x[:20], 1, 1))).numpy() for m in (some, few))
    assert found == pytest.approx(want, abs=2e-3)


@pytest.mark.parametrize("scale", [1e-2, 1e9])
def test_targets_of_any_size_are_fitted_in_deviations(
    session: Session, random: np.random.Generator, scale: float
) -> None:
    x = on_grid(random.normal(size=(60, 2)))
    y = on_grid(scale * (x[:, 0] > 0) + 3 * scale)
    model = GradientBoostingRegressor(n_estimators=4, max_depth=1, learning_rate=1.0, reg_lambda=0.0, max_bins=32)

    model.fit(shared(x, 1, 1), tacit.share(torch.from_numpy(y), owner="bob"))

    found = tacit.reveal(model.predict(shared(x, 1, 1))).numpy()
    assert ((found > 3.5 * scale) == (x[:, 0] > 0)).mean() > 0.9
