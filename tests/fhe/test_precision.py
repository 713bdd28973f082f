"""Ranges and bits: outliers do not take them from ordinary rows, and `compile` tells when predictions differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from tacit.errors import FheError
from tacit.fhe import Pipeline, boosted, ensemble, linear_model, neighbors, neural_network
from tacit.fhe.compile.linear import SPREAD, ranges


@pytest.mark.parametrize("model", [linear_model.LogisticRegression(max_iter=500), neighbors.KNeighborsClassifier()])
def test_one_outlier_does_not_cost_the_others_their_bits(model: Any, datasets: Any) -> None:
    x, held_out, y, _ = datasets["breast-cancer"]
    bad = np.concatenate([x, np.full((1, 30), 1e6)])

    model.fit(x, y).compile(bad)

    assert (model.predict(held_out, fhe="simulate") == model.predict(held_out)).mean() > 0.98
    assert 0 < model.fhe_report().cut_off < 0.01


@given(seed=st.integers(0, 1 << 30), rows=st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_ranges_hold_all_but_far_outliers(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.stack([rng.normal(size=rows), rng.uniform(size=rows), rng.random(rows) < 0.003, np.zeros(rows)], axis=1)

    low, high = ranges(x)

    assert (low == x.min(axis=0)).all()
    assert (high == x.max(axis=0)).all()
    if rows >= 20:
        x[0, 0] = 1e9
        assert ranges(x)[1][0] < (SPREAD + 1) * 10


def test_the_default_precision_is_the_finest_that_costs_nothing(datasets: Any) -> None:
    x, _, y, _ = datasets["breast-cancer"]

    eight = linear_model.LogisticRegression(n_bits=8).fit(x, y).compile(x)
    best = linear_model.LogisticRegression().fit(x, y).compile(x)

    assert best.fhe_report().n_bits > 8
    for field in ("degree", "data_bits", "layout"):
        assert getattr(best.client().spec.parameters, field) == getattr(eight.client().spec.parameters, field)
    assert best.client().spec.bulk == eight.client().spec.bulk


def test_heavy_tails_keep_their_accuracy(rng: np.random.Generator) -> None:
    z = rng.normal(size=(1200, 12))
    x, y = np.exp(2 * z) * 1000, (z.sum(axis=1) + rng.normal(size=1200) * 0.5 > 0).astype(int)
    model = Pipeline([("scale", StandardScaler()), ("model", linear_model.LogisticRegression())]).fit(x, y).compile(x)

    assert (model.predict(x, fhe="simulate") == model.predict(x)).mean() > 0.99


def test_compile_warns_when_predictions_differ(datasets: Any) -> None:
    x, _, y, _ = datasets["digits"]
    few, many = linear_model.SGDClassifier(n_bits=2, random_state=0), linear_model.Ridge(n_bits=3)

    with pytest.warns(UserWarning, match=r"agree on .*%.*n_bits=2"):
        few.fit(x, y).compile(x)
    with pytest.warns(UserWarning, match=r"agree to r2 = .*n_bits=3"):
        many.fit(x, y).compile(x)

    assert few.fhe_report().agreement < 0.99
    assert few.fhe_report().rows_checked == 1000
    assert "agreement" in str(few.fhe_report())


def test_a_perceptron_of_a_hundred_columns_finds_its_precision(rng: np.random.Generator) -> None:
    x = rng.normal(size=(200, 100))
    model = neural_network.MLPClassifier((8,), max_iter=3, random_state=0).fit(x, x[:, 0] > 0).compile(x)

    assert model.fhe_report().n_bits < 7
    assert (model._values(x[:1], "execute")[0] == model._values(x[:1], "simulate")[0]).all()


@pytest.mark.parametrize("mean", [0.0, 1e3, -1e8])
def test_a_forest_keeps_a_target_far_from_zero(mean: float, rng: np.random.Generator) -> None:
    x = rng.normal(size=(300, 5)).round(1)
    target = x.sum(axis=1)
    model = ensemble.RandomForestRegressor(10, random_state=0, n_bits=12).fit(x, target + mean).compile(x)

    assert r2_score(model.predict(x), model.predict(x, fhe="simulate")) > 0.999


def test_targets_of_different_sizes_each_keep_their_own(rng: np.random.Generator) -> None:
    x = rng.normal(size=(300, 5)).round(1)
    targets = np.stack([1e6 + 1e5 * x[:, 0], 1e-3 * x[:, 1]], axis=1)
    model = ensemble.ExtraTreesRegressor(10, random_state=0, n_bits=12).fit(x, targets).compile(x)

    scores = r2_score(model.predict(x), model.predict(x, fhe="simulate"), multioutput="raw_values")

    assert (scores > 0.999).all()


@pytest.mark.parametrize("several", ["targets", "quantiles"])
def test_several_outputs_of_xgboost_all_come_back(several: str, datasets: Any) -> None:
    xgboost = pytest.importorskip("xgboost")
    x, _, y, _ = datasets["diabetes"]
    more = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]} if several == "quantiles" else {}
    target = y if several == "quantiles" else np.stack([y, -100 * y], axis=1)
    trained = xgboost.XGBRegressor(n_estimators=4, max_depth=3, **more).fit(x, target)

    model = boosted.from_xgboost_model(trained, x)

    assert model.predict(x[:3], fhe="execute").shape == (3, 2)
    np.testing.assert_allclose(model.predict(x, fhe="simulate"), trained.predict(x), rtol=2e-3, atol=0.5)


def test_ranks_and_risks_come_back_and_another_objective_is_told_of_these(rng: np.random.Generator) -> None:
    xgboost = pytest.importorskip("xgboost")
    x, size = rng.normal(size=(60, 3)), {"n_estimators": 3, "max_depth": 2}
    relevant = (x[:, 0] > 0).astype(int)
    ranker = xgboost.XGBRanker(objective="rank:ndcg", **size).fit(x, relevant, qid=np.repeat(range(6), 10))
    risks = xgboost.XGBRegressor(objective="survival:cox", **size).fit(x, 0.5 + np.abs(x[:, 1]))

    for trained in (ranker, risks):
        found = boosted.from_xgboost_model(trained, x).predict(x, fhe="simulate")
        np.testing.assert_allclose(found, trained.predict(x), rtol=2e-3, atol=2e-3)
    with pytest.raises(FheError, match="'binary:hinge' cannot be compiled: train with one of reg:squarederror"):
        boosted.from_xgboost_model(xgboost.XGBClassifier(objective="binary:hinge", **size).fit(x, relevant), x)


def test_training_that_stopped_early_counts_its_best_iteration(datasets: Any) -> None:
    xgboost = pytest.importorskip("xgboost")
    x, held_out, y, truth = datasets["breast-cancer"]
    trained = xgboost.XGBClassifier(n_estimators=60, max_depth=3, learning_rate=0.5, early_stopping_rounds=3)
    trained.fit(x, y, eval_set=[(held_out, truth)], verbose=False)

    model = boosted.from_xgboost_model(trained, x)

    assert trained.best_iteration + 1 < trained.get_booster().num_boosted_rounds()
    assert np.abs(model.predict_proba(held_out, fhe="simulate") - trained.predict_proba(held_out)).max() < 1e-3
