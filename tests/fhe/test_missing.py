"""Trees that know missing values and categories: every row goes where the library sends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import MissingIndicator
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier as SkTree

from tacit.errors import DataError, FheError, MessageError
from tacit.fhe import Pipeline, ensemble, linear_model, spec, tree
from tacit.fhe.boosted import from_lightgbm_model, from_xgboost_model
from tacit.fhe.encode import Affine
from tacit.fhe.spec import ClientSpec, ServerSpec

Table = tuple[np.ndarray, np.ndarray, np.ndarray]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def table(seed: int) -> Table:
    """Rows with missing values and two columns of categories, their labels, and rows with others besides."""
    rng, n = np.random.default_rng(seed), 500
    x = np.c_[rng.normal(size=(n, 2)), rng.integers(0, 6, n) * 10.0, rng.integers(0, 30, n)]
    y = (np.isin(x[:, 2], [0, 30, 40]) ^ (x[:, 0] > 0)).astype(int) + (x[:, 3] % 3 == 0)
    x[::9, 0], x[1::11, 2], x[2::13, 3] = np.nan, np.nan, np.nan
    new = np.stack([rng.permutation(column) for column in x.T], axis=1)
    new[::17, 2], new[::19, 1], new[::23, 3] = 77.0, np.nan, 31.0
    return x, y, new


OWN = [
    tree.DecisionTreeClassifier(max_depth=6, random_state=0),
    tree.DecisionTreeRegressor(max_depth=6, random_state=0),
    ensemble.RandomForestClassifier(4, random_state=0),
    ensemble.ExtraTreesRegressor(3, max_depth=6, random_state=0),
    ensemble.BaggingClassifier(SkTree(max_depth=5), 4, max_features=0.8, random_state=0),
    ensemble.IsolationForest(n_estimators=6, max_samples=64, random_state=0),
    ensemble.HistGradientBoostingClassifier(max_iter=4, categorical_features=[2, 3]),
    ensemble.HistGradientBoostingRegressor(max_iter=4, categorical_features=[3]),
]


def agrees(ours: Any, theirs: Any, new: np.ndarray) -> None:
    """Assert that ciphertexts give the integers, and the integers what the library predicts."""
    expected, seen = np.asarray(theirs.predict(new)), ours.predict(new, fhe="simulate")
    circuit = ours._circuit
    for half, kind in ((circuit.client_spec, ClientSpec), (circuit.server_spec, ServerSpec)):
        spec.from_bytes(spec.to_bytes(half), kind)

    if expected.dtype.kind == "f":
        assert np.abs(seen - expected).max() < 1e-3 * np.abs(expected).max()
    else:
        assert (seen == expected).all()
    assert (ours._values(new[:2], "execute")[0] == ours._values(new[:2], "simulate")[0]).all()


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("model", OWN, ids=lambda model: type(model).__name__)
def test_missing_values_and_categories_of_scikit_learns_trees(model: Any, hidden: bool, table: Table) -> None:
    x, y, new = table

    fitted = clone(model).set_params(n_bits=12, hide_structure=hidden).fit(x, y).compile(x)

    agrees(fitted, fitted, new)


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("one_hot", [1, 100])
def test_missing_values_and_categories_of_xgboost(one_hot: int, hidden: bool, table: Table) -> None:
    x, y, new = table
    trained = xgboost.XGBClassifier(
        n_estimators=4, max_depth=4, feature_types=["q", "q", "c", "c"], enable_categorical=True,
        max_cat_to_onehot=one_hot, n_jobs=1,
    ).fit(x, y)  # fmt: skip

    agrees(from_xgboost_model(trained, x, n_bits=12, hide_structure=hidden), trained, new)


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("how", ["categories", "none in training", "use_missing=False"])
def test_missing_values_and_categories_of_lightgbm(how: str, hidden: bool, table: Table) -> None:
    x, y, new = table
    more = {"use_missing": False} if how == "use_missing=False" else {"min_data_per_group": 1, "cat_smooth": 0.0}
    trained = lightgbm.LGBMClassifier(n_estimators=4, num_leaves=10, verbose=-1, n_jobs=1, **more)
    trained.fit(
        np.nan_to_num(x) if how == "none in training" else x, y,
        categorical_feature=[2, 3] if how == "categories" else [],
    )  # fmt: skip

    agrees(from_lightgbm_model(trained, x, n_bits=12, hide_structure=hidden), trained, new)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_categories_of_a_frame_are_sent_as_the_numbers_that_the_model_knows(library: str, table: Table) -> None:
    pandas = pytest.importorskip("pandas")
    x, y, new = table
    x, new = np.nan_to_num(x), np.nan_to_num(new)
    known = np.unique(x[:, 2])  # 0, 10, ... 50

    def frame(rows: np.ndarray, names: Any) -> Any:
        code = np.where(np.isin(rows[:, 2], known), np.searchsorted(known, rows[:, 2]), -1)
        column = pandas.Categorical.from_codes(code, names)
        return pandas.DataFrame({"a": rows[:, 0], "b": rows[:, 1], "c": column})

    def trained(names: Any) -> tuple[Any, Any]:
        kinds = {"n_estimators": 4, "n_jobs": 1}
        if library == "xgboost":
            model, adopt = xgboost.XGBClassifier(enable_categorical=True, **kinds), from_xgboost_model
        else:
            model, adopt = lightgbm.LGBMClassifier(verbose=-1, **kinds), from_lightgbm_model
        return model.fit(frame(x, names), y), adopt

    for names in (known.astype(int), [f"{v:.0f}" for v in known], [2, 1, 0, 3, 4, 5]):
        model, adopt = trained(list(names))
        with pytest.raises(DataError, match="rename_categories"):
            adopt(model, frame(x, list(names)))
    model, adopt = trained(range(len(known)))
    ours = adopt(model, frame(x, range(len(known))), n_bits=12)
    rows = frame(new, range(len(known)))
    assert (ours.predict(rows, fhe="simulate") == model.predict(rows)).all()
    words, adopt = trained(list("uvwxyz"))
    codes = np.c_[x[:, :2], np.searchsorted(known, x[:, 2])]
    assert (
        adopt(words, codes, n_bits=12).predict(codes, fhe="simulate") == words.predict(frame(x, list("uvwxyz")))
    ).all()


def test_xgboost_with_dropped_trees_or_another_mark_for_missing(table: Table) -> None:
    x, y, new = table
    dart = xgboost.XGBClassifier(n_estimators=4, max_depth=3, booster="dart", rate_drop=0.5, n_jobs=1).fit(x, y)
    marked = xgboost.XGBClassifier(n_estimators=2, missing=0.0, n_jobs=1).fit(x, y)

    agrees(from_xgboost_model(dart, x, n_bits=12), dart, new)
    with pytest.raises(FheError, match=r"missing=0\.0"):
        from_xgboost_model(marked, x)


def test_what_scikit_learn_refuses_is_refused(table: Table) -> None:
    x, y, _ = table
    full = np.nan_to_num(x)

    for model in (tree.DecisionTreeClassifier(max_depth=3), linear_model.LogisticRegression(max_iter=500)):
        fitted = clone(model).fit(full, y).compile(full)
        with pytest.raises(DataError, match="at least one row"):
            fitted.predict(full[:0], fhe="execute")
        assert (fitted.predict(full[:50].astype(object), fhe="simulate") == fitted.predict(full[:50])).mean() > 0.9
    for hidden in (True, False):
        grown = tree.DecisionTreeClassifier(max_depth=3, hide_structure=hidden).fit(full, y).compile(full)
        with pytest.raises(DataError, match="single precision"):
            grown.predict(1e300 * full[:2] + 1e300, fhe="simulate")


def test_hidden_thresholds_and_few_bits_with_missing_values(table: Table) -> None:
    x, y, new = table
    model = tree.DecisionTreeClassifier(max_depth=4, random_state=0, hide_thresholds=True, n_bits=7).fit(x, y)

    model.compile(x)

    assert (model.predict(new, fhe="simulate") == model.predict(new)).mean() > 0.9
    assert (model._values(new[:2], "execute")[0] == model._values(new[:2], "simulate")[0]).all()


@pytest.mark.parametrize("seen", ["missing", "full"])
def test_a_node_that_asks_for_missing_values_only_stays_one_with_hidden_thresholds(seen: str) -> None:
    rng = np.random.default_rng()
    x = rng.normal(size=(300, 3))
    gaps = np.where(np.arange(300)[:, None] % 3 == [0, 9, 9], np.nan, x)
    y = np.isnan(gaps[:, 0])
    model = tree.DecisionTreeClassifier(max_depth=1, random_state=0, hide_thresholds=True, n_bits=4).fit(gaps, y)
    rows = gaps if seen == "missing" else x
    assert model.tree_.threshold[0] == np.inf

    model.compile(rows)

    assert (model.predict(rows, fhe="simulate") == model.predict(rows)).all()
    assert (model.predict(rows[:2], fhe="execute") == model.predict(rows[:2])).all()


def test_a_column_without_values_has_no_thresholds_to_hide_among(table: Table) -> None:
    x, y, _ = table
    model = tree.DecisionTreeClassifier(max_depth=3, random_state=0, hide_thresholds=True).fit(x, y)
    rows = x.copy()
    rows[:, model.tree_.feature[0]] = np.nan

    with pytest.raises(DataError, match="is missing in all rows"):
        model.compile(rows)


def test_a_pipeline_makes_numbers_of_words_and_its_trees_know_the_missing_ones(table: Table) -> None:
    x, y, _ = table
    words = np.array([None if np.isnan(v) else f"w{v:.0f}" for v in x[:, 2]], dtype=object)[:, None]
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    trained = make_pipeline(encode, ensemble.HistGradientBoostingClassifier(max_iter=3, categorical_features=[0]))

    model = Pipeline.from_sklearn_model(trained.fit(words, y), words)

    new = np.concatenate([words[:30], np.array([["never seen"]], dtype=object)])
    assert (model.predict(new, fhe="simulate") == trained.predict(new)).all()
    assert (model.predict(new[-2:], fhe="execute") == trained.predict(new[-2:])).all()


@pytest.mark.parametrize("hidden", [True, False])
def test_a_missing_value_behind_an_affine_step_is_that_of_its_own_column(hidden: bool, table: Table) -> None:
    x, y, new = table
    scale = ColumnTransformer([("as it is", "passthrough", [2, 3]), ("scale", StandardScaler(), [0, 1])])
    boosted = ensemble.HistGradientBoostingClassifier(
        max_iter=3, max_depth=3, categorical_features=[0], hide_structure=hidden
    )
    trained = make_pipeline(scale, boosted).fit(x, y)

    model = Pipeline.from_sklearn_model(trained, np.nan_to_num(x))

    encoder = model.client().spec.encoder
    assert getattr(encoder, "bits", encoder).before is not None
    assert np.isnan(new).any(axis=1).sum() > 100
    assert (model.predict(new, fhe="simulate") == trained.predict(new)).all()
    assert (model.predict(new[15:20], fhe="execute") == trained.predict(new[15:20])).all()


def test_steps_that_mix_columns_or_mark_missing_values_do_not_lose_them(table: Table) -> None:
    x, y, new = table
    full = np.nan_to_num(x)
    mixing = make_pipeline(
        ColumnTransformer([("as it is", "passthrough", [2]), ("mix", PCA(1), [0, 1])]),
        ensemble.HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]),
    ).fit(full, y)
    marking = make_pipeline(
        FeatureUnion([("same", MaxAbsScaler()), ("mark", MissingIndicator(features="all"))]),
        ensemble.HistGradientBoostingClassifier(max_iter=3, categorical_features=[2]),
    ).fit(x, y)

    with pytest.raises(DataError, match="missing"):
        Pipeline.from_sklearn_model(mixing, full).predict(new, fhe="simulate")
    seen = Pipeline.from_sklearn_model(marking, full).predict(new, fhe="simulate")
    assert (seen == marking.predict(new)).all()


def test_missing_values_are_refused_where_nothing_says_what_they_mean(table: Table) -> None:
    x, y, new = table
    full = np.nan_to_num(x)
    grown = tree.DecisionTreeClassifier(max_depth=3, random_state=0).fit(full, y).compile(full)
    gradient = ensemble.GradientBoostingClassifier(n_estimators=2).fit(full, y)
    infinite = full.copy()
    infinite[0, 0] = np.inf

    with pytest.raises(DataError, match="missing"):
        grown.predict(new, fhe="execute")
    for model in (gradient, linear_model.LogisticRegression(max_iter=500).fit(full, y)):
        with pytest.raises(DataError, match="finite"):
            model.compile(x)
    with pytest.raises(DataError, match="finite"):
        grown.compile(infinite)


def test_trees_of_a_forged_file_end(table: Table) -> None:
    x, y, _ = table
    model = tree.DecisionTreeClassifier(max_depth=3, random_state=0, hide_structure=False).fit(x, y).compile(x)
    encoder = model.client().spec.encoder
    inner = int(np.flatnonzero(encoder.feature >= 0)[0])

    for name, at, value in (("left", inner, inner), ("right", inner, 10**6), ("root", 0, -1), ("test", 0, 10**6),
                            ("start", -1, 0), ("start", 1, 10**6)):  # fmt: skip
        changed = getattr(encoder, name).copy()
        changed[at] = value
        with pytest.raises(MessageError, match="damaged"):
            replace(encoder, **{name: changed})


def test_bits_of_a_forged_file_are_of_columns_that_are_there(table: Table) -> None:
    x, y, _ = table
    grown = tree.DecisionTreeClassifier(max_depth=3, random_state=0)
    mixed = clone(grown).fit(x, y).compile(x).client().spec.encoder
    plain = clone(grown).fit(np.nan_to_num(x), y).compile(np.nan_to_num(x)).client().spec.encoder

    for encoder, name, value in [
        (mixed, "feature", 99), (mixed, "feature", -1), (mixed, "asks", 77), (mixed, "asks", -1),
        (mixed, "value", np.nan), (plain, "feature", 4), (plain, "feature", -1), (plain, "threshold", np.nan),
    ]:  # fmt: skip
        field = getattr(encoder, name)
        for changed in (np.full_like(field, value), field[:-1], field[None], field > 0):
            with pytest.raises(MessageError, match="damaged"):
                replace(encoder, **{name: changed})


def test_ranges_of_a_forged_file_fit_each_other(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]
    last = linear_model.LogisticRegression(max_iter=500).fit(x, y).compile(x).client().spec.encoder
    before = Affine(np.eye(13), np.zeros(13))

    assert (replace(last, before=before).encode(x) == last.encode(x)).all()
    for changes in (
        {"center": last.center[:-1]}, {"step": last.step * np.nan}, {"limit": 0}, {"limit": 1.5},
        {"center": last.center.astype(int)}, {"before": Affine(np.eye(12), np.zeros(12))},
    ):  # fmt: skip
        with pytest.raises(MessageError, match="damaged"):
            replace(last, **changes)
    for matrix, offset in ((np.eye(3), np.zeros(2)), (np.eye(3) * np.inf, np.zeros(3)), (np.zeros(3), np.zeros(3))):
        with pytest.raises(MessageError, match="damaged"):
            Affine(matrix, offset)
