"""Join two CSV files of many people each, half of them in common: Tacit with and without a crypto-producer, and others.

    python benchmarks/join.py --rows 1e6 --passes 3 --peers /path/to/peers
    python benchmarks/join.py --rows 1e5 --only size      # rows that nobody knows

All processes share this machine; the time is from reading the files to aligned rows, a column each, as secrets; of the
others, to files of aligned rows, in which both parties see who matched.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np
from side_by_side import isolation

HERE = Path(__file__).parent
TIMEOUT = 1800
CALM = 0.5
"""CPUs that others may use before seconds mean little."""

PROGRAM = """
import resource, time
import tacit, torch
with tacit.session() as session:
    torch.cat([tacit.share(torch.ones(1, 1)), tacit.share(torch.ones(1, 1))], dim=1)  # imports what operators need
    tacit.read_table({{"id": ["a"], "x": [1.0]}}, "alice", key="id")  # and what reading needs
    tacit.read_table({{"id": ["a"], "x": [1.0]}}, "bob", key="id")
    start, cpu = time.perf_counter(), time.process_time()
    a = tacit.read_table({alice!r}, "alice", key="id")
    b = tacit.read_table({bob!r}, "bob", key="id")
    read = time.perf_counter()
    people = tacit.join(a, b, reveal={reveal!r})
    joined = time.perf_counter()
    people.x
    end = time.perf_counter()
    sent = sum(n for (source, _), n in session.transport.wire_bytes.items() if source == tacit.role())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print("ROW", len(people), end - start, read - start, joined - read, end - joined, time.process_time() - cpu,
          sent / 1e6, most)
"""

TACIT = {
    "tacit": ("members", []),
    "tacit-two-party": ("members", ["--without-producer"]),
    "tacit-size": ("size", []),
    "tacit-size-two-party": ("size", ["--without-producer"]),
}
PEERS = {"spu-rr22": "spu", "spu-ecdh": "spu", "openmined-psi": "openmined"}
"""The others, and in which folder their environment is."""

USUAL = "^(tacit|tacit-two-party|spu-.*|openmined-psi)$"
SLOW = {"openmined-psi": 10}
"""Those that take minutes get so many times fewer rows."""


def write(folder: Path, rows: int) -> list[Path]:
    """Two files of so many people in orders of their own."""
    draws = np.random.default_rng(1)
    people = draws.permutation(3 * rows)
    paths = []
    for name, some in (("alice", people[:rows]), ("bob", people[rows // 2 : rows // 2 + rows])):
        order, values = draws.permutation(some), draws.normal(size=rows)
        paths.append(folder / f"{name}-{rows}.csv")
        with paths[-1].open("w") as file:
            file.write("id,x\n")
            for at in range(0, rows, 1 << 20):
                pairs = zip(order[at : at + (1 << 20)].tolist(), values[at : at + (1 << 20)].tolist(), strict=True)
                file.writelines(f"p{k:09d},{v:.3f}\n" for k, v in pairs)
    return paths


def of_tacit(name: str, folder: Path, files: Sequence[Path]) -> list[str]:
    """The command of a system of ours."""
    reveal, options = TACIT[name]
    program = folder / "program.py"
    program.write_text(PROGRAM.format(alice=str(files[0]), bob=str(files[1]), reveal=reveal))
    return [sys.executable, "-m", "tacit", "local", *options, str(program)]


def of_peer(name: str, peers: Path, files: Sequence[Path]) -> list[str]:
    """The command of another one's."""
    python = peers / PEERS[name] / "bin" / "python"
    return [str(python), str(HERE / "peers" / "join_tasks.py"), "--system", name, *map(str, files)]


