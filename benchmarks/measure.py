"""How a benchmark is timed and what else is written down about the machine (numpy only, Linux)."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

BUDGET_SECONDS = 8.0
"""For the timed repetitions of one task. Larger: steadier medians; smaller: a shorter benchmark."""


def repetitions(first_seconds: float, budget: float = BUDGET_SECONDS) -> int:
    """Return how often to repeat a task whose warm-up took this long: 5 times if that fits, or 3, or once."""
    return next((n for n in (5, 3) if n * first_seconds <= budget), 1)


def loopback_bytes() -> int:
    """Return the bytes sent over the loopback device by everyone in this network namespace, headers included."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split()[9])
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


class Foreign:
    """How many CPUs others used, on average, since this was made."""

    def __init__(self) -> None:
        self._cpu, self._start = foreign_cpu_seconds(), time.monotonic()

    def cpus(self) -> float:
        """Return the average since the start."""
        return (foreign_cpu_seconds() - self._cpu) / max(time.monotonic() - self._start, 1e-9)


def loopback_limits() -> dict[str, float]:
    """Measure plain TCP on loopback: the round trip of 64 bytes in microseconds, and one way in GB/s."""
    trips, bulk = 5_000, 1 << 30
    block = bytes(1 << 20)

    def echo(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(trips):
                peer.sendall(peer.recv(64, socket.MSG_WAITALL))
            received, buffer = 0, bytearray(1 << 20)
            while received < bulk:
                received += peer.recv_into(buffer)
            peer.sendall(b".")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=echo, args=(listener,))
        thread.start()
        with socket.create_connection(listener.getsockname()) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            times = []
            for _ in range(trips):
                start = time.perf_counter()
                link.sendall(block[:64])
                link.recv(64, socket.MSG_WAITALL)
                times.append(time.perf_counter() - start)
            start = time.perf_counter()
            for _ in range(bulk // len(block)):
                link.sendall(block)
            link.recv(1)
            seconds = time.perf_counter() - start
        thread.join()
    return {"rtt_us": float(np.median(times)) * 1e6, "bandwidth_gb_s": bulk / seconds / 1e9}


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

    `repeat` lets all processes agree on the number of repetitions.
    """
    sent = loopback_bytes()
    first = run()
    sent = loopback_bytes() - sent
    count = repeat(repetitions(first))
    foreign = Foreign()
    seconds = [run() for _ in range(count)]
    return {
        "seconds": float(np.median(seconds)),
        "repetitions": count,
        "loopback_bytes": sent,
        "foreign_cpus": round(foreign.cpus(), 2),
    }
