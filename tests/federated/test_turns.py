"""A server that sends two messages at once, or makes a node forget, gets one answer from each state of a node."""

from __future__ import annotations

import copy
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from tacit.federated import (
    ClippedMean,
    Identity,
    InsecureEmbeddedParties,
    LocalGrid,
    PairwiseMasks,
    Privacy,
    Roster,
    SecureAggregation,
    SecureAggregationMod,
    Settings,
    turns,
)
from tacit.federated.errors import BudgetError, RosterError, RoundError
from tacit.federated.masks.member import Stage
from tacit.federated.privacy import budget
from tacit.federated.records import pack_indices

from .apps import client_app, initial

SITES, NODE = 4, 5


def at(message):
    return message.content["tacit"]["number"], message.content["tacit"].get("stage")


class Racing(LocalGrid):
    """A grid whose server asks one node twice at one place: both messages' processes begin with the same state."""

    def __init__(self, app, nodes, place=None, second=lambda message: None):
        super().__init__(app, nodes)
        self.place, self.second, self.answers = place, second, []

    def _deliver(self, message):
        before = copy.deepcopy(self.contexts[NODE].state)
        other = self.second(message) if message.metadata.dst_node_id == NODE and at(message) == self.place else None
        reply = super()._deliver(message)
        if other is not None:
            beside = Context(self.run.run_id, NODE, self.contexts[NODE].node_config, before, {})
            self.answers = [reply, self._app(other, beside)]
        return reply


def federation(tmp_path, files=True, form=None, **race):
    """Return a strategy and a grid whose nodes find their identities by files, or by what is in this process."""
    form = form or PairwiseMasks(Settings(minimum=2))
    people = [Identity.generate(f"site-{i}") for i in range(SITES)]
    roster = Roster.of(people)
    roster.save(tmp_path / "roster.json")
    nodes = [
        {"partition-id": i, "identity": str(person.save(tmp_path)), "roster": str(tmp_path / "roster.json")}
        for i, person in enumerate(people)
    ]
    found = SecureAggregationMod(form)
    given = SecureAggregationMod(form, lambda context: (people[context.node_config["partition-id"]], roster))
    nodes = nodes if files else [{"partition-id": i} for i in range(SITES)]
    grid = Racing(client_app([found if files else given]), nodes, **race)
    return SecureAggregation(FedAvg(fraction_evaluate=0), roster, form), grid


def asked(message, kind, **fields):
    """A message of the same session, of another stage or model."""
    own = {"number": message.content["tacit"]["number"], **fields}
    records = dict(message.content) if kind == Stage.MASKED else {}
    content = RecordDict({**records, "tacit": ConfigRecord({**own, "stage": int(kind)})})
    return Message(content, NODE, message.metadata.message_type)


RACES = {
    "seeds of all, and a signature that one vanished": (
        (2, Stage.UNMASKED),
        lambda message: asked(message, Stage.CONFIRMED, survivors=pack_indices([1, 2, 3])),
    ),
    "two vectors under the same masks": (
        (2, Stage.MASKED),
        lambda message: asked(message, Stage.MASKED, **message.content["tacit"]),
    ),
    "two sets of keys of one session": ((1, Stage.ADVERTISED), lambda message: asked(message, Stage.ADVERTISED)),
    "two sets of keys of one session, one with a later number beside": (
        (1, Stage.ADVERTISED),
        lambda message: asked(message, Stage.ADVERTISED, ahead=1000),
    ),
}


@pytest.mark.parametrize("race", RACES)
@pytest.mark.parametrize("files", [True, False])
def test_of_two_messages_at_once_one_is_answered(tmp_path, race, files):
    place, second = RACES[race]
    strategy, grid = federation(tmp_path, files, place=place, second=second)

    result = strategy.start(grid, initial(), num_rounds=3)

    first, other = grid.answers
    assert first.has_content()
    assert other.has_error() == files  # in a simulation both are answered: this is what the files are for
    assert not files or "another message" in other.error.reason
    assert [line.survivors for line in strategy.report] == [SITES] * 3
    assert result.arrays


