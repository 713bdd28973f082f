"""Flower's simulation engine, whose actors are processes of Ray, runs an app with the two lines as it is."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tacit.federated import enroll

from .test_quickstart import start, two_lines

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


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "FLWR_TELEMETRY_ENABLED": "0"}


@pytest.mark.slow
def test_a_federation_in_flowers_simulation_engine(tmp_path):
    pytest.importorskip("ray", reason="pip install tacit[simulation]")
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]

    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=170)

    assert "told [(4, None, {}), (4, None, {})]" in done.stdout, done.stdout + done.stderr
    # each round adds (0 1 + 1 2 + 2 3 + 3 4) / 10
    assert re.search(r"^model (.*)$", done.stdout, re.MULTILINE)[1].split() == ["4.0"] * 3


CREDENTIALS = """
from tacit.federated import enroll


def credentials(context):
    roster, people = enroll((f"site-{i}" for i in range(5)), context.run_config["keys"])
    return people[f"site-{context.node_config['partition-id']}"], roster
"""


def simulated(folder: Path) -> None:
    """Have the app with its two lines find identities by a folder, which all processes of a simulation share."""
    two_lines(folder, "PairwiseMasks(Settings(minimum=3))")
    package = folder / "quickstart" / "__init__.py"
    package.write_text(package.read_text() + CREDENTIALS)
    client, server, settings = (
        folder / name for name in ("quickstart/client_app.py", "quickstart/server_app.py", "pyproject.toml")
    )
    edits = {
        client: [("Mod(FORM)", "Mod(FORM, credentials)"), ("import FORM", "import FORM, credentials")],
        server: [
            (
                'Roster.load(context.run_config["roster"])',
                'enroll([f"site-{i}" for i in range(5)], context.run_config["keys"])[0]',
            ),
            ("import Roster, ", "import enroll, "),
            ('"final_model.npz"', 'context.run_config["model"]'),
            ('context.run_config["fraction-train"]', "1.0, min_train_nodes=5, min_evaluate_nodes=5"),
        ],
        settings: [("lr = 0.2", 'lr = 0.2\nkeys = "keys"\nmodel = "final_model.npz"')],
    }
    for path, pairs in edits.items():
        text = path.read_text()
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)


@pytest.fixture
def superlink(tmp_path):
    """A SuperLink that simulates, and Flower's config with its name: as `flwr` starts one, but it ends here."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    home, programs = tmp_path / "flwr", Path(sys.executable).parent
    home.mkdir()
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "local-simulation"\n\n[superlink.local-simulation]\naddress = ":local-in-memory:"\n'
    )
    environment = {
        **ENVIRONMENT, "FLWR_HOME": str(home), "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": ports[0], "FLWR_LOCAL_CONTROL_API_PORT": ports[1],
    }  # fmt: skip
    command = [programs / "flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--control-api-address", f"127.0.0.1:{ports[1]}", "--host", "127.0.0.1", "--port", ports[0]]
    with (tmp_path / "superlink.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
        yield environment
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_flwr_run_simulates_an_app_with_the_two_lines(project, superlink, tmp_path):
    pytest.importorskip("ray", reason="pip install tacit[simulation]")
    plain = start(project)
    simulated(project)
    settings = f'keys="{tmp_path / "keys"}" model="{tmp_path / "model.npz"}"'
    command = [Path(sys.executable).parent / "flwr", "run", str(project), "local-simulation", "--run-config", settings]
    command += ["--federation-config", "num-supernodes=5 client-resources-num-cpus=1 init-args-num-cpus=2"]

    done = subprocess.run(command, cwd=tmp_path, env=superlink, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    model, end = tmp_path / "model.npz", time.monotonic() + 300
    while not model.exists() and time.monotonic() < end:
        time.sleep(1)
    assert model.exists(), (tmp_path / "superlink.log").read_text()
    time.sleep(1)
    with np.load(model) as saved:
        secure = [saved[name] for name in saved]
    for expected, got in zip(plain, secure, strict=True):
        assert np.abs(got - expected).max() < 1e-6
    roster, people = enroll([f"site-{i}" for i in range(5)], tmp_path / "keys")
    assert {roster.index(person) for person in people.values()} == set(range(5))
