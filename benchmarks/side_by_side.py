"""Run every system on every task in turn, and write the rows, a table and a plot. `tacit bench` calls `run`."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

import alone
import floor
import measure
import report
import tasks

from tacit.net.emulation import Conditions

HERE = Path(__file__).parent
TIMEOUT = 900
"""Seconds for one system on one task, warm-up and repetitions included."""


def commands(peers: Path | None, threads: int, relayed: str | None = None) -> dict[str, list[str]]:
    """Return how to start each system that is there; a relayed link is one that Tacit emulates by itself."""
    link = [] if relayed is None else ["--wan", relayed]
    here = [sys.executable, str(HERE / "launch.py"), "--threads", str(threads), *link]
    script = [str(HERE / "tacit_tasks.py"), "--"]
    found = {"tacit": [*here, *script], "tacit-plain": [*here, "--plain", *script]}
    found["tacit-two-party"] = [*here, "--without-producer", *script]
    alone = found["tacit-two-party-plain"] = [*here, "--plain", "--without-producer", *script]
    found["tacit-two-party-prepared"] = [*alone, "--prepared"]
    found["tacit-two-party-owned"] = [*alone, "--owned"]
    if peers is None:
        return found
    pythons = {name: peers / name / "bin" / "python" for name in ("crypten", "spu")}
    own = ["--threads", str(threads)]
    found["crypten"] = [str(pythons["crypten"]), str(HERE / "peers" / "crypten_tasks.py"), *own]
    for protocol in ("SEMI2K", "ABY3", "CHEETAH"):
        spu = [str(pythons["spu"]), str(HERE / "peers" / "spu_tasks.py"), "--protocol", protocol, *own]
        found[f"spu-{protocol.lower()}"] = spu
    return found


ALONE = (
    "tacit-two-party",
    "tacit-two-party-plain",
    "tacit-two-party-prepared",
    "tacit-two-party-owned",
    "spu-cheetah",
)
"""Two parties and nobody who helps: they take longer, and run where they are named."""


def asked_for(system: str, systems: str) -> bool:
    """Whether a system is measured; without a pattern, all that somebody helps."""
    return re.search(systems, system) is not None if systems else system not in ALONE


def checked(found: dict[str, list[str]], systems: str) -> dict[str, list[str]]:
    """Return those that are asked for; of a peer among them that is not there, say what is missing."""
    chosen = {system: command for system, command in found.items() if asked_for(system, systems)}
    for system, (python, *_) in chosen.items():
        if not Path(python).exists():
            name = system.split("-")[0]
            raise FileNotFoundError(f"there is no {python}: benchmarks/README.md says how to set up {name}")
    if not chosen:
        raise ValueError(f"no system is called {systems!r}: there are {', '.join(found)}")
    return chosen


def isolation() -> list[str]:
    """Return what starts a command with a loopback device of its own, where this user may do that.

    Nobody else's traffic is on that device then, so that its counter of bytes is that of the benchmark alone.
    """
    prefix = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    return [] if _trouble(prefix) else prefix


def emulation(wan: str) -> list[str]:
    """Return what starts a command with three hosts and an emulated network between them, where this user may do that.

    Otherwise say so: Tacit can still do its part, over connections that it relays by itself, but others cannot.
    """
    prefix = [sys.executable, str(HERE / "wan.py"), wan, "3"]
    trouble = _trouble(prefix)
    if trouble:
        print(f"{trouble}. So connections are relayed instead, and Tacit runs alone.", file=sys.stderr, flush=True)
    return [] if trouble else prefix


class Far(NamedTuple):
    """An emulated link for Tacit alone: hosts of their own where this user may make them, relayed connections else."""

    conditions: Conditions
    prefix: list[str]
    """What starts a command on such hosts."""
    relayed: list[str]
    """What `launch.py` is told in the place of that."""

    @classmethod
    def made(cls, wan: str) -> Self:
        """Read a link, and see what can be done. Raises `ValueError` for what is none."""
        conditions = Conditions.parse(wan)
        prefix = emulation(wan)
        return cls(conditions, prefix, [] if prefix else ["--wan", wan])


def _trouble(prefix: Sequence[str]) -> str:
    """Say why nothing can be started so; empty if it can."""
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""


def machine(prefix: Sequence[str], wan: str | None = None) -> dict[str, object]:
    """Describe the machine, and the emulated link, as they are now."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in cpuinfo if "model name" in line), platform.processor())
    loopback = limits([])
    rates = {"rtt_us": loopback["round_trip"] * 1e6, "rtt_looking_us": loopback["round_trip_looking"] * 1e6}
    rates["bandwidth_gb_s"] = loopback["one_way"] / 1e9
    return {
        "system": "machine",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "isolated_loopback": bool(prefix) and wan is None,
        "calibration_ms": round(measure.calibrate(), 2),
        **{key: round(value, 2) for key, value in {**rates, **floor.arithmetic_limits()}.items()},
        **({} if wan is None else link(wan, prefix)),
    }


