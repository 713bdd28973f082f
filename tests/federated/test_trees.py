"""Trees grown from sums under masks are those that XGBoost grows of all rows in one place."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tacit.federated import (
    ClippedMean,
    FedXgbHistogram,
    InsecureEmbeddedParties,
    LocalGrid,
    PairwiseMasks,
    Privacy,
    SecureAggregationMod,
    SecureGrid,
    Settings,
    answer_histograms,
    enroll,
)
from tacit.federated.errors import FederatedError, UpdateError
from tacit.federated.trees import answers, bins

from .test_ahead import Watching

xgboost = pytest.importorskip("xgboost")

SITES = 4
SEED = 7


def table(seed, rows=600, columns=4, missing=0.1):
    """Rows of few numbers in each column, each with many rows: bins part them all, here as in XGBoost."""
    rng = np.random.default_rng(seed)
    x = np.rint(rng.normal(size=(rows, columns)) * 2).clip(-3, 3).astype(np.float32) * [1, 1e-3, 50, 1] + [0, 0, 1e4, 0]
    score = x[:, 0] / 2 * x[:, 3] + (x[:, 2] - 1e4) / 50 + rng.normal(size=rows)
    x[rng.random(x.shape) < missing] = np.nan
    return x.astype(np.float32), score


def federation(parts, form=None, network=lambda message: message):
    """A federation whose sites hold these rows, labels and, perhaps, weights."""
    roster, people = enroll(f"site-{i}" for i in range(len(parts)))
    form = form or PairwiseMasks(Settings(minimum=3))
    mod = SecureAggregationMod(form, lambda c: (people[f"site-{c.node_config['partition-id']}"], roster))
    app = ClientApp(mods=[mod])

    @app.query("xgb")
    def query(message, context):
        return answer_histograms(message, context, *parts[context.node_config["partition-id"]])

    @app.evaluate()
    def evaluate(message, context):
        x, y = parts[context.node_config["partition-id"]][:2]
        model = xgboost.Booster()
        model.load_model(bytearray(message.content["arrays"]["0"].numpy().tobytes()))
        rows = x if isinstance(x, xgboost.DMatrix) else xgboost.DMatrix(x, y)
        told = float(model.eval(rows).rsplit(":", 1)[1])
        metrics = MetricRecord({"logloss": told, "num-examples": rows.num_row()})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return LocalGrid(app, len(parts), network=network), roster, form


def split(*whole):
    cuts = np.cumsum([len(whole[0]) // 7, len(whole[0]) // 3, len(whole[0]) // 9])
    return list(zip(*(np.split(each, cuts) for each in whole), strict=True))


def grown(parts, params, rounds=3, form=None, **options):
    grid, roster, form = federation(parts, form)
    strategy = FedXgbHistogram(params, roster, form)
    result = strategy.start(grid, num_rounds=rounds, **options)
    model = xgboost.Booster()
    model.load_model(bytearray(result.arrays["0"].numpy().tobytes()))
    return model, result, strategy


CASES = {
    "logistic": ({"objective": "binary:logistic", "max_depth": 3}, lambda s: (s > 0).astype(float)),
    "squares": (
        {"objective": "reg:squarederror", "max_depth": 4, "lambda": 0.5, "gamma": 3.0},
        lambda s: 3000 + 40 * s,
    ),
    "classes": (
        {
            "objective": "multi:softprob",
            "num_class": 3,
            "max_depth": 2,
            "alpha": 0.5,
            "min_child_weight": 5,
            "base_score": 0.5,
        },
        lambda s: np.digitize(s, [-1, 1]).astype(float),
    ),
    "weighed": (
        {"objective": "binary:logistic", "scale_pos_weight": 2.5, "eta": 0.7, "max_depth": 2},
        lambda s: (s > 1).astype(float),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_trees_from_sums_are_xgboosts_of_all_rows(case):
    params, labels = CASES[case]
    x, score = table(SEED)
    y = labels(score)
    weights = [np.random.default_rng(SEED + 1).uniform(0.5, 2, len(x))] if case == "weighed" else []

    model, _, strategy = grown(split(x, y, *weights), params, fraction_evaluate=0.0)

    pooled = xgboost.train(
        {**params, "tree_method": "hist", "nthread": 1},
        xgboost.DMatrix(x, y, weight=weights[0] if weights else None),
        3,
    )
    got, expected = (m.predict(xgboost.DMatrix(x), output_margin=True) for m in (model, pooled))
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert all(line.survivors == SITES for line in strategy.report)


def test_a_run_is_one_of_flowers_with_sums_only_and_two_messages_a_session():
    x, score = table(SEED)
    y = (score > 0).astype(float)
    parts = split(x, y)
    parts[0] = (xgboost.DMatrix(*parts[0]),)
    parts = [(*part, *([None, None][: 2 - len(part)])) for part in parts]
    network = Watching()
    grid, roster, form = federation(parts, network=network)
    strategy = FedXgbHistogram({"objective": "binary:logistic", "max_depth": 2}, roster, form)

    result = strategy.start(grid, ArrayRecord([np.zeros(0, np.uint8)]), num_rounds=2)

    assert list(result.evaluate_metrics_clientapp) == [1, 2]
    losses = [metrics["logloss"] for metrics in result.evaluate_metrics_clientapp.values()]
    model = xgboost.Booster()
    model.load_model(bytearray(result.arrays["0"].numpy().tobytes()))
    told = float(model.eval(xgboost.DMatrix(x, y)).rsplit(":", 1)[1])
    assert losses[1] == pytest.approx(told, abs=1e-5)
    assert losses[1] < losses[0] < 0.69
    assert not any(message.content.metric_records for message in network.got)
    sessions = len(strategy.report)
    assert len(network.got) == SITES * (2 * sessions + 2)


def test_a_forest_is_grown_of_rows_that_each_site_draws_once_for_a_tree():
    x, score = table(SEED, rows=900)
    y = (score > 0).astype(float)
    params = {"objective": "binary:logistic", "eta": 1, "num_parallel_tree": 8, "subsample": 0.6, "max_depth": 3}

    model, result, _ = grown(split(x, y), {**params, "colsample_bytree": 0.5}, rounds=1, fraction_evaluate=0.0)

    trees = json.loads(result.arrays["0"].numpy().tobytes())["learner"]["gradient_booster"]["model"]["trees"]
    assert len(trees) == 8
    for tree in trees:
        weights, columns = tree["sum_hessian"], tree["split_indices"]
        for node, (left, right) in enumerate(zip(tree["left_children"], tree["right_children"], strict=True)):
            assert left == -1 or weights[left] + weights[right] == pytest.approx(weights[node], rel=1e-5)
        assert 0.5 * 900 / 4 < weights[0] < 0.7 * 900 / 4
        assert len({c for c, left in zip(columns, tree["left_children"], strict=True) if left != -1}) <= 2
    assert len({tree["sum_hessian"][0] for tree in trees}) > 3
    assert ((model.predict(xgboost.DMatrix(x)) > 0.5) == y).mean() > 0.6


def test_of_sums_that_lack_a_site_none_is_unmasked_and_the_model_stays():
    x, score = table(SEED)
    parts = split(x, (score > 0).astype(float))
    lost, asked, unmasked = set(), [], []

    def network(message):
        if message.metadata.reply_to_message_id:
            return message
        content = message.content.config_records
        if "config" in content:
            asked.append((content["config"].get("done"), content["config"].get("depth")))
            if asked[-1] == (1, 1) and len(asked) % SITES == 0:
                lost.add(3)
            elif asked.count((1, 0)) > SITES:
                lost.clear()  # it is back for the round after
        if content["tacit"]["stage"] > 3:
            unmasked.append(content["tacit"]["number"])
        return None if message.metadata.dst_node_id in lost else message

    grid, roster, form = federation(parts, network=network)
    strategy = FedXgbHistogram({"objective": "binary:logistic", "max_depth": 2}, roster, form)

    result = strategy.start(grid, num_rounds=3, fraction_evaluate=0.0)

    assert {line.survivors for line in strategy.report} == {SITES, 0}
    (failed,) = [line for line in strategy.report if line.error]
    assert "site-1: in this sum and not in those before, or the other way round" in failed.error
    assert failed.number not in unmasked
    model = xgboost.Booster()
    model.load_model(bytearray(result.arrays["0"].numpy().tobytes()))
    assert model.num_boosted_rounds() == 2


@pytest.mark.parametrize("evaluated", [0.0, 1.0])
def test_a_site_that_comes_after_the_first_sum_is_left_out_and_stops_nothing(evaluated):
    x, score = table(SEED, rows=200)
    parts = split(x, (score > 0).astype(float))
    network = Watching()
    grid, roster, form = federation(parts, network=network)

    class Late(type(grid)):
        """The last node connects once two more sums were taken."""

        def get_node_ids(self):
            here = sorted(super().get_node_ids())
            return here if len(strategy.report) > 2 else here[:-1]

    grid.__class__ = Late
    params = {"objective": "binary:logistic", "max_depth": 2, "max_bin": 8}
    strategy = FedXgbHistogram(params, roster, form)

    result = strategy.start(grid, num_rounds=3, fraction_evaluate=evaluated)

    model = xgboost.Booster()
    model.load_model(bytearray(result.arrays["0"].numpy().tobytes()))
    assert model.num_boosted_rounds() == 3
    assert [line.error for line in strategy.report] == [None] * len(strategy.report)
    queries, others = ([line for line in strategy.report if (line.kind == "query") == kind] for kind in (True, False))
    assert {line.survivors for line in queries} == {SITES - 1}
    assert {line.survivors for line in others} == ({SITES} if evaluated else set())
    (refused,) = [line for line in queries if line.failures]
    assert list(refused.failures.values()) == [
        "it was not in the first of these sums, so it is left out of those that follow"
    ]
    vectors = [
        message for message in network.got if message.content.array_records or "layout" in message.content["tacit"]
    ]
    assert sum(message.metadata.src_node_id == 5 for message in vectors) == len(others)


@pytest.mark.parametrize("stage", ["begin", "bins"])
def test_a_node_that_was_silent_in_a_sum_that_went_without_it_is_not_waited_for_again(stage):
    """Either a site that misses the first sum, or a second node that connects later, of no site, and says nothing."""
    x, score = table(SEED, rows=100)
    parts, asked = split(x, (score > 0).astype(float)), []

    def network(message):
        if message.metadata.dst_node_id == 5:
            asked.append(message)
            return None
        return message

    grid, roster, form = federation(parts, network=network)

    class Late(type(grid)):
        def get_node_ids(self):
            here = sorted(super().get_node_ids())
            return here if stage == "begin" or strategy.report else here[:-1]

    grid.__class__ = Late
    strategy = FedXgbHistogram({"objective": "binary:logistic", "max_depth": 2, "max_bin": 8}, roster, form)

    assert strategy.start(grid, num_rounds=2, fraction_evaluate=0.0).arrays

    assert len(asked) == 1
    assert {line.survivors for line in strategy.report} == {SITES - 1}
    assert not any(line.error for line in strategy.report)


def test_one_insists_on_the_clients_of_a_sum_that_there_was():
    roster, _ = enroll(["a", "b", "c"])
    with pytest.raises(FederatedError, match="nothing was summed under masks yet"):
        SecureGrid(LocalGrid(ClientApp(), 3), roster).insist()


def test_a_site_that_is_silent_once_while_bins_are_agreed_on_is_asked_again():
    x, score = table(SEED, rows=100)
    lost = []

    def network(message):
        config = message.content.config_records.get("config", {})
        if config.get("stage") == "bins" and message.metadata.dst_node_id == 3 and not lost:
            lost.append(message)
            return None
        return message

    grid, roster, form = federation(split(x, (score > 0).astype(float)), network=network)
    strategy = FedXgbHistogram({"objective": "binary:logistic", "max_depth": 1, "seed": -1}, roster, form)

    assert strategy.start(grid, num_rounds=1, fraction_evaluate=0.0).arrays
    assert [line.error is None for line in strategy.report].count(False) == len(lost) == 1


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"base_margin": np.ones(3)}, "have no base_margin"),
        ({"feature_types": ["c", "q"], "enable_categorical": True}, "have no categories"),
        ({"group": [3]}, "have no groups"),
        ({"label_lower_bound": np.ones(3), "label_upper_bound": np.ones(3)}, "have no label bounds"),
        ({"feature_weights": np.ones(2)}, "have no feature_weights"),
    ],
)
def test_a_matrix_of_which_xgboost_would_grow_other_trees_is_refused(more, reason):
    rows = xgboost.DMatrix(np.ones((3, 2)), np.ones(3), **more)
    with pytest.raises(UpdateError, match=reason):
        answers._data(rows, None, None)


def test_a_parameter_that_is_none_is_xgboosts_default():
    roster, _ = enroll(["a", "b", "c"])
    strategy = FedXgbHistogram({"objective": "binary:logistic", "base_score": None, "max_leaves": None}, roster)
    assert strategy.settings.base_score is None


def test_a_federation_too_small_to_begin_says_so():
    x, score = table(SEED, rows=60)
    parts = split(x, (score > 0).astype(float))
    gone = {2, 3}
    grid, roster, form = federation(parts, network=lambda m: None if m.metadata.dst_node_id in gone else m)

    with pytest.raises(FederatedError, match="not answered"):
        FedXgbHistogram({"objective": "binary:logistic"}, roster, form).start(grid)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"max_leaves": 7}, "have no max_leaves=7"),
        ({"tree_method": "exact"}, "have no tree_method='exact'"),
        ({"lambda_": 1}, "have no lambda_=1"),
        ({"eta": 0.1, "learning_rate": 0.1}, "given twice"),
        ({"objective": "rank:ndcg"}, "is not here"),
        ({"objective": "multi:softprob"}, "num_class is how many"),
        ({"max_depth": 0}, "max_depth may be from 1"),
        ({"max_depth": 2.5}, "must be a whole number"),
        ({"subsample": 0}, "above 0"),
        ({"eta": float("nan")}, "above 0"),
        ({"lambda": -1}, "lambda must not be negative"),
        ({"scale_pos_weight": 2}, "of a logistic objective"),
        ({"objective": "binary:logistic", "base_score": 1}, "between 0 and 1"),
    ],
)
def test_parameters_that_would_give_other_trees_are_refused(params, reason):
    roster, _ = enroll(["a", "b"])
    with pytest.raises(ValueError, match=reason):
        FedXgbHistogram(params, roster)


def test_forms_and_models_that_do_not_fit_are_refused():
    roster, _ = enroll(["a", "b", "c"])
    with pytest.raises(FederatedError, match="the first form"):
        FedXgbHistogram({}, roster, InsecureEmbeddedParties(ClippedMean(1.0), minimum=3))
    with pytest.raises(FederatedError, match="have no noise"):
        FedXgbHistogram({}, roster, PairwiseMasks(Settings(minimum=3, privacy=Privacy(1.0, 1.0, honest=3))))
    with pytest.raises(FederatedError, match="begin with no model"):
        FedXgbHistogram({}, roster).start(LocalGrid(ClientApp(), 3), ArrayRecord([np.ones(3, np.uint8)]))


@pytest.mark.parametrize(
    ("change", "params", "reason"),
    [
        (lambda x, y: (x[:, :3], y), {}, "different columns"),
        (lambda x, y: (x, y[:-1]), {}, "need a label each"),
        (lambda x, y: (x, y + 0.5), {"objective": "binary:logistic"}, "must be from 0 to 1"),
        (lambda x, y: (x, y * 3), {"objective": "multi:softmax", "num_class": 3}, "whole numbers from 0 to 2"),
        (lambda x, y: (x.astype(float) * 1e300, y), {}, "too large for single precision"),
        (lambda x, y: (x, np.full_like(y, np.nan)), {}, "a label is NaN"),
        (lambda x, y: (x, y * 1e10), {}, "labels are too large"),
        (lambda x, y: (x, y, y - 1), {}, "weights of rows must be numbers from 0"),
    ],
)
def test_rows_that_do_not_fit_are_told_by_their_site(change, params, reason):
    x, score = table(SEED, rows=40, missing=0)
    parts = split(x, (score > 0).astype(float))
    parts[1] = change(*parts[1])
    grid, roster, form = federation(parts, PairwiseMasks(Settings(minimum=4)))

    with pytest.raises(FederatedError, match=reason) as caught:
        FedXgbHistogram(params, roster, form).start(grid)

    assert "different" in reason or "site-1: " in str(caught.value)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"columns": [1.0, 8e6 - 12, 16e12 - 48]}, "columns, and sites say 2000000"),
        ({"columns": [1.0, -24.0, -12.0]}, "columns, and sites say -3"),
        ({"columns": [-3.0, 0.0, 0.0]}, "to be more than one, or none"),
        ({"columns": [1e6, 4e6, 16e6]}, "to be more than one, or none"),
        ({"ones": -1e9}, "more rows are of class 1 than there are"),
    ],
)
def test_a_site_that_lies_of_what_there_is_ends_the_run_and_not_the_server(monkeypatch, told, reason):
    x, score = table(SEED, rows=40)
    real = answers._STAGES["begin"]

    def begin(config, arrays, context, *rows):
        reply = real(config, arrays, context, *rows)
        if context.node_config["partition-id"] == 0:
            for name, value in told.items():
                reply.metric_records["sums"][name] = value
        return reply

    monkeypatch.setitem(answers._STAGES, "begin", begin)
    grid, roster, form = federation(split(x, (score > 0).astype(float)))
    strategy = FedXgbHistogram({"objective": "binary:logistic", "scale_pos_weight": 2.0}, roster, form)

    with pytest.raises(FederatedError, match=reason):
        strategy.start(grid)

    assert len(strategy.report) == 1


def test_a_client_counts_for_no_more_columns_and_ranges_than_an_answer_holds(monkeypatch):
    columns = answers.MOST_COLUMNS
    assert columns * bins.RANGES <= answers.LARGEST_ANSWER
    assert len(bins._first()) + 1 == bins.RANGES
    with pytest.raises(UpdateError, match="for 1 to 4112 columns, and this client has 4113"):
        answers._begin({}, {}, None, np.zeros((1, columns + 1), np.float32), np.zeros(1), np.ones(1))
    monkeypatch.setattr(answers, "LARGEST_ANSWER", 100)
    config, edges = {"sizes": [100], "scale": 0}, np.arange(100, dtype=np.uint32)
    with pytest.raises(UpdateError, match="too many counts at once"):
        answers._bins(config, {"edges": edges}, None, np.zeros((1, 1), np.float32), np.zeros(1), np.ones(1))


@pytest.mark.parametrize("most", [2, 16, 64])
def test_bins_hold_about_as_many_rows_whatever_a_columns_range_is(most):
    rng, largest = np.random.default_rng(SEED), np.finfo(np.float32).max
    columns = {
        "normal": rng.normal(size=4000),
        "times": 1.7e9 + rng.uniform(0, 1e6, 4000),
        "wide": np.exp(rng.normal(0, 20, 4000)) * rng.choice([-1, 1], 4000),
        "ends": rng.choice([-largest, largest, 0.0, -0.0, 1e-45, -1e-45], 4000),
        "constant": np.full(4000, -3.0),
        "missing": np.full(4000, np.nan),
        "few": rng.choice([0, 1, 2], 4000, p=[0.5, 0.3, 0.2]),
        "next": np.nextafter(np.float32(1), [np.float32(0), np.float32(2)], dtype=np.float32)[rng.integers(0, 2, 4000)],
    }
    rows = np.column_stack([x.astype(np.float32) for x in columns.values()])
    asked = []

    def ask(edges):
        asked.append(sum(map(len, edges)))
        found = bins.counts(rows, edges)
        return np.split(found, np.cumsum([len(each) + 1 for each in edges])[:-1])

    cuts = dict(zip(columns, bins.agree(ask, len(columns), most), strict=True))

    assert len(asked) <= bins.QUERIES
    assert max(asked) < 2 * 4100 * len(columns)
    for name, x in zip(columns, rows.T, strict=True):
        own, distinct = cuts[name], len(np.unique(x[~np.isnan(x)]))
        held = np.bincount(np.searchsorted(own, x[~np.isnan(x)], side="right"), minlength=len(own) + 1)
        assert np.isfinite(own).all()
        assert (np.diff(own) > 0).all()
        assert len(own) == max(distinct - 1, 0) if distinct <= most else len(own) < most
        if distinct > most:
            assert held.max() <= 2.5 * 4000 / most, name
            assert len(own) >= most / 2 - 1


@pytest.mark.parametrize(("rows", "most"), [(60, 64), (200, 256), (1000, 64), (4000, 16)])
def test_no_count_that_is_asked_for_is_much_finer_than_a_bin(rows, most):
    x = np.random.default_rng(SEED).normal(50, 10, size=(rows, 1)).astype(np.float32)
    counted = []

    def ask(edges):
        counted.append(bins.counts(x, edges))
        return [counted[-1]]

    cuts = bins.agree(ask, 1, most)

    held = max(rows / most, bins.LEAST)
    first, last = counted[0], counted[-1]
    assert np.count_nonzero(last) <= np.count_nonzero(first) + 2 * bins.PIECES * rows / held
    middle = np.abs(x[:, 0] - np.median(x)) < 10
    part = np.bincount(np.searchsorted(cuts[0], x[middle, 0]), minlength=len(cuts[0]) + 1)
    assert part[part > 0].mean() > held / 8  # about a quarter, where rows lie close
    assert len(cuts[0]) <= most - 1


def test_keys_are_in_the_order_of_numbers():
    some = np.array([-np.finfo(np.float32).max, -2, -1e-45, -0.0, 0.0, 1e-45, 1, 3e38], np.float32)

    found = bins.keys(some)

    assert (np.diff(found.astype(np.int64)) > 0).tolist() == [True, True, True, False, True, True, True]
    assert bins.values(found).tolist() == some.tolist()
