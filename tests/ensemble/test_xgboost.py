"""Secret trees beside XGBoost's on the same bins, all columns in one place: as good, and the same where it is plain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
from tacit.ensemble.columns import edges_of
from tacit.session.session import Session

from .conftest import Array, on_grid, shared

SETTINGS: dict[str, Any] = {"n_estimators": 12, "max_depth": 3, "learning_rate": 0.3}
HALF_A_POINT = 0.005


def data(name: str, random: np.random.Generator) -> tuple[Array, Array, int]:
    """Columns, targets, and how many rows to grow trees on; data sets that are known in one order of their rows."""
    sets = pytest.importorskip("sklearn.datasets")
    seed = int(random.integers(1 << 30))
    if name in ("breast cancer", "iris", "diabetes"):
        x, y = getattr(sets, f"load_{name.replace(' ', '_')}")(return_X_y=True)
        order = np.random.default_rng(1).permutation(len(x))
        return on_grid(x[order]), y[order], len(x) * 2 // 3
    if name == "numbers":
        x, y = sets.make_friedman1(3000, random_state=seed)
    elif name == "spheres":
        x, y = sets.make_hastie_10_2(4000, random_state=seed)
        y = (y > 0).astype(int)
    else:
        classes = 2 if name == "clusters" else 3
        x, y = sets.make_classification(4000, 12, n_informative=6, n_classes=classes, random_state=seed)
    return on_grid(x), y, 1000


def bins(x: Array, count: int, known: int) -> Array:
    """The bin of each number, by the edges of the rows that trees are grown on."""
    units = torch.from_numpy(np.round(x * 65536).astype(np.int64))
    columns = [c.contiguous() for c in units.unbind(1)]
    return torch.stack([torch.bucketize(c, edges_of(c[:known], count)) for c in columns], 1).numpy()


def boosted(x: Array, y: Array, known: int, classes: int) -> tuple[Array, Array]:
    """What secret trees and XGBoost's say of the other rows: numbers, or the probability of each class."""
    xgboost = pytest.importorskip("xgboost")
    half, codes = x.shape[1] // 2, bins(x, 16, known)
    mine, others = shared(x[:known], half, x.shape[1] - half), shared(x[known:], half, x.shape[1] - half)
    plain: dict[str, Any] = {**SETTINGS, "tree_method": "hist", "n_jobs": 1}
    if classes:
        start: dict[str, Any] = {"base_score": 0.5} if classes == 2 else {}
        theirs = xgboost.XGBClassifier(**plain, **start).fit(codes[:known], y[:known])
        model: Any = GradientBoostingClassifier(**SETTINGS, max_bins=16, **start)
        labels = tacit.share(torch.from_numpy(y[:known].astype(np.int64)), owner="bob", classes=classes)
        found = tacit.reveal(model.fit(mine, labels).predict_proba(others)).numpy()
        return found, theirs.predict_proba(codes[known:])
    centre, spread = y[:known].mean(), y[:known].std()
    theirs = xgboost.XGBRegressor(**plain, base_score=0.0).fit(codes[:known], (y[:known] - centre) / spread)
    model = GradientBoostingRegressor(**SETTINGS, max_bins=16)
    model.fit(mine, tacit.share(torch.from_numpy(y[:known]), owner="bob"))
    return tacit.reveal(model.predict(others)).numpy(), theirs.predict(codes[known:]) * spread + centre


def check_half_a_point(found: Array, want: Array, y: Array) -> None:
    """AUC and accuracy, or what share of the variance is explained, differ by half a point at most."""
    measures = pytest.importorskip("sklearn.metrics")
    if found.ndim == 1:
        assert measures.r2_score(y, found) == pytest.approx(measures.r2_score(y, want), abs=HALF_A_POINT)
        return
    both = [p[:, 1] if p.shape[1] == 2 else p / p.sum(1, keepdims=True) for p in (found, want)]
    auc = [measures.roc_auc_score(y, p, multi_class="ovr") for p in both]
    accuracy = [(p.argmax(1) == y).mean() for p in (found, want)]
    print(auc, accuracy)
    assert auc[0] == pytest.approx(auc[1], abs=HALF_A_POINT)
    assert accuracy[0] == pytest.approx(accuracy[1], abs=HALF_A_POINT)


