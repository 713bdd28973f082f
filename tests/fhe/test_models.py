"""Every model: on ciphertexts exactly what the integers say, and the integers close to scikit-learn's floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import StandardScaler

from tacit.errors import DataError, FheError
from tacit.fhe import Pipeline, ensemble, linear_model, neighbors, neural_network, svm, tree

LINEAR = [
    (linear_model.LinearRegression(), "diabetes"),
    (linear_model.LinearRegression(), "synthetic"),
    (linear_model.Ridge(), "diabetes"),
    (linear_model.Lasso(alpha=0.1), "synthetic"),
    (linear_model.ElasticNet(alpha=0.01), "diabetes"),
    (linear_model.SGDRegressor(random_state=0), "synthetic"),
    (linear_model.PoissonRegressor(), "diabetes"),
    (linear_model.GammaRegressor(alpha=1e-3), "diabetes"),
    (linear_model.TweedieRegressor(power=1.5, alpha=1e-3), "diabetes"),
    (svm.LinearSVR(C=10.0, random_state=0, max_iter=20_000), "diabetes"),
    (linear_model.LogisticRegression(), "breast-cancer"),
    (linear_model.LogisticRegression(max_iter=1000), "wine"),
    (linear_model.LogisticRegression(max_iter=2000, tol=1e-2), "digits"),
    (linear_model.LogisticRegression(max_iter=200, tol=1e-2), "digits784"),
    (linear_model.SGDClassifier(random_state=0), "digits"),
    (linear_model.SGDClassifier(loss="log_loss", random_state=0), "wine"),
    (svm.LinearSVC(), "breast-cancer"),
]
TREES = [
    (tree.DecisionTreeClassifier(max_depth=6, random_state=0), "breast-cancer"),
    (tree.DecisionTreeClassifier(random_state=0), "digits"),
    (tree.DecisionTreeRegressor(max_depth=4, random_state=0), "diabetes"),
    (ensemble.RandomForestClassifier(n_estimators=10, max_depth=4, random_state=0), "wine"),
    (ensemble.RandomForestClassifier(n_estimators=10, max_depth=4, random_state=0), "breast-cancer"),
    (ensemble.RandomForestRegressor(n_estimators=10, max_depth=4, random_state=0), "synthetic"),
    (ensemble.ExtraTreesClassifier(n_estimators=10, max_depth=4, random_state=0), "breast-cancer"),
    (ensemble.ExtraTreesRegressor(n_estimators=10, max_depth=4, random_state=0), "diabetes"),
    (ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0), "breast-cancer"),
    (ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0), "wine"),
    (ensemble.GradientBoostingClassifier(n_estimators=5, loss="exponential", random_state=0), "breast-cancer"),
    (ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0), "synthetic"),
    (ensemble.HistGradientBoostingClassifier(max_iter=5, random_state=0), "breast-cancer"),
    (ensemble.HistGradientBoostingClassifier(max_iter=3, random_state=0), "wine"),
    (ensemble.HistGradientBoostingRegressor(max_iter=10, loss="poisson", random_state=0), "diabetes"),
]
NEIGHBORS = [
    (neighbors.KNeighborsClassifier(), "breast-cancer"),
    (neighbors.KNeighborsClassifier(weights="distance"), "wine"),
    (neighbors.KNeighborsRegressor(n_neighbors=8, weights="distance"), "diabetes"),
]
NETWORKS = [
    (neural_network.MLPClassifier((20,), random_state=0), "breast-cancer"),
    (neural_network.MLPClassifier((20,), random_state=0), "wine"),
    (neural_network.MLPRegressor((10,), random_state=0), "diabetes"),
]
EVERY = LINEAR + TREES + NEIGHBORS + NETWORKS


def name(value: Any) -> str:
    return type(value).__name__ if hasattr(value, "fit") else str(value)


@pytest.mark.parametrize(("model", "data"), EVERY, ids=name)
def test_ciphertexts_give_the_integers_and_the_integers_the_floats(
    model: Any, data: str, datasets: Any, compiled: Any
) -> None:
    _, held_out, _, truth = datasets[data]
    model = compiled(model, data)

    simulated = model.predict(held_out, fhe="simulate")
    rows = 40 if model._circuit.client_spec.parameters.layout.samples > 1 else 6
    executed, expected = (model._values(held_out[:rows], mode)[0] for mode in ("execute", "simulate"))

    assert (executed == expected).all()
    assert (model.predict(held_out[:3], fhe="execute") == simulated[:3]).all()
    score = accuracy_score if is_classifier(model) else r2_score
    assert score(truth, simulated) >= score(truth, model.predict(held_out)) - 0.01


@pytest.mark.parametrize(
    ("model", "data"),
    [case for case in EVERY if hasattr(case[0], "predict_proba")],
    ids=name,
)
def test_probabilities_are_close_to_the_floats(model: Any, data: str, datasets: Any, compiled: Any) -> None:
    held_out = datasets[data][1]
    model = compiled(model, data)

    probabilities = model.predict_proba(held_out, fhe="simulate")

    assert probabilities.shape == (len(held_out), len(model.classes_))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    off = np.abs(probabilities - model.predict_proba(held_out))
    assert np.quantile(off, 0.95) < 0.06


@pytest.mark.parametrize(
    "model",
    [
        linear_model.LogisticRegression(max_iter=500),
        tree.DecisionTreeClassifier(random_state=0),
        neighbors.KNeighborsClassifier(),
    ],
    ids=name,
)
def test_a_pipeline_predicts_from_raw_columns(model: Any, datasets: Any) -> None:
    x, held_out, y, truth = datasets["digits"]
    pipeline = Pipeline([("scale", StandardScaler()), ("reduce", PCA(16, random_state=0)), ("model", clone(model))])
    pipeline.fit(x, y).compile(x)

    simulated = pipeline.predict(held_out, fhe="simulate")

    assert (pipeline._values(held_out[:2], "execute")[0] == pipeline._values(held_out[:2], "simulate")[0]).all()
    assert accuracy_score(truth, simulated) >= pipeline.score(held_out, truth) - 0.01
    assert pipeline.predict_proba(held_out[:2], fhe="execute").shape == (2, 10)
    assert hasattr(pipeline, "decision_function") == isinstance(model, linear_model.LogisticRegression)


def test_a_linear_pipelines_steps_stay_on_the_server(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]
    pipeline = (
        Pipeline([("scale", StandardScaler()), ("model", linear_model.LogisticRegression())]).fit(x, y).compile(x)
    )

    assert pipeline.client().spec.encoder.before is None


def test_thousands_of_rows_go_in_bulk_in_microseconds_each(linear: Any, datasets: Any) -> None:
    x = np.tile(datasets["breast-cancer"][0], (12, 1))[:4300]  # a full ciphertext, and a tail that goes packed

    values = linear._values(x, "execute")[0]

    assert linear._circuit.client.bulk(4096)
    assert not linear._circuit.client.bulk(200)
    assert (values == linear._values(x, "simulate")[0]).all()


def test_a_model_trained_elsewhere_is_taken_over(datasets: Any) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    x, held_out, y, _ = datasets["wine"]
    regression = LogisticRegression(C=0.3, max_iter=500).fit(x, y)
    forest = RandomForestClassifier(5, max_depth=3, random_state=0).fit(x, y)

    one = linear_model.LogisticRegression.from_sklearn_model(regression, x, n_bits=10)
    two = ensemble.RandomForestClassifier.from_sklearn_model(forest, x)

    assert (one.n_bits, one.C) == (10, 0.3)
    assert (one.predict(held_out, fhe="execute") == regression.predict(held_out)).all()
    assert (two.predict(held_out[:10], fhe="execute") == forest.predict(held_out[:10])).all()
    with pytest.raises(DataError, match="takes a trained LogisticRegression"):
        linear_model.LogisticRegression.from_sklearn_model(forest, x)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("data", ["breast-cancer", "wine", "diabetes"])
def test_boosted_forests_of_other_libraries(library: str, data: str, datasets: Any) -> None:
    other = pytest.importorskip(library)
    from tacit.fhe import boosted

    x, held_out, y, _ = datasets[data]
    kind = "Regressor" if data == "diabetes" else "Classifier"
    prefix, quiet = ("XGB", {}) if library == "xgboost" else ("LGBM", {"verbose": -1})
    trained = getattr(other, prefix + kind)(n_estimators=5, max_depth=3, random_state=0, **quiet).fit(x, y)

    model = getattr(boosted, f"from_{library}_model")(trained, x)

    np.testing.assert_allclose(model.predict(held_out, fhe="simulate"), trained.predict(held_out), rtol=1e-3)
    assert (model._values(held_out[:3], "execute")[0] == model._values(held_out[:3], "simulate")[0]).all()
    if kind == "Classifier":
        off = model.predict_proba(held_out, fhe="simulate") - trained.predict_proba(held_out)
        assert np.abs(off).max() < 1e-3


def test_a_perceptron_of_squares_holds_its_own(datasets: Any) -> None:
    from sklearn.neural_network import MLPClassifier

    x, held_out, y, truth = datasets["digits"]
    ours = Pipeline(
        [
            ("reduce", PCA(20, random_state=0)),
            ("model", neural_network.MLPClassifier((30,), random_state=0, max_iter=100)),
        ]
    )
    theirs = MLPClassifier((30,), random_state=0, max_iter=400).fit(x, y)
    ours.fit(x, y).compile(x)

    accuracy = accuracy_score(truth, ours.predict(held_out, fhe="simulate"))

    assert accuracy >= theirs.score(held_out, truth) - 0.02
    assert (ours._values(held_out[:3], "execute")[0] == ours._values(held_out[:3], "simulate")[0]).all()
    with pytest.raises(DataError, match="one hidden layer"):
        neural_network.MLPClassifier((5, 5)).fit(x, y)
    with pytest.raises(DataError, match="PCA in front"):
        neural_network.MLPClassifier((5,), max_iter=1).fit(np.tile(x, (1, 2)), y).compile(np.tile(x, (1, 2)))


def test_n_bits_is_a_hyper_parameter(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]

    search = GridSearchCV(linear_model.LogisticRegression(), {"n_bits": [3, 8], "C": [0.1, 1.0]}).fit(x, y)

    assert set(search.best_params_) == {"n_bits", "C"}
    assert cross_val_score(tree.DecisionTreeClassifier(n_bits=4), x, y).min() > 0.6
    assert clone(svm.LinearSVC(n_bits=5, C=2.0)).get_params()["n_bits"] == 5
    assert "n_bits=5" in repr(linear_model.Ridge(n_bits=5))
    assert "before" not in linear_model.LogisticRegression().get_params()


def test_frames_and_set_output_work(datasets: Any) -> None:
    pandas = pytest.importorskip("pandas")
    x, held_out, y, _ = datasets["wine"]
    frame, later = pandas.DataFrame(x).add_prefix("c"), pandas.DataFrame(held_out).add_prefix("c")
    names = np.array(["barbera", "barolo", "grignolino"])[y]
    model = Pipeline([("scale", StandardScaler()), ("model", linear_model.LogisticRegression())])

    model.set_output(transform="pandas").fit(frame, names).compile(frame)

    assert (model.predict(later, fhe="execute") == model.predict(later, fhe="simulate")).all()
    assert set(model.predict(later, fhe="execute")) <= set(names)


@pytest.mark.parametrize(
    ("change", "says"),
    [("nan", "row 1, column 2"), ("columns", "13 columns"), ("uncompiled", "call compile"), ("mode", "must be one of")],
)
def test_wrong_use_is_named(change: str, says: str, datasets: Any) -> None:
    x, held_out, y, _ = datasets["wine"]
    model = linear_model.LogisticRegression().fit(x, y)
    rows, mode = held_out[:3].copy(), "execute"
    if change != "uncompiled":
        model.compile(x)
    if change == "nan":
        rows[1, 2] = np.nan
    if change == "columns":
        rows = rows[:, :-1]
    if change == "mode":
        mode = "encrypt"

    with pytest.raises((DataError, FheError), match=says):
        model.predict(rows, fhe=mode)


@pytest.mark.parametrize("change", ["fit", "n_bits", "partial_fit", "pipeline", "in place", "in a step"])
def test_a_model_that_changed_since_compile_does_not_answer_for_the_old_one(change: str, datasets: Any) -> None:
    x, held_out, y, _ = datasets["wine"]
    model = linear_model.SGDClassifier(random_state=0)
    if change in ("pipeline", "in a step"):
        model = Pipeline([("scale", StandardScaler()), ("model", model)])
    model.fit(x, y).compile(x)
    before = model.predict(held_out, fhe="execute")

    match change:
        case "fit":
            model.fit(x[:60], y[:60])
        case "n_bits":
            model.set_params(n_bits=4)
        case "partial_fit":
            model.partial_fit(x[:5], y[:5])
        case "pipeline":
            model.fit(x[:60], y[:60])
        case "in place":
            model.coef_ *= -1
        case "in a step":
            model.steps[0][1].scale_ *= 2

    with pytest.raises(FheError, match="compile it again"):
        model.predict(held_out, fhe="execute")
    assert len(model.compile(x).predict(held_out, fhe="execute")) == len(before)


@pytest.mark.parametrize("n_bits", [1, 17, 7.5, "8"])
def test_n_bits_out_of_range_is_refused(n_bits: Any, datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]

    with pytest.raises(DataError, match="n_bits"):
        linear_model.LogisticRegression(n_bits=n_bits).fit(x, y).compile(x)


def test_the_report_says_what_each_side_learns(linear: Any, boosted: Any) -> None:
    first, second = str(linear.fhe_report()), str(boosted.fhe_report())

    assert "31 well-chosen rows" in first
    assert "neither which leaves" in second
    assert "128" in first
    assert linear.fhe_report().statistical_bits >= 40
    assert linear.fhe_report().public_key_bytes < 50_000