def test_a_state_of_before_is_refused_and_a_node_that_lost_it_takes_part_again(tmp_path):
    strategy, grid = federation(tmp_path)
    strategy.start(grid, initial(), num_rounds=1)
    kept = copy.deepcopy(grid.contexts[NODE].state)

    strategy.start(grid, initial(), num_rounds=1)
    grid.contexts[NODE].state = kept  # the SuperNode was made to lose what it kept since
    strategy.start(grid, initial(), num_rounds=2)

    assert [line.survivors for line in strategy.report] == [SITES - 1, SITES]
    assert "has lost what it kept since the last one" in strategy.report[0].failures["site-3"]
    (tmp_path / f"site-3.{grid.run.run_id}.turn").unlink()
    strategy.start(grid, initial(), num_rounds=2)
    assert [line.survivors for line in strategy.report] == [SITES - 1, SITES]


def test_a_node_that_was_made_to_forget_makes_no_keys_for_a_session_that_was(tmp_path):
    strategy, grid = federation(tmp_path)
    strategy.start(grid, initial(), num_rounds=1)
    message = Message(RecordDict({"tacit": ConfigRecord({"number": 1})}), NODE, "train")

    for beside in ({}, {"ahead": 5000}, {"ahead": "5000"}):
        fresh = Context(grid.run.run_id, NODE, grid.contexts[NODE].node_config, RecordDict(), {})
        reply = grid._app(asked(message, Stage.ADVERTISED, **beside), fresh)
        assert "session 1 is over" in reply.error.reason


def test_turns_are_taken_one_by_one_by_any_number_of_processes(tmp_path):
    config = {"identity": str(tmp_path / "site.pem")}
    states = [RecordDict() for _ in range(20)]

    def begin(place):
        try:
            turns.take(Context(7, 2, config, states[place], {}), 5, begins=True)
        except RoundError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(20))) == 1
    assert json.loads((tmp_path / "site.7.turn").read_text()) == [1, 5]
    assert os.stat(tmp_path / "site.7.turn").st_mode & 0o077 == 0
    turns.take(Context(8, 2, config, RecordDict(), {}), 5, begins=True)  # another run has its own
    (tmp_path / "site.7.turn").write_text("not a count")
    with pytest.raises(RosterError, match="is damaged"):
        turns.take(Context(7, 2, config, RecordDict(), {}), 6, begins=True)


def test_a_folder_for_turns_can_be_named_and_must_be_there(tmp_path):
    config = {"identity": "/nowhere/site.pem"}
    with pytest.raises(RosterError, match="name a folder that it may write as 'sessions' in the node's config"):
        turns.take(Context(7, 2, config, RecordDict(), {}), 1, begins=True)

    turns.take(Context(7, 2, {**config, "sessions": str(tmp_path)}, RecordDict(), {}), 1, begins=True)
    turns.take(Context(7, 2, {"sessions": str(tmp_path)}, RecordDict(), {}), 1, begins=True)
    turns.take(Context(7, 2, {}, RecordDict(), {}), 1, begins=True)  # a simulation

    assert sorted(path.name for path in tmp_path.iterdir()) == ["node-2.7.turn", "site.7.turn"]


def test_messages_at_once_pay_one_after_the_other(tmp_path):
    privacy = Privacy(1.0, 1.0, honest=2, budget=10.0)
    config = {"identity": str(tmp_path / "site.pem")}

    def pay(place):
        try:
            budget.charge(Context(7, 2, config, RecordDict(), {}), privacy, 0.1)
        except BudgetError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        paid = sum(pool.map(pay, range(40)))

    spent = json.loads((tmp_path / "site.7.spent").read_text())["rho"]
    assert spent == pytest.approx(0.1 * paid)
    assert 0 < paid < 40


def test_a_client_of_parties_answers_a_round_once(tmp_path):
    form = InsecureEmbeddedParties(ClippedMean(50.0), minimum=2)
    strategy, grid = federation(
        tmp_path,
        form=form,
        place=(1, None),
        second=lambda message: asked(message, Stage.MASKED, **message.content["tacit"]),
    )

    strategy.start(grid, initial(), num_rounds=2)

    assert [reply.has_error() for reply in grid.answers] == [False, True]
    assert strategy.report[-1].survivors == SITES
