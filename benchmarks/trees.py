"""How the cost of a boosted tree grows with rows, columns, depth and bins; over a slow link; and between two alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import measure

HERE = Path(__file__).parent
TIMEOUT = 1200
STUDIES: dict[str, tuple[int, ...]] = {
    "rows": (2_000, 10_000, 50_000),
    "columns": (8, 32, 128),
    "depth": (2, 4, 6),
    "bins": (8, 16, 32, 64),
}
"""What changes, and its values; the rest stays as in `BASE`."""
BASE = {"rows": 10_000, "columns": 32, "depth": 4, "bins": 16}
TINY = {"rows": 200, "columns": 4, "depth": 2, "bins": 4}
WIDE = "40ms,350mbit"
CALM = 0.5
"""CPUs that others may use before seconds mean little."""


def launches(tiny: bool) -> list[tuple[list[str], list[dict[str, Any]]]]:
    """The options of `launch.py` and the points that are measured with them."""
    base = TINY if tiny else BASE
    points = [
        {**base, "study": study, "value": value, study: value}
        for study, values in STUDIES.items()
        for value in ([base[study]] if tiny else values)
    ]
    return [
        ([], points),
        (["--wan", WIDE], [{**base, "study": f"link of {WIDE}", "value": base["rows"]}]),
        (["--without-producer"], [{**base, "study": "two parties alone", "value": base["rows"]}]),
    ]


def run(*, folder: Path, threads: int, tiny: bool) -> str:
    """Measure, write trees.jsonl and trees-table.md, and return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trees.jsonl"
    path.unlink(missing_ok=True)
    busy = 0.0
    for options, points in launches(tiny):
        busy = max(busy, measure.busy_cpus())
        command = [sys.executable, str(HERE / "launch.py"), "--threads", str(threads), *options]
        subprocess.run(
            [*command, str(HERE / "trees_tasks.py"), "--", "--points", json.dumps(points), "--out", str(path)],
            check=True,
            timeout=TIMEOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    text = f"{describe(rows, busy, tiny)}\n\n{table(rows)}"
    (folder / "trees-table.md").write_text(f"# Boosted trees\n\n{text}\n")
    return text


def describe(rows: list[dict[str, Any]], busy: float, tiny: bool) -> str:
    """Say what was measured, and how calm the machine was."""
    base = ", ".join(f"{value:,} {name}" for name, value in (TINY if tiny else BASE).items())
    others = max([busy, *(row["foreign_cpus"] for row in rows)])
    said = f"Others used {others:.2f} CPUs at most"
    if others > CALM:
        said += ", so the seconds say little; rounds and bytes are those of any machine"
    return (
        "A tree of logistic boosting after the first: two owners with half of the columns each, three processes with "
        f"TLS 1.3 on one machine of {os.cpu_count()} cores. One thing changes at a time; the rest is {base}. CPU is "
        f"that of a party. The first tree sends the owners' masked bins once. {said}."
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table, a line a point."""
    titles = [
        "study",
        "value",
        "seconds",
        "CPU, s",
        "rounds",
        "a party, MB",
        "producer (alone: prepared), MB",
        "once, MB",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for row in rows:
        sent = [f"{row[key] / 1e6:.3g}" for key in ("online_bytes", "producer_bytes", "first_bytes")]
        cells = [row["study"], f"{row['value']:,}", f"{row['seconds']:.3g}", f"{row['cpu_seconds']:.2g}"]
        cells += [f"{row['rounds']:g}", *sent]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
