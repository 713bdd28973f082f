"""One server and its clients as processes: who comes, who is sent away, and what is left of those who go."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

import tacit
from tacit.errors import ConfigError, Overloaded
from tacit.outside.deployment import Deployment
from tacit.predictions.host import Host
from tacit.serve import Doors
from tacit.session.config import Config
from tacit.session.evidence import read_account
from tacit.session.trial import write_trial

MODEL = """
import torch
from torch import nn

INPUT = (6,)


def load():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
"""

ASKS = """
import sys, tacit, torch

with tacit.Client(sys.argv[1]) as client:
    while True:
        print(client.predict(torch.ones(6)).tolist(), flush=True)
"""

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


class Serving:
    """`tacit serve` in a process."""

    def __init__(self, folder: Path, *options: str, **limits: float) -> None:
        self.path = write_trial(folder, ["server"], {"timeout": 20, "ledger": "ledger", "client_limits": limits})
        self.config = Config.load(self.path)
        (folder / "model.py").write_text(MODEL)
        command = [
            sys.executable,
            "-m",
            "tacit",
            "serve",
            str(folder / "model.py"),
            "--config",
            str(self.path),
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ONE_THREAD)
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()
        self.told = self.process.stdout.readline()

    @property
    def sessions(self) -> list[int]:
        """The processes of clients."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(number) for number in listed.split()]

    def stop(self, number: int = signal.SIGINT) -> str:
        """End it, and return what else it has printed."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.communicate(timeout=40)[0]


def until(found: Callable[[], object], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def plain() -> torch.Tensor:
    names: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        exec(MODEL, names)
        load = names["load"]
        assert callable(load)
        model: nn.Module = load()
    with torch.no_grad():
        found: torch.Tensor = model(torch.ones(1, 6))[0]
    return found


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    found = Serving(tmp_path, "--places", "3")
    yield found
    found.process.kill()
    found.process.communicate()


def test_a_client_that_vanishes_leaves_nothing_and_others_are_answered(serving: Serving, plain: torch.Tensor) -> None:
    vanishes = tacit.Client(serving.config)
    first = vanishes.predict(torch.ones(6))
    assert vanishes._partner is not None
    assert vanishes._partner._meeting is not None

    vanishes._partner._meeting.transport.abandon()
    until(lambda: not serving.sessions)
    with tacit.Client(serving.config) as client:
        second = client.predict(torch.ones(4, 6))
    until(lambda: not serving.sessions)
    said = serving.stop()

    assert max(float((y - plain).abs().max()) for y in (first, second)) < 2.0**-10
    assert "sha256:" in serving.greeting
    assert serving.process.returncode == 0
    assert "server answered 2 requests" in said


@pytest.mark.slow
def test_a_client_that_is_killed_leaves_nothing_and_others_are_answered(
    serving: Serving, plain: torch.Tensor, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", ASKS, str(serving.path)]
    dies = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ONE_THREAD)
    assert dies.stdout is not None

    assert dies.stdout.readline()  # in the middle of its next request
    with tacit.Client(serving.config) as client:
        first = client.predict(torch.ones(6))
        both = len(serving.sessions)
        dies.kill()
        dies.communicate()
        until(lambda: len(serving.sessions) == 1)
        second = client.predict(torch.ones(4, 6))
    until(lambda: not serving.sessions)
    said = serving.stop()

    assert both == 2
    assert max(float((y - plain).abs().max()) for y in (first, second)) < 2.0**-10
    assert "computes with clients" in serving.greeting
    assert "0 numbers of its code, and 0 in constant tensors" in serving.told
    assert "sha256:" in serving.greeting
    assert serving.process.returncode == 0
    assert "server answered" in said
    account = read_account(tmp_path / "ledger" / "server.jsonl", None)
    assert not account.wrong
    assert {r.receivers for run in account.runs for r in run.reveals} == {("clients",)}
    assert len(account.runs) == 2


@pytest.mark.slow
def test_a_client_whose_idle_session_was_ended_notices_nothing(tmp_path: Path, plain: torch.Tensor) -> None:
    serving = Serving(tmp_path, idle=2.0)
    try:
        with tacit.Client(serving.config) as client:
            client.predict(torch.ones(6))
            until(lambda: not serving.sessions)
            found = client.predict(torch.ones(6))
    finally:
        serving.stop()

    assert (found - plain).abs().max() < 2.0**-10


@pytest.mark.slow
def test_whoever_is_silent_or_greedy_keeps_nobody_out(serving: Serving, plain: torch.Tensor) -> None:
    address = serving.config.addresses[0]
    silent = [socket.create_connection(address) for _ in range(20)]
    for sock in silent[:10]:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")

    begun = time.monotonic()
    found = None
    while found is None and time.monotonic() - begun < 60:
        try:
            with tacit.Client(serving.config) as client:
                found = client.predict(torch.ones(6))
        except Overloaded as error:
            time.sleep(error.after or 0.5)
    for sock in silent:
        sock.close()

    assert found is not None
    assert (found - plain).abs().max() < 2.0**-10
    until(lambda: not serving.sessions)


@pytest.mark.slow
def test_three_clients_at_once_and_a_fourth_is_told_to_come_again(serving: Serving, plain: torch.Tensor) -> None:
    here = threading.Barrier(4)

    def ask(number: int) -> float:
        with tacit.Client(serving.config) as client:
            client.predict(torch.ones(6))
            here.wait(60)
            found = client.predict(torch.ones(6))
            here.wait(60)
        return float((found - plain).abs().max())

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, number) for number in range(3)]
        here.wait(60)
        with tacit.Client(serving.config) as fourth, pytest.raises(Overloaded, match="no place") as refused:
            fourth.predict(torch.ones(6))
        here.wait(60)
        errors = [each.result() for each in asked]

    assert max(errors) < 2.0**-10
    assert refused.value.after == 1.0


@pytest.mark.slow
def test_who_asks_too_much_in_a_day_is_refused(tmp_path: Path) -> None:
    serving = Serving(tmp_path, "--batch", "2", daily_rows=4)
    try:
        with tacit.Client(serving.config) as client:
            client.predict(torch.ones(6, 6)[:4])
            with pytest.raises(Overloaded, match="too many requests") as refused:
                client.predict(torch.ones(8, 6))
        with tacit.Client(serving.config) as client, pytest.raises(Overloaded):
            client.predict(torch.ones(6))
    finally:
        serving.stop()

    assert refused.value.after is not None
    assert refused.value.after > 60


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_stopped_tells_its_clients(serving: Serving, number: int) -> None:
    with tacit.Client(serving.config) as client:
        client.predict(torch.ones(6))
        said = serving.stop(number)
        with pytest.raises(tacit.TacitError):
            client.predict(torch.ones(6))

    assert serving.process.returncode == 0
    assert "server answered 1 requests" in said


def test_what_a_host_cannot_do_is_said(tmp_path: Path) -> None:
    two = Config.load(write_trial(tmp_path / "two"))
    one = Config.load(write_trial(tmp_path / "one", ["server"]))
    double = torch.nn.Identity()

    with pytest.raises(ConfigError, match="one alone would see them"), Doors(one, "server"):
        pass
    with pytest.raises(ConfigError, match="a config of one role"):
        Host(double, two, (2,))
    with pytest.raises(ConfigError, match="at least one client"):
        Host(double, one, (2,), places=0)
    with pytest.raises(ConfigError, match="up to 256 rows"):
        Host(double, one, (2,), batch=300)
    with pytest.raises(ConfigError, match="float32 or torch"):
        Host(double, one, (2,), dtype=torch.float16)


@pytest.mark.slow
def test_the_example_of_a_client_and_a_server(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "secure_classification"
    path = write_trial(tmp_path, ["server"])
    Deployment.of(Config.load(path)).save(tmp_path / "public.json")
    few = {**ONE_THREAD, "TRAINING_IMAGES": "1500"}
    serve = [sys.executable, "-m", "tacit", "serve", str(example / "model.py"), "--config", str(path)]
    server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, env=few)
    assert server.stdout is not None

    try:
        assert "computes with clients" in server.stdout.readline()
        asks = [sys.executable, str(example / "client.py"), str(tmp_path / "public.json"), "--images", "20"]
        said = subprocess.run(asks, capture_output=True, text=True, env=few, timeout=120, check=True).stdout
    finally:
        server.terminate()
        server.communicate(timeout=40)

    assert int(said.split()[0]) >= 14
    assert "of 20 images recognised" in said
