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

import measure
import report
import tasks

HERE = Path(__file__).parent
TIMEOUT = 900
"""Seconds for one system on one task, warm-up and repetitions included."""


def commands(peers: Path | None) -> dict[str, list[str]]:
    """Return how to start each system that is there."""
    found = {"tacit": [sys.executable, "-m", "tacit", "local", str(HERE / "tacit_tasks.py"), "--"]}
    for name in ("crypten", "spu") if peers else ():
        python = peers / name / "bin" / "python"
        if not python.exists():
            raise FileNotFoundError(f"there is no {python}: benchmarks/README.md says how to set up peers")
        found[name] = [str(python), str(HERE / "peers" / f"{name}_tasks.py")]
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
        **{key: round(value, 2) for key, value in measure.loopback_limits().items()},
    }


def measure_one(command: Sequence[str], task: str, threads: int, folder: Path) -> list[dict[str, object]]:
    """Run one system on one task; return its rows, or one that says why there is none."""
    out = folder / "row.jsonl"
    out.unlink(missing_ok=True)
    before = {"busy_cpus_before": round(measure.busy_cpus(), 2), "calibration_ms": round(measure.calibrate(), 2)}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
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


def run(*, folder: Path, only: str, peers: Path | None, passes: int, threads: int) -> Path:
    """Measure, write `folder`/rows.jsonl as it goes, then table.md and plot.svg; return the path of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    systems, prefix = commands(peers), isolation()
    path = folder / "rows.jsonl"
    with path.open("w") as file:

        def keep(row: dict[str, object]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        for number in range(passes):
            keep(machine(prefix))
            for task in tasks.chosen(only):
                for system, command in systems.items():
                    for row in measure_one([*prefix, *command], task, threads, folder):
                        keep({"system": system, **row, "pass": number})
                        print(f"{task:22} {system:8} {row.get('seconds', row.get('failed'))}", flush=True)
    return report.write(path)