def link(wan: str, prefix: Sequence[str]) -> dict[str, object]:
    """Describe the emulated link: what was asked for, and what plain TCP makes of it between two hosts."""
    conditions = Conditions.parse(wan)
    asked = {"wan": str(conditions), "wan_round_trip": conditions.round_trip, "wan_rate": conditions.rate}
    if not prefix:
        return {**asked, "wan_hosts": False}
    found = limits(prefix)
    rates = {f"wan_{way}_mbit_s": round(found[way] * 8 / 1e6, 1) for way in ("one_way", "both_ways")}
    return {**asked, "wan_hosts": True, "wan_measured_ms": round(found["round_trip"] * 1e3, 2), **rates}


def limits(prefix: Sequence[str]) -> dict[str, float]:
    """Measure plain TCP between two processes of commands with this prefix."""
    command = [*prefix, sys.executable, str(HERE / "links.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure_one(command: Sequence[str], task: str, threads: int, folder: Path, tiny: bool) -> list[dict[str, object]]:
    """Run one system on one task; return its rows, or one that says why there is none."""
    out = folder / "row.jsonl"
    out.unlink(missing_ok=True)
    before = {"busy_cpus_before": round(measure.busy_cpus(), 2), "calibration_ms": round(measure.calibrate(), 2)}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TACIT_BENCH_TINY": "1" if tiny else "0"}
    trouble = _finish([*command, "--only", f"^{task}$", "--out", str(out)], environment)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    out.unlink(missing_ok=True)
    return [{**row, **before} for row in rows] or [{"task": task, "failed": trouble}]


def _finish(command: Sequence[str], environment: dict[str, str]) -> str:
    """Run a command to its end, and leave no process of it; return what it said last."""
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=TIMEOUT)
            return f"exit code {process.returncode}: {said[-300:]}"
        except subprocess.TimeoutExpired:
            return f"took more than {TIMEOUT} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def run(
    *,
    folder: Path,
    only: str,
    systems: str,
    add: bool,
    peers: Path | None,
    passes: int,
    threads: int,
    wan: str | None,
    tiny: bool,
) -> Path:
    """Measure, write `folder`/rows.jsonl as it goes, then table.md and plot.svg; return the path of the table."""
    checked(commands(peers, threads), systems)
    folder.mkdir(parents=True, exist_ok=True)
    prefix = isolation() if wan is None else emulation(wan)
    chosen = checked(commands(peers, threads) if wan is None or prefix else commands(None, threads, wan), systems)
    path = folder / ("rows.jsonl" if wan is None else "wan.jsonl")
    first = path.read_text().count('"system": "machine"') if add and path.exists() else 0
    with path.open("a" if first else "w") as file:

        def keep(row: dict[str, object]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        for number in range(first, first + passes):
            keep({**machine(prefix, wan), "tiny": tiny})
            for task in tasks.chosen(only):
                for system, command in chosen.items():
                    if task in tasks.TACIT_ONLY and not system.startswith("tacit"):
                        continue
                    for row in measure_one([*prefix, *command], task, threads, folder, tiny):
                        keep({**row, "system": system, "pass": number})
                        print(f"{task:22} {system:12} {row.get('seconds', row.get('failed'))}", flush=True)
    alone.write(folder)
    return report.write(path)
