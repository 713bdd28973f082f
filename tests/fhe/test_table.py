"""What users give as rows: names of columns, texts, missing values, labels of every kind, and the steps in front."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression as Plain
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)

from tacit.errors import DataError, MessageError
from tacit.fhe import Client, Pipeline, Server, ensemble, linear_model, neighbors, spec, svm, tree
from tacit.fhe.steps import Steps

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def people() -> tuple[Any, Any]:
    """A table as people have it: words, numbers, gaps."""
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "port": rng.choice(["Cherbourg", "Cork", "Southampton"], 240),
            "age": rng.normal(40, 12, 240).round(1),
            "fare": np.exp(rng.normal(3, 1, 240)),
            "class": pandas.Categorical(rng.choice(["first", "second"], 240)),
        }
    )
    y = np.where((frame["port"] == "Cork") ^ (frame["age"] > 40), "stayed", "left")
    frame.loc[::7, "age"] = np.nan
    return frame, y


def preparation() -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), ["port", "class"]),
            ("ages", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age"]),
            ("fares", FunctionTransformer(np.log1p), ["fare"]),
        ]
    )


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_pipeline_as_people_have_it(taken_over: bool, people: Any, tmp_path: Path) -> None:
    frame, y = people
    clear = make_pipeline(preparation(), Plain()).fit(frame, y)
    if taken_over:
        model = Pipeline.from_sklearn_model(clear, frame)
    else:
        steps = [("prepare", preparation()), ("model", linear_model.LogisticRegression())]
        model = Pipeline(steps).fit(frame, y).compile(frame)
    model.save_client(tmp_path)
    model.save_server(tmp_path)
    new = frame[:20].assign(port="Belfast")[["class", "fare", "age", "port"]]  # an unknown word, another order

    client = Client(tmp_path, server=Server(tmp_path))

    assert (client.predict(frame) == clear.predict(frame)).mean() >= 0.99
    assert (client.predict(new) == clear.predict(new)).mean() >= 0.95
    assert np.abs(client.predict_proba(new) - clear.predict_proba(new)).max() < 0.01
    assert "ColumnTransformer" in model.fhe_report().client_learns
    with pytest.raises(DataError, match="refuse these rows"):
        client.predict(frame.drop(columns="port"))


def test_texts_go_through_a_vectorizer() -> None:
    texts = ["good day", "good sun", "bad rain", "bad day", "good rain good", "bad bad sun"] * 4
    y = [1, 1, 0, 0, 1, 0] * 4
    model = Pipeline([("words", TfidfVectorizer()), ("model", svm.LinearSVC())]).fit(texts, y).compile(texts)

    assert model.predict(["good good", "bad"], fhe="execute").tolist() == [1, 0]


STEPS = [
    QuantileTransformer(n_quantiles=20),
    PowerTransformer(),
    KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"),
    MinMaxScaler(clip=True),
    PolynomialFeatures(2),
    SelectKBest(k=4),
    SimpleImputer(add_indicator=True),
]


@pytest.mark.filterwarnings("ignore:Bins whose width")
@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("last", [linear_model.Ridge(), tree.DecisionTreeRegressor(max_depth=3)], ids=["ridge", "tree"])
def test_steps_that_are_not_affine_run_at_the_client(step: Any, last: Any, datasets: Any) -> None:
    x, held_out, y, _ = datasets["diabetes"]
    model = Pipeline([("step", step), ("model", last)]).fit(x, y).compile(x)
    rows = held_out[:40]

    off = np.abs(model.predict(rows, fhe="simulate") - model.predict(rows))

    assert np.quantile(off, 0.95) < 0.1 * np.std(y)  # a few rows lie outside the ranges
    assert (model._values(rows[:2], "execute")[0] == model._values(rows[:2], "simulate")[0]).all()


def test_an_imputer_fills_gaps_that_compile_did_not_see(datasets: Any) -> None:
    x, held_out, y, _ = datasets["wine"]
    model = Pipeline([("fill", SimpleImputer()), ("model", linear_model.LogisticRegression())]).fit(x, y).compile(x)
    rows = held_out.copy()
    rows[::3, 4] = np.nan

    assert (model.predict(rows, fhe="simulate") == model.predict(rows)).mean() > 0.95


def test_a_clipping_scaler_clips_where_compile_saw_nothing_to_clip(datasets: Any) -> None:
    x, _, y, _ = datasets["diabetes"]
    model = Pipeline([("scale", MinMaxScaler(clip=True)), ("model", neighbors.KNeighborsRegressor(3))]).fit(x, y)
    model.compile(x)

    assert model.client().spec.front.steps is not None
    assert np.allclose(model.predict(4 * x[:20], fhe="simulate"), model.predict(4 * x[:20]), rtol=0.05)


def test_steps_with_code_or_training_rows_are_refused_by_name(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]

    for step, says in ((FunctionTransformer(lambda x: x**3), "function"), (KNNImputer(), "KNNImputer")):
        model = Pipeline([("step", step), ("model", linear_model.LogisticRegression())]).fit(x, y)
        with pytest.raises(DataError, match=f"{says}.*cannot be written"):
            model.compile(x)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.update(step="os.system"),
        lambda tree: tree.update(step="sklearn.pipeline.make_pipeline"),
        lambda tree: tree["fields"].append(["transform", 1]),
        lambda tree: tree["fields"].append(["__class__", "x"]),
        lambda tree: tree["fields"].append(["steps", {"function": "os.system"}]),
        lambda tree: tree["fields"].append(["steps", {"function": "numpy.load"}]),
        lambda tree: tree["fields"].append(["steps", {"array": 99, "shape": [1], "scalar": False}]),
        lambda tree: tree["fields"].append(["steps", {"unheard": 1}]),
    ],
)
def test_forged_steps_are_refused(change: Any) -> None:
    steps = Steps.of(make_pipeline(StandardScaler(), PowerTransformer()).fit(np.eye(5) + 1))
    forged = json.loads(steps.text)
    change(forged)

    with pytest.raises(MessageError):
        replace(steps, text=json.dumps(forged))(np.eye(5))


def test_steps_of_another_scikit_learn_are_refused() -> None:
    steps = Steps.of(make_pipeline(PowerTransformer()).fit(np.eye(5) + 1))

    with pytest.raises(MessageError, match=r"of scikit-learn 0\.24"):
        replace(steps, version="0.24.1")(np.eye(5))


@pytest.mark.parametrize("kind", ["model", "pipeline"])
def test_names_of_columns_are_checked_on_both_sides(kind: str, datasets: Any, tmp_path: Path) -> None:
    x, _, y, _ = datasets["wine"]
    frame = pandas.DataFrame(x).add_prefix("c")
    model: Any = tree.DecisionTreeClassifier(max_depth=3, random_state=0)
    if kind == "pipeline":
        model = Pipeline([("scale", StandardScaler()), ("model", model)])
    model.fit(frame, y).compile(frame)
    model.save_client(tmp_path)
    client = Client(tmp_path, server=model.server())
    turned = frame[frame.columns[::-1]]

    assert (client.predict(frame[:5]) == client.predict(x[:5])).all()
    for predict in (
        lambda t: model.predict(t, fhe="execute"),
        lambda t: model.predict(t, fhe="simulate"),
        client.predict,
    ):
        with pytest.raises(ValueError, match="another order"):
            predict(turned[:5])
        with pytest.raises(ValueError, match="missing: c3; unknown: d3"):
            predict(frame[:5].rename(columns={"c3": "d3"}))
    with pytest.raises(ValueError, match="another order"):
        model.compile(turned)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (["a", "b"] * 60, "column 'c1' holds|not numbers"),
        (pandas.date_range("2020-01-01", periods=120), "column 'c1' holds datetime64"),
        (pandas.Categorical(["u", "v"] * 60), "not numbers"),
    ],
)
def test_columns_that_are_no_numbers_are_named(column: Any, says: str, datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]
    frame = pandas.DataFrame(x[:120, :3]).add_prefix("c")
    model = linear_model.LogisticRegression().fit(frame, y[:120])
    frame["c1"] = column

    with pytest.raises(DataError, match=says):
        model.compile(frame)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([True, False]), np.array(["no", "yes"], dtype=object), np.array([-1.5, 2.5]),
        np.array([3, 7], dtype=np.uint8), np.array(["2024-01-01", "2025-06-30"], dtype="datetime64[D]"),
    ],
    ids=lambda labels: str(labels.dtype),
)  # fmt: skip
def test_labels_of_every_kind_come_back_as_they_were(labels: Any, datasets: Any, tmp_path: Path) -> None:
    x, _, y, _ = datasets["breast-cancer"]
    try:
        model = tree.DecisionTreeClassifier(max_depth=2, random_state=0).fit(x, labels[y])
    except (TypeError, ValueError):
        pytest.skip("scikit-learn's own trees do not take these labels")
    model.compile(x).save_client(tmp_path)

    predicted = Client(tmp_path, server=model.server()).predict(x[:20])

    assert (predicted == model.predict(x[:20])).all()
    assert predicted.dtype == model.classes_.dtype


def test_labels_that_no_file_holds_are_refused(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]
    model = neighbors.KNeighborsClassifier().fit(x, np.array([b"a", b"b", b"c"])[y])

    with pytest.raises(DataError, match="recode them"):
        model.compile(x)


def test_a_subclass_of_a_known_model_is_taken_over(datasets: Any) -> None:
    x, held_out, y, _ = datasets["breast-cancer"]
    trained = LogisticRegressionCV(
        Cs=3, cv=2, max_iter=500, l1_ratios=(0.0,), use_legacy_attributes=False, scoring="accuracy"
    ).fit(x, y)

    model = linear_model.LogisticRegression.from_sklearn_model(trained, x)

    assert np.abs(model.predict_proba(held_out, fhe="simulate") - trained.predict_proba(held_out)).max() < 0.02


def test_a_pipeline_that_cannot_be_taken_over_says_why(datasets: Any) -> None:
    from sklearn.gaussian_process import GaussianProcessClassifier

    x, _, y, _ = datasets["wine"]
    trained = make_pipeline(StandardScaler(), GaussianProcessClassifier()).fit(x[:40], y[:40])

    with pytest.raises(DataError, match="has no GaussianProcessClassifier"):
        Pipeline.from_sklearn_model(trained, x)
    with pytest.raises(DataError, match="takes a trained scikit-learn Pipeline"):
        Pipeline.from_sklearn_model(trained[-1], x)
    with pytest.raises(DataError, match=r"must be a model.*from_sklearn_model"):
        Pipeline(trained.steps).compile(x)


def test_files_of_the_first_format_are_refused(linear: Any, tmp_path: Path) -> None:
    path = linear.save_client(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'\\"format\\": 2', b'\\"format\\": 1'))

    with pytest.raises(MessageError, match="of format 1"):
        spec.load(tmp_path, spec.ClientSpec)


def test_a_forest_in_a_pipeline_with_gaps(datasets: Any) -> None:
    x, _, y, _ = datasets["breast-cancer"]
    x = x.copy()
    x[::7, 3] = np.nan
    model = Pipeline([("fill", SimpleImputer()), ("model", ensemble.RandomForestClassifier(5, max_depth=4))])

    model.fit(x, y).compile(x)

    assert (model.predict(x[:10], fhe="execute") == model.predict(x[:10])).mean() >= 0.8


@pytest.mark.parametrize("dtype", ["Int64", "Float32", "boolean"])
def test_pandas_numbers_that_may_be_missing_are_read(dtype: str, datasets: Any) -> None:
    pandas = pytest.importorskip("pandas")
    x, _, y, _ = datasets["wine"]
    frame = pandas.DataFrame({"a": x[:, 0], "b": pandas.array((y > 0) if dtype == "boolean" else y, dtype=dtype)})
    frame.loc[::7, "b"] = pandas.NA

    model = tree.DecisionTreeClassifier(max_depth=3).fit(frame, y).compile(frame)

    assert (model.predict(frame, fhe="simulate") == model.predict(frame)).all()


def test_a_step_that_rounds_is_no_affine_map_where_compile_saw_whole_numbers(rng: np.random.Generator) -> None:
    x = rng.integers(-9, 10, (80, 2)).astype(float)
    x[0] = -9, 9
    steps = [("round", FunctionTransformer(np.rint)), ("line", linear_model.LogisticRegression())]
    model = Pipeline(steps).fit(x, x.sum(axis=1) > 0).compile(x)

    spec = model.client().spec

    assert (spec.encode(x + 0.4) == spec.encode(x)).all()
