"""How the cost of a boosted tree grows with rows, columns, depth and bins; over a slow link; and between two alone."""

from __future__ import annotations

import json
import os
import re
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
AIMS: tuple[tuple[int, int, float], ...] = ((7_000, 20, 8.0), (50_000, 20, 10.0))
"""Whole fits that have an aim: rows, trees and seconds; the rest as in `BASE`."""
PUBLISHED: tuple[tuple[str, ...], ...] = (
    (
        "SGB of SecretFlow 1.5.0a2",
        "homomorphic encryption; the labels' owner sees gradients and trees",
        "45,211 × 17, 100 trees at most",
        "136 s in all; 208 s over 20 ms and 100 Mbit/s",
        "two machines, 8 cores of Xeon 8369B each, local network",
        "SecretFlow, sgb_benchmark.md",
    ),
    (
        "SGB of SecretFlow",
        "the same",
        "800,000 × 1,500 at each of two",
        "4,177 s in all",
        "32 vCPUs of Xeon 8269CY and 256 GB each, 50 ms and 100 Mbit/s",
        "SecretFlow, overall_benchmark.md",
    ),
    (
        "Hetero-SecureBoost of FATE 2.0",
        "the same",
        "100,000 × 330",
        "114 s a tree, or 131 s with EggRoll",
        "two machines, 16 cores of Xeon 8255C and 32 GB each, 1 Gbit/s",
        "FATE, performance_multi_engines.md",
    ),
    (
        "Squirrel",
        "two parties without a producer; nothing revealed in training",
        "50,000 rows",
        "below 6 s a tree",
        "not said where this could be read",
        "ePrint 2023/527, abstract",
    ),
    ("Squirrel", "the same", "10^6 rows", "some 170 s a tree, or 90 s", "a wide-area network", "both its abstracts"),
    (
        "Pivot",
        "no producer; homomorphic encryption and shares",
        "50,000 rows",
        "more than 28 times Squirrel",
        "Squirrel's",
        "the same",
    ),
    (
        "SS-XGB of SecretFlow",
        "secret-shared; the edges that are chosen become known to all",
        "",
        "no figure found that says its machine",
        "",
        "CIKM 2021, arXiv 2005.08479",
    ),
)
"""What others say of themselves: system and promise, data, time, machine, where it stands. Not run here."""
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
    rows, trees = (100, 2) if tiny else (0, 0)
    aims = [
        {**base, "study": "aim", "value": rows or n, "rows": rows or n, "trees": trees or count, "aim": seconds}
        for n, count, seconds in AIMS
    ]
    return [
        ([], points),
        (["--wan", WIDE], [{**base, "study": f"link of {WIDE}", "value": base["rows"]}]),
        (["--without-producer"], [{**base, "study": "two parties alone", "value": base["rows"]}]),
        ([], aims),
    ]


def run(*, folder: Path, threads: int, tiny: bool, only: str = "") -> str:
    """Measure, write trees.jsonl and trees-table.md, and return the table. `only` names studies; others stay."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trees.jsonl"
    before = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.write_text("".join(json.dumps(row) + "\n" for row in before if only and not re.search(only, row["study"])))
    busy = 0.0
    for options, every in launches(tiny):
        points = [point for point in every if re.search(only, point["study"])]
        if not points:
            continue
        busy = max(busy, measure.busy_cpus())
        command = [sys.executable, str(HERE / "launch.py"), "--threads", str(threads), *options]
        subprocess.run(
            [*command, str(HERE / "trees_tasks.py"), "--", "--points", json.dumps(points), "--out", str(path)],
            check=True,
            timeout=TIMEOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    aims, growth = ([row for row in rows if (row["study"] == "aim") == aim] for aim in (True, False))
    text = f"{describe(growth or rows, busy, tiny)}\n\n{table(growth)}\n\n{fits(aims) + published()}"
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


def fits(rows: list[dict[str, Any]]) -> str:
    """Return the table of whole fits beside their aims, if there are any."""
    if not rows:
        return ""
    lines = ["Whole fits, the first tree and what is sent once among them:", ""]
    lines += [
        "| rows | trees | aim, s | seconds | a tree, s | CPU, s | rounds a tree | CPUs of others |",
        "|---:" * 8 + "|",
    ]
    for row in rows:
        each = row["seconds"] / row["trees"]
        lines.append(
            f"| {row['rows']:,} | {row['trees']} | {row['aim']:g} | {row['seconds']:.3g} | {each:.2g} "
            f"| {row['cpu_seconds']:.2g} | {row['rounds']:g} | {row['foreign_cpus']:.2f} |"
        )
    return "\n".join([*lines, "", ""])


def published() -> str:
    """Return what others say of themselves."""
    titles = "| system | what it promises | rows × columns | time | on | said in |"
    lines = [
        "Published by others, on their machines and with other promises; not run here:",
        "",
        titles,
        "|---" * 6 + "|",
    ]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in PUBLISHED)])


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
