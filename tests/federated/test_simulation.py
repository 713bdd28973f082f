"""Flower's simulation engine, whose actors are processes of Ray, runs an app with the two lines as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from tacit.federated import PairwiseMasks, SecureAggregation, SecureAggregationMod, Settings, enroll

SITES = 4
form = PairwiseMasks(Settings(minimum=3))
roster, people = enroll(f"site-{i}" for i in range(SITES))
mod = SecureAggregationMod(form, lambda context: (people[f"site-{context.node_config['partition-id']}"], roster))
client, server = ClientApp(mods=[mod]), ServerApp()


@client.train()
def train(message, context):
    place = int(context.node_config["partition-id"])
    arrays = ArrayRecord({"w": Array(message.content["arrays"]["w"].numpy() + place)})
    return Message(RecordDict({"a": arrays, "m": MetricRecord({"num-examples": 1 + place})}), reply_to=message)


@server.main()
def main(grid, context):
    strategy = SecureAggregation(FedAvg(fraction_evaluate=0.0, min_train_nodes=SITES), roster, form)
    result = strategy.start(grid, ArrayRecord({"w": Array(np.zeros(3))}), num_rounds=2)
    print("told", [(line.survivors, line.error, line.failures) for line in strategy.report])
    print("model", *result.arrays["w"].numpy().round(6))


backend = {"init_args": {"num_cpus": 2, "include_dashboard": False}, "client_resources": {"num_cpus": 1}}
run_simulation(server, client, SITES, backend_config=backend)
"""


@pytest.mark.slow
def test_a_federation_in_flowers_simulation_engine(tmp_path):
    pytest.importorskip("ray", reason="pip install ray")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=170)

    assert "told [(4, None, {}), (4, None, {})]" in done.stdout, done.stdout + done.stderr
    # each round adds (0 1 + 1 2 + 2 3 + 3 4) / 10
    assert re.search(r"^model (.*)$", done.stdout, re.MULTILINE)[1].split() == ["4.0"] * 3
