"""What one small operator costs beside the floor of its rounds, and what looking before sleeping is worth.

    python benchmarks/small.py            # or `tacit bench --small`

The operator is a product of secrets, 1 x 32 by 32 x 1, with its truncation: one round, since owners open what they
share, less masks, when they share it. The floor is what two processes need to exchange the same bytes, over plain TCP
and in as many rounds, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import measure

HERE = Path(__file__).parent
INNER = 32
REPEATS = 9
ROUND_BYTES = (8,)
"""What each party sends in each round: its share of the product plus a mask."""
SPINS = (0, 50, 500)
"""Microseconds to look before sleeping; `tacit.net.tcp` has 50 where roles outnumber cores, and 500 where not."""

Row = dict[str, Any]


# --- the operator: run as each role -----------------------------------------------------------------------------------


def play(options: argparse.Namespace) -> None:
    """Time the operator as this process's role, or as all of them; write a row."""
    import torch
    from tacit_tasks import share, tell

    import tacit
    from tacit.session import launch

    if options.spin is not None:
        launch.SPIN = launch.SPIN_ALONE = options.spin * 1e-6  # type: ignore[misc]
    with tacit.session() as session:
        seconds, sent = [], 0
        for _ in range(REPEATS + 1):
            pairs = [
                (share(torch.rand(1, INNER), "alice"), share(torch.rand(INNER, 1), "bob")) for _ in range(options.count)
            ]
            before = session.meter.cost
            measure.wait_until(float(tell(session, "alice", str(measure.appointment()).encode())))
            start = time.perf_counter()
            for x, y in pairs:
                (x @ y).share.settle()
            seconds.append(time.perf_counter() - start)
            cost = session.meter.cost - before
            sent = cost.online["alice"]
        assert (cost.rounds, sent) == (len(ROUND_BYTES) * options.count, sum(ROUND_BYTES) * options.count)
        if tacit.is_role("alice"):
            rows = measure.Rows(options.out)
            micros = sorted(value / options.count * 1e6 for value in seconds[1:])
            rows.write(microseconds=micros[0], median=micros[len(micros) // 2])


# --- the floor of its rounds ------------------------------------------------------------------------------------------


def floor(count: int, spin: bool) -> float:
    """Return the microseconds in which two processes exchange the bytes of one operator."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    other = context.Process(target=_other, args=(theirs, count, spin), daemon=True)
    other.start()
    with socket.create_connection(("127.0.0.1", mine.recv())) as link:
        times = [_exchange(link, count, spin) for _ in range(REPEATS + 1)]
    other.join()
    return min(times[1:]) / count * 1e6


def _other(pipe: Connection, count: int, spin: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        link, _ = server.accept()
    with link:
        for _ in range(REPEATS + 1):
            _exchange(link, count, spin)


def _exchange(link: socket.socket, count: int, spin: bool) -> float:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    poll = select.poll()
    poll.register(link, select.POLLIN)
    messages = [bytes(size) for size in ROUND_BYTES]
    start = time.perf_counter()
    for _ in range(count):
        for message in messages:
            link.sendall(message)
            while spin and not poll.poll(0):
                pass
            link.recv(len(message), socket.MSG_WAITALL)
    return time.perf_counter() - start


# --- the study --------------------------------------------------------------------------------------------------------


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many cores busy meanwhile."""
    program = [sys.executable, "-c", "while True: pass"]
    burners = [subprocess.Popen(program) for _ in range(processes)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def run(*, folder: Path, threads: int, tiny: bool) -> str:
    """Measure, write small.jsonl and small-table.md, and return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    count, cores = 5 if tiny else 200, os.cpu_count() or 1
    rows: list[Row] = []

    def note(where: str, load: int, micros: float, **more: object) -> None:
        rows.append({"where": where, "busy": load, "microseconds": round(micros, 1), **more})
        print(rows[-1], flush=True)

    def launched(where: str, load: int, command: Sequence[str], **more: object) -> None:
        before = measure.busy_cpus()
        with busy(load):
            found = _row([sys.executable, *command], count, threads, folder)
        note(where, load, found["microseconds"], median=found["median"], busy_cpus_before=round(before, 2), **more)

    program, launch = str(HERE / "small.py"), str(HERE / "launch.py")
    for load in (0, cores):
        with busy(load):
            for name, spin in (("sleeping", False), ("looking", True)):
                note(f"the floor, {name}", load, floor(count, spin))
        launched("embedded", load, [program, "--play"])
        for spin in SPINS:
            command = [launch, "--plain", program, "--", "--play", "--spin", str(spin)]
            launched("plain TCP", load, command, spin=spin)
        launched("TLS 1.3", load, [launch, program, "--", "--play"])
    (folder / "small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = table(rows, cores)
    (folder / "small-table.md").write_text(f"# One small operator\n\n{text}\n")
    return text


def _row(command: Sequence[str], count: int, threads: int, folder: Path) -> Row:
    out = folder / "row.jsonl"
    out.unlink(missing_ok=True)
    subprocess.run(
        [*command, "--count", str(count), "--out", str(out)],
        check=True,
        timeout=300,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    (row,) = map(json.loads, out.read_text().splitlines())
    out.unlink()
    found: Row = row
    return found


def table(rows: list[Row], cores: int) -> str:
    """Return the table, and what it shows."""
    lines = ["| roles | looking before sleeping, µs | free machine, µs | full machine, µs |", "|---|---:|---:|---:|"]
    cell: Callable[[Row], tuple[str, object]] = lambda row: (row["where"], row.get("spin", ""))  # noqa: E731
    for where, spin in dict.fromkeys(map(cell, rows)):
        micros = {row["busy"] > 0: row["microseconds"] for row in rows if cell(row) == (where, spin)}
        lines.append(f"| {where} | {spin} | {micros[False]:.0f} | {micros[True]:.0f} |")
    disturbed = max(row.get("busy_cpus_before", 0.0) for row in rows)
    return "\n".join(lines) + (
        f"\n\nA product of secrets, 1 × {INNER} by {INNER} × 1, with its truncation; rounds: "
        f"{len(ROUND_BYTES)}; the least of {REPEATS} runs. Three roles on {cores} cores, the full machine with {cores} "
        "busy processes beside them. The floor is two processes that exchange the same bytes in the same rounds over "
        "plain TCP and do nothing else: they sleep until an answer comes, or look for it again and again. "
        f"At most {disturbed} CPUs were used by others."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--play", action="store_true")
    parser.add_argument("--spin", type=float)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.play:
        play(options)
    else:
        print(run(folder=HERE / "results", threads=1, tiny=False))
