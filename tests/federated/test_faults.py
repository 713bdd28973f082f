"""Clients that vanish or misbehave at any stage: the round goes on without them, or fails and the last model stays."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedAvgM

from tacit.federated import PairwiseMasks, Settings
from tacit.federated.errors import FederatedError
from tacit.federated.masks.member import Stage
from tacit.federated.records import pack_indices

from .apps import CLIENTS, initial, secure, step

STAGES = {stage.value: stage for stage in Stage}


def train_only(**kwargs):
    return FedAvg(fraction_evaluate=0, **kwargs)


class Vanishing:
    """A network on which some clients' replies of some sessions get lost from a stage on."""

    def __init__(self, clients, stage, sessions=(1,)):
        self.clients, self.stage, self.sessions = clients, stage, sessions
        self.seen = Counter()

    def __call__(self, message):
        if message.metadata.reply_to_message_id == "":  # on the way to a client
            record = message.content["tacit"]
            self.now = record["number"], record["stage"]
            return message
        partition = message.metadata.src_node_id - 2
        number, stage = self.now
        return None if partition in self.clients and stage >= self.stage and number in self.sessions else message


def average_without(gone, round_=1):
    arrays = {name: array.numpy() for name, array in initial().items()}
    weights = {i: 100 + 37 * i for i in range(CLIENTS) if i not in gone}
    moved = {i: step(i, round_, arrays)["b"] for i in weights}
    return sum(w * moved[i] for i, w in weights.items()) / sum(weights.values())


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("gone", [{4}, {0, 5, 9}])
def test_a_round_survives_clients_that_vanish_at_any_stage(stage, gone):
    strategy, grid = secure(train_only(), network=Vanishing(gone, stage))

    result = strategy.start(grid, initial(), num_rounds=1)

    lost = gone if stage <= Stage.MASKED else set()
    assert strategy.report[0].survivors == CLIENTS - len(lost)
    assert len(strategy.report[0].failures) == len(gone)
    assert all("vanished before it had" in reason for reason in strategy.report[0].failures.values())
    assert result.arrays["b"].numpy() == pytest.approx(average_without(lost), abs=1e-9)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("inner", [train_only, lambda: FedAvgM(fraction_evaluate=0, server_momentum=0.5)])
def test_too_few_survivors_are_a_clear_error_and_the_last_good_model_stays(stage, inner):
    good, grid = secure(inner())
    expected = good.start(grid, initial(), num_rounds=1).arrays["b"].numpy()
    network = Vanishing({0, 1, 2, 3}, stage, sessions=(2,))
    strategy, grid = secure(inner(), PairwiseMasks(Settings(minimum=7)), network)

    result = strategy.start(grid, initial(), num_rounds=2)

    assert strategy.report[0].error is None
    assert "6 of 10 clients" in strategy.report[1].error
    assert "7 are needed" in strategy.report[1].error
    assert "the last good model is kept" in str(strategy.report[1])
    assert result.arrays["b"].numpy() == pytest.approx(expected, abs=1e-9)


def test_rounds_go_on_after_one_that_failed():
    strategy, grid = secure(train_only(), network=Vanishing(set(range(5)), 3, sessions=(1,)))

    strategy.start(grid, initial(), num_rounds=2)

    assert [line.error is None for line in strategy.report] == [False, True]


def test_a_run_in_which_every_round_fails_raises():
    strategy, grid = secure(train_only(), network=Vanishing(set(range(9)), 1, sessions=(1, 2)))

    with pytest.raises(FederatedError, match=r"no round could be aggregated.*1 of 10 clients"):
        strategy.start(grid, initial(), num_rounds=2)


