"""A run that stopped goes on as if it had not: model, momenta, numbers of rounds and the privacy that was spent."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedYogi

from tacit.errors import DataError
from tacit.federated import LocalGrid, PairwiseMasks, Privacy, Settings
from tacit.federated.parameters import load_arrays, save_arrays

from .apps import client_app, initial, secure

CLIENTS = 4
STRATEGIES = {
    "FedAvg": lambda: FedAvg(),
    "FedAvgM": lambda: FedAvgM(server_learning_rate=0.9, server_momentum=0.5),
    "FedAdam": lambda: FedAdam(eta=0.01),
    "FedYogi": lambda: FedYogi(eta=0.01),
}


def federation(strategy, path, form=None):
    wrapped, grid = secure(strategy, form, clients=CLIENTS)
    wrapped.checkpoint = path
    return wrapped, grid


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_in_two_pieces_is_one_run(tmp_path, name):
    plain = STRATEGIES[name]().start(LocalGrid(client_app(), CLIENTS), initial(), num_rounds=4)
    seen = []

    def evaluate(number, arrays):
        seen.append(number)
        return MetricRecord({"sum": float(arrays["b"].numpy().sum())})

    for rounds in (2, 4):  # a new process: strategy, grid and clients know nothing of the first
        wrapped, grid = federation(STRATEGIES[name](), tmp_path / "run")
        result = wrapped.start(grid, initial(), num_rounds=rounds, evaluate_fn=evaluate)

    for key, expected in plain.arrays.items():
        assert np.abs(result.arrays[key].numpy() - expected.numpy()).max() < 1e-6, key
    assert seen == [0, 1, 2, 2, 3, 4]
    assert sorted(result.evaluate_metrics_clientapp) == [3, 4]
    for number in (3, 4):
        expected = dict(plain.evaluate_metrics_clientapp[number])
        assert dict(result.evaluate_metrics_clientapp[number]) == pytest.approx(expected, abs=1e-6)


def test_a_run_that_is_done_gives_its_model_and_asks_nobody(tmp_path):
    wrapped, grid = federation(FedAvg(), tmp_path / "run")
    first = wrapped.start(grid, initial(), num_rounds=1)
    wrapped, grid = federation(FedAvg(), tmp_path / "run")

    again = wrapped.start(grid, initial(), num_rounds=1)

    assert not grid.to_clients
    assert (again.arrays["w"].numpy() == first.arrays["w"].numpy()).all()


def test_the_privacy_that_was_spent_is_not_forgotten(tmp_path):
    form = PairwiseMasks(Settings(minimum=3, privacy=Privacy(clip=1.0, noise_multiplier=3.0, honest=3)))
    whole, grid = secure(FedAvg(fraction_evaluate=0), form, clients=CLIENTS)
    whole.start(grid, initial(), num_rounds=3)
    for rounds in (2, 3):
        wrapped, grid = federation(FedAvg(fraction_evaluate=0), tmp_path / "run", form)
        wrapped.start(grid, initial(), num_rounds=rounds)

    assert wrapped.report[-1].epsilon == pytest.approx(whole.report[-1].epsilon)


def test_what_is_no_checkpoint_or_of_another_model_is_refused(tmp_path):
    path = tmp_path / "run"
    wrapped, grid = federation(FedAvg(), path)
    wrapped.start(grid, initial(), num_rounds=1)
    with pytest.raises(DataError, match="holds another model"):
        wrapped.start(grid, ArrayRecord({"w": Array(np.zeros(2))}), num_rounds=2)
    good = path.read_bytes()
    for data in (b"", good[:40], good[: len(good) // 2], b"\xff" * 100):
        path.write_bytes(data)
        with pytest.raises(DataError, match="no checkpoint can be read"):
            wrapped.start(grid, initial(), num_rounds=2)
    save_arrays(initial(), path)
    with pytest.raises(DataError, match="no checkpoint of a federation"):
        wrapped.start(grid, initial(), num_rounds=2)


def test_scalars_and_transposed_arrays_come_back_as_they_were(tmp_path):
    arrays = {"n": np.array(7), "none": np.zeros((0, 3)), "w": np.arange(6).reshape(2, 3).T}

    path = save_arrays(ArrayRecord({name: Array(value) for name, value in arrays.items()}), tmp_path / "model")

    for name, array in load_arrays(path).items():
        assert array.numpy().shape == arrays[name].shape
        assert (array.numpy() == arrays[name]).all()
