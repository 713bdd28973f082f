"""Computing parties as processes of their own, over TLS: Flower's server routes boxes and gets the aggregate."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal

import grpc
import numpy as np
import pytest
from click.testing import CliRunner
from flwr.serverapp.strategy import FedAvg

from tacit.cli.main import cli
from tacit.errors import ConfigError
from tacit.federated import (
    Aggregators,
    ClippedMean,
    ComputingParties,
    LocalGrid,
    Median,
    Privacy,
    Roster,
    SecureAggregation,
    SecureAggregationMod,
    Terms,
    enroll,
)
from tacit.federated.errors import FederatedError, ForgeryError, RosterError, RoundError, ThresholdError
from tacit.federated.parties.aggregator import Aggregator, Rounds
from tacit.federated.parties.calls import METHOD, call_roles, pem
from tacit.federated.parties.directory import make_box_key
from tacit.federated.parties.on_this_machine import establish, parties_on_this_machine
from tacit.federated.parties.shares import seal_shares
from tacit.federated.parties.submission import Submission, session_name
from tacit.federated.parties.work import Work
from tacit.federated.update import Layout
from tacit.net.certificates import fingerprint
from tacit.session.config import Config

from .apps import CLIENTS, client_app, initial
from .test_parties import deltas, mean

TERMS = Terms(Median(), minimum=6)
SETTINGS = "from tacit.federated import ComputingParties, Median, Terms\nFORM = ComputingParties({})\n"
LAYOUT = Layout((), (("w", (3,)),))
VIEW = b"a model and settings"


@pytest.fixture(scope="module")
def parties(tmp_path_factory):
    """Two parties and the crypto-producer, running; the roster, and the clients' identities."""
    folder = tmp_path_factory.mktemp("parties")
    roster, identities = enroll(f"site-{i}" for i in range(CLIENTS))
    roster.save(folder / "roster.json")
    (folder / "settings.py").write_text(SETTINGS.format("Terms(Median(), minimum=6)"))
    establish(folder)
    config = json.loads((folder / "config.json").read_text())
    config["tacit"]["connect_timeout"] = 15  # how long the others wait for a party that has died
    (folder / "config.json").write_text(json.dumps(config))
    with parties_on_this_machine(folder, folder / "settings.py", folder / "roster.json") as processes:
        yield folder, roster, identities, processes


def federate(folder, roster, identities, network=lambda message: message, rounds=1):
    form = ComputingParties(TERMS)
    nodes = [{"partition-id": i, "aggregators": str(folder / "aggregators.json")} for i in range(CLIENTS)]
    mod = SecureAggregationMod(form, lambda c: (identities[f"site-{c.node_config['partition-id']}"], roster))
    grid = LocalGrid(client_app([mod]), nodes, network=network)
    strategy = SecureAggregation(FedAvg(), roster, form.at(folder / "aggregators.json", folder / "certs"))
    return strategy, strategy.start(grid, initial(), num_rounds=rounds), grid


def test_rounds_of_processes_give_what_the_rule_gives(parties):
    folder, roster, identities, _ = parties

    strategy, result, _ = federate(folder, roster, identities)

    got = result.arrays["b"].numpy() - initial()["b"].numpy()
    assert got == pytest.approx(mean(Median(), *deltas())[12:15].numpy(), abs=2e-3)
    assert [line.survivors for line in strategy.report] == [CLIENTS, CLIENTS]
    assert "norm" in result.evaluate_metrics_clientapp[1]
    log = (folder / "aggregator-1.log").read_text()
    assert "aggregator-1: round 1 of 10 clients" in log
    assert not any(identity.public_key.hex() in log for identity in identities.values())