SPOILT = {
    "wrong shape": (lambda a: {**a, "w": a["w"][:2]}, r"shape \[2, 3\] where \[4, 3\] came"),
    "wrong name": (lambda a: {"v": a["w"], "b": a["b"], "n": a["n"]}, "arrays are named"),
    "NaN": (lambda a: {**a, "b": a["b"] * np.nan}, "array 'b' of the reply holds NaN or infinity"),
    "infinity": (lambda a: {**a, "w": a["w"] + np.float32(np.inf)}, "array 'w' of the reply holds NaN or infinity"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_an_update_that_cannot_be_used_never_leaves_its_client(fault):
    spoil, reason = SPOILT[fault]
    strategy, grid = secure(
        train_only(), change=lambda partition, round_, arrays: spoil(arrays) if partition == 6 else arrays
    )

    result = strategy.start(grid, initial(), num_rounds=1)

    assert list(strategy.report[0].failures) == ["site-6"]
    assert re.search(reason, strategy.report[0].failures["site-6"])
    assert result.arrays["b"].numpy() == pytest.approx(average_without({6}), abs=1e-9)


def tamper(stage, partition, change):
    """A network that changes one client's reply at one stage."""
    now = []

    def network(message):
        if message.metadata.reply_to_message_id == "":
            now[:] = [message.content["tacit"]["stage"]]
            return message
        if now == [stage] and message.metadata.src_node_id == partition + 2:
            change(message.content)
        return message

    return network


def short_vector(content: RecordDict):
    masked = content["tacit-vector"]["masked"].numpy()
    content["tacit-vector"] = ArrayRecord({"masked": Array(masked[:-1])})


def flip(name):
    def change(content: RecordDict):
        data = content["tacit"][name]
        first = data[0] if isinstance(data, list) else data
        flipped = first[:-1] + bytes([first[-1] ^ 1])
        content["tacit"][name] = [flipped, *data[1:]] if isinstance(data, list) else flipped

    return change


def another_layout(content: RecordDict):
    content["tacit"]["layout"] = '[["accuracy"], [["w", [4, 3]], ["b", [3]], ["n", []]], ["n"]]'


def nothing(content: RecordDict):
    content["tacit"] = ConfigRecord()


def words(name):
    def change(content: RecordDict):
        content["tacit"][name] = ["words"] * len(content["tacit"][name])

    return change


def garbage(content: RecordDict):
    content["tacit-vector"]["masked"].data = b"PK\x03\x04 this is no array"


TAMPERED = {
    "boxes of another type": (2, words("boxes"), "is no list of bytes", 9),
    "shares of another type": (5, words("shares"), "is no list of bytes", 10),
    "a vector of garbage": (3, garbage, "the vector of a message of secure aggregation is damaged", 9),
    "a forged key": (1, flip("keys"), "forged, or of another round", 9),
    "no keys": (1, nothing, "has no field 'keys'", 9),
    "no boxes": (2, nothing, "has no field 'clients'", 9),
    "a vector of wrong length": (3, short_vector, "where uint64 [26] is due", 9),
    "another layout": (3, another_layout, "differ from those of most clients", 9),
    "a forged confirmation": (4, flip("signature"), "forged, or of another round", 9),
    "no confirmation": (4, nothing, "has no field 'signature'", 9),
    "no shares": (5, nothing, "has no field 'shares'", 10),
}


@pytest.mark.parametrize("fault", TAMPERED)
def test_a_message_that_cannot_be_used_counts_as_vanished(fault):
    stage, change, reason, survivors = TAMPERED[fault]
    spoil, vanish = tamper(stage, 2, change), Vanishing({7} if stage == Stage.CONFIRMED else set(), Stage.MASKED)
    strategy, grid = secure(train_only(), network=lambda message: vanish(message) and spoil(message))

    strategy.start(grid, initial(), num_rounds=1)

    (failure,) = (why for client, why in strategy.report[0].failures.items() if client != "site-7")
    assert reason in failure
    assert strategy.report[0].error is None
    assert strategy.report[0].survivors == survivors


def test_shares_damaged_on_the_way_are_noticed_by_who_gets_them():
    strategy, grid = secure(train_only(), network=tamper(2, 2, flip("boxes")))

    strategy.start(grid, initial(), num_rounds=1)

    assert strategy.report[0].failures == {"site-0": "the shares from client 2 to client 0 are forged or damaged"}


def wrong_shares(partitions):
    """A network on which some clients reveal shares that are off by one."""

    def network(message):
        if not message.metadata.reply_to_message_id:
            network.stage = message.content["tacit"]["stage"]
        elif network.stage == Stage.UNMASKED and message.metadata.src_node_id - 2 in partitions:
            shares = message.content["tacit"]["shares"]
            message.content["tacit"]["shares"] = [share[:-1] + bytes([share[-1] ^ 1]) for share in shares]
        return message

    return network


@pytest.mark.parametrize("gone", [set(), {7}])
def test_a_client_that_reveals_wrong_shares_is_named_and_the_round_goes_on(gone):
    spoil, vanish = wrong_shares({2}), Vanishing(gone, Stage.MASKED)
    strategy, grid = secure(train_only(), network=lambda message: vanish(message) and spoil(message))

    result = strategy.start(grid, initial(), num_rounds=1)

    line = strategy.report[0]
    assert line.error is None
    assert set(line.failures) == {"site-2", *(f"site-{i}" for i in gone)}
    assert re.search(r"its share of a secret of site-\d is wrong, and was left out", line.failures["site-2"])
    assert result.arrays["b"].numpy() == pytest.approx(average_without(gone), abs=1e-9)


def test_more_wrong_shares_than_can_be_corrected_fail_the_round_and_never_spoil_the_model():
    strategy, grid = secure(train_only(), network=wrong_shares({1, 2, 3}))

    with pytest.raises(
        FederatedError, match=r"self-mask of site-\d cannot be found: more than 1 of 10 shares are wrong"
    ):
        strategy.start(grid, initial(), num_rounds=1)


def test_a_server_that_tells_clients_different_survivors_gets_no_shares():
    """It wants the sum of fewer: half of the clients hear that one more has vanished."""

    def network(message):
        if (message := vanish(message)) is None:
            return None
        to_client, odd = not message.metadata.reply_to_message_id, message.metadata.dst_node_id % 2
        if to_client and odd and message.content["tacit"]["stage"] == Stage.CONFIRMED:
            message.content["tacit"]["survivors"] = pack_indices([i for i in range(CLIENTS) if i not in (4, 7)])
        return message

    vanish = Vanishing({7}, Stage.MASKED)  # else there is nothing to confirm
    strategy, grid = secure(train_only(), network=network)

    with pytest.raises(FederatedError, match=r"5 of 10 clients confirmed the survivors, 7 are needed"):
        strategy.start(grid, initial(), num_rounds=1)


@pytest.mark.parametrize(("stage", "again"), [(1, "session 1 is over"), (2, "each stage comes once")])
def test_a_message_that_comes_twice_is_refused_by_the_client(stage, again):
    strategy, grid = secure(train_only())
    kept = []

    def network(message):
        if message.metadata.reply_to_message_id == "" and message.content["tacit"]["stage"] == stage:
            kept.append(message)
        return message

    grid._network = network
    strategy.start(grid, initial(), num_rounds=1)
    (reply,) = grid.send_and_receive(kept[:1])

    assert reply.has_error()
    assert again in reply.error.reason


def test_a_message_of_an_old_round_is_refused_by_the_client():
    strategy, grid = secure(train_only())
    kept = []

    def network(message):
        if message.metadata.reply_to_message_id == "":
            kept.append(message)
        return message

    grid._network = network
    strategy.start(grid, initial(), num_rounds=2)
    stages = {m.content["tacit"]["stage"]: m for m in kept if m.content["tacit"]["number"] == 1}

    for stage, message in stages.items():
        (reply,) = grid.send_and_receive([message])
        assert ("session 1 is over" if stage == 1 else "of session 1 came to a client in session 2") in (
            reply.error.reason
        )


def test_two_nodes_cannot_both_be_the_same_client():
    strategy, grid = secure(train_only(), PairwiseMasks(Settings(minimum=3)))
    grid.contexts[5].node_config["partition-id"] = 0

    strategy.start(grid, initial(), num_rounds=1)

    (failure,) = strategy.report[0].failures.values()
    assert failure == "site-0 advertised keys twice"
    assert strategy.report[0].survivors == CLIENTS - 1
