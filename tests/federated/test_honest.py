"""What an average cannot be is refused by name, and what is cut or left out is told by name."""

from __future__ import annotations

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg

from tacit.federated import (
    ClippedMean,
    Identity,
    InsecureEmbeddedParties,
    LocalGrid,
    NormFilter,
    PairwiseMasks,
    SecureAggregation,
    SecureAggregationMod,
    Settings,
    TrimmedMean,
    enroll,
)
from tacit.federated.errors import FederatedError, RosterError
from tacit.federated.strategies import UNFIT

from .apps import initial, secure

CLIENTS = 5
FORMS = {
    "masks": lambda **agreed: PairwiseMasks(Settings(minimum=3, **agreed)),
    "parties": lambda **agreed: InsecureEmbeddedParties(ClippedMean(100.0), minimum=3, **agreed),
}


def app_of(value, metrics, mods=()):
    """An app whose clients reply with `value(i)` and `metrics(i)`."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message, context):
        i = int(context.node_config["partition-id"])
        arrays = ArrayRecord({"w": Array(np.asarray(value(i), dtype=np.float64))})
        return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics(i))}), reply_to=message)

    return app


def both(strategy, value, metrics, form=None):
    """The results of plain Flower and of secure aggregation, and the report of the latter."""
    start = ArrayRecord({"w": Array(np.zeros_like(np.asarray(value(0), dtype=np.float64)))})
    plain = strategy().start(LocalGrid(app_of(value, metrics), CLIENTS), start, num_rounds=1)
    roster, people = enroll(f"site-{i}" for i in range(CLIENTS))
    form = form or FORMS["masks"]()
    mod = SecureAggregationMod(form, lambda c: (people[f"site-{c.node_config['partition-id']}"], roster))
    wrapped = SecureAggregation(strategy(), roster, form)
    return plain, wrapped.start(LocalGrid(app_of(value, metrics, [mod]), CLIENTS), start, num_rounds=1), wrapped.report


def fedavg(**kwargs):
    return lambda: FedAvg(fraction_evaluate=0, **kwargs)


@pytest.mark.parametrize("name", UNFIT)
def test_a_strategy_that_looks_at_single_updates_is_refused_by_name(name):
    strategy = object.__new__(getattr(flower, name))

    with pytest.raises(FederatedError, match=rf"{name} looks at single updates"):
        SecureAggregation(strategy, enroll("abc")[0])


def test_large_counters_metrics_and_weights_are_those_of_plain_flower():
    def metrics(i):
        return {"num-examples": 12_000 * (i + 1), "train_time": 200.0 + i, "mse": 2900.0}

    plain, masked, report = both(fedavg(), lambda i: [423.0, 200.0, -300.0 * i, 1e5], metrics)

    assert masked.arrays["w"].numpy() == pytest.approx(plain.arrays["w"].numpy(), abs=1e-6)
    assert dict(masked.train_metrics_clientapp[1]) == pytest.approx(dict(plain.train_metrics_clientapp[1]), abs=1e-6)
    assert not report[0].saturated


def test_what_is_cut_is_counted_by_name_and_warned_of(caplog):
    def metrics(i):
        return {"num-examples": 99 + i, "loss": 1.0, "time": 1e30 if i < 3 else 1.0}

    form = FORMS["masks"](limit=10.0, max_examples=100)

    with caplog.at_level(logging.WARNING, logger="flwr.tacit"):
        logging.getLogger("flwr.tacit").addHandler(caplog.handler)
        _, _, report = both(
            fedavg(),
            lambda i: [1.0, 50.0 + i],
            lambda i: {"num-examples": 99 + i, "loss": 1.0, "time": 1e30 if i < 3 else 1.0},
            form,
        )
        logging.getLogger("flwr.tacit").removeHandler(caplog.handler)

    assert report[0].cut == {"num-examples": 3, "time": 3, "w": 5}
    assert report[0].saturated == 11
    assert "num-examples 3, time 3, w 5" in caplog.text


@pytest.mark.parametrize("name", FORMS)
def test_lists_of_metrics_are_averaged_place_by_place(name):
    def metrics(i):
        return {"num-examples": 10 + i, "confusion": [1.0 + i, 2.0, 3.0], "loss": 0.5 * i}

    plain, got, _ = both(fedavg(), lambda i: [1.0 * i], metrics, FORMS[name]())

    expected = plain.train_metrics_clientapp[1]
    assert got.train_metrics_clientapp[1]["confusion"] == pytest.approx(expected["confusion"], abs=1e-4)
    assert got.train_metrics_clientapp[1]["loss"] == pytest.approx(expected["loss"], abs=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_clients_may_be_weighed_by_another_metric_and_both_sides_have_to_say_so(name):
    weigh = fedavg(weighted_by_key="num-batches")
    form = FORMS["masks"](weighted_by="num-batches")
    if name == "parties":
        form = FORMS["parties"]()
        object.__setattr__(form.terms, "weighted_by", "num-batches")

    plain, got, _ = both(weigh, lambda i: [1.0 * i], lambda i: {"num-examples": 0, "num-batches": 3 + i}, form)

    assert got.arrays["w"].numpy() == pytest.approx(plain.arrays["w"].numpy(), abs=1e-4)
    assert got.train_metrics_clientapp[1]["num-examples"] == pytest.approx(0)
    with pytest.raises(FederatedError, match="write weighted_by='num-batches' in the form's settings"):
        SecureAggregation(weigh(), enroll("abc")[0], FORMS[name]())


@pytest.mark.parametrize("name", FORMS)
def test_a_client_without_examples_weighs_nothing_and_none_with_any_is_said(name):
    plain, got, report = both(fedavg(), lambda i: [1.0 * i], lambda i: {"num-examples": 10 * (i > 1)}, FORMS[name]())

    assert got.arrays["w"].numpy() == pytest.approx(plain.arrays["w"].numpy(), abs=1e-4)
    assert report[0].survivors == CLIENTS
    strategy, grid = secure(fedavg()(), FORMS[name](), change=None, clients=CLIENTS)
    grid._app = app_of(lambda i: [1.0], lambda i: {"num-examples": 0}, grid._app._mods)
    with pytest.raises(FederatedError, match="no client had any"):
        strategy.start(grid, ArrayRecord({"w": Array(np.zeros(1))}), num_rounds=1)


def test_every_client_s_reason_is_told():
    form = PairwiseMasks(Settings(minimum=3))
    roster, _ = enroll(f"site-{i}" for i in range(CLIENTS))
    strategy = SecureAggregation(fedavg()(), roster, form)
    grid = LocalGrid(app_of(lambda i: [1.0], lambda i: {"num-examples": 1}, [SecureAggregationMod(form)]), CLIENTS)

    with pytest.raises(FederatedError, match="the node's config lacks identity and roster"):
        strategy.start(grid, ArrayRecord({"w": Array(np.zeros(1))}), num_rounds=1)
    assert len(strategy.report[0].failures) == CLIENTS
    assert str(strategy.report[0]).count("lacks identity and roster") == CLIENTS


@pytest.mark.parametrize("form", [PairwiseMasks(), InsecureEmbeddedParties(ClippedMean(1.0))])
def test_a_strategy_that_samples_too_few_clients_is_told_what_to_write_before_anybody_works(form):
    strategy, grid = secure(fedavg(fraction_train=0.4)(), form)

    with pytest.raises(FederatedError, match=r"asks 4 of 10 clients, .* sums of 7 or more: .* write minimum=4"):
        strategy.start(grid, initial(), num_rounds=1)
    assert not grid.to_clients


@pytest.mark.parametrize("name", FORMS)
def test_a_strategy_may_be_started_twice_in_one_run(name):
    strategy, grid = secure(fedavg()(), FORMS[name](), clients=CLIENTS)

    strategy.start(grid, initial(), num_rounds=2)
    strategy.start(grid, initial(), num_rounds=1)

    assert [(line.number, line.error) for line in strategy.report] == [(3, None)]


def test_processes_share_identities_by_a_folder_that_the_first_one_makes(tmp_path):
    folder = tmp_path / "deep" / "keys"
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: enroll(["b", "a.1"], folder), range(6)))

    assert len({roster.keys["a.1"] for roster, _ in found}) == 1
    roster, people = found[0]
    assert {name: roster.index(person) for name, person in people.items()} == {"b": 1, "a.1": 0}
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]  # nothing of the others is left
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.pem"))
    assert pickle.loads(pickle.dumps(people["b"])).public_key == people["b"].public_key
    with pytest.raises(RosterError, match="holds the identities of others"):
        enroll(["a.1", "b", "c"], folder)


def test_identities_of_a_simulation_may_be_passed_to_its_processes_and_no_others():
    people = enroll(["a", "b"])[1]

    again = pickle.loads(pickle.dumps(people["a"]))

    assert again.public_key == people["a"].public_key
    with pytest.raises(TypeError, match="the identity of c is not pickled"):
        pickle.dumps(Identity.generate("c"))


def test_what_is_no_strategy_form_or_roster_is_refused_where_it_stands():
    roster, _ = enroll("abc")
    form = FORMS["masks"]()
    given = [
        ((FedAvg, roster, form), "not the class FedAvg"),
        ((SecureAggregation(FedAvg(), roster, form), roster, form), "securely already"),
        ((FedAvg(), "roster.json", form), r"Roster.load\(path\), or what enroll gives, not a str"),
        ((FedAvg(), roster, Settings(minimum=3)), "not a Settings"),
    ]

    for arguments, said in given:
        with pytest.raises(FederatedError, match=said):
            SecureAggregation(*arguments)
    with pytest.raises(FederatedError, match="not a Settings"):
        SecureAggregationMod(Settings(minimum=3))
    with pytest.raises(RosterError, match="comes twice"):
        enroll(["a", "b", "a"])


@pytest.mark.parametrize(
    "settings",
    [{"limit": float("nan")}, {"limit": -1}, {"bits": 16}, {"minimum": 2.5}, {"max_examples": "9"}, {"degree": 4.0}],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Settings(**settings)


@pytest.mark.parametrize(
    "made",
    [lambda: TrimmedMean(-1), lambda: TrimmedMean(0.5), lambda: ClippedMean(0), lambda: NormFilter(float("nan"))],
)
def test_rules_that_would_leave_one_row_or_none_are_refused(made):
    with pytest.raises(ValueError, match="not"):
        made()


def test_a_client_without_the_mod_is_told_of_it():
    roster, _ = enroll(f"site-{i}" for i in range(CLIENTS))
    app = app_of(lambda i: 1.0, lambda i: {"num-examples": 1})  # answers by itself

    @app.evaluate()
    def evaluate(message, context):
        _ = message.content["arrays"]

    strategy = SecureAggregation(FedAvg(fraction_evaluate=1.0), roster, FORMS["masks"]())
    with pytest.raises(FederatedError):
        strategy.start(LocalGrid(app, CLIENTS), initial(), num_rounds=1)

    reasons = [reason for line in strategy.report for reason in line.failures.values()]
    assert len(reasons) == 2 * CLIENTS
    assert all("does ClientApp(mods=[…]) have SecureAggregationMod?" in reason for reason in reasons)