def test_what_the_server_routes_says_nothing_and_drop_outs_are_left_out(parties):
    folder, roster, identities, _ = parties
    seen = []

    def network(message):
        if message.metadata.reply_to_message_id:
            seen.extend(message.content["tacit"]["boxes"])
            return None if message.metadata.src_node_id == 4 else message
        return message

    strategy, result, _ = federate(folder, roster, identities, network)

    assert [line.survivors for line in strategy.report] == [CLIENTS - 1] * 2
    got = result.arrays["b"].numpy() - initial()["b"].numpy()
    assert got == pytest.approx(mean(Median(), *deltas({2}))[12:15].numpy(), abs=2e-3)
    bytes_ = np.frombuffer(b"".join(seen), dtype=np.uint8)
    expected = bytes_.size / 256
    assert ((np.bincount(bytes_, minlength=256) - expected) ** 2 / expected).sum() < 450


def a_round(identities, roster, aggregators, number, clients=7, run=77, session=None):
    session = session or session_name(run, number)
    submissions, boxes = [], {}
    for i in range(clients):
        vector = np.array([0, 2**16, i << 16, 0, 5], dtype=np.uint64)
        boxes[i] = seal_shares(vector, list(aggregators.keys.values()), i, session)
        identity = identities[roster.names[i]]
        submissions.append(Submission.of(identity, i, LAYOUT, session, boxes[i], VIEW, TERMS.agreed(roster)))
    return Work(run, number, LAYOUT, tuple(submissions)), boxes


def test_parties_refuse_what_a_lying_server_would_ask(parties):
    folder, roster, identities, _ = parties
    aggregators, certs = Aggregators.load(folder / "aggregators.json"), folder / "certs"
    work, boxes = a_round(identities, roster, aggregators, 5)
    fewer = Work(77, 6, LAYOUT, work.submissions[:5])
    twice = Work(77, 6, LAYOUT, (work.submissions[0], *work.submissions[:6]))
    another = Work(77, 6, LAYOUT, work.submissions)

    mean_, _, _ = TERMS.read(list(call_roles(aggregators, certs, work, boxes, 60).shares.values()), LAYOUT, 7)

    assert mean_.tolist() == [3, 0, pytest.approx(5 * 2**-16)]
    for ask, reason in [(work, "round 5 is over"), (fewer, "5 clients are in the round, 6 are needed"),
                        (twice, "twice"), (another, "forged, or of another round")]:  # fmt: skip
        with pytest.raises(FederatedError, match=reason):
            call_roles(aggregators, certs, ask, boxes, 60)


def test_boxes_that_the_server_damages_exclude_their_clients(parties):
    folder, roster, identities, _ = parties
    aggregators = Aggregators.load(folder / "aggregators.json")
    work, boxes = a_round(identities, roster, aggregators, 9)
    boxes[3][0] = boxes[3][0][:-1] + bytes([boxes[3][0][-1] ^ 1])

    outcome = call_roles(aggregators, folder / "certs", work, boxes, 60)

    assert outcome.excluded == (3,)
    values = TERMS.read(list(outcome.shares.values()), LAYOUT, 6)[0]
    assert values[0] == pytest.approx((2 + 4) / 2, abs=1e-4)


def test_strangers_cannot_call_a_party_and_no_party_is_called_that_is_a_stranger(parties, tmp_path):
    folder, roster, identities, _ = parties
    aggregators, certs = Aggregators.load(folder / "aggregators.json"), folder / "certs"
    establish(tmp_path)
    strange = tmp_path / "certs"
    work, boxes = a_round(identities, roster, aggregators, 12)
    for name in ("federation.key", "federation.crt"):
        (strange / name).replace(strange / f"own-{name}")
        shutil.copy(certs / name, strange / name)

    with pytest.raises(FederatedError, match=r"CERTIFICATE_VERIFY_FAILED|unavailable|connect"):
        call_roles(aggregators, strange, work, boxes, 20)

    own = pem(strange, "own-federation.key"), pem(strange, "own-federation.crt")
    credentials = grpc.ssl_channel_credentials(pem(certs, "aggregator-1.crt"), *own)
    options = [("grpc.ssl_target_name_override", "aggregator-1")]
    for chosen in (credentials, grpc.ssl_channel_credentials(pem(certs, "aggregator-1.crt"))):
        with grpc.secure_channel(aggregators.addresses["aggregator-1"], chosen, options) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                list(channel.stream_stream(METHOD)(iter([b"{}"]), timeout=20))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_party_that_dies_fails_the_round_by_name_and_the_last_good_model_stays(parties):
    folder, roster, identities, processes = parties

    def network(message):
        if message.metadata.message_type == "evaluate":
            processes["aggregator-2"].send_signal(signal.SIGKILL)
            processes["aggregator-2"].wait()
        return message

    strategy, result, _ = federate(folder, roster, identities, network)

    trained, evaluated = strategy.report
    assert trained.error is None
    assert "the parties computed nothing: " in evaluated.error
    assert "aggregator-2" in evaluated.error
    assert result.arrays["b"].numpy() is not None


