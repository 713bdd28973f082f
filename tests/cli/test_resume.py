"""Real processes that are killed while they train, and go on from what they had kept."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tacit.cli.local import launch_local
from tacit.session.config import Config
from tacit.session.trial import write_trial

PROGRAM = """
import hashlib, os, sys, tacit, torch
from torch import nn

out = sys.argv[1]
x, y = torch.load(f"{out}/data.pt")
torch.manual_seed(3)
plain = nn.Linear(4, 1)
with tacit.session() as session:
    if session.parties[0] in session.transport.hosted:  # no key is ever used again
        with open(f"{out}/keys", "a") as file:
            file.write(hashlib.sha256(session.transport.pair_key("alice", "bob")).hexdigest() + "\\n")
    rows = tacit.share(x, owner="alice", shape=x.shape)
    target = tacit.share(y, owner="bob", shape=y.shape)
    model = tacit.share(plain)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    saved = tacit.checkpoint(every=2, model=model, optimizer=optimizer)
    for xb, yb in saved(tacit.batches(rows, target, size=8, epochs=STEPS // 4, progress=False)):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(xb), yb).backward()
        optimizer.step()
        if tacit.is_role("bob"):
            with open(f"{out}/steps", "a") as file:
                file.write(f"{saved.step}\\n")
        BODY
    weights = tacit.reveal(model.weight, to="alice", name="weights")
    if weights is not None:
        torch.save(weights, f"{out}/weights.pt")
"""


def prepared(folder: Path, steps: int, body: str = "pass") -> Path:
    script = folder / "train.py"
    script.write_text(PROGRAM.replace("STEPS", str(steps)).replace("BODY", body))
    torch.save((torch.randn(32, 4), torch.randn(32, 1)), folder / "data.pt")
    return script


def in_the_plain(folder: Path, epochs: int, seed: int) -> torch.Tensor:
    """What PyTorch alone makes of the same data in the same order."""
    x, y = torch.load(folder / "data.pt")
    torch.manual_seed(3)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    torch.manual_seed(seed)
    torch.manual_seed(3)  # as the program does before its session, whose seed comes after it
    torch.nn.Linear(4, 1)
    torch.manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(32)
        for at in range(0, 32, 8):
            optimizer.zero_grad()
            rows = order[at : at + 8]
            torch.nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model.weight.detach()


@pytest.mark.slow
def test_roles_start_again_by_themselves_when_one_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    died = tmp_path / "died"
    body = f"""if tacit.is_role("bob") and saved.step == 5 and not os.path.exists({str(died)!r}):
            open({str(died)!r}, "w").close()
            os.kill(os.getpid(), 9)"""
    lines: list[str] = []

    code = launch_local(
        prepared(tmp_path, 8, body),
        args=[str(tmp_path)],
        settings={"seed": 11, "timeout": 10},
        restart=1,
        on_line=lambda role, line: lines.append(f"{role}: {line}"),
    )

    assert code == 0, lines
    assert any("all start again from what was kept" in line for line in lines)
    steps = [int(line) for line in (tmp_path / "steps").read_text().split()]
    assert steps == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]
    weights = torch.load(tmp_path / "weights.pt")
    assert (weights - in_the_plain(tmp_path, 2, seed=11)).abs().max() < 2e-3
    keys = (tmp_path / "keys").read_text().split()
    assert len(keys) == len(set(keys)) == 2


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """`TACIT_KILLS` says how often; a hundred take a quarter of an hour."""
    kills, epochs = int(os.environ.get("TACIT_KILLS", "12")), 25
    script = prepared(tmp_path, 4 * epochs, "import time; time.sleep(0.05)")
    killed = 0
    for attempt in range(20 * kills):
        settings = {
            "seed": 11,
            "timeout": 8,
            "connect_timeout": 30,
            "checkpoints": str(tmp_path / "kept"),
            "threads": 1,
        }
        config = write_trial(tmp_path / f"try{attempt}", ("alice", "bob"), settings)
        roles = Config.load(config).roles
        command = [sys.executable, "-m", "tacit", "run", str(script), "--config", str(config)]
        command += ["--resume"] if attempt else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes = {
            role: subprocess.Popen(
                [*command, "--as", role, "--", str(tmp_path)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for role in roles
        }
        victim = random.choice(roles)
        if killed < kills:
            deadline = time.monotonic() + random.uniform(2.0, 9.0)
            while time.monotonic() < deadline and processes[victim].poll() is None:
                time.sleep(0.02)
            if processes[victim].poll() is None:
                processes[victim].send_signal(signal.SIGKILL)
                killed += 1
        said = {role: process.communicate(timeout=120)[0] for role, process in processes.items()}
        codes = {role: process.returncode for role, process in processes.items()}
        if not any(codes.values()):
            break
        for role, code in codes.items():
            if role != victim:
                assert code in (0, 1), (role, code, said[role])
                assert not code or victim in said[role], (victim, said[role])
    else:
        pytest.fail("the run never ended")

    weights = torch.load(tmp_path / "weights.pt")
    assert (weights - in_the_plain(tmp_path, epochs, seed=11)).abs().max() < 2e-3
    keys = (tmp_path / "keys").read_text().split()
    assert len(keys) == len(set(keys))
    assert killed
