"""Training and serving for minutes: what they hold in memory stays as it is. Slow; `make soak` takes longer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.api import embedded
from tacit.serve import Client
from tacit.session.config import Config

from .measured import anonymous, climbed, descriptors
from .serving import ANSWER, Servers

SECONDS = float(os.environ.get("TACIT_SOAK_SECONDS", "60"))

LEAK = 4 << 20
"""Bytes by which memory may seem to grow in that time: what a process holds goes up and down by less."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 4 * SECONDS)]


class Watch:
    """What processes hold, once the first third of the time is over: until then they get what they will need."""

    def __init__(self, **processes: int | str) -> None:
        self.processes = processes
        self.began = time.monotonic()
        self.seconds: list[float] = []
        self.sizes: dict[str, list[int]] = {name: [] for name in processes}

    @property
    def over(self) -> bool:
        return time.monotonic() - self.began > SECONDS

    def look(self) -> None:
        """Note what is held now."""
        elapsed = time.monotonic() - self.began
        if elapsed > SECONDS / 3:
            self.seconds.append(elapsed)
            for name, process in self.processes.items():
                self.sizes[name].append(anonymous(process))

    def grown(self) -> dict[str, float]:
        """By how many bytes each has grown."""
        grown = {name: climbed(self.seconds, sizes) for name, sizes in self.sizes.items()}
        for name, sizes in self.sizes.items():
            print(f"\n{name}: {sizes[0] >> 20} MiB, grown by {grown[name] / 2**20:+.2f} MiB in {SECONDS:g} s", end="")
        return grown


def perceptron() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4)), torch.randn(64, 20)


def convolutions() -> tuple[nn.Module, Tensor]:
    features = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(4 * 3 * 3, 4)), torch.randn(64, 1, 8, 8)


@pytest.mark.parametrize("made", [perceptron, convolutions], ids=["perceptron", "convolutions"])
def test_a_training_stays_as_large_as_it_is(made: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    plain, inputs = made()
    labels = torch.randint(4, (64,))
    steps = 0

    with embedded(Config.embedded(("alice", "bob"))):
        x, y = tacit.share(inputs, owner="alice"), tacit.share(labels, owner="bob", classes=4)
        model = tacit.share(plain)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        watch = Watch(training="self")
        while not watch.over:
            for rows, target in tacit.batches(x, y, size=16, epochs=1, progress=False):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(rows), target)
                loss.backward()
                optimizer.step()
                steps += 1
            tacit.reveal(loss)
            watch.look()

    grown = watch.grown()
    print(f", {steps} steps")
    assert len(watch.seconds) > 10
    assert grown["training"] < LEAK


def test_a_service_stays_as_large_as_it_is(tmp_path: Path) -> None:
    over = threading.Event()
    errors: list[BaseException] = []
    answered = 0

    def ask(*, anew: bool) -> None:
        nonlocal answered
        try:
            while not over.is_set():
                with Client(servers.config) as client:
                    for _ in range(3 if anew else 1000):
                        found = client.predict(torch.ones(2, 16))
                        assert (found - torch.tensor(ANSWER)).abs().max() < 1e-2
                        answered += 1
                        if over.is_set():
                            break
        except BaseException as error:
            errors.append(error)

    with Servers(tmp_path) as servers:
        threads = [threading.Thread(target=ask, kwargs={"anew": anew}) for anew in (True, True, False, False)]
        for thread in threads:
            thread.start()
        watch = Watch(**servers.pids)
        while not watch.over and not errors:
            time.sleep(0.5)
            watch.look()
        files = {role: descriptors(pid) for role, pid in servers.pids.items()}
        over.set()
        for thread in threads:
            thread.join(60)

    grown = watch.grown()
    print(f", {answered} requests")
    assert not errors
    assert answered > SECONDS
    assert max(grown.values()) < LEAK
    assert max(files.values()) < 64
