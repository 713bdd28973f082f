"""How cost grows with batch, width, depth and parties: seconds, rounds and bytes of a perceptron's inference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import measure

HERE = Path(__file__).parent
TIMEOUT = 600
STUDIES: dict[str, tuple[int, ...]] = {
    "batch": (1, 4, 16, 64, 256),
    "width": (32, 64, 128, 256, 512),
    "depth": (1, 2, 4, 8, 16),
    "parties": (2, 3, 4, 5),
}
"""What changes, and its values; the rest stays as in `BASE`."""
BASE = {"batch": 32, "width": 128, "depth": 2, "parties": 2}
NAMES = ("alice", "bob", "carol", "dave", "erin")


def launches(tiny: bool) -> dict[int, list[dict[str, Any]]]:
    """Return the points to measure, by the number of parties that measures them."""
    found: dict[int, list[dict[str, Any]]] = {}
    for study, values in STUDIES.items():
        for value in values[:2] if tiny else values:
            point = {**BASE, study: value}
            found.setdefault(point.pop("parties"), []).append({"study": study, "value": value, **point})
    return found


def run(*, folder: Path, threads: int, tiny: bool) -> str:
    """Measure, write growth.jsonl and a figure for each study, and return a table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "growth.jsonl"
    path.unlink(missing_ok=True)
    busy = 0.0
    for parties, points in launches(tiny).items():
        busy = max(busy, measure.busy_cpus())
        command = [sys.executable, str(HERE / "launch.py"), "--threads", str(threads)]
        command += ["--parties", ",".join(NAMES[:parties]), str(HERE / "growth_tasks.py"), "--"]
        subprocess.run(
            [*command, "--points", json.dumps(points), "--out", str(path)],
            check=True,
            timeout=TIMEOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for study in STUDIES:
        plot(study, [row for row in rows if row["study"] == study], folder / f"growth-{study}.svg")
    text = f"{describe(rows, busy)}\n\n{table(rows)}"
    (folder / "growth-table.md").write_text(f"# How cost grows\n\n{text}\n")
    return text


def describe(rows: list[dict[str, Any]], busy: float) -> str:
    """Say what was measured, and how calm the machine was: `busy` CPUs before, others' share meanwhile."""
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    others = max([busy, *(row["foreign_cpus"] for row in rows)])
    return (
        "Inference by a perceptron with ReLU, Bob's model on Alice's rows of 256 numbers, with TLS 1.3, all roles on "
        f"one machine of {os.cpu_count()} cores. One thing changes at a time: its depth (hidden layers), their width, "
        f"the batch, or the number of parties; the rest is {base}. At most {others:.2f} CPUs were used by others."
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table, a line a point."""
    lines = ["| study | value | seconds | rounds | online, MB | producer, MB | largest error |", "|---|" + "---:|" * 6]
    for row in rows:
        sent = [f"{row[key] / 1e6:.3g}" for key in ("online_bytes", "producer_bytes")]
        cells = [row["study"], row["value"], f"{row['seconds']:.3g}", row["rounds"], *sent, f"{row['max_abs_err']:.1e}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def plot(study: str, rows: list[dict[str, Any]], path: Path) -> None:
    """Draw seconds and megabytes over what changes, with proportional growth beside them."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "tacit"  # the same rows give the same file
    from matplotlib import pyplot

    values = [row["value"] for row in rows]
    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(values, [row["seconds"] for row in rows], "o-", label="seconds")
    axes.plot(values, [(row["online_bytes"] + row["producer_bytes"]) / 1e6 for row in rows], "s-", label="MB sent")
    axes.plot(values, [rows[0]["seconds"] * value / values[0] for value in values], ":", label="proportional seconds")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(values, [str(value) for value in values])
    axes.set_xlabel(study)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