def test_secret_trees_are_xgboosts(session: Session, random: np.random.Generator) -> None:
    x, y, known = data("breast cancer", random)

    found, want = boosted(x, y, known, 2)

    check_half_a_point(found, want, y[known:])
    assert (abs(found - want) < 5e-3).mean() > 0.9  # the same trees, but for splits that are nearly as good


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["clusters", "spheres", "iris", "three classes", "diabetes", "numbers"])
def test_secret_trees_are_as_good_as_xgboosts(session: Session, random: np.random.Generator, name: str) -> None:
    x, y, known = data(name, random)

    found, want = boosted(x, y, known, 0 if name in ("diabetes", "numbers") else int(y.max()) + 1)

    check_half_a_point(found, want, y[known:])


def test_a_forest_is_xgboosts_of_the_same_draws(session: Session, random: np.random.Generator) -> None:
    xgboost = pytest.importorskip("xgboost")
    x, y, known = data("breast cancer", random)
    half, codes = x.shape[1] // 2, bins(x, 12, known)
    model = RandomForestClassifier(n_estimators=5, max_depth=4, max_bins=12, max_features=None, random_state=3)

    model.fit(shared(x[:known], half, x.shape[1] - half), tacit.share(torch.from_numpy(y[:known]), owner="bob"))

    places = torch.randint(known, (known, 5), generator=torch.Generator().manual_seed(3))
    p = np.zeros(len(y) - known)
    for k in range(5):  # a tree of squared errors from zero has each leaf's mean, and Gini's splits
        often = torch.bincount(places[:, k], minlength=known).numpy()
        tree = xgboost.XGBRegressor(
            n_estimators=1, max_depth=4, learning_rate=1.0, reg_lambda=0.0, min_child_weight=0.5, base_score=0.0,
            tree_method="hist", n_jobs=1,
        )  # fmt: skip
        p += tree.fit(codes[:known], y[:known], sample_weight=often).predict(codes[known:]) / 5
    found = tacit.reveal(model.predict_proba(shared(x[known:], half, x.shape[1] - half))).numpy()
    check_half_a_point(found, np.stack([1 - p, p], 1), y[known:])


HARD = {
    "rows that are all alike": (np.full((40, 2), 1.0), np.arange(40) % 2),
    "columns that are alike": (np.repeat(np.arange(40.0)[:, None], 4, 1), (np.arange(40) > 25).astype(int)),
    "labels that are all alike": (np.arange(80.0).reshape(40, 2), np.zeros(40, dtype=int)),
    "numbers at the ends": (np.array([[-(2.0**40), 2.0**40], [2.0**40, -(2.0**40)]] * 20), np.arange(40) % 2),
    "fewer rows than a child has": (np.arange(6.0).reshape(3, 2), np.array([0, 1, 1])),
    "whole numbers with ties": (np.arange(80.0).reshape(40, 2) // 10, (np.arange(40) // 13) % 2),
}


LIGHT = {"fewer rows than a child has": 1.0}


@pytest.mark.parametrize("name", HARD)
def test_ties_and_constants_end_as_in_xgboost(session: Session, name: str) -> None:
    x, y = HARD[name]
    widths = (x.shape[1] // 2, x.shape[1] - x.shape[1] // 2)
    settings: dict[str, Any] = {"n_estimators": 3, "max_depth": 2, "learning_rate": 0.5}
    model = GradientBoostingClassifier(**settings, max_bins=40, base_score=0.5, min_child_weight=LIGHT.get(name, 0.5))
    model.fit(shared(x, *widths), tacit.share(torch.from_numpy(y), owner="alice"))

    found = tacit.reveal(model.predict_proba(shared(x, *widths))).numpy()[:, 1]

    codes = bins(x, 40, len(x))
    xgboost = pytest.importorskip("xgboost")
    plain = xgboost.XGBClassifier(
        **settings, tree_method="exact", base_score=0.5, n_jobs=1, min_child_weight=LIGHT.get(name, 0.5)
    )
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
