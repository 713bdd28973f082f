"""A session takes two messages a client where it can, with keys of its own all the same, and more where it must."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg

from tacit.federated import LocalGrid, PairwiseMasks, Privacy, SecureAggregation, Settings
from tacit.federated.errors import ForgeryError, RoundError
from tacit.federated.masks import keys
from tacit.federated.masks.member import Stage
from tacit.federated.masks.packets import Advertisement

from .apps import CLIENTS, client_app, initial, secure
from .test_faults import Vanishing
from .test_masks import a_member

MASK, UNMASK = Stage.MASKED, Stage.UNMASKED


class Watching:
    """A network that keeps what goes to clients and what they send."""

    def __init__(self, beneath=lambda message: message):
        self.sent, self.got, self._beneath = [], [], beneath

    def __call__(self, message):
        (self.got if message.metadata.reply_to_message_id else self.sent).append(message)
        return self._beneath(message)

    def stages(self):
        """What one client was asked for, in order: session and stage."""
        node = self.sent[0].metadata.dst_node_id
        asked = [m.content["tacit"] for m in self.sent if m.metadata.dst_node_id == node]
        return [(record["number"], record["stage"]) for record in asked]


def plain(rounds, **kwargs):
    return FedAvg(**kwargs).start(LocalGrid(client_app(), CLIENTS), initial(), num_rounds=rounds).arrays["b"].numpy()


def test_a_round_of_training_and_evaluation_takes_four_messages_a_client_and_plain_flower_two():
    network = Watching()
    strategy, grid = secure(FedAvg(), network=network)

    result = strategy.start(grid, initial(), num_rounds=2)

    first = [(1, Stage.ADVERTISED), (1, Stage.SHARED)]
    assert network.stages() == [*first, *((session, stage) for session in (1, 2, 3, 4) for stage in (MASK, UNMASK))]
    assert result.arrays["b"].numpy() == pytest.approx(plain(2), abs=1e-8)
    assert [line.number for line in strategy.report] == [1, 2, 3, 4]


def test_no_key_seed_or_mask_is_used_in_two_sessions(monkeypatch):
    network, seen = Watching(), Counter()
    add = keys.add_mask
    monkeypatch.setattr(keys, "add_mask", lambda y, key, *rest: seen.update([key]) or add(y, key, *rest))
    strategy, grid = secure(FedAvg(), network=network)

    strategy.start(grid, initial(), num_rounds=2)

    packets = [m.content["tacit"][k] for m in network.got for k in ("keys", "ahead_keys") if k in m.content["tacit"]]
    advertised = [Advertisement.unpack(packet) for packet in packets]
    assert len({x for a in advertised for x in (a.box_key, a.mask_key, a.commitment)}) == 3 * len(advertised)
    assert len(advertised) == 5 * CLIENTS
    # each pair's key at both ends, each self-mask at its client and at the server: in one session only
    assert set(seen.values()) == {2}
    assert len(seen) == 4 * (CLIENTS + CLIENTS * (CLIENTS - 1) // 2)


@pytest.mark.parametrize("stage", [MASK, UNMASK])
def test_after_somebody_vanished_the_next_session_begins_anew_and_has_all_again(stage):
    network = Watching(Vanishing({4}, stage, sessions=(1,)))
    strategy, grid = secure(FedAvg(fraction_evaluate=0), network=network)

    strategy.start(grid, initial(), num_rounds=3)

    assert [line.survivors for line in strategy.report] == [CLIENTS - (stage == MASK), CLIENTS, CLIENTS]
    confirm = [(1, Stage.CONFIRMED)] * (stage == MASK)
    anew = [(3, Stage.ADVERTISED), (3, Stage.SHARED), (3, MASK), (3, UNMASK)]
    last = [(4, MASK), (4, UNMASK)]
    strays = [m for m in network.sent if m.content["tacit"]["number"] == 2]
    assert not strays  # what was prepared is dropped with its number
    others = Watching()
    others.sent = [m for m in network.sent if m.metadata.dst_node_id == 3]
    assert others.stages() == [(1, 1), (1, 2), (1, MASK), *confirm, (1, UNMASK), *anew, *last]


def test_rounds_of_other_clients_each_time_are_those_of_plain_flower():
    def halves():
        return FedAvg(fraction_train=0.5, fraction_evaluate=0, min_train_nodes=3)

    state = random.getstate()  # by which Flower samples
    expected = halves().start(LocalGrid(client_app(), CLIENTS), initial(), num_rounds=4)
    random.setstate(state)
    strategy, grid = secure(halves())

    result = strategy.start(grid, initial(), num_rounds=4)

    assert [(line.asked, line.survivors, line.error) for line in strategy.report] == [(5, 5, None)] * 4
    assert len(grid.from_clients) > 5  # others each time
    assert result.arrays["b"].numpy() == pytest.approx(expected.arrays["b"].numpy(), abs=1e-8)


def test_a_number_is_taken_once_whether_its_session_is_led_or_not():
    network = Watching()
    strategy, grid = secure(FedAvg(fraction_evaluate=0), network=network)
    strategy.start(grid, initial(), num_rounds=1)
    (first,) = (m for m in network.sent if m.metadata.dst_node_id == 2 and m.content["tacit"]["stage"] == 1)

    first.content["tacit"]["number"] = 2  # for which keys were made ahead
    (reply,) = grid.send_and_receive([first])

    assert "session 2 is over" in reply.error.reason


def test_what_was_prepared_is_not_used_under_another_minimum():
    network = Watching()
    strategy, grid = secure(FedAvg(fraction_evaluate=0), network=network)
    strategy.start(grid, initial(), num_rounds=1)
    stricter = SecureAggregation(FedAvg(fraction_evaluate=0), strategy.roster, PairwiseMasks(Settings(minimum=10)))

    stricter.start(grid, initial(), num_rounds=1)

    assert network.stages()[4:6] == [(3, Stage.ADVERTISED), (3, Stage.SHARED)]


def test_keys_ahead_that_are_forged_spoil_nothing_but_themselves():
    def network(message):
        record = message.content["tacit"]
        if not message.metadata.reply_to_message_id and "ahead_keys" in record and record["number"] == 1:
            record["ahead_keys"] = [bytes(164)] * len(record["ahead_keys"])
        return message

    watching = Watching(network)
    strategy, grid = secure(FedAvg(fraction_evaluate=0), network=watching)

    result = strategy.start(grid, initial(), num_rounds=2)

    assert not any(line.failures or line.error for line in strategy.report)
    assert watching.stages()[4:6] == [(3, Stage.ADVERTISED), (3, Stage.SHARED)]
    assert result.arrays["b"].numpy() == pytest.approx(plain(2, fraction_evaluate=0), abs=1e-8)


def test_a_spent_budget_is_told_although_keys_are_made_ahead():
    privacy = Privacy(clip=1.0, noise_multiplier=2.0, honest=3, budget=3.0)
    form = PairwiseMasks(Settings(minimum=3, privacy=privacy))
    strategy, grid = secure(FedAvg(fraction_evaluate=0), form, clients=3)

    strategy.start(grid, initial(), num_rounds=3)

    assert [line.error is None for line in strategy.report] == [True, False, False]
    assert "privacy budget is spent" in str(strategy.report[1])


# what a client reveals without a confirmation


def test_who_reveals_for_all_has_confirmed_nothing_and_reveals_no_key():
    members, _, identities = a_member(Stage.MASKED)

    revealed = members[0].unmask_all()

    assert sorted(share.index for share in revealed) == list(range(5))
    assert all(share.survived for share in revealed)
    assert not any([members[0].held, members[0].own_share, members[0].seed, members[0].mask_key])
    for again in (members[0].unmask_all, lambda: members[0].unmask({})):
        with pytest.raises(RoundError, match="each stage comes once"):
            again()
    with pytest.raises(RoundError, match="each stage comes once"):
        members[0].confirm([0, 1, 2, 3], identities["c0"])


def test_who_confirmed_that_somebody_vanished_does_not_reveal_for_all():
    members, _, identities = a_member(Stage.MASKED)
    members[1].confirm([0, 1, 2, 3], identities["c1"])

    with pytest.raises(RoundError, match="each stage comes once"):
        members[1].unmask_all()


def test_a_client_that_did_not_get_all_secrets_does_not_believe_that_all_survived():
    members, collector, _ = a_member(Stage.SHARED)
    encoding = members[0].settings.encoding(5)
    boxes = collector.boxes_for(0)
    members[0].mask(encoding.ring(np.arange(4)), {v: boxes[v] for v in list(boxes)[:3]}, b"")

    with pytest.raises(ForgeryError, match="has not passed on the secrets of all"):
        members[0].unmask_all()


@pytest.mark.parametrize("colluders", [0, 3])
@pytest.mark.parametrize("told", [1, 4, 5, 7, 9])
def test_a_server_that_tells_some_that_all_survived_learns_both_secrets_of_nobody(told, colluders):
    """It wants client 9's vector: `told` clients reveal for all, and the others hear that 9 has vanished.

    Colluders sign for both stories, and tell their shares of both secrets.
    """
    members, _, identities = a_member(Stage.MASKED, CLIENTS)
    victim, needed = CLIENTS - 1, members[0].settings.needed(CLIENTS, CLIENTS)
    honest = range(colluders, CLIENTS)
    alive = [i for i in range(CLIENTS) if i != victim]
    of_seed, of_key, signatures = set(range(colluders)), set(range(colluders)), {}
    for i in honest[:told]:
        of_seed |= {i} if any(s.index == victim for s in members[i].unmask_all()) else set()
    for i in [*range(colluders), *honest[told:]]:
        if i != victim:
            signatures[i] = members[i].confirm(alive, identities[f"c{i}"])

    for i in honest[told:]:
        if i != victim and len(signatures) >= needed:
            shares = members[i].unmask({v: s for v, s in signatures.items() if v != i})
            of_key |= {i} if any(s.index == victim and not s.survived for s in shares) else set()

    assert min(len(of_seed), len(of_key)) < needed
