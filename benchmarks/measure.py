"""How a benchmark is timed and what else is written down about the machine (numpy only, Linux)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import hosts
import numpy as np

BUDGET_SECONDS = 16.0 if hosts.namespaces() else 8.0
"""For the timed repetitions of one task. Larger: steadier medians; smaller: a shorter benchmark. Over a wide-area link
tasks wait more than they work."""

LONG_SECONDS = 30.0
"""A first run that takes longer is not repeated, but counts: what is cold at its beginning no longer matters."""


def repetitions(first_seconds: float) -> int:
    """Return how often to repeat a task whose first run took this long: 5 times if that fits, 3, once, or never."""
    return next((n for n in (5, 3) if n * first_seconds <= BUDGET_SECONDS), int(first_seconds <= LONG_SECONDS))


AHEAD_SECONDS = 0.1
"""How long before the start of a run its processes agree on that moment: long enough for the news to travel. They share
this machine's clock, so none of them starts early or late, and no barrier is part of what is measured."""


def appointment() -> float:
    """Return the moment for all processes to start, on this machine's clock."""
    return time.perf_counter() + AHEAD_SECONDS


def wait_until(start: float) -> None:
    """Sleep until a moment of this machine's clock."""
    time.sleep(max(start - time.perf_counter(), 0.0))


def traffic() -> int:
    """Return the bytes that everyone in this network namespace has sent to each other, headers included.

    Over an emulated network: the bytes that this host has sent to others and received from them.
    """
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == hosts.device():
            received, sent = (int(counters.split()[place]) for place in (0, 8))
            return received + sent if hosts.namespaces() else sent
    return 0


def foreign_cpu_seconds() -> float:
    """Return the CPU seconds that niced processes and the hypervisor took so far; a benchmark is never niced."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[2]) + int(fields[8])) / os.sysconf("SC_CLK_TCK")


def busy_cpus(seconds: float = 0.25) -> float:
    """Return how many CPUs are busy with whatever, while this process waits."""

    def busy() -> float:
        user, nice, system, _, _, interrupts, soft, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")

    before, start = busy(), time.monotonic()
    time.sleep(seconds)
    return (busy() - before) / (time.monotonic() - start)


def calibrate() -> float:
    """Return the milliseconds this machine needs right now for a fixed bit of work (best of 5).

    A virtual machine drifts by a factor of two; compare this number before comparing runs.
    """
    source = np.ones(1 << 22)
    target = np.empty_like(source)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        total = 0
        for i in range(100_000):
            total += i
        target[:] = source
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def peak_bytes() -> int:
    """Return the most memory that this process has had at a time, what it has loaded included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


class Foreign:
    """How many CPUs others used, on average, since this was made."""

    def __init__(self) -> None:
        self._cpu, self._start = foreign_cpu_seconds(), time.monotonic()

    def cpus(self) -> float:
        """Return the average since the start."""
        return (foreign_cpu_seconds() - self._cpu) / max(time.monotonic() - self._start, 1e-9)


class Rows:
    """Writes one JSON line a result, to standard output and to the end of a file."""

    def __init__(self, path: str | None, **common: object) -> None:
        self._path, self._common = path, common

    def write(self, **values: object) -> None:
        """Write a row; numbers keep six significant digits."""
        row = {**self._common, **values}
        row = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}
        line = json.dumps(row)
        print(line, flush=True)
        if self._path:
            with Path(self._path).open("a") as file:
                file.write(line + "\n")


def timed(run: Callable[[], float], repeat: Callable[[int], int] = lambda count: count) -> dict[str, object]:
    """Warm up once, then repeat; return the median of the seconds that `run` returns, and how calm the machine was.

    0 repetitions stand for a warm-up so long that it is the measurement.

    `repeat` lets all processes agree on the number of repetitions.
    """
    sent, foreign = traffic(), Foreign()
    first = run()
    sent = traffic() - sent
    count = repeat(repetitions(first))
    foreign = Foreign() if count else foreign
    seconds = [run() for _ in range(count)] or [first]
    return {
        "seconds": float(np.median(seconds)),
        "repetitions": count,
        "foreign_cpus": round(foreign.cpus(), 2),
        **({"host_bytes" if hosts.namespaces() else "loopback_bytes": sent} if sent else {}),
    }