def measured(command: Sequence[str], prefix: Sequence[str]) -> dict[str, Any]:
    """Run a command, alone on a loopback device where that is possible, whose counter then is its traffic."""
    foreign = measure.Foreign()
    done = subprocess.run(
        [*prefix, "sh", "-c", '"$@" && grep lo: /proc/net/dev', "sh", *command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it said nothing"])[-1]}
    rows = [[float(word) for word in line.split()] for line in re.findall(r"ROW (.*)", done.stdout)]
    names = "rows", "seconds", "read", "join", "columns", "cpu_seconds", "megabytes", "memory_megabytes"
    slowest = max(rows, key=lambda row: row[1])
    out: dict[str, Any] = dict(zip(names, slowest, strict=False))
    for place in (5, 7):
        out[names[place]] = max(row[place] for row in rows)
    out["megabytes"] = sum(row[6] for row in rows)
    counted = int(re.findall(r"lo:\s*(\d+)", done.stdout)[-1]) / 1e6
    if prefix and counted:  # one process says itself what it would send
        out["megabytes"] = counted
    return {**out, "foreign_cpus": round(foreign.cpus(), 2)}


def systems(rows: int, folder: Path, peers: Path | None, only: str) -> Iterator[tuple[str, int, list[str]]]:
    """What is measured: its name, how many rows it joins, and its command."""
    written = {}
    for name in (*TACIT, *PEERS):
        if not re.search(only, name):
            continue
        count = max(rows // SLOW.get(name, 1), 2)
        files = written[count] = written.get(count) or write(folder, count)
        if name in TACIT:
            yield name, count, of_tacit(name, folder, files)
        elif peers is not None and (peers / PEERS[name]).exists():
            yield name, count, of_peer(name, peers, files)


def run(
    *,
    folder: Path,
    peers: Path | None = None,
    rows: int = 1_000_000,
    passes: int = 1,
    only: str = USUAL,
    tiny: bool = False,
) -> str:
    """Measure all in turn, write join.jsonl and join-table.md, and return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    busy, prefix = measure.busy_cpus(), isolation()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(passes):
            for name, count, command in systems(1000 if tiny else rows, Path(scratch), peers, only):
                row = {"system": name, "of": count, "pass": number, **measured(command, prefix)}
                print(json.dumps(row), flush=True)
                found.append(row)
    (folder / "join.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    text = f"{describe(found, busy)}\n\n{table(found)}"
    (folder / "join-table.md").write_text(f"# Joins\n\n{text}\n")
    return text


def describe(rows: Sequence[dict[str, Any]], busy: float) -> str:
    """Say what was measured, and how calm the machine was."""
    others = max([busy, *(row.get("foreign_cpus", 0.0) for row in rows)])
    said = f"Others used {others:.2f} CPUs at most"
    if others > CALM:
        said += ", so the seconds say little; bytes are those of any machine"
    return (
        "Two CSV files of so many people each, half of them in common, one number a person. Tacit's time is from the "
        "files to aligned rows as secrets, with TLS 1.3; the others', over plain TCP, to files of aligned rows that "
        "show both who matched (of `openmined-psi`, which has no network, to the keys in common, in one process). MB "
        "are those of all processes together. The least of all passes, in turn, on a machine of "
        f"{os.cpu_count()} cores. {said}."
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table, a line a system."""
    lines = ["| | rows each | seconds | CPU of a process, s | MB | memory of a process, MB |", "|---|" + "---:|" * 5]
    for name in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == name and "seconds" in row]
        if not mine:
            lines.append(f"| {name} | | failed | | | |")
            continue
        best = min(mine, key=lambda row: row["seconds"])
        cells = [f"{best['of']:,}", *(f"{best[key]:.3g}" for key in ("seconds", "cpu_seconds", "megabytes"))]
        lines.append(f"| {name} | {' | '.join(cells)} | {best['memory_megabytes']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--peers", type=Path, help="a folder with virtual environments spu/ and openmined/")
    parser.add_argument("--only", default=USUAL, help="a regular expression of systems")
    parser.add_argument("--folder", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    measuring = partial(run, folder=asked.folder, peers=asked.peers, rows=int(asked.rows), passes=asked.passes)
    print(measuring(only=asked.only))


if __name__ == "__main__":
    main()
