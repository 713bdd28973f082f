"""Whatever order messages come in, and whatever a node forgets: an update is in the sum, or a warning names who lacks.

Flower saves a node's state after its reply has gone, once: a node can answer and forget that it did. It may restart,
or get a message late or twice.
"""

from __future__ import annotations

import copy
import logging

import pytest
from flwr.app import Error, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.serverapp.strategy import FedAvg

from tacit.federated import LocalGrid, PairwiseMasks, Settings
from tacit.federated.masks.member import Stage

from .apps import initial, secure, step

CLIENTS, VICTIM = 4, 3  # the last client, at node 5
NODE = VICTIM + 2
MASK, UNMASK = Stage.MASKED, Stage.UNMASKED

PLACES = [
    (1, Stage.ADVERTISED), (1, Stage.SHARED), (1, MASK), (1, UNMASK), (2, MASK), (2, UNMASK),
]  # fmt: skip


class Node(LocalGrid):
    """A grid one node of which misbehaves: `fault(grid, message, deliver)` stands in its place."""

    def __init__(self, app, fault, **kwargs):
        super().__init__(app, CLIENTS, **kwargs)
        self.fault, self.present = fault, list(self.contexts)

    def get_node_ids(self):
        return self.present

    def forget(self, state=None):
        self.contexts[NODE].state = state or RecordDict()

    def _deliver(self, message):
        if message.metadata.dst_node_id != NODE:
            return super()._deliver(message)
        return self.fault(self, message, super()._deliver)


def at(message):
    return message.content["tacit"]["number"], message.content["tacit"]["stage"]


def federation(fault, minimum=3, strategy=None, change=None, **settings):
    """Return a strategy and a grid on which one node has this fault."""
    form = PairwiseMasks(Settings(minimum=minimum, **settings))
    wrapped, grid = secure(strategy or FedAvg(fraction_evaluate=0), form, change=change, clients=CLIENTS)
    return wrapped, Node(grid._app, fault)


def expected(lines, rounds):
    """What plain averaging gives if the rounds of these lines had all clients, all but the victim, or failed."""
    arrays = {name: array.numpy() for name, array in initial().items()}
    for round_, line in zip(range(1, rounds + 1), lines, strict=True):
        if line.error is None:
            weights = {i: 100 + 37 * i for i in range(CLIENTS) if line.survivors == CLIENTS or i != VICTIM}
            moved = {i: step(i, round_, arrays) for i in weights}
            arrays = {
                name: sum(w * moved[i][name].astype(float) for i, w in weights.items()) / sum(weights.values())
                for name in arrays
            }
    return arrays["b"]


def check(strategy, result, rounds=3):
    """Who is in a sum is in the model; who is not is named; the last round has all again."""
    for line in strategy.report:
        assert set(line.failures) <= {f"site-{VICTIM}", f"node {NODE}"}
        assert line.survivors == CLIENTS or line.failures, str(line)
    assert strategy.report[-1].survivors == CLIENTS
    assert not strategy.report[-1].failures
    assert result.arrays["b"].numpy() == pytest.approx(expected(strategy.report, rounds), abs=1e-6)


@pytest.mark.parametrize("minimum", [3, 4])
@pytest.mark.parametrize("place", PLACES)
def test_a_node_that_answers_and_forgets_that_it_did(place, minimum):
    def fault(grid, message, deliver):
        before, reply = copy.deepcopy(grid.contexts[NODE].state), deliver(message)
        if at(message) == place:
            grid.forget(before)
        return reply

    strategy, grid = federation(fault, minimum)

    check(strategy, strategy.start(grid, initial(), num_rounds=4), 4)


@pytest.mark.parametrize("minimum", [3, 4])
@pytest.mark.parametrize("place", PLACES)
def test_a_node_that_restarts_before_a_message(place, minimum):
    seen = []

    def fault(grid, message, deliver):
        if at(message) == place and not seen:
            grid.forget()
        seen.extend([1] * (at(message) == place))
        return deliver(message)

    strategy, grid = federation(fault, minimum)

    result = strategy.start(grid, initial(), num_rounds=3)

    check(strategy, result)
    if place == (2, MASK) and minimum == CLIENTS:  # nobody's update of this round is lost
        assert [(line.survivors, line.error) for line in strategy.report] == [(CLIENTS, None)] * 3
        assert strategy.report[1].failures == {
            f"site-{VICTIM}": "a message of session 2 came to a client in none: its node was restarted, or "
            "lost its state; so all began anew"
        }


@pytest.mark.parametrize("place", PLACES)
def test_a_node_whose_reply_comes_too_late(place):
    def fault(grid, message, deliver):
        reply = deliver(message)
        return None if at(message) == place else reply

    strategy, grid = federation(fault)

    check(strategy, strategy.start(grid, initial(), num_rounds=3))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("later", [1, 2, 3])
