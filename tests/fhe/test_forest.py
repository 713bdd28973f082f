"""From trees to linear forms: every row reaches one leaf of each tree, and that leaf is scikit-learn's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tacit.errors import DataError, FheError, MessageError
from tacit.fhe import Client, ensemble, parameters, spec, tree, wire
from tacit.fhe.compile.conditions import Tree
from tacit.fhe.compile.forest import VALUE_BITS, Forest, Hiding, compile_forest, constant_term
from tacit.fhe.layout import SpreadLayout
from tacit.fhe.read import Classes, ClassificationHead, RegressionHead
from tacit.fhe.spec import ClientSpec


def reached(model: Any, x: np.ndarray) -> np.ndarray:
    """Return how many leaves of each tree have cost zero, row by row."""
    circuit = model._circuit
    z, program = circuit.client_spec.encoder.encode(x), circuit.server_spec.program
    costs = program.offset + np.stack([(program._matrix @ row) for row in z])
    trees = int(program.tree.max()) + 1
    return np.stack([(costs[:, program.tree == t] == 0).sum(axis=1) for t in range(trees)], axis=1)


@pytest.mark.parametrize("n_bits", [2, 3, 6, 10])
@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.filterwarnings("ignore:encrypted and clear")
def test_every_row_reaches_one_leaf_of_each_tree(
    n_bits: int, hide: bool, datasets: Any, rng: np.random.Generator
) -> None:
    x, _, y, _ = datasets["wine"]
    forest = ensemble.ExtraTreesClassifier(5, n_bits=n_bits, hide_thresholds=hide, random_state=0).fit(x, y).compile(x)
    anywhere = rng.normal(0, 3, (200, x.shape[1]))

    counts = reached(forest, np.concatenate([x, anywhere]))

    assert (counts == 1).all()
    assert np.bincount(forest.client().spec.encoder.feature).max() <= 2**n_bits - 1
    assert (forest._values(anywhere[:2], "execute")[0] == forest._values(anywhere[:2], "simulate")[0]).all()


@pytest.mark.parametrize("kind", [tree.DecisionTreeClassifier, ensemble.RandomForestClassifier])
def test_with_all_thresholds_kept_only_the_values_are_rounded(kind: Any, datasets: Any) -> None:
    x, held_out, y, _ = datasets["breast-cancer"]
    model = kind(random_state=0, max_depth=5, n_bits=12).fit(x, y).compile(x)

    off = np.abs(model.predict_proba(held_out, fhe="simulate") - model.predict_proba(held_out))

    assert off.max() <= 0.51 / (1 << (VALUE_BITS - 1)) * len(getattr(model, "estimators_", [0])) * 1.1


def test_a_row_exactly_on_a_threshold_goes_where_scikit_learn_sends_it(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]
    model = tree.DecisionTreeClassifier(random_state=0).fit(x, y).compile(x)
    rows = np.tile(x[:1], (3, 1))
    feature, threshold = model.tree_.feature[0], model.tree_.threshold[0]
    rows[:, feature] = [np.nextafter(threshold, -np.inf), threshold, np.nextafter(np.float32(threshold), np.float32(9))]

    assert (model.predict(rows, fhe="simulate") == model.predict(rows)).all()


def test_a_forest_of_single_leaves_is_a_constant(datasets: Any) -> None:
    x, held_out, _, _ = datasets["diabetes"]
    model = ensemble.RandomForestRegressor(3, random_state=0).fit(x, np.full(len(x), 5.0)).compile(x)

    assert model.predict(held_out[:4], fhe="execute") == pytest.approx([5.0] * 4, rel=1e-3)


def test_what_cannot_be_compiled_is_named(datasets: Any) -> None:
    from sklearn.linear_model import LinearRegression

    x, _, y, _ = datasets["diabetes"]
    odd = ensemble.GradientBoostingRegressor(n_estimators=2, init=LinearRegression()).fit(x, y)
    many = ensemble.RandomForestClassifier(2).fit(x, np.stack([y > 100, y > 200], axis=1))
    words = np.array(["0", "1", "2"], dtype=object)[np.random.default_rng(0).integers(0, 3, (len(x), 1))]
    categorical = ensemble.HistGradientBoostingRegressor(max_iter=2, categorical_features=[0]).fit(words, y)
    stump = Tree(np.array([-1]), np.zeros(1), np.array([-1]), np.array([-1]), np.ones((1, 1)))
    crowd = Forest([stump] * 9000, False, lambda s, c: RegressionHead(s, c, False, True))

    with pytest.raises(FheError, match="does not start from a constant"):
        odd.compile(x)
    with pytest.raises(FheError, match="several outputs"):
        many.compile(x)
    with pytest.raises(DataError, match="OrdinalEncoder"):
        categorical.compile(words)
    with pytest.raises(FheError, match="too many"):
        compile_forest(crowd, x, Hiding(6, False, True))
    assert constant_term([stump], x[:3], np.full(3, 4.0)) == pytest.approx([3.0])


GROWN = [
    ensemble.RandomForestClassifier(8, random_state=0, n_bits=12),
    ensemble.ExtraTreesClassifier(5, random_state=0, n_bits=12),
    tree.DecisionTreeClassifier(random_state=0, n_bits=12),
]


@pytest.mark.parametrize("data", ["breast-cancer", "wine"])
@pytest.mark.parametrize("model", GROWN, ids=lambda model: type(model).__name__)
def test_trees_grown_to_the_end_vote_and_votes_are_exact(model: Any, data: str, datasets: Any) -> None:
    x, held_out, y, _ = datasets[data]
    model = clone(model).fit(x, y).compile(x)
    program = model._circuit.server_spec.program

    assert program.votes == len(model.classes_)
    assert (program.fork >= 0).any()
    assert max(model.client().spec.parameters.moduli) < 64  # none holds a sum
    np.testing.assert_allclose(model.predict_proba(held_out, fhe="simulate"), model.predict_proba(held_out), atol=1e-12)
    assert (model.predict_proba(held_out[:2], fhe="execute") == model.predict_proba(held_out[:2], fhe="simulate")).all()


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (ensemble.RandomForestClassifier(8, random_state=0), "digits"),
        (ensemble.ExtraTreesRegressor(8, random_state=0), "diabetes"),
        (ensemble.GradientBoostingClassifier(n_estimators=8, random_state=0), "wine"),
        (ensemble.HistGradientBoostingRegressor(max_iter=8, random_state=0), "diabetes"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_client_that_may_have_the_trees_gets_exact_thresholds_cheaply(model: Any, data: str, datasets: Any) -> None:
    x, held_out, y, _ = datasets[data]
    model = clone(model).set_params(hide_structure=False).fit(x, y).compile(x)
    sums, clear = model.predict(held_out, fhe="simulate"), model.predict(held_out)

    report = model.fhe_report()

    assert (
        (sums == clear).mean() > 0.99 if data != "diabetes" else np.abs(sums - clear).max() < 1e-3 * np.abs(clear).max()
    )
    assert (model.predict(held_out[:5], fhe="execute") == sums[:5]).all()
    assert "the trees" in report.client_learns
    assert report.query_bytes + report.answer_bytes < 600_000
    assert not {"threshold", "left"} & {name.split(".")[-1] for name in load(spec.to_bytes(model._circuit.server_spec))}
    with pytest.raises(DataError, match="choose one"):
        model.set_params(hide_thresholds=True).compile(x)


def test_trees_of_a_forged_file_end(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]
    model = tree.DecisionTreeClassifier(random_state=0, hide_structure=False).fit(x, y).compile(x)
    encoder = model.client().spec.encoder
    inner = int(np.flatnonzero(encoder.feature >= 0)[0])

    for name, value in (("left", inner), ("right", 10**6), ("feature", 13), ("root", -1)):
        changed = getattr(encoder, name).copy()
        changed[inner] = value
        with pytest.raises(MessageError, match="damaged"):
            replace(encoder, **{name: changed})


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (ensemble.RandomForestClassifier(4, random_state=0), "wine"),
        (ensemble.ExtraTreesRegressor(3, max_depth=5, random_state=0), "diabetes"),
        (ensemble.HistGradientBoostingClassifier(max_iter=2, random_state=0), "wine"),
        (ensemble.BaggingClassifier(DecisionTreeClassifier(max_depth=3), 3, random_state=0), "wine"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_large_forests_spread_the_inputs_at_the_server(
    model: Any, data: str, datasets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, held_out, y, _ = datasets[data]
    monkeypatch.setattr(parameters, "RINGS", ())  # what makes a forest large is a question of minutes
    model = clone(model).fit(x, y).compile(x)
    circuit = spec.from_bytes(spec.to_bytes(model.client().spec), ClientSpec)
    layout = circuit.parameters.layout

    values, expected = (model._values(held_out[:2], mode)[0] for mode in ("execute", "simulate"))

    assert isinstance(layout, SpreadLayout)
    assert (values == expected).all()
    assert len(Client(circuit).public_key) - circuit.parameters.key_bytes == 116  # the envelope
    assert circuit.parameters.key_bytes > 1_800_000  # three keys to switch with


def test_keys_that_are_missing_or_out_of_range_are_refused(datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, y, _ = datasets["wine"]
    monkeypatch.setattr(parameters, "RINGS", ())
    model = tree.DecisionTreeClassifier(random_state=0, max_depth=2).fit(x, y).compile(x)
    client, server = model.client(), model.server()
    message = wire.unpack(client.public_key, (wire.Kind.PUBLIC_KEY,), client._model)
    size = client.spec.parameters.upload_bytes

    for payload in (message.payload[:size], message.payload + b"0", message.payload[:size] + b"\xff" * (1 << 21)):
        with pytest.raises(MessageError):
            server.register(replace(message, payload=payload).pack())


ENSEMBLES = [
    (ensemble.BaggingClassifier(n_estimators=6, max_features=0.5, random_state=0), "wine"),
    (ensemble.BaggingClassifier(DecisionTreeClassifier(max_depth=3), 6, random_state=0), "breast-cancer"),
    (ensemble.BaggingRegressor(DecisionTreeRegressor(max_depth=4), 6, max_features=0.7, random_state=0), "diabetes"),
    (ensemble.AdaBoostClassifier(n_estimators=10, random_state=0), "breast-cancer"),
    (ensemble.AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=8, random_state=0), "wine"),
    (ensemble.IsolationForest(n_estimators=10, max_samples=64, contamination=0.1, random_state=0), "breast-cancer"),
    (ensemble.IsolationForest(n_estimators=10, max_samples=32, max_features=0.5, random_state=0), "wine"),
]


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize(("model", "data"), ENSEMBLES, ids=lambda v: v if isinstance(v, str) else type(v).__name__)
def test_ensembles_of_trees(model: Any, data: str, hidden: bool, datasets: Any) -> None:
    x, held_out, y, _ = datasets[data]
    model = clone(model).set_params(n_bits=12, hide_structure=hidden).fit(x, y).compile(x)

    for method in ("predict", "predict_proba", "decision_function"):
        if hasattr(model, method):
            ours, theirs = getattr(model, method)(held_out, fhe="simulate"), getattr(model, method)(held_out)
            assert ours.shape == theirs.shape
            off = np.abs(ours - theirs)
            labels = method == "predict" and data != "diabetes"
            assert (off == 0).mean() > 0.97 if labels else off.max() < 2e-3 * np.abs(theirs).max()
    assert (model._values(held_out[:2], "execute")[0] == model._values(held_out[:2], "simulate")[0]).all()


def test_ensembles_of_other_models_are_refused_by_name(datasets: Any) -> None:
    x, _, y, _ = datasets["wine"]

    for kind in (ensemble.BaggingClassifier, ensemble.AdaBoostClassifier):
        model = kind(LogisticRegression(max_iter=200), n_estimators=2).fit(x, y)
        with pytest.raises(DataError, match="takes decision trees, not LogisticRegression"):
            model.compile(x)


@pytest.mark.parametrize("kind", [tree.DecisionTreeClassifier, tree.ExtraTreeClassifier, ensemble.BaggingClassifier])
def test_leaves_where_two_classes_are_equal_say_what_they_say_in_clear(kind: Any, rng: np.random.Generator) -> None:
    one = {"n_estimators": 1} if kind is ensemble.BaggingClassifier else {"max_depth": 3}
    x = rng.normal(size=(60, 3)).round(1)
    for classes in (2, 3, 5):
        model = kind(**one).fit(x, rng.permutation(60) % classes).compile(x)

        assert (model.predict(x, fhe="simulate") == model.predict(x)).all()
        assert (
            np.abs(model.predict_proba(x, fhe="simulate") - model.predict_proba(x)).max() < classes * 2.0**-VALUE_BITS
        )


@pytest.mark.parametrize("trees", [3, 7, 50, 100])
def test_equal_votes_go_to_the_first_class(trees: int) -> None:
    head = ClassificationHead(np.ones(1) / trees, np.zeros(1), Classes((0, 1, 2), "int64"), "fractions")
    first, second = np.divmod(np.arange((trees + 1) ** 2), trees + 1)
    votes = np.stack([first, second, trees - first - second], axis=1)
    votes = votes[votes[:, 2] >= 0]

    assert (head.predict(votes[:, :2], votes) == votes.argmax(axis=1)).all()
