"""Differential privacy: the noise in the sum is as large as promised, and the accountant agrees with the theory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg
from scipy.optimize import minimize_scalar

from tacit.federated import (
    ClippedMean,
    InsecureEmbeddedParties,
    LocalGrid,
    PairwiseMasks,
    Privacy,
    SecureAggregation,
    SecureAggregationMod,
    Settings,
    enroll,
)
from tacit.federated.errors import FederatedError
from tacit.federated.masks.encoding import Encoding
from tacit.federated.privacy.accountant import Accountant
from tacit.federated.update import Layout, Update

from .apps import CLIENTS, client_app, initial, secure
from .rounds import run


def update(values):
    return Update(Layout((), (("w", (len(values),)),)), 100.0, np.asarray(values, dtype=np.float64))


def test_the_noise_in_the_sum_has_the_promised_variance_and_mean():
    privacy = Privacy(clip=1.0, noise_multiplier=2.0, honest=4)
    form = PairwiseMasks(Settings(minimum=4, privacy=privacy))
    encoding = form.settings.encoding(4)
    x = {i: encoding.signed(form.encode(update(np.zeros(3000)), encoding)) for i in range(4)}

    total = run(x, form.settings).total[1:-2] * 2.0**-encoding.frac_bits

    assert total.std() == pytest.approx(2.0, rel=0.06)
    assert abs(total.mean()) < 6 * 2.0 / math.sqrt(3000)


def test_an_update_is_clipped_to_the_norm_and_all_clients_weigh_the_same():
    privacy = Privacy(clip=1.0, noise_multiplier=1e-6, honest=1)
    form, encoding = PairwiseMasks(Settings(privacy=privacy)), Encoding(64, 64.0, 4, 1.0)

    words = [form.encode(update(v), encoding) for v in ([30.0, 40.0], [0.3, 0.4])]
    long, short = (encoding.decode(vector) for vector in words)

    assert long[1:-2] == pytest.approx([0.6, 0.8], abs=1e-4)
    assert short[1:-2] == pytest.approx([0.3, 0.4], abs=1e-4)
    wide = form.settings.wide(4)
    assert all(wide.decode(vector[-2:]) == [1 << wide.frac_bits] for vector in words)


def test_epsilon_is_that_of_zero_concentrated_privacy():
    accountant, rho, delta = Accountant(1e-5), 0.02, 1e-5

    spent = [accountant.spend(rho) for _ in range(10)]

    def bound(order, rounds):  # [CKS20] Prop. 12: Renyi privacy of order a is (eps, delta) for this eps
        tail = math.log(1 / delta) + (order - 1) * math.log(1 - 1 / order) - math.log(order)
        return rounds * rho * order + tail / (order - 1)

    for rounds in (1, 10):
        best = minimize_scalar(lambda a, n=rounds: bound(a, n), bounds=(1.01, 2000), method="bounded").fun
        assert best <= spent[rounds - 1] < best * 1.05
    assert spent == sorted(spent)


def test_rounding_is_accounted_for():
    privacy = Privacy(clip=1.0, noise_multiplier=1.0, honest=4)

    coarse, fine = privacy.rho(1_000_000, 8), privacy.rho(1_000_000, 40)

    assert fine == pytest.approx(0.5)
    assert coarse > 4


def test_a_second_start_goes_on_counting_the_privacy_that_was_spent():
    strategy, grid = secure(FedAvg(fraction_evaluate=0), PairwiseMasks(Settings(privacy=Privacy(1.0, 2.0, honest=3))))
    strategy.start(grid, initial(), num_rounds=2)
    epsilons = [line.epsilon for line in strategy.report]

    strategy.start(grid, initial(), num_rounds=1)

    assert epsilons[0] < epsilons[1] < strategy.report[0].epsilon


def test_epsilon_is_reported_for_each_round_and_metrics_stay_at_the_clients():
    privacy = Privacy(clip=1.0, noise_multiplier=1.0, honest=7)
    strategy, grid = secure(FedAvg(), PairwiseMasks(Settings(minimum=7, privacy=privacy)))

    result = strategy.start(grid, initial(), num_rounds=3)

    epsilons = [line.epsilon for line in strategy.report]
    assert len(epsilons) == 3  # no round of evaluation by clients
    assert 0 < epsilons[0] < epsilons[1] < epsilons[2]
    assert f"epsilon = {epsilons[2]:.3g} at delta = 1e-05 so far" in str(strategy.report[2])
    assert dict(result.train_metrics_clientapp[1]) == {}
    assert not result.evaluate_metrics_clientapp
    moved = result.arrays["b"].numpy() - initial()["b"].numpy()
    assert np.abs(moved).max() < 3 * (1 + 6 * 1.0 * math.sqrt(10 / 7) / CLIENTS)


def test_what_would_void_the_guarantee_is_refused():
    with pytest.raises(ValueError, match=r"clip must not be above limit"):
        Settings(limit=1.0, privacy=Privacy(clip=2.0, noise_multiplier=1.0, honest=3))
    with pytest.raises(ValueError, match="too coarse for this noise"):
        Privacy(clip=1.0, noise_multiplier=1.0, honest=3).noise(2, frac_bits=2)
    with pytest.raises(ValueError, match="must be positive"):
        Privacy(clip=1.0, noise_multiplier=0.0, honest=3)
    with pytest.raises(ValueError, match="survivors"):
        Settings(minimum=3, privacy=Privacy(clip=1.0, noise_multiplier=1.0, honest=4))


FORMS = {
    "masks": lambda privacy: PairwiseMasks(Settings(minimum=6, privacy=privacy)),
    "parties": lambda privacy: InsecureEmbeddedParties(ClippedMean(1.0), minimum=6, privacy=privacy),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kept", ["in the node's state", "in a file"])
def test_clients_refuse_the_round_that_would_cost_more_than_their_budget(name, kept, tmp_path):
    bare = Privacy(clip=1.0, noise_multiplier=1.0, honest=1)
    epsilons = [Accountant(1e-5).spend(n * bare.rho(19, 40)) for n in (1, 2, 3)]
    form = FORMS[name](replace(bare, budget=(epsilons[1] + epsilons[2]) / 2))
    strategy, grid = secure(FedAvg(fraction_evaluate=0), form)
    if kept == "in a file":
        for node, context in grid.contexts.items():
            context.node_config["spent"] = str(tmp_path / f"spent-{node}.json")

    strategy.start(grid, initial(), num_rounds=4)

    assert [line.error is None for line in strategy.report] == [True, True, False, False]
    refusals = [reply.error.reason for reply in ask_again(strategy, grid)]
    assert all("privacy budget is spent: another round would bring it to epsilon" in reason for reason in refusals)
    if kept == "in a file":  # a new run does not start anew
        again, other = secure(FedAvg(fraction_evaluate=0), form)
        for node, context in other.contexts.items():
            context.node_config["spent"] = str(tmp_path / f"spent-{node}.json")
        with pytest.raises(FederatedError, match="no round could be aggregated"):
            again.start(other, initial(), num_rounds=1)
        (tmp_path / "spent-2.json").write_text("{")
        assert "cannot be read" in next(iter(ask_again(again, other))).error.reason


def ask_again(strategy, grid):
    """What clients answer to the first message of another round of training."""
    content = RecordDict({"arrays": initial(), "config": ConfigRecord({"server-round": 9}),
                          "tacit": ConfigRecord({"stage": 1, "number": 99})})  # fmt: skip
    return grid.send_and_receive([Message(content, dst_node_id=2, message_type="train")])


def test_one_client_may_have_a_smaller_budget_than_the_others():
    """The budget is the client's own: it stops, the others go on."""
    common = Privacy(clip=1.0, noise_multiplier=1.0, honest=1)
    small = PairwiseMasks(Settings(minimum=6, privacy=replace(common, budget=1e-3)))
    form = PairwiseMasks(Settings(minimum=6, privacy=common))
    roster, identities = enroll(f"site-{i}" for i in range(CLIENTS))

    def mod(message, context, call_next):
        partition = context.node_config["partition-id"]
        own = SecureAggregationMod(
            small if partition == 3 else form, lambda c: (identities[f"site-{partition}"], roster)
        )
        return own(message, context, call_next)

    strategy = SecureAggregation(FedAvg(fraction_evaluate=0), roster, form)
    strategy.start(LocalGrid(client_app([mod]), CLIENTS), initial(), num_rounds=1)

    assert strategy.report[0].survivors == CLIENTS - 1
    (reason,) = strategy.report[0].failures.values()
    assert "budget is spent" in reason


def test_a_budget_must_be_positive():
    with pytest.raises(ValueError, match="a budget must be positive"):
        Privacy(clip=1.0, noise_multiplier=1.0, honest=3, budget=0.0)
