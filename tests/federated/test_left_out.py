"""A server that chooses who takes part makes no more of its colluders: the threshold counts the whole roster."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.federated.errors import FederatedError, ThresholdError
from tacit.federated.identity import enroll
from tacit.federated.masks import keys, shamir
from tacit.federated.masks.member import Member
from tacit.federated.masks.packets import Confirmed, premise, unpack_shares
from tacit.federated.masks.settings import Settings

from .rounds import SESSION, VIEW, run

CLIENTS = 13
SECRET = np.arange(8, dtype=np.uint64) + 1000
PEOPLE = {n: enroll(f"c{i:02}" for i in range(n)) for n in (CLIENTS, 11)}


class Attack:
    """A server that lets so many take part, its colluders among them, and wants the vector of the last one."""

    def __init__(self, taking_part, colluders, settings, clients=CLIENTS):
        self.roster, self.identities = PEOPLE[clients]
        self.everyone, self.bad, self.victim = set(range(taking_part)), set(range(colluders)), taking_part - 1
        self.alive = self.everyone - {self.victim}
        self.members = {i: Member(i, self.roster, settings, SESSION) for i in self.everyone}
        self.keys = {i: m.advertise(self.identity(i)) for i, m in self.members.items()}
        self.boxes = {i: m.share(self.everyone, self.keys.values()) for i, m in self.members.items()}
        self.needed = settings.needed(taking_part, clients)
        held = {i: unpack_shares(self.members[i]._open(self.victim, self.boxes[self.victim][i])) for i in self.bad}
        self.of_key = {i + 1: key for i, (key, _) in held.items()}
        self.of_seed = {i + 1: seed for i, (_, seed) in held.items()}

    def identity(self, i):
        return self.identities[self.roster.names[i]]

    def masked(self):
        """The honest clients' vectors; the victim's is what the server is after."""
        incoming = {i: {v: self.boxes[v][i] for v in self.everyone - {i}} for i in self.everyone - self.bad}
        vectors = {i: self.members[i].mask(SECRET.copy(), boxes, VIEW) for i, boxes in incoming.items()}
        return vectors[self.victim]

    def tell(self, clients, survivors):
        """Tell some honest clients who survived; colluders sign for whatever is told. None: all, and nobody signs."""
        if survivors is None:
            return [share for i in clients for share in self.reveal(i, self.members[i].unmask_all)]
        agreed = Confirmed(frozenset(self.everyone), frozenset(survivors), VIEW)
        signatures = {i: self.identity(i).sign(agreed.signed(SESSION, self.keys[i])) for i in self.bad & survivors}
        for i in clients:
            try:
                signatures[i] = self.members[i].confirm(survivors, self.identity(i))
            except ThresholdError:
                return []  # so few survivors no honest client confirms
        return [
            share
            for i in clients
            for share in self.reveal(
                i, lambda i=i: self.members[i].unmask({v: s for v, s in signatures.items() if v != i})
            )
        ]

    def reveal(self, i, stage):
        try:
            return [(i + 1, share) for share in stage() if share.index == self.victim]
        except FederatedError:
            return []

    def run(self, other_story):
        """Return what the server reads of the victim's vector: the best it can do is to ask t for the key."""
        y, others = self.masked(), sorted(self.alive - self.bad)
        of_key = others[: max(self.needed - len(self.bad), 0)]
        of_seed = [i for i in (*others, self.victim) if i not in of_key]
        for point, share in [*self.tell(of_key, self.alive), *self.tell(of_seed, other_story(self))]:
            (self.of_seed if share.survived else self.of_key)[point] = share.share
        if min(len(self.of_key), len(self.of_seed)) < self.needed:
            return None
        key, seed = shamir.combine(self.of_key, self.needed), shamir.combine(self.of_seed, self.needed)
        keys.add_mask(y, keys.self_key(seed, SESSION), -1)
        bound, u = premise(self.everyone, VIEW), self.victim
        for v in self.alive:
            pair = keys.pairwise_key(key, self.keys[v].mask_key, (u, v), SESSION, bound)
            keys.add_mask(y, pair, -1 if u < v else 1)
        return y


STORIES = {
    "all survived": lambda attack: None,
    "all survived, signed": lambda attack: attack.everyone,
    "another vanished": lambda attack: attack.everyone - {len(attack.bad)},
}


@pytest.mark.parametrize(("clients", "minimum"), [(CLIENTS, None), (11, 5)])
@pytest.mark.parametrize("story", STORIES)
def test_no_client_is_unmasked_however_few_the_server_lets_take_part(story, clients, minimum):
    """Less than a third collude, and fewer than minimum - 1.

    A threshold of two thirds of those that take part would be too low for 10 of the 13, and for 5 of the 11.
    """
    settings, colluders = Settings(minimum=minimum), {CLIENTS: 4, 11: 3}[clients]

    for taking_part in range(settings.fewest(clients), clients + 1):
        assert Attack(taking_part, colluders, settings, clients).run(STORIES[story]) is None


@pytest.mark.parametrize("story", STORIES)
def test_the_attack_is_one_with_more_colluders_than_are_stated(story):
    settings = Settings(minimum=7)
    colluders = 2 * settings.needed(11, CLIENTS) - 11

    got = Attack(11, colluders, settings).run(STORIES[story])

    assert colluders > CLIENTS / 3
    assert got.tolist() == SECRET.tolist()


@pytest.mark.parametrize("taking_part", [5, 6, 9])
def test_as_many_may_vanish_as_is_stated_and_one_more_is_refused_with_the_reason(taking_part):
    """Of m that take part, of a roster of 12: fewer than (m - 4) / 2."""
    settings, inputs = Settings(minimum=2), {i: np.arange(4) + 100 * i for i in range(12)}
    lost = -(-(taking_part - 4) // 2) - 1
    absent, there = set(range(taking_part, 12)), range(taking_part)

    for stage in (1, 2, 3, 4):
        round_ = run(inputs, settings, {0: absent, stage: set(range(lost))})

        assert (round_.total == sum(inputs[i] for i in there if stage > 2 or i >= lost)).all()
    with pytest.raises(ThresholdError, match=rf"{taking_part} that take part, threshold=0.667 lets {lost} vanish"):
        run(inputs, settings, {0: absent, 2: set(range(lost + 1))})


def test_few_of_many_may_be_sampled_and_lose_some_where_few_are_feared():
    inputs = {i: np.arange(4) + i for i in range(100)}
    settings = Settings(minimum=4, threshold=0.5 + 2 / 200)  # two colluders

    round_ = run(inputs, settings, {0: set(range(10, 100)), 2: {1, 4, 9}})

    assert (round_.total == sum(inputs[i] for i in (0, 2, 3, 5, 6, 7, 8))).all()
