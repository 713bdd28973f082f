"""A server that shows clients different things gets no sum: models, settings, participants, sessions of one name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from tacit.federated import (
    ClippedMean,
    InsecureEmbeddedParties,
    LocalGrid,
    PairwiseMasks,
    SecureAggregation,
    SecureAggregationMod,
    Settings,
)
from tacit.federated.errors import FederatedError, ForgeryError, ThresholdError, UpdateError
from tacit.federated.identity import enroll
from tacit.federated.masks.collector import Collector
from tacit.federated.masks.member import Member
from tacit.federated.view import agreement, common_view, view

from .apps import CLIENTS, client_app, initial, secure
from .rounds import SESSION, VIEW

FORMS = {
    "masks": lambda: PairwiseMasks(Settings(minimum=3)),
    "parties": lambda: InsecureEmbeddedParties(ClippedMean(100.0), minimum=3),
}


def showing(change, to):
    """A network on which some clients are sent something else than the server says."""

    def network(message):
        asked = not message.metadata.reply_to_message_id and message.content.array_records
        if asked and message.metadata.dst_node_id - 2 in to:
            change(message)
        return message

    return network


def another_model(message):
    arrays = dict(message.content["arrays"])
    message.content["arrays"] = ArrayRecord(arrays | {"b": Array(np.full(3, -1e3))})  # units that are dead


def another_config(message):
    message.content["config"] = ConfigRecord(dict(message.content["config"]) | {"lr": 0.0})


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("change", [another_model, another_config])
def test_a_server_that_shows_all_but_one_another_model_gets_no_sum(name, change):
    everyone_else = [i for i in range(CLIENTS) if i != 3]
    strategy, grid = secure(FedAvg(fraction_evaluate=0), FORMS[name](), showing(change, everyone_else))

    with pytest.raises(FederatedError, match="1 of 10 clients sent an update"):
        strategy.start(grid, initial(), num_rounds=1)

    assert "computed from another model or other settings than were sent" in str(strategy.report[0])


@pytest.mark.parametrize("name", FORMS)
def test_one_client_that_saw_another_model_is_left_out_and_named(name):
    strategy, grid = secure(FedAvg(fraction_evaluate=0), FORMS[name](), showing(another_model, [3]))

    strategy.start(grid, initial(), num_rounds=1)

    (reason,) = strategy.report[0].failures.values()
    assert "computed from another model" in reason
    assert strategy.report[0].survivors == CLIENTS - 1


@pytest.mark.parametrize("name", FORMS)
def test_the_run_s_settings_are_a_part_of_what_is_agreed_on(name):
    strategy, grid = secure(FedAvg(fraction_evaluate=0), FORMS[name]())
    grid.contexts[5].run_config["lr"] = 0.0

    strategy.start(grid, initial(), num_rounds=1)

    assert strategy.report[0].failures == {"site-3": "its run's settings differ from those of most clients"}
    assert strategy.report[0].survivors == CLIENTS - 1


class Careless(Collector):
    """A server that takes any client's word for what it computed on."""

    def accept_confirmation(self, client, signature):
        self.confirmed[client] = signature


def led(views, participants=lambda i, all_: all_, settings=None, gone=(), people=None):
    """Clients that were led up to their confirmations, by a server that lies; all vectors are zero."""
    settings = settings or Settings(minimum=3)
    roster, identities = people or enroll(f"c{i}" for i in range(len(views)))
    members = [Member(i, roster, settings, SESSION) for i in range(len(views))]
    collector = Careless(roster, settings, SESSION, VIEW)
    for m in members:
        collector.accept_advertisement(m.advertise(identities[f"c{m.index}"]).pack())
    collector.close_advertisements()
    shares = {}
    for m in members:
        told = participants(m.index, collector.participants)
        keys = [collector.advertised[v] for v in told if v != m.index]
        shares[m.index] = m.share(told, keys)
    encoding = settings.encoding(len(views))
    there = [m for m in members if m.index not in gone]
    for m in there:
        incoming = {v: shares[v][m.index] for v in shares if m.index in shares[v] and v in m.peers}
        vector = m.mask(encoding.ring(np.zeros(4000, dtype=np.int64)), incoming, views[m.index])
        collector.boxes[m.index] = shares[m.index]
        collector.accept_vector(m.index, vector, 4000, encoding)
    for m in there:
        collector.accept_confirmation(m.index, m.confirm(collector.survivors, identities[f"c{m.index}"]))
    return members, collector, encoding


def test_whatever_the_server_does_with_two_views_the_sum_is_masked_and_no_neighbour_agrees():
    members, collector, encoding = led([VIEW] * 4 + [b"another"])

    for m in members:
        with pytest.raises(ForgeryError, match="the server sent it another model"):
            m.unmask({v: s for v, s in collector.confirmed.items() if v != m.index})
    # clients that reveal their shares all the same: the four agree among themselves, and are enough
    members, collector, encoding = led([VIEW] * 4 + [b"another"])
    for m in members[:4]:
        agreeing = {v: s for v, s in collector.confirmed.items() if v < 4 and v != m.index}
        collector.accept_revealed(m.index, [share.pack() for share in m.unmask(agreeing)])
    total = collector.sum(encoding)

    counts = np.bincount(total.view(np.uint8), minlength=256)
    assert ((counts - total.nbytes / 256) ** 2 / (total.nbytes / 256)).sum() < 450  # of 255 degrees of freedom


