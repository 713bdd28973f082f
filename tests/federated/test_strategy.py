"""Flower's strategies over secure aggregation give what they give without it, within the error of the encoding."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedProx

from tacit.federated import LocalGrid, PairwiseMasks, SecureAggregation, Settings
from tacit.federated.errors import FederatedError

from .apps import CLIENTS, client_app, initial, secure

STRATEGIES = {
    "FedAvg": lambda: FedAvg(),
    "FedProx": lambda: FedProx(proximal_mu=0.1),
    "FedAvgM": lambda: FedAvgM(server_learning_rate=0.9, server_momentum=0.5),
    "FedAdam": lambda: FedAdam(eta=0.01),
}


def arrays_of(result):
    return {name: array.numpy() for name, array in result.arrays.items()}


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_are_as_without(name):
    plain = STRATEGIES[name]().start(LocalGrid(client_app(), CLIENTS), initial(), num_rounds=3)
    strategy, grid = secure(STRATEGIES[name]())

    masked = strategy.start(grid, initial(), num_rounds=3)

    for key, expected in arrays_of(plain).items():
        assert np.abs(arrays_of(masked)[key] - expected).max() < 1e-6, key
    for round_ in (1, 2, 3):
        for side in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
            expected = dict(getattr(plain, side)[round_])
            assert dict(getattr(masked, side)[round_]) == pytest.approx(expected, abs=1e-6)
    assert [line.survivors for line in strategy.report] == [CLIENTS] * 6
    assert not any(line.failures or line.saturated or line.error for line in strategy.report)


def test_half_the_ring_costs_half_the_bytes_and_is_as_exact_as_it_says():
    plain = FedAvg().start(LocalGrid(client_app(), CLIENTS), initial(), num_rounds=1)
    forms = [PairwiseMasks(Settings(bits=bits, limit=8.0, max_examples=500)) for bits in (32, 64)]

    results = [secure(FedAvg(), form) for form in forms]

    for (strategy, grid), form in zip(results, forms, strict=True):
        result = strategy.start(grid, initial(), num_rounds=1)
        weight = sum(min((100 + 37 * i) / 500, 1) for i in range(CLIENTS))
        bound = 2 * CLIENTS * form.settings.encoding(CLIENTS).error * (1 + 8) / weight
        assert np.abs(arrays_of(result)["b"] - arrays_of(plain)["b"]).max() < bound
        assert bound < 1e-5


def test_saturation_is_reported_and_stays_within_the_limit():
    def wild(partition, round_, arrays):
        return {**arrays, "b": arrays["b"] + 100.0} if partition == 3 else arrays

    strategy, grid = secure(FedAvg(fraction_evaluate=0), PairwiseMasks(Settings(limit=16.0)), change=wild)

    result = strategy.start(grid, initial(), num_rounds=1)

    assert strategy.report[0].saturated == 3
    assert "3 coordinates saturated" in str(strategy.report[0])
    assert np.abs(arrays_of(result)["b"]).max() < 5


def test_a_client_answers_nothing_in_clear():
    _, grid = secure(FedAvg())

    with pytest.raises(FederatedError, match="no round could be aggregated"):
        SecureAggregation(FedAvg(), secure(FedAvg())[0].roster).start(grid, initial(), num_rounds=1)
    clear = FedAvg(fraction_evaluate=0).start(grid, initial(), num_rounds=1)

    assert not clear.arrays


def test_strategies_that_send_by_themselves_are_refused():
    class Pusher(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            grid.push_messages([])

    strategy, grid = secure(Pusher())

    with pytest.raises(FederatedError, match="pushes messages by itself"):
        strategy.start(grid, initial(), num_rounds=1)
