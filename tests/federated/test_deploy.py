"""The deployment of the example: real processes, TLS, registered nodes. Minutes, because each message is a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "examples" / "federated" / "deploy.py"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("parties", [0, 2])
def test_a_federation_of_processes_trains_and_stops(tmp_path, parties):
    folder = tmp_path / "federation"
    command = [sys.executable, DEPLOY, "--sites", "5", "--rounds", "1", "--directory", folder]
    command += ["--parties", str(parties)] if parties else []

    done = subprocess.run(command, capture_output=True, text=True, timeout=1100)

    assert done.returncode == 0, done.stdout + done.stderr
    assert float(re.search(r"accuracy after 1 rounds: ([\d.]+)", done.stdout)[1]) > 0.7
    for name in ("server.key", "node-0", "site-0.pem"):
        assert os.stat(folder / name).st_mode & 0o077 == 0
    if parties:
        assert "aggregator-1: round 1 of 5 clients" in (folder / "aggregator-1.log").read_text()
    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "it holds keys, and none is overwritten" in again.stderr
    assert again.returncode != 0
