"""Federated analytics: answers to queries are summed under masks, and nothing else leaves a client."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from tacit.federated import (
    ClippedMean,
    InsecureEmbeddedParties,
    LocalGrid,
    PairwiseMasks,
    Privacy,
    SecureAggregationMod,
    SecureGrid,
    Settings,
    Tally,
    enroll,
    tally,
)
from tacit.federated.errors import FederatedError, UpdateError
from tacit.federated.update import Update

from .apps import initial, secure
from .test_ahead import Watching
from .test_faults import Vanishing

CLIENTS = 5
EDGES = [20.0, 40.0, 60.0]


def ages(i):
    return np.concatenate([np.random.default_rng(i).normal(45, 12, 50 + i), [np.nan] * i])


def federation(answer, form=None, network=lambda message: message, clear=()):
    """A federation whose clients answer queries."""
    form, (roster, people) = form or PairwiseMasks(Settings(minimum=3)), enroll(f"site-{i}" for i in range(CLIENTS))
    mod = SecureAggregationMod(form, lambda c: (people[f"site-{c.node_config['partition-id']}"], roster), clear=clear)
    app = ClientApp(mods=[mod])

    @app.query("ages")
    def query(message, context):
        i = int(context.node_config["partition-id"])
        return Message(answer(i, message.content["config"]), reply_to=message)

    @app.query()
    def ready(message, context):
        return Message(RecordDict({"metrics": MetricRecord({"version": 7})}), reply_to=message)

    return LocalGrid(app, CLIENTS, network=network), roster, form


def numbers(i, config):
    return RecordDict({"metrics": tally(ages(i), EDGES, "age", center=float(config.get("center", 45.0)))})


def test_counts_means_deviations_and_histograms_are_those_of_all_rows():
    network = Watching()
    grid, roster, form = federation(numbers, network=network)
    queries = SecureGrid(grid, roster, form)

    total = queries.ask("ages")

    rows = np.concatenate([ages(i) for i in range(CLIENTS)])
    known = rows[~np.isnan(rows)]
    got = Tally.of(total, "age")
    assert (got.count, got.missing) == (len(known), sum(range(CLIENTS)))
    assert got.mean == pytest.approx(known.mean(), rel=1e-13)
    assert got.std == pytest.approx(known.std(), rel=1e-12)
    assert got.sum == pytest.approx(known.sum(), rel=1e-13)
    assert got.histogram == tuple(np.histogram(known, [-np.inf, *EDGES, np.inf])[0])
    assert "num-examples" not in total
    assert not any(message.content.metric_records for message in network.got)  # nothing left in clear
    assert queries.report[0].survivors == CLIENTS


def test_large_whole_numbers_are_summed_exactly_and_queries_follow_each_other():
    grid, roster, form = federation(
        lambda i, config: RecordDict({"metrics": MetricRecord({"n": 2**40 + i * config["times"], "x": [1, i]})})
    )
    queries = SecureGrid(grid, roster, form)

    totals = [queries.ask("ages", ConfigRecord({"times": t})) for t in (1, 3)]

    assert [total["n"] for total in totals] == [5 * 2**40 + 10, 5 * 2**40 + 30]
    assert totals[0]["x"] == [5, 10]


def test_a_query_is_answered_without_those_who_vanish_and_by_no_fewer_than_agreed():
    grid, roster, form = federation(numbers, network=Vanishing({2}, 3))

    got = Tally.of(SecureGrid(grid, roster, form).ask("ages"), "age")

    assert got.count == sum(50 + i for i in range(CLIENTS) if i != 2)
    grid, roster, form = federation(numbers, PairwiseMasks(Settings(minimum=5)), Vanishing({2}, 3))
    with pytest.raises(FederatedError, match="4 of 5 clients sent an update, 5 are needed"):
        SecureGrid(grid, roster, form).ask("ages")


def test_a_client_answers_no_query_in_clear_but_those_that_its_app_names():
    for clear, served in (((), 0), (("default",), CLIENTS)):
        grid, roster, form = federation(numbers, clear=clear)
        asked = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in grid.get_node_ids()]

        replies = list(grid.send_and_receive(asked))

        assert sum(reply.has_content() for reply in replies) == served
    assert len(list(SecureGrid(grid, roster, form, clear=["default"]).send_and_receive(asked))) == CLIENTS
    with pytest.raises(FederatedError, match="come in clear, one a node"):
        SecureGrid(grid, roster, form, clear=["default"]).ask()
    (first, *_) = grid.send_and_receive(
        [Message(RecordDict(), dst_node_id=2, message_type="query.ages")]
    )  # the other stays closed
    assert "asks for a reply in clear" in first.error.reason


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (PairwiseMasks(Settings(minimum=3, privacy=Privacy(1.0, 1.0, honest=3))), "have no noise"),
        (InsecureEmbeddedParties(ClippedMean(1.0), minimum=3), "computing parties answer no queries"),
    ],
)
def test_forms_that_cannot_sum_a_query_say_so(form, reason):
    grid, roster, _ = federation(numbers, form)

    with pytest.raises(FederatedError, match=reason):
        SecureGrid(grid, roster, form).ask("ages")
    content = RecordDict({"tacit": ConfigRecord({"stage": 1, "number": 1}), "config": ConfigRecord()})
    (reply,) = grid.send_and_receive([Message(content, dst_node_id=2, message_type="query.ages")])
    assert reason in reply.error.reason  # whatever the server says


def test_answers_that_cannot_be_summed_never_leave():
    def several(i, config):
        return RecordDict({"metrics": MetricRecord({"n": 1}), "more": MetricRecord({"n": 1})})

    for answer in (several, lambda i, config: RecordDict({"config": ConfigRecord({"n": 1})})):
        grid, roster, form = federation(answer)
        with pytest.raises(FederatedError, match="a MetricRecord, an ArrayRecord or one of each"):
            SecureGrid(grid, roster, form).ask("ages")
    with pytest.raises(UpdateError, match="infinite number"):
        tally([1.0, np.inf])
    with pytest.raises(ValueError, match="ascend"):
        tally([1.0], [2.0, 1.0])
    with pytest.raises(ValueError, match="the center of x must be a number, not nan"):
        tally([1.0], center=float("nan"))
    assert min(tally([1e308, 1e308])["x.squares"], tally([1e308, 1e308])["x.sum"]) > 2.0**64  # counted as cut


def test_arrays_of_other_things_than_real_numbers_never_leave():
    for array in (np.array([1 + 2j]), np.array(["a"]), np.array([1], "datetime64[s]"), np.array([1], "timedelta64[s]")):
        with pytest.raises(UpdateError, match=r"array .x. of the reply is of .*: real numbers are summed"):
            Update.of_query(RecordDict({"arrays": ArrayRecord({"x": Array(array)})}))
    sent, reply = ArrayRecord({"x": Array(np.ones(1))}), ArrayRecord({"x": Array(np.ones(1) + 2j)})
    content = RecordDict({"arrays": reply, "metrics": MetricRecord({"num-examples": 1})})
    with pytest.raises(UpdateError, match="is of complex128"):
        Update.of(sent, content)
    for array in (np.array([True, False]), np.array([3], np.uint8), np.ones(2, np.float16)):
        assert (
            Update.of_query(RecordDict({"arrays": ArrayRecord({"x": Array(array)})})).values.tolist() == array.tolist()
        )


@pytest.mark.parametrize("beside", [{}, {"metrics": MetricRecord({"n": 1})}])
def test_arrays_are_summed_too_in_the_range_of_updates(beside):
    def answer(i, config):
        many = np.arange(6.0).reshape(2, 3) * i + config["plus"]
        arrays = ArrayRecord(
            {"many": Array(many), "few": Array(np.array([2**50 + i])), "none": Array(np.zeros((0, 2)))}
        )
        return RecordDict({**beside, "arrays": arrays})

    network = Watching()
    grid, roster, form = federation(answer, network=network)
    queries = SecureGrid(grid, roster, form)

    def asked(plus):
        content = RecordDict({"config": ConfigRecord({"plus": plus})})
        (reply,) = queries.send_and_receive([Message(content, n, "query.ages") for n in grid.get_node_ids()])
        return reply.content

    total = asked(0.25)
    assert total["arrays"]["many"].numpy() == pytest.approx(np.arange(6.0).reshape(2, 3) * 10 + 1.25, abs=1e-10)
    assert total["arrays"]["few"].numpy() == 5 * 2**50 + 10
    assert total["arrays"]["none"].numpy().shape == (0, 2)
    assert len(total["metrics"]) == len(beside)
    sent = [m.content.array_records for m in network.got if m.content.array_records]
    assert not any("many" in record for records in sent for record in records.values())
    with pytest.raises(FederatedError, match=r"in arrays above the limit of the settings, were cut, .*\(many 30\)"):
        asked(2.0**18 + 1)


def test_a_tally_of_nothing_is_no_number_and_different_centers_are_noticed():
    grid, roster, form = federation(lambda i, config: RecordDict({"metrics": tally([np.nan], name="age")}))
    empty = Tally.of(SecureGrid(grid, roster, form).ask("ages"), "age")
    assert (empty.count, empty.missing) == (0, CLIENTS)
    assert np.isnan(empty.mean)
    grid, roster, form = federation(lambda i, config: RecordDict({"metrics": tally([1.0], center=float(i))}))
    with pytest.raises(UpdateError, match="different centers"):
        Tally.of(SecureGrid(grid, roster, form).ask("ages"))
    grid, roster, form = federation(lambda i, config: RecordDict({"metrics": tally([1.0], [0.0, 1.0 + (i == 2)])}))
    with pytest.raises(UpdateError, match="different edges"):
        Tally.of(SecureGrid(grid, roster, form).ask("ages"))


def test_a_sum_that_was_cut_is_no_answer_and_one_about_a_center_is():
    def times(i):
        return np.random.default_rng(i).normal(1.7e12, 1e8, 50)  # milliseconds since 1970, some days apart

    def answer(i, config):
        return RecordDict({"metrics": tally(times(i), [1.7e12], "t", center=float(config.get("center", 0)))})

    grid, roster, form = federation(answer)
    queries = SecureGrid(grid, roster, form)

    with pytest.raises(FederatedError, match=r"cut, .* wrong \(t.squares 5\): give tally a center="):
        queries.ask("ages")
    assert queries.report[0].cut == {"t.squares": 5}
    got, rows = Tally.of(queries.ask("ages", ConfigRecord({"center": 1.7e12})), "t"), [times(i) for i in range(CLIENTS)]
    assert (got.mean, got.std) == pytest.approx((np.mean(rows), np.std(rows)), rel=1e-12)
    assert got.histogram == (np.sum(np.less(rows, 1.7e12)), np.sum(np.greater_equal(rows, 1.7e12)))
    assert queries.report[1].error is None


@pytest.mark.parametrize(
    ("one", "other"),
    [(45.0, 45.001), (2.0, 4.0), (1.7e12, 1.7e12 + 1e7), (3.0, -3.0), (0, 1e-9), (45.0, np.nextafter(45.0, 46.0))],
)
def test_different_centers_are_noticed_at_every_size(one, other):
    def total(*centers):
        site = [dict(tally([c], name="t", center=c)) for c in centers]
        return MetricRecord({name: np.sum([s[name] for s in site], axis=0).tolist() for name in site[0]})

    assert Tally.of(total(one, one, one), "t").mean == one
    with pytest.raises(UpdateError, match="different centers"):
        Tally.of(total(one, one, other), "t")


def test_queries_and_rounds_take_turns_in_one_run():
    strategy, grid = secure(FedAvg(fraction_evaluate=0))
    grid._app.query()(lambda message, context: Message(RecordDict({"m": MetricRecord({"n": 1})}), reply_to=message))
    queries = SecureGrid(grid, strategy.roster, strategy.form)

    first = queries.ask()
    strategy.start(grid, initial(), num_rounds=1)
    second = queries.ask()

    assert first["n"] == second["n"] == 10
    assert strategy.report[0].survivors == 10
    assert [line.number for line in queries.report] == [1, 3]
