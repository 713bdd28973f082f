"""Aggregation by computing parties: rules that resist outliers, behind the same strategy and the same mod."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import FedAvg

import tacit
from tacit.federated import ClippedMean, InsecureEmbeddedParties, Median, TrimmedMean
from tacit.federated.errors import FederatedError

from .apps import CLIENTS, initial, secure, step

RULES = {"clipped": ClippedMean(1.5), "median": Median(), "trimmed": TrimmedMean(2)}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n", [9, 10])
def test_rules_on_secrets_are_as_in_clear(name, n):
    x = torch.randn(n, 30, generator=torch.Generator().manual_seed(n))
    x[3] *= 40

    with tacit.session():
        secret = tacit.reveal(RULES[name](tacit.share(x, owner="alice")))

    assert torch.allclose(secret, RULES[name](x), atol=2e-3)
    if name == "median":
        assert torch.allclose(RULES[name](x), x.quantile(0.5, dim=0), atol=1e-5)
    if name == "trimmed":
        assert torch.allclose(RULES[name](x), x.sort(dim=0).values[2:-2].mean(dim=0), atol=1e-5)


def deltas(gone=()):
    arrays = {name: array.numpy() for name, array in initial().items()}
    moved = [step(i, 1, arrays) for i in range(CLIENTS) if i not in gone]
    flat = [np.concatenate([(m[k] - arrays[k]).ravel() for k in arrays]) for m in moved]
    return torch.tensor(np.array(flat))


@pytest.mark.parametrize("name", RULES)
def test_the_strategy_gets_what_the_rule_gives(name):
    strategy, grid = secure(FedAvg(), InsecureEmbeddedParties(RULES[name], minimum=6))

    result = strategy.start(grid, initial(), num_rounds=1)

    got = np.concatenate([(result.arrays[k].numpy() - initial()[k].numpy()).ravel() for k in initial()])
    assert got[:-1] == pytest.approx(RULES[name](deltas())[:-1].numpy(), abs=2e-3)
    assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(
        np.mean([1 / (1 + i) for i in range(10)]), abs=1e-4
    )
    assert [line.survivors for line in strategy.report] == [CLIENTS, CLIENTS]


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
    assert got == pytest.approx(Median()(deltas({2, 3}))[12:15].numpy(), abs=2e-3)


def test_too_few_clients_or_an_old_session_are_refused():
    strategy, grid = secure(
        FedAvg(fraction_evaluate=0),
        InsecureEmbeddedParties(Median(), minimum=8),
        network=lambda m: m if not m.metadata.reply_to_message_id or m.metadata.src_node_id < 6 else None,
    )

    with pytest.raises(FederatedError, match="4 of 10 clients sent an update, 8 are needed"):
        strategy.start(grid, initial(), num_rounds=1)
    with pytest.raises(FederatedError, match="0 of 10 clients"):
        strategy.start(grid, initial(), num_rounds=1)
    with pytest.raises(ValueError, match="needs 6 clients"):
        InsecureEmbeddedParties(TrimmedMean(2), minimum=5)


def test_boxes_say_nothing_without_the_parties_keys():
    form = InsecureEmbeddedParties(Median())
    zeros = np.zeros(20_000, dtype=np.uint64)

    boxes, again = (form._split(zeros, 0, b"s") for _ in range(2))

    first = form._own(0, 0, boxes[0], b"s", zeros.size)
    counts = np.bincount(first.view(np.uint8), minlength=256)
    expected = first.nbytes / 256
    assert ((counts - expected) ** 2 / expected).sum() < 450  # one party's share is uniform
    assert not (first + form._own(1, 0, boxes[1], b"s", zeros.size)).any()
    assert boxes[0] != again[0]
