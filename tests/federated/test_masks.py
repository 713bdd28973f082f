"""Secure aggregation: sums under all drop-outs, and refusals of what a client or the server must not do."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tacit.federated.errors import ForgeryError, RosterError, RoundError, ThresholdError, UpdateError
from tacit.federated.identity import Identity, Roster, enroll
from tacit.federated.masks.collector import Collector
from tacit.federated.masks.encoding import Encoding
from tacit.federated.masks.graph import neighbours, plan
from tacit.federated.masks.member import Member, Stage
from tacit.federated.masks.packets import Advertisement
from tacit.federated.masks.settings import Settings

from .rounds import SESSION, VIEW, run


def inputs(clients, count=50):
    rng = np.random.default_rng(7)
    return {i: rng.integers(-(2**20), 2**20, count) for i in range(clients)}


PATTERNS = [
    {},
    {0: {0}},
    {1: {9}},
    {2: {4}},
    {3: {5}},
    {4: {5}},
    {2: {0, 5, 9}},
    {0: {1}, 1: {2}, 2: {3}},
    {1: {1}, 2: {3}, 3: {8}},
    {2: {3}, 3: {8}, 4: {1}},
]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("vanish", PATTERNS)
def test_the_sum_is_that_of_the_survivors(vanish, bits):
    x = inputs(10)
    gone = set().union(*(clients for stage, clients in vanish.items() if stage < 3))

    round_ = run(x, Settings(bits=bits), vanish)

    assert (round_.total == sum(x[i] for i in x if i not in gone)).all()


@pytest.mark.parametrize("stage", [0, 1, 2, 3, 4])
def test_fewer_survivors_than_the_threshold_unmask_nothing(stage):
    with pytest.raises(ThresholdError, match=r"6 of 10 clients .*, 7 are needed"):
        run(inputs(10), Settings(minimum=7), {stage: {0, 1, 2, 3}})


def test_a_graph_of_few_neighbours_aggregates_many_clients():
    degree, threshold = plan(60, corrupt=0.02, dropped=0.1, security=20, correctness=10)
    x = inputs(60, 20)
    gone = {3, 14, 15, 42, 57}

    round_ = run(x, Settings(degree=degree, threshold=threshold), {2: gone})

    assert degree < 40
    assert all(len(peers.peers) == degree for peers in round_.members.values())
    assert (round_.total == sum(x[i] for i in x if i not in gone)).all()


def test_the_graph_is_symmetric_regular_and_new_in_each_session():
    graphs = [neighbours(range(101), 10, session) for session in (b"1", b"2")]

    for graph in graphs:
        assert all(len(around) == 10 and u not in around for u, around in graph.items())
        assert all(u in graph[v] for u, around in graph.items() for v in around)
    assert graphs[0] != graphs[1]


def test_the_planned_degree_grows_slowly_and_says_when_there_is_none():
    degrees = [plan(n, dropped=0.1)[0] for n in (1000, 10_000)]

    assert degrees[0] < degrees[1] < 2 * degrees[0]
    with pytest.raises(ValueError, match="tolerates"):
        plan(20, corrupt=0.3, dropped=0.5)


# what a client refuses


def a_member(stage, clients=5, settings=None):
    """A client after a stage, with the server it talks to."""
    settings = settings or Settings()
    roster, identities = enroll(f"c{i}" for i in range(clients))
    members = [Member(i, roster, settings, SESSION) for i in range(clients)]
    collector = Collector(roster, settings, SESSION, VIEW)
    for member in members:
        collector.accept_advertisement(member.advertise(identities[roster.names[member.index]]).pack())
    collector.close_advertisements()
    if stage >= Stage.SHARED:
        for i, member in enumerate(members):
            collector.accept_shares(i, member.share(collector.participants, collector.advertisements_for(i)))
    if stage >= Stage.MASKED:
        encoding = settings.encoding(clients)
        for i, member in enumerate(members):
            vector = member.mask(encoding.ring(np.arange(4)), collector.boxes_for(i), VIEW)
            collector.accept_vector(i, vector, 4, encoding)
    if stage >= Stage.CONFIRMED:
        for i, member in enumerate(members):
            collector.accept_confirmation(i, member.confirm(collector.survivors, identities[roster.names[i]]))
    return members, collector, identities


def test_a_forged_key_is_refused_by_server_and_clients():
    (victim, *_), collector, _ = a_member(Stage.ADVERTISED)
    honest = collector.advertisements_for(0)
    stranger = Member(1, victim.roster, victim.settings, SESSION)
    forger = Identity.generate("c1")
    bare = Advertisement(1, honest[0].box_key, bytes(range(32)), bytes(32), b"")
    forged = Advertisement(1, bare.box_key, bare.mask_key, bare.commitment, forger.sign(bare.signed(SESSION)))

    with pytest.raises(RosterError):
        stranger.advertise(forger)
    with pytest.raises(ForgeryError, match="in the name of c1 is forged"):
        Collector(victim.roster, victim.settings, SESSION).accept_advertisement(forged.pack())
    with pytest.raises(ForgeryError, match="in the name of c1 is forged"):
        victim.share(collector.participants, [forged, *honest[1:]])


def test_keys_of_another_session_are_refused():
    _, old, _ = a_member(Stage.ADVERTISED)
    now = Collector(old.roster, old.settings, b"the next session")

    with pytest.raises(ForgeryError, match="forged, or of another round"):
        now.accept_advertisement(old.advertised[2].pack())


@pytest.mark.parametrize("change", ["one missing", "one twice", "a stranger", "too few"])
def test_a_client_refuses_participants_that_do_not_add_up(change):
    (victim, *_), collector, _ = a_member(Stage.ADVERTISED)
    keys, participants = collector.advertisements_for(0), collector.participants
    keys, participants, error = {
        "one missing": (keys[1:], participants, ForgeryError),
        "one twice": ([keys[0], keys[0], *keys[2:]], participants, ForgeryError),
        "a stranger": (keys, [*participants, 77], ForgeryError),
        "too few": (keys[:1], participants[:2], ThresholdError),
    }[change]

    with pytest.raises(error):
        victim.share(participants, keys)


def test_a_share_that_was_tampered_with_is_refused():
    members, collector, _ = a_member(Stage.SHARED)
    encoding, boxes = members[0].settings.encoding(5), collector.boxes_for(0)
    swapped = {**boxes, 1: boxes[2]}

    with pytest.raises(ForgeryError, match="client 1 to client 0"):
        members[0].mask(encoding.ring(np.arange(4)), swapped, VIEW)


def test_each_stage_comes_once():
    members, collector, identities = a_member(Stage.CONFIRMED)
    member, encoding = members[0], members[0].settings.encoding(5)
    member.unmask(collector.confirmations_for(0))

    with pytest.raises(RoundError, match="each stage comes once"):
        member.unmask(collector.confirmations_for(0))
    with pytest.raises(RoundError, match="each stage comes once"):
        member.confirm(collector.survivors, identities["c0"])
    with pytest.raises(RoundError, match="each stage comes once"):
        member.mask(encoding.ring(np.arange(4)), collector.boxes_for(0), VIEW)
    with pytest.raises(RoundError, match="each stage comes once"):
        member.share(collector.participants, collector.advertisements_for(0))


def test_no_client_reveals_both_secrets_of_anybody():
    members, _, identities = a_member(Stage.MASKED)
    alive = [0, 1, 2, 3]
    signatures = {i: members[i].confirm(alive, identities[f"c{i}"]) for i in alive}

    for member in members[:4]:
        revealed = member.unmask({v: s for v, s in signatures.items() if v != member.index})

        assert sorted(share.index for share in revealed) == list(range(5))
        assert all(share.survived == (share.index != 4) for share in revealed)
        assert not any([member.held, member.own_share, member.seed, member.mask_key])


def test_a_server_that_tells_two_stories_learns_both_secrets_of_nobody():
    """With 2 t > m + c, t clients must say `survived` and t `vanished`: there are not so many, even with colluders."""
    for clients, part in product(range(2, 60), [0, 0.1, 0.25, 1 / 3, 0.5, 0.9]):
        colluders = math.floor(part * clients + 1e-9)
        for degree in (None, clients + clients % 2, 1000):
            settings = Settings(threshold=0.5 + colluders / (2 * clients), degree=degree)
            for taking_part in range(colluders + 1, clients + 1):
                needed = settings.needed(taking_part, clients)

                assert 2 * needed > taking_part + min(colluders, taking_part - 1)
                assert taking_part - needed == math.ceil((taking_part - colluders) / 2) - 1  # may vanish
    assert all(2 * Settings().needed(m, n) > m + min(n // 3, m - 1) for n in range(2, 60) for m in range(2, n + 1))


def test_in_a_graph_no_neighbourhood_counts_as_smaller_than_it_should_be():
    settings = Settings(degree=20, threshold=0.6)  # of 21, four may collude

    assert [settings.needed(h, 100) for h in (21, 15, 10, 4)] == [13, 10, 8, 4]
    assert [settings.needed(h, 15) for h in (15, 10)] == [10, 7]


def test_a_client_refuses_to_confirm_too_few_or_strangers():
    members, _, identities = a_member(Stage.MASKED)

    with pytest.raises(ThresholdError, match="3 of this client's neighbourhood survive, 4 are needed"):
        members[0].confirm([0, 1, 2], identities["c0"])
    with pytest.raises(ForgeryError, match="never shared"):
        members[1].confirm([0, 1, 2, 3, 4, 5], identities["c1"])
    with pytest.raises(RoundError, match="too late"):
        members[2].confirm([0, 1, 3, 4], identities["c2"])


def test_a_client_s_minimum_holds_however_the_server_counts():
    """4 of 5 is above the threshold of 2/3, but not what this client asks for."""
    members, _, identities = a_member(Stage.MASKED, settings=Settings(minimum=5))

    with pytest.raises(ThresholdError, match="4 clients survive; this one asks for 5"):
        members[0].confirm([0, 1, 2, 3], identities["c0"])


def test_a_client_unmasks_only_what_enough_neighbours_have_confirmed():
    members, _, identities = a_member(Stage.MASKED)
    stories = {0: range(5), 1: range(5), 2: range(5), 3: range(4), 4: range(5)}
    signatures = {i: members[i].confirm(alive, identities[f"c{i}"]) for i, alive in stories.items()}

    with pytest.raises(ThresholdError, match="2 neighbours confirm the survivors, 3 are needed"):
        members[0].unmask({i: signatures[i] for i in (1, 2)})
    with pytest.raises(ForgeryError, match="c3 does not confirm what this client was told"):
        members[1].unmask({i: signatures[i] for i in (0, 2, 3)})
    with pytest.raises(ForgeryError, match="no neighbour, or did not survive"):
        members[3].unmask(signatures)
    assert len(members[2].unmask({i: signatures[i] for i in (0, 1, 4)})) == 5


# what the server refuses


def test_the_server_refuses_twice():
    members, collector, _ = a_member(Stage.CONFIRMED)
    encoding = collector.settings.encoding(5)
    revealed = [share.pack() for share in members[0].unmask(collector.confirmations_for(0))]
    collector.accept_revealed(0, revealed)

    with pytest.raises(RoundError, match="twice"):
        collector.accept_advertisement(collector.advertised[1].pack())
    with pytest.raises(RoundError, match="twice"):
        collector.accept_shares(1, collector.boxes[1])
    with pytest.raises(RoundError, match="twice"):
        collector.accept_vector(1, encoding.ring(np.arange(4)), 4, encoding)
    with pytest.raises(RoundError, match="twice"):
        collector.accept_confirmation(1, collector.confirmed[1])
    with pytest.raises(RoundError, match="twice"):
        collector.accept_revealed(0, revealed)


def test_a_wrong_shape_is_refused_and_not_added():
    _, collector, _ = a_member(Stage.SHARED)
    encoding = collector.settings.encoding(5)

    with pytest.raises(UpdateError, match=r"c0 sent uint64 \[3\] where uint64 \[4\] is due"):
        collector.accept_vector(0, encoding.ring(np.arange(3)), 4, encoding)
    assert not collector.survivors


def revealing(liars, clients=10):
    """A server after the last stage, at which some clients revealed shares that are off."""
    members, collector, _ = a_member(Stage.CONFIRMED, clients)
    for i, member in enumerate(members):
        packets = [share.pack() for share in member.unmask(collector.confirmations_for(i))]
        if i in liars:
            packets = [packet[:-1] + bytes([packet[-1] ^ 1]) for packet in packets]
        collector.accept_revealed(i, packets)
    return collector, collector.settings.encoding(clients)


@pytest.mark.parametrize("liar", [0, 3, 9])
def test_wrong_shares_are_corrected_and_who_revealed_them_is_named(liar):
    collector, encoding = revealing({liar})

    total = collector.sum(encoding)

    assert encoding.signed(total).tolist() == [0, 10, 20, 30]
    assert {v for v, _ in collector.wrong} <= {liar}
    assert bool(collector.wrong) == (liar < 7)  # shares beyond those needed are not looked at


def test_more_wrong_shares_than_can_be_corrected_are_noticed_never_summed():
    collector, encoding = revealing({0, 1, 2})

    with pytest.raises(ForgeryError, match="self-mask of c0 cannot be found: more than 1 of 10 shares are wrong"):
        collector.sum(encoding)


def test_who_shares_another_secret_than_it_committed_itself_to_is_named():
    members, collector, _ = a_member(Stage.CONFIRMED)
    for i, member in enumerate(members):
        collector.accept_revealed(i, [share.pack() for share in member.unmask(collector.confirmations_for(i))])
    collector.advertised[2] = replace(collector.advertised[2], commitment=bytes(32))

    with pytest.raises(ForgeryError, match="c2 shared another self-mask than it committed itself to"):
        collector.sum(collector.settings.encoding(5))


# encoding, identities


@pytest.mark.parametrize(("bits", "limit", "clients"), [(64, 64.0, 10), (64, 1024.0, 100_000), (32, 8.0, 100)])
def test_the_largest_sum_fits_and_the_error_is_as_stated(bits, limit, clients):
    encoding = Encoding(bits, limit, clients)
    x = np.array([limit, -limit, limit / 3])

    total = encoding.decode(encoding.ring(encoding.integers(x) * clients))

    assert np.abs(total - clients * x).max() <= clients * encoding.error
    assert encoding.frac_bits > 10


def test_saturation_is_counted_and_what_is_not_finite_refused():
    encoding = Encoding(64, 2.0, 10)

    clamped, beyond = encoding.clamp(np.array([3.0, -1.0, -2.5]), "w")

    assert clamped.tolist() == [2.0, -1.0, -2.0]
    assert beyond == 2
    for value, word in ((np.nan, "NaN"), (np.inf, "infinite")):
        with pytest.raises(UpdateError, match=f"w holds a number that is {word}"):
            encoding.clamp(np.array([1.0, value]), "w")
    with pytest.raises(ValueError, match="do not fit 32 bits"):
        Encoding(32, 2.0**20, 10_000)


def test_identities_and_rosters_are_files(tmp_path):
    identity, other = Identity.generate("amsterdam"), Identity.generate("berlin")
    path = identity.save(tmp_path)
    Roster.of([identity, other]).save(tmp_path / "roster.json")

    loaded, roster = Identity.load(path), Roster.load(tmp_path / "roster.json")

    assert path.stat().st_mode & 0o777 == 0o600
    assert roster.index(loaded) == 0
    roster.verify(0, b"message", identity.sign(b"message"))
    with pytest.raises(ForgeryError):
        roster.verify(1, b"message", identity.sign(b"message"))
    with pytest.raises(RosterError, match="does not hold the key of amsterdam"):
        roster.index(Identity.generate("amsterdam"))
    (tmp_path / "roster.json").write_text("{}")
    with pytest.raises(RosterError, match="two clients or more"):
        Roster.load(tmp_path / "roster.json")
    with pytest.raises(RosterError, match="can be read by other users"):
        Identity.load(tmp_path / "roster.json")
    (tmp_path / "roster.json").chmod(0o600)
    with pytest.raises(RosterError, match="no identity can be read"):
        Identity.load(tmp_path / "roster.json")


def test_nothing_secret_is_printed():
    members, _, identities = a_member(Stage.MASKED)

    shown = repr(members[0]) + repr(identities)

    assert members[0].seed.hex() not in shown
    assert str(members[0].seed) not in shown
    assert str(members[0].mask_key) not in shown
