"""Clients that ask a service again and again, and how long each of them waits."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tacit.errors import Overloaded
from tacit.outside.client import Client
from tacit.outside.deployment import Deployment
from tacit.session.config import Config

__all__ = ["Load", "measure"]

PAUSE = 0.01
"""Seconds after which a client that was refused asks again, unless it was told when."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a number of clients saw: seconds from asking to the result for each request that was answered."""

    clients: int
    latencies: Sequence[float]
    refused: int
    """Requests that were refused because all places were taken, and asked again."""
    seconds: float
    """From the first question to the last answer."""
    first: float = 0.0
    """Seconds until the first answer of a client, in the mean: it connects, and gets the weights if it computes."""
    kilobytes: float = 0.0
    """Sent and received by clients for a request, where they compute with one server."""

    @property
    def throughput(self) -> float:
        """Requests answered a second."""
        return len(self.latencies) / self.seconds

    def latency(self, percent: float) -> float:
        """The smallest latency that so many percent of the requests did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def measure(source: str | Path | Config | Deployment, clients: int, requests: int, warm: int = 3) -> Load:
    """Let `clients` at once, each with connections of its own, ask `requests` times, one random input each time.

    Each asks `warm` times before, which does not count: it connects, and weights may have to be opened.
    """
    deployment = Deployment.load(source)
    latencies: list[float] = []
    refused: list[int] = []
    firsts: list[float] = []
    sizes: list[int] = []
    errors: list[BaseException] = []
    begin = threading.Barrier(clients + 1)

    def ask() -> None:
        try:
            with Client(deployment) as client:
                start = time.perf_counter()
                plan = client.plan
                inputs = torch.randn(plan.shape).to(plan.torch_dtype)
                _ask(client, inputs)
                firsts.append(time.perf_counter() - start)
                for _ in range(warm - 1):
                    _ask(client, inputs)
                before = client.wire_bytes or 0
                begin.wait()
                for _ in range(requests):
                    seconds, times = _ask(client, inputs)
                    latencies.append(seconds)
                    refused.append(times)
                sizes.append((client.wire_bytes or 0) - before)
        except BaseException as error:
            errors.append(error)
            begin.abort()

    threads = [threading.Thread(target=ask, name="tacit-load") for _ in range(clients)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    kilobytes = sum(sizes) / 1000 / max(1, clients * requests)
    return Load(clients, latencies, sum(refused), seconds, sum(firsts) / max(1, len(firsts)), kilobytes)


def _ask(client: Client, inputs: torch.Tensor) -> tuple[float, int]:
    """Seconds of the request that is answered, and how often one was refused before."""
    refused = 0
    while True:
        start = time.perf_counter()
        try:
            client.predict(inputs)
        except Overloaded as error:
            refused += 1
            time.sleep(PAUSE if error.after is None else error.after)
        else:
            return time.perf_counter() - start, refused