def test_clients_that_were_told_different_participants_do_not_agree():
    members, collector, _ = led([VIEW] * 7, lambda i, all_: all_[:6] if i < 3 else all_, gone={6})

    for member in members[:6]:
        with pytest.raises(ForgeryError, match=r"c\d does not confirm what this client was told"):
            member.unmask({v: s for v, s in collector.confirmed.items() if v != member.index})


def test_nobody_is_told_that_three_clients_are_all_there_is():
    """One honest client and two that collude with the server: without a `minimum` of its own it asks for two thirds."""
    with pytest.raises(ThresholdError, match="3 clients take part; this one asks for 7"):
        led([VIEW] * 10, lambda i, all_: [0, 1, 2], Settings())
    assert Settings().fewest(10) == 7
    assert Settings(minimum=3).fewest(10) == 3


def test_a_confirmation_of_an_earlier_session_of_the_same_name_is_refused():
    """As after a SuperNode that lost the state it kept in memory."""
    people = enroll(f"c{i}" for i in range(5))
    (_, earlier, _), (members, now, _) = (led([VIEW] * 5, people=people) for _ in range(2))

    with pytest.raises(ForgeryError, match="of another session"):
        members[0].unmask({v: s for v, s in earlier.confirmed.items() if v})
    assert members[1].unmask({v: s for v, s in now.confirmed.items() if v != 1})


@pytest.mark.parametrize("name", FORMS)
def test_a_client_of_other_settings_is_left_out_and_named(name):
    form = FORMS[name]()
    odd = PairwiseMasks(Settings(minimum=3, limit=32.0))
    if name == "parties":
        odd = InsecureEmbeddedParties(ClippedMean(99.0), minimum=3)
        odd._public = form._public
    roster, identities = enroll(f"site-{i}" for i in range(CLIENTS))

    def mod(message, context, call_next):
        partition = context.node_config["partition-id"]
        own = SecureAggregationMod(odd if partition == 2 else form, lambda c: (identities[f"site-{partition}"], roster))
        return own(message, context, call_next)

    strategy = SecureAggregation(FedAvg(fraction_evaluate=0), roster, form)

    strategy.start(LocalGrid(client_app([mod]), CLIENTS), initial(), num_rounds=1)

    (reason,) = strategy.report[0].failures.values()
    assert "or another roster" in reason
    assert strategy.report[0].survivors == CLIENTS - 1


def test_a_strategy_that_sends_each_client_its_own_is_refused_before_anybody_trains():
    class Personal(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            for i, message in enumerate(super().configure_train(server_round, arrays, config, grid)):
                content = RecordDict(dict(message.content) | {"config": ConfigRecord({"server-round": 1, "lr": i})})
                yield Message(content, message.metadata.dst_node_id, message.metadata.message_type)

    strategy, grid = secure(Personal(fraction_evaluate=0))

    with pytest.raises(FederatedError, match="the strategy sends different models or settings to different clients"):
        strategy.start(grid, initial(), num_rounds=1)
    assert not grid.to_clients


def a_message(**records):
    return Message(RecordDict(records), dst_node_id=1, message_type="train")


def test_a_view_is_of_all_that_the_app_gets_and_of_nothing_else():
    base = {"arrays": initial(), "config": ConfigRecord({"a": 1, "b": [1.0, 2.0], "c": b"x", "d": True, "e": "y"})}
    turned = ConfigRecord(dict(reversed(base["config"].items())))
    flat = ArrayRecord({k: Array(v.numpy().reshape(-1)) for k, v in initial().items()})
    other = [
        {**base, "arrays": flat},
        {**base, "arrays": ArrayRecord(dict(reversed(initial().items())))},
        {**base, "metrics": MetricRecord({"m": 1})},
        {"weights": base["arrays"], "config": base["config"]},
        *({**base, "config": ConfigRecord({**base["config"], **change})}
          for change in ({"a": 1.0}, {"a": True}, {"b": [1.0]}, {"b": [2.0, 1.0]}, {"c": b"y"}, {"e": "z"}, {"f": 0})),
    ]  # fmt: skip

    views = [view(a_message(**records)) for records in [base, *other]]

    assert len(set(views)) == len(views)
    assert view(Message(RecordDict(base), dst_node_id=1, message_type="evaluate")) not in views
    subclass = ConfigRecord({**base["config"], "b": [np.float64(1), np.float64(2)]})
    for same in ({"tacit": ConfigRecord({"stage": 3})}, {"config": turned}, {"config": subclass}):
        same = base | same
        assert view(a_message(**same)) == views[0]
    assert common_view([a_message(**base), a_message(**base)]) == views[0]
    with pytest.raises(UpdateError, match="different models"):
        common_view([a_message(**base), a_message(**other[0])])


def test_what_is_agreed_on_is_all_but_what_each_client_asks_for_itself():
    roster, _ = enroll("abc")
    settings = Settings()

    assert settings.agreed(roster) == Settings(minimum=2).agreed(roster)
    assert settings.agreed(roster) != replace(settings, bits=32).agreed(roster)
    assert settings.agreed(roster) != settings.agreed(enroll("abc")[0])
    assert agreement("a", "b") != agreement("a'b", "")
