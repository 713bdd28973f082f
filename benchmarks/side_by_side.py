"""Run every system on every task in turn, and write the rows, a table and a plot. `tacit bench` calls `run`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import floor
import measure
import report
import tasks

from tacit.net.emulation import Conditions

HERE = Path(__file__).parent
TIMEOUT = 900
"""Seconds for one system on one task, warm-up and repetitions included."""


def commands(peers: Path | None, threads: int, wan: str | None) -> dict[str, list[str]]:
    """Return how to start each system that is there."""
    link = [] if wan is None else ["--wan", wan]
    here = [sys.executable, str(HERE / "launch.py"), "--threads", str(threads), *link]
    script = [str(HERE / "tacit_tasks.py"), "--"]
    found = {"tacit": [*here, *script], "tacit-plain": [*here, "--plain", *script]}
    if peers is None:
        return found
    pythons = {name: peers / name / "bin" / "python" for name in ("crypten", "spu")}
    for name, python in pythons.items():
        if not python.exists():
            raise FileNotFoundError(f"there is no {python}: benchmarks/README.md says how to set up {name}")
    own = ["--threads", str(threads)]
    if wan is None:  # CrypTen's parties find each other by themselves, so nothing can be put between them
        found["crypten"] = [str(pythons["crypten"]), str(HERE / "peers" / "crypten_tasks.py"), *own]
    for protocol in ("SEMI2K", "ABY3"):
        spu = [str(pythons["spu"]), str(HERE / "peers" / "spu_tasks.py"), "--protocol", protocol, *link, *own]
        found[f"spu-{protocol.lower()}"] = spu
    return found


def isolation() -> list[str]:
    """Return what starts a command with a loopback device of its own, where this user may do that.

    Nobody else's traffic is on that device then, so that its counter of bytes is that of the benchmark alone.
    """
    prefix = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        works = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        works = False
    return prefix if works else []


def machine(prefix: Sequence[str]) -> dict[str, object]:
    """Describe the machine as it is now."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in cpuinfo if "model name" in line), platform.processor())
    return {
        "system": "machine",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "isolated_loopback": bool(prefix),
        "calibration_ms": round(measure.calibrate(), 2),
        **{key: round(value, 2) for key, value in {**measure.loopback_limits(), **floor.arithmetic_limits()}.items()},
    }


def link(wan: str) -> dict[str, object]:
    """Describe the emulated link."""
    conditions = Conditions.parse(wan)
    return {"wan": str(conditions), "wan_round_trip": conditions.round_trip, "wan_rate": conditions.rate}


def measure_one(command: Sequence[str], task: str, threads: int, folder: Path, tiny: bool) -> list[dict[str, object]]:
    """Run one system on one task; return its rows, or one that says why there is none."""
    out = folder / "row.jsonl"
    out.unlink(missing_ok=True)
    before = {"busy_cpus_before": round(measure.busy_cpus(), 2), "calibration_ms": round(measure.calibrate(), 2)}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TACIT_BENCH_TINY": "1" if tiny else "0"}
    try:
        done = subprocess.run(
            [*command, "--only", f"^{task}$", "--out", str(out)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        trouble = f"exit code {done.returncode}: {(done.stderr or done.stdout)[-300:]}"
    except subprocess.TimeoutExpired:
        trouble = f"took more than {TIMEOUT} s"
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    out.unlink(missing_ok=True)
    return [{**row, **before} for row in rows] or [{"task": task, "failed": trouble}]


def run(
    *,
    folder: Path,
    only: str,
    peers: Path | None,
    passes: int,
    threads: int,
    wan: str | None = None,
    tiny: bool = False,
) -> Path:
    """Measure, write `folder`/rows.jsonl as it goes, then table.md and plot.svg; return the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    systems, prefix = commands(peers, threads, wan), isolation()
    path = folder / ("rows.jsonl" if wan is None else "wan.jsonl")
    with path.open("w") as file:

        def keep(row: dict[str, object]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        for number in range(passes):
            keep({**machine(prefix), **({} if wan is None else link(wan)), "tiny": tiny})
            for task in tasks.chosen(only):
                for system, command in systems.items():
                    if task in tasks.TACIT_ONLY and not system.startswith("tacit"):
                        continue
                    for row in measure_one([*prefix, *command], task, threads, folder, tiny):
                        keep({**row, "system": system, "pass": number})
                        print(f"{task:22} {system:12} {row.get('seconds', row.get('failed'))}", flush=True)
    return report.write(path)