def test_a_node_that_gets_a_message_too_late(place, later):
    held = []

    def fault(grid, message, deliver):
        if held and (held.append(0) or len(held) == later + 1):
            late = deliver(held[0])
            assert late.has_error() or later == 1  # then it comes in its order, if too late for the server
        if at(message) == place and not held:
            held.append(message)
            return None
        return deliver(message)

    strategy, grid = federation(fault)

    check(strategy, strategy.start(grid, initial(), num_rounds=4), 4)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("evaluate", [0.0, 1.0])
def test_a_node_that_gets_each_message_twice_trains_once(which, evaluate):
    trained = []

    def fault(grid, message, deliver):
        replies = [deliver(copy.deepcopy(message)), deliver(message)]
        assert [reply.has_error() for reply in replies] == [False, True]
        return replies[which if at(message)[0] == 1 and at(message)[1] == MASK else 0]

    def change(partition, round_, arrays):
        trained.extend([round_] * (partition == VICTIM))
        return arrays

    strategy, grid = federation(fault, change=change, strategy=FedAvg(fraction_evaluate=evaluate))

    result = strategy.start(grid, initial(), num_rounds=2)

    assert trained == [1, 2]
    lines = [line for line in strategy.report if line.kind == "train"]
    assert [line.survivors for line in lines] == [CLIENTS - which, CLIENTS]
    assert list(lines[0].failures) == [f"site-{VICTIM}"] * which
    assert not any(line.failures or line.error for line in strategy.report if line.number > 1)
    assert result.arrays["b"].numpy() == pytest.approx(expected(lines, 2), abs=1e-6)


def test_nodes_that_connect_later_take_part_from_then_on():
    def present(round_, *_):
        grid.present = list(grid.contexts)[: 3 if round_ < 2 else CLIENTS]

    strategy, grid = federation(lambda grid, message, deliver: deliver(message), strategy=FedAvg())
    present(0)

    strategy.start(grid, initial(), num_rounds=4, evaluate_fn=present)

    assert [(line.asked, line.survivors) for line in strategy.report] == [(3, 3)] * 4 + [(4, 4)] * 4
    assert not any(line.failures or line.error for line in strategy.report)
    assert "3 of 3 clients, of 4 in the roster" in str(strategy.report[0])
    assert "roster" not in str(strategy.report[-1])


def test_runs_of_one_series_number_their_sessions_each_from_one():
    """Flower hands a node's state on to the next run of a series."""
    strategy, grid = federation(lambda grid, message, deliver: deliver(message))
    strategy.start(grid, initial(), num_rounds=2)
    later = Node(grid._app, lambda grid, message, deliver: deliver(message))
    for node, context in later.contexts.items():
        context.state = grid.contexts[node].state

    result = strategy.start(later, initial(), num_rounds=2)

    assert [(line.number, line.survivors) for line in strategy.report] == [(1, CLIENTS), (2, CLIENTS)]
    assert result.arrays["b"].numpy() == pytest.approx(expected(strategy.report, 2), abs=1e-6)


def test_what_the_superlink_answers_for_a_node_is_told_of_that_node(caplog):
    """Its messages come from itself, and say which message they answer."""

    def fault(grid, message, deliver):
        if at(message) != (2, MASK):
            return deliver(message)
        fields = {
            "message_id": "",
            "src_node_id": 1,
            "dst_node_id": 1,
            "reply_to_message_id": message.metadata.message_id,
        }
        rest = {"run_id": 0, "group_id": "", "created_at": 0.0, "ttl": 1.0, "message_type": "train"}
        return make_message(metadata=Metadata(**fields, **rest), error=Error(3, "the node is not there"))

    strategy, grid = federation(fault)
    logging.getLogger("flwr").propagate = True
    with caplog.at_level(logging.WARNING, "flwr"):
        strategy.start(grid, initial(), num_rounds=3)

    assert strategy.report[1].failures == {f"site-{VICTIM}": "the node is not there"}
    told = [record.message for record in caplog.records if record.name.startswith("flwr")]
    assert "session 2 (train): 3 of 4 clients, site-3: the node is not there" in told
    assert "1 of 3 rounds of training lack clients, and 0 left the model as it was" in told[-1]


def test_rounds_that_failed_are_told_again_at_the_end(caplog):
    def fault(grid, message, deliver):
        return None if at(message)[0] in (1, 3) else deliver(message)

    strategy, grid = federation(fault, minimum=4)
    logging.getLogger("flwr").propagate = True
    with caplog.at_level(logging.WARNING, "flwr"):
        strategy.start(grid, initial(), num_rounds=3)

    last = caplog.records[-1].message
    assert [line.error is None for line in strategy.report] == [False, True, False]
    assert "2 of 3 rounds of training lack clients, and 2 left the model as it was" in last
    assert f"node {NODE}: vanished before it had advertised" in last
