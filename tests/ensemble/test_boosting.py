"""Boosted trees: every split is the best there is, every leaf has its value, and XGBoost agrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, columns
from tacit.ensemble.columns import edges_of
from tacit.errors import ConfigError, DataError, TacitError
from tacit.session.session import Session

from .conftest import Array, Revealed, on_grid, revealed, shared

GAIN = 2e-3
"""What a split may fall short of the best, of its gain: probabilities are off by 2^-14, and curvatures with them."""


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def candidates(x: Array, bins: int) -> list[tuple[int, float]]:
    """All splits that there are: columns and edges."""
    ring = torch.from_numpy(np.round(x * 2**16).astype(np.int64))
    edges = [edges_of(ring[:, k], bins).numpy() / 2**16 for k in range(x.shape[1])]
    return [(k, float(e)) for k, column in enumerate(edges) for e in column]


def score(g: Array, h: Array, reg_lambda: float) -> float:
    return float(g.sum() ** 2 / (h.sum() + reg_lambda)) if len(g) else 0.0


def check_tree(
    trees: Revealed, tree: int, x: Array, g: Array, h: Array, *, bins: int, rate: float, lightest: float = 1.0
) -> None:
    """Every node has a split that is as good as the best, and every leaf the value that lowers the loss the most."""
    nodes = trees.columns.shape[1]
    splits = candidates(x, bins)
    for node, rows in trees.reached(tree, x):
        G, H = g[rows], h[rows]  # noqa: N806 - the letters of the formula
        if node >= nodes:
            value = -rate * G.sum() / (H.sum() + 1)
            assert trees.leaves[tree, 0, node - nodes] == pytest.approx(value, abs=2e-3 + 2e-3 * abs(value))
            continue
        best = 0.0
        for column, edge in splits:
            left = x[rows, column] <= edge
            if min(H[left].sum(), H[~left].sum()) >= lightest * (1 + 1e-2):
                best = max(best, score(G[left], H[left], 1) + score(G[~left], H[~left], 1) - score(G, H, 1))
        total = score(G, H, 1)
        assert trees.gains[tree, node] >= best - 1e-2 - GAIN * (best + total)
        if trees.columns[tree, node] >= 0:
            left = x[rows, trees.columns[tree, node]] <= trees.thresholds[tree, node]
            found = score(G[left], H[left], 1) + score(G[~left], H[~left], 1) - total
            assert trees.gains[tree, node] == pytest.approx(found, abs=1e-2 + GAIN * (best + total))
            assert min(H[left].sum(), H[~left].sum()) >= lightest * (1 - 1e-2)


def drawn(random: np.random.Generator, rows: int, columns: int) -> tuple[Array, Array]:
    """Columns of several kinds, and log-odds of them."""
    x = random.normal(size=(rows, columns))
    x[:, 1] = np.round(x[:, 1])
    x[:, 2] = 3.0
    x[:, 3] = np.exp(x[:, 3])
    return on_grid(x), 1.5 * x[:, 0] - x[:, 1] * (x[:, 3] > 1) + 0.3 * x[:, -1]


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_classifiers_trees_are_the_best_there_are(
    session: Session, random: np.random.Generator, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks > 1:  # as if there were too many rows for one, and for memory
        monkeypatch.setattr(columns, "MASKED", 4 * 7 * 70)
        monkeypatch.setattr(columns, "IN_MEMORY", 0)
    x, odds = drawn(random, 200, 6)
    y = (random.random(200) < sigmoid(odds)).astype(np.int64)
    model = GradientBoostingClassifier(n_estimators=3, max_depth=3, max_bins=8, learning_rate=0.5, base_score=0.5)

    model.fit(shared(x, 4, 2), tacit.share(torch.from_numpy(y), owner="bob"))

    trees = revealed(model)
    scores = np.zeros(200)
    for k in range(3):
        p = sigmoid(scores)
        check_tree(trees, k, x, p - y, p * (1 - p), bins=8, rate=0.5)
        scores += trees.values(k, x)[:, 0]
    parts = shared(x, 4, 2)
    assert tacit.reveal(model.decision_function(parts)).numpy() == pytest.approx(scores, abs=1e-4)
    assert tacit.reveal(model.predict_proba(parts)).numpy()[:, 1] == pytest.approx(sigmoid(scores), abs=2e-4)
    assert ((tacit.reveal(model.predict(parts)).numpy() == (scores > 0)) | (abs(scores) < 1e-4)).all()


def test_a_regressors_trees_are_the_best_there_are(session: Session, random: np.random.Generator) -> None:
    x, odds = drawn(random, 150, 5)
    y = on_grid(odds * 40 + 1000)
    model = GradientBoostingRegressor(n_estimators=2, max_depth=2, max_bins=6, learning_rate=0.5)

    model.fit(shared(x, 3, 2), tacit.share(torch.from_numpy(y), owner="alice"))

    trees, (mean, spread) = revealed(model), (y.mean(), y.std())
    scores = np.zeros(150)
    for k in range(2):
        check_tree(trees, k, x, scores - (y - mean) / spread, np.ones(150), bins=6, rate=0.5)
        scores += trees.values(k, x)[:, 0]
    predicted = tacit.reveal(model.predict(shared(x, 3, 2))).numpy()
    assert predicted == pytest.approx(scores * spread + mean, abs=1e-4 * spread + 1e-3)


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_few_rows_and_labels_of_one_class(session: Session, random: np.random.Generator, rows: int) -> None:
    x = on_grid(random.normal(size=(rows, 2)))
    y = torch.zeros(rows, dtype=torch.int64)
    model = GradientBoostingClassifier(n_estimators=2, max_depth=1, max_bins=4, min_child_weight=0.0)

    model.fit(shared(x, 1, 1), tacit.share(y, owner="bob"))

    p = tacit.reveal(model.predict_proba(shared(x, 1, 1))).numpy()
    assert (p[:, 0] >= 0.5 - 1e-4).all()
    assert p.sum(1) == pytest.approx(1, abs=1e-4)


def test_columns_that_say_nothing_split_nothing(session: Session, random: np.random.Generator) -> None:
    y = random.integers(0, 2, 40)
    model = GradientBoostingClassifier(n_estimators=1, max_depth=2, max_bins=5)

    model.fit(shared(np.full((40, 3), -7.5), 2, 1), tacit.share(torch.from_numpy(y), owner="alice"))

    assert (revealed(model).columns == -1).all()
    assert tacit.reveal(model.feature_importances_).abs().max() < 1e-2


def test_edges_lie_between_numbers_and_leave_as_many_to_either_side(random: np.random.Generator) -> None:
    few = torch.tensor([5, 5, -3, 8, 8, 8])
    many = torch.from_numpy(random.permutation(1000))
    tied = torch.cat([torch.zeros(900, dtype=torch.int64), torch.arange(1, 101)])

    assert edges_of(few, 5).tolist() == [1, 6, 8, 8]
    assert edges_of(few, 3).tolist() == [1, 6]
    assert edges_of(torch.tensor([4]), 4).tolist() == [4, 4, 4]
    assert torch.bincount(torch.bucketize(many, edges_of(many, 8))).tolist() == [125] * 8
    cut = edges_of(tied, 4)
    assert (cut >= 0).all()
    assert cut[0] == 0
    assert edges_of(torch.tensor([-(1 << 62) + 1, (1 << 62) - 1]), 2).tolist() == [0]


def test_three_classes_have_a_tree_each(session: Session, random: np.random.Generator) -> None:
    x, odds = drawn(random, 120, 4)
    y = np.digitize(odds, np.quantile(odds, [0.3, 0.6]))
    labels = tacit.share(torch.from_numpy(y), owner="bob", classes=3)
    model = GradientBoostingClassifier(n_estimators=2, max_depth=2, max_bins=6, learning_rate=0.5)

    model.fit(shared(x, 2, 2), labels)

    trees, scores = revealed(model), np.log(np.bincount(y) / 120) + np.zeros((120, 3))
    for k in range(2):
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        for c in range(3):
            g, h = p[:, c] - (y == c), 2 * p[:, c] * (1 - p[:, c])
            check_tree(trees, 3 * k + c, x, g, h, bins=6, rate=0.5)
        scores += np.stack([trees.values(3 * k + c, x)[:, 0] for c in range(3)], 1)
    found = tacit.reveal(model.predict_proba(shared(x, 2, 2))).numpy()
    assert found == pytest.approx(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), abs=2e-3)
    assert (tacit.reveal(model.predict(shared(x, 2, 2))).numpy() == scores.argmax(1)).mean() > 0.99
    assert model.classes_ == [0, 1, 2]


def test_weights_count_rows_as_often(session: Session, random: np.random.Generator) -> None:
    x, odds = drawn(random, 100, 4)
    y = (odds > 0).astype(np.int64)
    weights = np.where(y == 1, 3.0, 0.5)
    settings: dict[str, Any] = {"n_estimators": 1, "max_depth": 2, "max_bins": 6, "learning_rate": 1.0}
    labels = tacit.share(torch.from_numpy(y), owner="bob")

    for model in (
        GradientBoostingClassifier(**settings, base_score=0.5, class_weight={0: 0.5, 1: 3.0}).fit(
            shared(x, 2, 2), labels
        ),
        GradientBoostingClassifier(**settings, base_score=0.5).fit(
            shared(x, 2, 2), labels, tacit.share(torch.from_numpy(weights), owner="alice")
        ),
    ):
        check_tree(revealed(model), 0, x, weights * (0.5 - y), weights / 4, bins=6, rate=1.0)


def test_whole_numbers_are_columns_as_others_are(session: Session, random: np.random.Generator) -> None:
    x = random.integers(-5, 6, (80, 3))
    y = tacit.share(torch.from_numpy((x[:, 0] > x[:, 2]).astype(np.int64)), owner="bob")
    settings: dict[str, Any] = {"n_estimators": 2, "max_depth": 2, "max_bins": 12, "learning_rate": 1.0}
    whole, others = shared(x, 2, 1), shared(x.astype(float), 2, 1)

    model = GradientBoostingClassifier(**settings, reveal_splits=True).fit(whole, y)

    expected = tacit.reveal(GradientBoostingClassifier(**settings).fit(others, y).decision_function(others))
    for rows in (whole, others, [torch.cat(whole, 1)]):
        assert tacit.reveal(model.decision_function(rows)).numpy() == pytest.approx(expected.numpy(), abs=1e-3)
    with pytest.raises(DataError, match="below 2"):
        model.fit(shared(x * 2**50, 2, 1), y)


def test_rows_and_columns_are_drawn_in_public(session: Session, random: np.random.Generator) -> None:
    x, odds = drawn(random, 80, 6)
    y = tacit.share(torch.from_numpy((odds > 0).astype(np.int64)), owner="bob")
    settings: dict[str, Any] = {"n_estimators": 6, "max_depth": 2, "max_bins": 4, "random_state": 3}

    one = GradientBoostingClassifier(**settings, colsample_bytree=0.34, subsample=0.5).fit(shared(x, 3, 3), y)
    same = GradientBoostingClassifier(**settings, colsample_bytree=0.34, subsample=0.5).fit(shared(x, 3, 3), y)

    nested = GradientBoostingClassifier(**settings, colsample_bytree=0.67, colsample_bylevel=0.5, colsample_bynode=0.5)
    seen = revealed(nested.fit(shared(x, 3, 3), y)).columns  # 4 columns a tree, 2 a level, 1 a node
    trees = revealed(one)
    assert max(len(set(row) - {-1}) for row in seen.tolist()) <= 3
    assert len(set(seen.flatten().tolist()) - {-1}) > 2
    assert max(len(set(row) - {-1}) for row in trees.columns.tolist()) <= 2
    assert len(set(trees.columns.flatten().tolist()) - {-1}) > 2
    assert (abs(trees.gains - revealed(same).gains) < 0.2).mean() > 0.5


def test_early_stopping_keeps_the_best_trees(session: Session, random: np.random.Generator) -> None:
    x, _ = drawn(random, 100, 4)
    y = tacit.share(torch.from_numpy((random.random(100) < 0.5).astype(np.int64)), owner="bob")
    model = GradientBoostingClassifier(
        n_estimators=12, max_depth=3, max_bins=8, learning_rate=1.0, early_stopping_rounds=2, validation_fraction=0.3
    )

    model.fit(shared(x, 2, 2), y)

    losses = model.validation_scores_
    assert model.n_estimators_ == 1 + losses.index(min(losses)) == len(revealed(model).columns)
    assert len(losses) in (12, model.n_estimators_ + 2)
    assert sum(entry.name == "validation loss" for entry in session.ledger.entries) == len(losses)
    with pytest.raises(DataError, match="none is left"):
        GradientBoostingClassifier(early_stopping_rounds=1, validation_fraction=1.0).fit(shared(x, 2, 2), y)


def test_owners_that_have_their_splits_predict_the_same(session: Session, random: np.random.Generator) -> None:
    x, odds = drawn(random, 90, 5)
    y = tacit.share(torch.from_numpy((odds > 0).astype(np.int64)), owner="bob")
    model = GradientBoostingClassifier(n_estimators=3, max_depth=3, max_bins=8, reveal_splits=True)
    model.fit(shared(x, 3, 2), y)
    parts = shared(x, 3, 2)

    before = session.meter.cost.rounds
    fast = tacit.reveal(model.decision_function(parts))
    rounds = session.meter.cost.rounds - before

    assert rounds <= 3 + 2
    joined = torch.cat(parts, 1)
    assert torch.equal(tacit.reveal(model.decision_function(joined)), fast)
    lines = {entry.name for entry in session.ledger.entries}
    assert {"splits of alice", "splits of bob"} <= lines


@pytest.mark.parametrize("metric", ["logloss", "auc", "error"])
def test_rows_to_watch_are_measured_after_each_tree(session: Session, random: np.random.Generator, metric: str) -> None:
    x, odds = drawn(random, 140, 5)
    y = (random.random(140) < sigmoid(odds)).astype(np.int64)
    settings: dict[str, Any] = {"n_estimators": 3, "max_depth": 2, "max_bins": 8, "learning_rate": 0.5}
    model = GradientBoostingClassifier(**settings, eval_metric=metric, class_weight="balanced")
    labels, others = (tacit.share(torch.from_numpy(part), owner="bob") for part in (y[:100], y[100:]))

    model.fit(shared(x[:100], 3, 2), labels, eval_set=[(shared(x[100:], 3, 2), others)])

    trees, start = revealed(model), float(tacit.reveal(model.state_dict()["fitted"]["start"]))
    scores, held = np.full(40, start), y[100:]
    for k in range(3):
        scores = scores + trees.values(k, x[100:])[:, 0]
        pairs = np.sign(scores[held == 1][:, None] - scores[held == 0])
        want = {
            "logloss": -np.log(np.where(held == 1, sigmoid(scores), sigmoid(-scores))).mean(),
            "error": ((scores > 0) != held).mean(),
            "auc": (1 + pairs.mean()) / 2 if pairs.size else 0.5,
        }[metric]
        assert model.validation_scores_[k] == pytest.approx(want, abs=0.03 if metric != "logloss" else 2e-3)
    assert model.n_estimators_ == 3
    assert sum(entry.name == f"validation {metric}" for entry in session.ledger.entries) == 3


def test_numbers_to_watch_are_measured_in_their_units(session: Session, random: np.random.Generator) -> None:
    x, odds = drawn(random, 120, 4)
    y = on_grid(odds * 30 - 500)
    model = GradientBoostingRegressor(n_estimators=3, max_depth=2, eval_metric="rmse", early_stopping_rounds=3)
    targets, others = (tacit.share(torch.from_numpy(part), owner="alice") for part in (y[:90], y[90:]))

    model.fit(shared(x[:90], 2, 2), targets, eval_set=(shared(x[90:], 2, 2), others))

    kept = model.n_estimators_
    rmse = np.sqrt(((tacit.reveal(model.predict(shared(x[90:], 2, 2))).numpy() - y[90:]) ** 2).mean())
    assert model.validation_scores_[kept - 1] == pytest.approx(rmse, rel=5e-3) == min(model.validation_scores_)


def test_what_cannot_be_watched_is_refused(session: Session) -> None:
    x, y = np.arange(24.0).reshape(6, 4), torch.tensor([0, 1, 0, 1, 1, 0])
    parts, labels = shared(x, 2, 2), tacit.share(y, owner="bob")
    model = GradientBoostingClassifier(n_estimators=1)

    for wrong, says in (
        (parts, "one set of rows"),
        ((shared(x, 3, 1), labels), "other columns"),
        ((shared(x, 2, 2, owners=("bob", "alice")), labels), "of the owner that has those of X"),
        ((parts, labels[:2]), "one number for each"),
        ((parts, tacit.share(y + 1, owner="bob")), "y of eval_set holds"),
        ((torch.zeros(6, 4), labels), "no secret"),
    ):
        with pytest.raises(DataError, match=says):
            model.fit(parts, labels, eval_set=wrong)  # type: ignore[arg-type]
    for change, says in (({"eval_metric": "rmse"}, "eval_metric"), ({"reveal_splits": ["carol"]}, "reveal_splits")):
        with pytest.raises(ConfigError, match=says):
            GradientBoostingClassifier(n_estimators=1, **change).fit(parts, labels)  # type: ignore[arg-type]


def test_an_owner_sees_its_splits(session: Session, random: np.random.Generator) -> None:
    x, odds = drawn(random, 90, 5)
    y = tacit.share(torch.from_numpy((odds > 0).astype(np.int64)), owner="bob")
    model = GradientBoostingClassifier(n_estimators=2, max_depth=2, max_bins=8, reveal_splits=["bob"])
    model.fit(shared(x, 3, 2), y)

    trees = revealed(model)
    seen = {(s.tree, s.node): (s.column, s.threshold) for s in model.splits_of("bob") or []}
    for (tree, node), column in np.ndenumerate(trees.columns):
        expected = (column, pytest.approx(trees.thresholds[tree, node])) if column >= 3 else None
        assert seen.get((tree, node)) == expected
    with pytest.raises(TacitError, match="was not given"):
        model.splits_of("alice")
    with pytest.raises(ConfigError, match="none of the parties"):
        model.splits_of("carol")


MISUSES: dict[str, tuple[Callable[[Any, Any], Any], type[Exception], str]] = {
    "plain columns": (lambda x, y: ([torch.zeros(6, 2)], y), DataError, r"X\[0\] is no secret"),
    "joined columns": (lambda x, y: (torch.cat(x, 1), y), DataError, "no single owner knows"),
    "no columns": (lambda x, y: ([], y), DataError, "no columns"),
    "one dimension": (lambda x, y: ([x[0][:, 0]], y), DataError, "shape"),
    "other rows": (lambda x, y: ([x[0], x[1][:5]], y), DataError, "different numbers of rows"),
    "other labels": (lambda x, y: (x, y[:4]), DataError, "one number for each"),
    "a label beyond": (lambda x, y: (x, tacit.share(torch.tensor([0, 1, 2, 0, 1, 1]), "bob")), DataError, "index 2"),
    "a label between": (lambda x, y: (x, tacit.share(torch.tensor([0, 1, 0, 0.5, 1, 1]), "bob")), DataError, "index 3"),
    "plain labels": (lambda x, y: (x, torch.zeros(6)), DataError, "y is no secret"),
}


@pytest.mark.parametrize("name", MISUSES)
def test_what_cannot_be_fitted_is_refused(session: Session, name: str) -> None:
    change, error, says = MISUSES[name]
    x = shared(np.arange(24.0).reshape(6, 4), 2, 2)
    y = tacit.share(torch.tensor([0, 1, 0, 1, 1, 0]), owner="bob")

    with pytest.raises(error, match=says):
        GradientBoostingClassifier(n_estimators=1).fit(*change(x, y))


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_estimators": 0},
        {"n_estimators": 1.5},
        {"max_depth": 0},
        {"max_depth": 11},
        {"max_bins": 1},
        {"learning_rate": 0.0},
        {"reg_lambda": -1.0},
        {"reg_lambda": 0.0},
        {"min_child_weight": float("nan")},
        {"subsample": 1.5},
        {"colsample_bytree": 0},
        {"colsample_bylevel": 2.0},
        {"colsample_bynode": -0.5},
        {"n_classes": 1},
        {"base_score": 1.0},
        {"class_weight": {2: 1.0}},
        {"class_weight": "equal"},
        {"random_state": -1},
        {"early_stopping_rounds": 0},
        {"validation_fraction": 0.0},
    ],
)
def test_parameters_out_of_range_are_refused(session: Session, parameters: dict[str, Any]) -> None:
    x = shared(np.arange(24.0).reshape(6, 4), 2, 2)
    y = tacit.share(torch.tensor([0, 1, 0, 1, 1, 0]), owner="bob")

    with pytest.raises(ConfigError, match=next(iter(parameters))):
        GradientBoostingClassifier(**{"n_estimators": 1, **parameters}).fit(x, y)


def test_a_model_that_is_not_fitted_predicts_nothing(session: Session) -> None:
    with pytest.raises(TacitError, match="not been fitted"):
        GradientBoostingClassifier().predict(shared(np.zeros((2, 2)), 1, 1))


def test_a_saved_model_predicts_the_same(session: Session, random: np.random.Generator, tmp_path: Any) -> None:
    x, odds = drawn(random, 60, 5)
    parts = shared(x, 3, 2)
    model = GradientBoostingClassifier(n_estimators=2, max_depth=2, max_bins=4, class_weight={1: 2.0})
    model.fit(parts, tacit.share(torch.from_numpy((odds > 0).astype(np.int64)), owner="bob"))
    before = tacit.reveal(model.decision_function(parts))

    tacit.save(model.state_dict(), tmp_path)
    again = GradientBoostingClassifier().load_state_dict(tacit.load(tmp_path))

    assert torch.equal(tacit.reveal(again.decision_function(parts)), before)
    assert again.get_params() == model.get_params()
    assert again.n_features_in_ == 5
    with pytest.raises(DataError, match="not of GradientBoostingRegressor"):
        GradientBoostingRegressor().load_state_dict(tacit.load(tmp_path))