def test_rounds_are_remembered_over_a_restart(tmp_path):
    rounds = Rounds(tmp_path / "state" / "rounds.json")
    rounds.enter(7, 3)
    rounds.enter(8, 1)

    again = Rounds(tmp_path / "state" / "rounds.json")

    again.enter(7, 4)
    for run, number in [(7, 4), (7, 1), (8, 1)]:
        with pytest.raises(RoundError, match="is over"):
            again.enter(run, number)
    (tmp_path / "state" / "rounds.json").write_text("{")
    with pytest.raises(ConfigError, match="does not hold the rounds"):
        Rounds(tmp_path / "state" / "rounds.json")


def test_files_that_cannot_be_used_are_refused(tmp_path):
    aggregators = establish(tmp_path)

    loaded = Aggregators.load(tmp_path / "aggregators.json")

    assert loaded == aggregators
    assert os.stat(tmp_path / "certs" / "aggregator-1.box").st_mode & 0o077 == 0
    with pytest.raises(RosterError, match="cannot be written"):
        make_box_key(tmp_path / "certs", "aggregator-1")
    table = json.loads((tmp_path / "aggregators.json").read_text())
    for change in [{"keys": {}}, {"addresses": {}}, {"keys": dict.fromkeys(table["keys"], "00" * 32)}, {"keys": 5}]:
        (tmp_path / "bad.json").write_text(json.dumps({**table, **change}))
        with pytest.raises(RosterError):
            Aggregators.load(tmp_path / "bad.json")
    config = Config.load(tmp_path / "config.json")
    roster = Roster.of(enroll(["a", "b", "c"])[1].values())
    (tmp_path / "certs" / "aggregator-2.box").write_text("no key")
    with pytest.raises(RosterError, match="no key can be read"):
        Aggregator(TERMS, config, "aggregator-2", aggregators, roster, Rounds(tmp_path / "rounds.json"))
    with pytest.raises(RosterError, match=r"write form.at\(aggregators, certs\)"):
        ComputingParties(TERMS)._compute(Work(1, 1, LAYOUT, ()), {}, roster, None)


