"""Services of several ranks behind one door: a rank that dies is left out, and what it held is answered by others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from tacit.errors import TacitError
from tacit.predictions.front import NOBODY, Front
from tacit.serve import Client
from tacit.session.config import Config
from tacit.session.trial import write_trial

from .conftest import Deploy

REPLICA = Path(__file__).with_name("replica.py")


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Fronts:
    """The fronts of both parties in this process, before ranks that answer with what was asked."""

    def __init__(self, config: Config, folder: Path, count: int) -> None:
        self.folder, self.said = folder, []
        self.ended: dict[str, bool] = {}
        self.each = {
            role: Front(config, role, count, self._command(role), log=self.said.append) for role in config.parties
        }

    def _command(self, role: str) -> Callable[[int], list[str]]:
        return lambda line: [sys.executable, "-S", str(REPLICA), str(self.folder), role, str(line)]

    @contextmanager
    def open(self) -> Iterator[None]:
        started = threading.Semaphore(0)

        def run(role: str) -> None:
            self.ended[role] = self.each[role].run(lambda plan, left: started.release())

        threads = [threading.Thread(target=run, args=(role,), daemon=True) for role in self.each]
        for thread in threads:
            thread.start()
        try:
            for _ in threads:
                assert started.acquire(timeout=30)
            yield
        finally:
            self.each["server0"].stop()
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()

    def kill(self, role: str, rank: int, number: int = signal.SIGKILL) -> None:
        os.kill(int((self.folder / f"{role}.{rank}").read_text()), number)


@pytest.fixture
def fronts(deploy: Deploy, tmp_path: Path) -> Callable[[int], tuple[Config, Fronts]]:
    def make(count: int) -> tuple[Config, Fronts]:
        config = deploy(2, tls="insecure-plaintext", protocol="two-party")
        return config, Fronts(config, tmp_path, count)

    return make


def ask(config: Config, times: int, done: list[int] | None = None) -> bool:
    """Whether a client that asks again and again gets the right answer each time."""
    with Client(config, timeout=20) as client:
        for _ in range(times):
            x = torch.randn(2, 3)
            if (client.predict(x) - x).abs().max() > 1e-3:
                return False
            if done is not None:
                done.append(1)
    return True


@pytest.mark.parametrize("role", ["server0", "server1"])
def test_a_rank_that_is_killed_while_eight_clients_ask_is_left_out_and_named(
    fronts: Callable[[int], tuple[Config, Fronts]], role: str
) -> None:
    config, both = fronts(3)
    done: list[int] = []

    with both.open(), ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, config, 12, done) for _ in range(8)]
        wait_until(lambda: len(done) > 16)
        both.kill(role, 1)
        assert all(each.result(60) for each in asking)
        wait_until(lambda: len(both.said) == 2)
        assert [front.left for front in both.each.values()] == [2, 2]

    assert sum("was killed by signal 9" in said and said.startswith(f"{role}[1] ") for said in both.said) == 1
    assert all("[1] " in said and said.endswith("2 of 3 ranks are left") for said in both.said)
    assert both.ended == {"server0": True, "server1": True}
    assert both.each["server0"].answered >= 96


def test_when_no_rank_is_left_who_waits_is_told(fronts: Callable[[int], tuple[Config, Fronts]]) -> None:
    config, both = fronts(1)

    with both.open(), Client(config, timeout=20) as client:
        client.predict(torch.zeros(3))
        both.kill("server1", 0, signal.SIGSTOP)  # what comes now is taken, and not answered
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.predict, torch.zeros(3))
            wait_until(lambda: any(seat.mine for seat in both.each["server0"]._seats))
            both.kill("server1", 0)
            with pytest.raises(TacitError, match=f"ask again|{NOBODY}|closed|cannot be reached"):
                waiting.result(30)

    assert both.ended == {"server0": False, "server1": False}
    assert any("nobody is left" in said for said in both.said)


def test_an_interrupt_lets_ranks_answer_what_they_hold(fronts: Callable[[int], tuple[Config, Fronts]]) -> None:
    config, both = fronts(2)

    with ThreadPoolExecutor(8) as pool:
        with both.open():
            done: list[int] = []
            asking = [pool.submit(ask, config, 100, done) for _ in range(4)]
            wait_until(lambda: len(done) > 8)
        failures = [each.exception(30) for each in asking]

    assert both.ended == {"server0": True, "server1": True}
    assert both.said == []
    assert all(failure is not None for failure in failures)
    assert both.each["server0"].answered == both.each["server1"].answered >= len(done)


# --- the whole, with sessions -----------------------------------------------------------------------------------------

MODEL = """
import torch
import tacit
from torch import nn

INPUT = (6,)


def load():
    return tacit.share(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), owner="server0")
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["server0", "server1", "crypto-producer"])
def test_a_rank_of_any_role_may_die_while_clients_ask(tmp_path: Path, victim: str) -> None:
    path = write_trial(tmp_path, ["server0", "server1"], {"timeout": 60, "connect_timeout": 100}, ranks=2)
    config, model = Config.load(path), tmp_path / "model.py"
    model.write_text(MODEL)
    torch.manual_seed(1)  # as ranks do without a seed
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).requires_grad_(False)

    def right(times: int) -> bool:
        with Client(config, timeout=60) as client:
            for _ in range(times):
                x = torch.randn(3, 6)
                if (client.predict(x) - network(x)).abs().max() > 1e-3:
                    return False
        return True

    with ExitStack() as stack:
        logs = {role: stack.enter_context((tmp_path / f"{role}.log").open("w+")) for role in config.roles}
        command = [sys.executable, "-m", "tacit", "serve", str(model), "--config", str(path), "--ranks", "2"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        fronts = {
            role: subprocess.Popen([*command, "--as", role], env=environment, stdout=log, stderr=subprocess.STDOUT)
            for role, log in logs.items()
        }
        for process in fronts.values():
            stack.callback(process.kill)

        def said(role: str) -> str:
            return (tmp_path / f"{role}.log").read_text()

        wait_until(lambda: all("by 2 of 2 ranks" in said(role) for role in fronts), 150)
        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(right, 10) for _ in range(8)]
            time.sleep(0.5)
            os.kill(_rank_of(fronts[victim].pid, 1), signal.SIGKILL)
            assert all(each.result(120) for each in asking), {role: said(role) for role in fronts}
        for role in fronts:
            wait_until(lambda role=role: "1 of 2 ranks are left" in said(role), 90)
        assert f"{victim}[1] was killed by signal 9" in said(victim)
        fronts["server0"].send_signal(signal.SIGINT)
        assert [process.wait(60) for process in fronts.values()] == [0, 0, 0], {role: said(role) for role in fronts}
    assert re.search(r"server0 answered 8\d requests, and refused 0", said("server0"))


def _rank_of(front: int, rank: int) -> int:
    """The process of a rank, among the children of its front."""
    for number in Path(f"/proc/{front}/task/{front}/children").read_text().split():
        if f"RANK={rank}\0" in Path(f"/proc/{number}/environ").read_text():
            return int(number)
    raise AssertionError("there is no such rank")


def test_what_goes_with_ranks_is_said(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from tacit.cli.serve import serve

    path = write_trial(tmp_path, ["server"])
    alone = CliRunner().invoke(serve, ["model.py", "--config", str(path), "--ranks", "2"])
    by_torchrun = CliRunner().invoke(serve, ["model.py", "--config", str(path)], env={"RANK": "0", "WORLD_SIZE": "2"})

    assert "leave --ranks out" in str(alone.exception)
    assert "leave torchrun out" in str(by_torchrun.exception)
