"""Aggregation by computing parties: rules that resist outliers, behind the same strategy and the same mod."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import FedAvg

import tacit
from tacit import SecretTensor
from tacit.api import active_protocol, current_session
from tacit.federated import (
    ClippedMean,
    InsecureEmbeddedParties,
    LocalGrid,
    Median,
    NormFilter,
    Privacy,
    SecureAggregation,
    SecureAggregationMod,
    Terms,
    TrimmedMean,
    enroll,
    server,
)
from tacit.federated.boxes import fresh_key, public_key
from tacit.federated.errors import FederatedError, ForgeryError
from tacit.federated.parties.computation import compute, held
from tacit.federated.parties.shares import open_share, seal_shares
from tacit.federated.parties.submission import Submission, session_name
from tacit.federated.parties.work import Work
from tacit.federated.update import Layout, Update

from .apps import CLIENTS, client_app, initial, secure, step

RULES = {"clipped": ClippedMean(1.5), "median": Median(), "trimmed": TrimmedMean(2), "filtered": NormFilter(2.0)}


def rows(clients):
    x = torch.randn(clients, 30, generator=torch.Generator().manual_seed(clients))
    x[3] *= 40
    return x, torch.arange(1.0, clients + 1).unsqueeze(1) * 50


def mean(rule, x, examples):
    total, weight = rule(x, examples)
    return total / weight


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n", [9, 10])
def test_rules_on_secrets_are_as_in_clear(name, n):
    x, examples = rows(n)

    with tacit.session():
        total, weight = RULES[name](tacit.share(x, owner="alice"), tacit.share(examples, owner="bob"))
        secret = tacit.reveal(total) / (tacit.reveal(weight) if isinstance(weight, SecretTensor) else weight)

    assert torch.allclose(secret, mean(RULES[name], x, examples), atol=2e-3)


def test_rules_in_clear_are_what_numpy_says():
    x, examples = rows(9)
    norms = x.norm(dim=1, keepdim=True)

    kept = examples * (norms <= 2 * norms.median())
    clipped = x * (1.5 / norms).clamp(max=1)

    assert torch.allclose(mean(Median(), x, examples), x.quantile(0.5, dim=0), atol=1e-5)
    assert torch.allclose(mean(TrimmedMean(2), x, examples), x.sort(dim=0).values[2:-2].mean(dim=0), atol=1e-5)
    assert torch.allclose(mean(ClippedMean(1.5), x, examples), (examples * clipped).sum(0) / examples.sum(), atol=1e-5)
    assert torch.allclose(mean(NormFilter(2.0), x, examples), (kept * x).sum(0) / kept.sum(), atol=1e-5)
    assert kept[3] == 0


def test_a_row_of_any_numbers_is_clipped_all_the_same():
    """What a client that lies may send: any ring elements. They are held to the bound first, so no square wraps."""
    rule = ClippedMean(1.5)
    bound = rule.bound(4, 64.0)
    wild = [2.0**46 - 1, -(2.0**46 - 1), bound, 0.0]
    edge = [2**63 - 1, -(2**63), -(2**62), 5]
    near = [-(2**63) + 2**22 - 1, 2**63 - 2**22, -(2**63) + 2**23, 2**63 - 2**22 - 1]
    raw = torch.tensor([edge, near])

    with tacit.session():
        x = tacit.share(torch.tensor([wild, [0.1] * 4], dtype=torch.float64), owner="alice")
        raw_rows = SecretTensor(active_protocol().share(raw, "alice", raw.shape, 16), torch.float64)
        clamped = held(torch.cat([x, raw_rows]), -bound, bound)
        clipped = tacit.reveal(rule.clip(clamped))
        inside = tacit.reveal(clamped)

    assert inside[0].tolist() == pytest.approx([bound, -bound, bound, 0], abs=1e-4)
    assert inside.abs().max() <= bound
    assert (clipped.norm(dim=1) <= 1.5 + 1e-3).all()
    assert clipped[1].tolist() == pytest.approx([0.1] * 4, abs=1e-4)


def deltas(gone=()):
    arrays = {name: array.numpy() for name, array in initial().items()}
    moved = [step(i, 1, arrays) for i in range(CLIENTS) if i not in gone]
    flat = [np.concatenate([(m[k] - arrays[k]).ravel() for k in arrays]) for m in moved]
    examples = torch.tensor([[100.0 + 37 * i] for i in range(CLIENTS) if i not in gone], dtype=torch.float64)
    return torch.tensor(np.array(flat)), examples


@pytest.mark.parametrize("name", RULES)
def test_the_strategy_gets_what_the_rule_gives_and_metrics_by_examples(name):
    strategy, grid = secure(FedAvg(), InsecureEmbeddedParties(RULES[name], minimum=6))

    result = strategy.start(grid, initial(), num_rounds=1)

    got = np.concatenate([(result.arrays[k].numpy() - initial()[k].numpy()).ravel() for k in initial()])
    assert got[:-1] == pytest.approx(mean(RULES[name], *deltas())[:-1].numpy(), abs=2e-3)
    weights = deltas()[1].numpy()[:, 0]
    loss = np.average([1 / (1 + i) for i in range(CLIENTS)], weights=weights)
    assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(loss, abs=1e-4)
    assert [line.survivors for line in strategy.report] == [CLIENTS, CLIENTS]


def test_a_norm_that_nobody_reaches_is_flower_s_own_weighted_average():
    plain = FedAvg(fraction_evaluate=0).start(LocalGrid(client_app(), CLIENTS), initial(), num_rounds=2)
    strategy, grid = secure(FedAvg(fraction_evaluate=0), InsecureEmbeddedParties(ClippedMean(1000.0)))

    result = strategy.start(grid, initial(), num_rounds=2)

    assert result.arrays["b"].numpy() == pytest.approx(plain.arrays["b"].numpy(), abs=1e-4)
    assert result.arrays["w"].numpy() == pytest.approx(plain.arrays["w"].numpy(), abs=1e-4)


def test_a_client_cannot_weigh_more_than_max_examples_whatever_it_claims():
    terms = Terms(ClippedMean(8.0), minimum=3, max_examples=100)
    layout = Layout(("loss",), (("w", (3,)),))
    honest = [Update(layout, 50.0, np.array([0.5, 1.0, 0.0, -1.0])) for _ in range(3)]
    liar = terms.encode(honest[0])
    liar[1] = 2**40 << 16
    liar[2] = 2**63  # its loss

    with tacit.session(parties=("a", "b")):
        session, work = current_session(), work_of(layout, 4)
        vectors = [*(terms.encode(update) for update in honest), liar]
        shares = [np.frombuffer(os.urandom(8 * len(v)), dtype=np.uint64) for v in vectors]
        opened = {
            "a": dict(enumerate(shares)),
            "b": {i: v - s for i, (v, s) in enumerate(zip(vectors, shares, strict=True))},
        }
        outcome = compute(terms, work, opened, 3)
        ledger = [(entry.name, entry.receivers) for entry in session.ledger.entries]

    mean_, examples, saturated = terms.read(list(outcome.shares.values()), layout, 4)
    assert examples == 250
    assert mean_[1:] == pytest.approx([1.0, 0.0, -1.0], abs=1e-4)
    assert abs(mean_[0]) <= (150 * 0.5 + 100 * 64) / 250 + 1e-3
    assert saturated == 0
    assert ledger == [("aggregate of round 1", ("federation",))]


def work_of(layout, clients):
    return Work(1, 1, layout, tuple(Submission(i, layout, b"", b"", (), b"") for i in range(clients)))


def test_the_parties_noise_is_as_large_as_promised_and_nobody_adds_all_of_it():
    privacy = Privacy(clip=1.0, noise_multiplier=2.0, honest=1)
    terms = Terms(ClippedMean(1.0), minimum=3, privacy=privacy)
    layout = Layout((), (("w", (4000,)),))
    vector = terms.encode(Update(layout, 100.0, np.zeros(4000)))

    with tacit.session(parties=("a", "b")):
        opened = {"a": dict.fromkeys(range(3), vector), "b": dict.fromkeys(range(3), vector * 0)}
        outcome = compute(terms, work_of(layout, 3), opened, 3)

    total = terms.read(list(outcome.shares.values()), layout, 3)[0] * 3
    assert total.std() == pytest.approx(2.0 * math.sqrt(2), rel=0.07)  # two parties, each enough by itself
    assert abs(total.mean()) < 6 * 2.83 / math.sqrt(4000)
    rho = terms.rho(layout)
    assert rho == pytest.approx((1 + 4000**0.5 * 2**-15) ** 2 / (2 * 2.0**2), rel=1e-4)


def test_epsilon_is_reported_and_metrics_stay_at_the_clients():
    privacy = Privacy(clip=1.0, noise_multiplier=1.0, honest=1)
    form = InsecureEmbeddedParties(ClippedMean(1.0), minimum=6, privacy=privacy)
    strategy, grid = secure(FedAvg(), form)

    result = strategy.start(grid, initial(), num_rounds=2)

    epsilons = [line.epsilon for line in strategy.report]
    assert 0 < epsilons[0] < epsilons[1]
    assert not dict(result.train_metrics_clientapp[1])
    with pytest.raises(ValueError, match=r"is for ClippedMean\(1.0\), not Median"):
        InsecureEmbeddedParties(Median(), privacy=privacy)


def test_one_client_cannot_move_a_median_far():
    def wild(partition, round_, arrays):
        return {**arrays, "b": arrays["b"] + 1000.0} if partition == 3 else arrays

    strategy, grid = secure(FedAvg(fraction_evaluate=0), InsecureEmbeddedParties(Median()), change=wild)

    result = strategy.start(grid, initial(), num_rounds=1)

    assert np.abs(result.arrays["b"].numpy()).max() < 3
    assert strategy.report[0].saturated == 3


def test_clients_that_vanish_or_forge_are_left_out():
    def network(message):
        if not message.metadata.reply_to_message_id:
            return message
        if message.metadata.src_node_id == 4:
            return None
        if message.metadata.src_node_id == 5:
            message.content["tacit"]["signature"] = bytes(64)
        return message

    strategy, grid = secure(FedAvg(fraction_evaluate=0), InsecureEmbeddedParties(Median(), minimum=8), network=network)

    result = strategy.start(grid, initial(), num_rounds=1)

    assert strategy.report[0].survivors == 8
    assert "vanished" in strategy.report[0].failures["node 4"]
    assert "site-3 is forged" in strategy.report[0].failures["node 5"]
    got = result.arrays["b"].numpy() - initial()["b"].numpy()
    assert got == pytest.approx(mean(Median(), *deltas({2, 3}))[12:15].numpy(), abs=2e-3)


def test_too_few_clients_or_an_old_session_are_refused(monkeypatch):
    strategy, grid = secure(
        FedAvg(fraction_evaluate=0),
        InsecureEmbeddedParties(Median(), minimum=8),
        network=lambda m: m if not m.metadata.reply_to_message_id or m.metadata.src_node_id < 6 else None,
    )

    with pytest.raises(FederatedError, match="4 of 10 clients sent an update, 8 are needed"):
        strategy.start(grid, initial(), num_rounds=1)
    monkeypatch.setattr(server, "_COURSES", {})  # a server that has forgotten where it was
    with pytest.raises(FederatedError, match="0 of 10 clients"):
        strategy.start(grid, initial(), num_rounds=1)
    with pytest.raises(ValueError, match="needs 6 clients"):
        InsecureEmbeddedParties(TrimmedMean(2), minimum=5)


def test_a_share_that_does_not_open_excludes_its_client_and_only_that_one():
    number, identities = [0], {}

    def resign(record, identity, boxes, session):
        submission = Submission.of(
            identity, 2, Layout.unpack(record["layout"]), session, boxes, record["view"], record["agreed"]
        )
        record["boxes"], record["digests"] = boxes, list(submission.digests)
        record["signature"] = submission.signature

    def spoiling(message):
        if message.metadata.reply_to_message_id and message.metadata.src_node_id == 4:
            record = message.content["tacit"]
            boxes = [record["boxes"][0], record["boxes"][0]]
            resign(record, identities["site-2"], boxes, session_name(grid.run.run_id, number[0]))
        elif not message.metadata.reply_to_message_id:
            number[0] = message.content["tacit"]["number"]
        return message

    form = InsecureEmbeddedParties(Median(), minimum=8)
    roster, made = enroll(f"site-{i}" for i in range(CLIENTS))
    identities.update(made)
    mod = SecureAggregationMod(form, lambda c: (made[f"site-{c.node_config['partition-id']}"], roster))
    strategy = SecureAggregation(FedAvg(fraction_evaluate=0), roster, form)

    grid = LocalGrid(client_app([mod]), CLIENTS, network=spoiling)

    result = strategy.start(grid, initial(), num_rounds=1)

    assert strategy.report[0].survivors == CLIENTS - 1
    assert strategy.report[0].failures == {"site-2": "a share of it does not open at its party"}
    got = result.arrays["b"].numpy() - initial()["b"].numpy()
    assert got == pytest.approx(mean(Median(), *deltas({2}))[12:15].numpy(), abs=2e-3)


@pytest.mark.parametrize("party", [0, 1, 2])
def test_each_party_s_share_is_uniform_and_opens_with_its_key_only(party):
    private = [fresh_key() for _ in range(3)]
    public = [public_key(key) for key in private]
    vectors = [np.zeros(20_000, dtype=np.uint64), np.full(20_000, 2**63 - 1, dtype=np.uint64)]

    for vector in vectors:
        boxes, again = (seal_shares(vector, public, 5, b"s") for _ in range(2))
        shares = [open_share(private[p], p, 5, b"s", boxes[p], 20_000) for p in range(3)]

        counts = np.bincount(shares[party].view(np.uint8), minlength=256)
        expected = shares[party].nbytes / 256
        assert ((counts - expected) ** 2 / expected).sum() < 450  # of 255 degrees of freedom
        assert (sum(shares) == vector).all()
        assert boxes[party] != again[party]
        for wrong in [(private[party - 1], party, 5, b"s"), (private[party], party, 4, b"s"),
                      (private[party], party, 5, b"t"), (private[party], (party + 1) % 3, 5, b"s")]:  # fmt: skip
            with pytest.raises(ForgeryError):
                open_share(*wrong, boxes[party], 20_000)


def test_sizes_of_boxes_do_not_depend_on_the_update():
    public = [public_key(fresh_key()) for _ in range(2)]

    sizes = [
        [len(box) for box in seal_shares(np.full(100, value, dtype=np.uint64), public, 0, b"s")]
        for value in (0, 2**63, 12345)
    ]

    assert sizes[0] == sizes[1] == sizes[2] == [32 + 12 + 800 + 16, 32 + 12 + 16 + 16]