def test_a_work_that_does_not_add_up_is_refused():
    roster, identities = enroll(["a", "b", "c"])
    terms = Terms(ClippedMean(1.0), minimum=2, privacy=Privacy(1.0, 1.0, 1))
    layout = Layout(("loss",), LAYOUT.arrays)
    boxes = [b"one", b"two"]
    plain = Terms(Median())

    def signing(agreed, view=lambda i: VIEW):
        session = session_name(1, 1)
        return tuple(
            Submission.of(identities[n], i, layout, session, boxes, view(i), agreed) for i, n in enumerate("abc")
        )

    signed = signing(plain.agreed(roster))

    with pytest.raises(FederatedError, match="metrics have no noise"):
        Work(1, 1, layout, signing(terms.agreed(roster))).check(terms, roster, 2)
    with pytest.raises(ForgeryError, match="client 0 signed for other terms"):
        Work(1, 1, layout, signed).check(terms, roster, 2)
    with pytest.raises(ForgeryError, match="clients 0 and 2 computed from different models"):
        Work(1, 1, layout, signing(plain.agreed(roster), lambda i: bytes([i // 2]))).check(plain, roster, 2)
    with pytest.raises(ForgeryError, match="another layout"):
        Work(1, 1, LAYOUT, signed).check(terms, roster, 2)
    with pytest.raises(ForgeryError, match="a share for each party"):
        Work(1, 1, layout, signed).check(Terms(Median()), roster, 3)
    with pytest.raises(ThresholdError):
        Work(1, 1, layout, signed[:2]).check(Terms(Median()), roster, 2)
    Work(1, 1, layout, signed).check(Terms(Median()), roster, 2)
    assert Work.parse(json.loads(json.dumps(Work(1, 1, layout, signed).literal()))) == Work(1, 1, layout, signed)
    assert math.isinf(Median().longest())
    beyond = Work(1, 1, layout, signed).literal()
    beyond["submissions"][0]["client"] = 1 << 40
    unlike = {"run": 1, "number": 1}
    for bad in [None, {}, {**unlike, "submissions": []}, {**unlike, "submissions": [{}]}, beyond]:
        with pytest.raises(ForgeryError):
            Work.parse(bad)


def test_the_command_makes_keys_once_and_refuses_what_it_cannot_use(tmp_path):
    establish(tmp_path)
    (tmp_path / "certs" / "aggregator-1.box").unlink()
    config = ["aggregate", "--config", str(tmp_path / "config.json"), "--as", "aggregator-1"]
    files = ["--aggregators", str(tmp_path / "aggregators.json"), "--roster", str(tmp_path / "roster.json")]
    enroll(["a", "b"])[0].save(tmp_path / "roster.json")
    (tmp_path / "settings.py").write_text("FORM = 'masks'\n")
    run = CliRunner().invoke

    made = run(cli, [*config, "--new-key"])
    again, bare = run(cli, [*config, "--new-key"]), run(cli, config)
    other = run(cli, [*config, str(tmp_path / "settings.py"), *files])

    assert len(bytes.fromhex(made.output.strip())) == 32
    assert "cannot be written" in str(again.exception)
    assert "SETTINGS, --aggregators and --roster are needed" in bare.output
    assert "does not define FORM" in str(other.exception)
    literal = json.loads((tmp_path / "config.json").read_text())
    literal["tacit"]["program"] = "sha256:" + "0" * 64
    (tmp_path / "config.json").write_text(json.dumps(literal))
    unread = run(cli, [*config, str(tmp_path / "settings.py"), *files])
    assert "the program is not the one that aggregator-1 approved" in str(unread.exception)


def test_an_aggregator_fits_its_config(tmp_path):
    aggregators = establish(tmp_path)
    roster, rounds = enroll(["a", "b", "c"])[0], Rounds(tmp_path / "rounds.json")
    literal = json.loads((tmp_path / "config.json").read_text())

    def aggregator(change, role="aggregator-1"):
        config = Config.parse(json.dumps(change(dict(literal))), folder=tmp_path)
        return Aggregator(TERMS, config, role, aggregators, roster, rounds)

    assert "_private" not in repr(aggregator(lambda c: c))
    assert not aggregator(lambda c: c, "crypto-producer").is_party
    mark = fingerprint(tmp_path / "certs" / "federation.crt")
    revoked = aggregator(lambda c: c | {"tacit": {**c["tacit"], "revoked": [mark]}})
    with pytest.raises(ConfigError, match=r"federation\.crt is among the certificates that 'tacit\.revoked' names"):
        revoked.start()
    with pytest.raises(ConfigError, match="16 fractional bits"):
        aggregator(lambda c: c | {"tacit": {**c["tacit"], "frac_bits": 20}})
    with pytest.raises(ConfigError, match="needs certificates"):
        aggregator(lambda c: c | {"tacit": {"tls": "insecure-plaintext"}})
    with pytest.raises(ConfigError, match="they must be the same, in this order"):
        aggregator(lambda c: {"aggregator-2": c["aggregator-2"], **{k: v for k, v in c.items() if k != "aggregator-2"}})
