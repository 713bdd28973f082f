"""Join two CSV files of many people each, half of them in common, with and without a crypto-producer.

    python benchmarks/join.py --rows 1e6 --passes 3

All processes share this machine; the time is from reading the files to aligned rows, a column each, as secrets.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PROGRAM = """
import time
import tacit, torch
with tacit.session() as session:
    torch.cat([tacit.share(torch.ones(1, 1)), tacit.share(torch.ones(1, 1))], dim=1)  # imports what operators need
    start = time.perf_counter()
    a = tacit.read_table({alice!r}, "alice", key="id")
    b = tacit.read_table({bob!r}, "bob", key="id")
    read = time.perf_counter()
    people = tacit.join(a, b)
    joined = time.perf_counter()
    people.x
    end = time.perf_counter()
    sent = sum(n for (source, _), n in session.transport.wire_bytes.items() if source == tacit.role())
    print("ROW", len(people), read - start, joined - read, end - joined, time.process_time(), sent / 1e6)
"""


def write(folder: Path, rows: int) -> list[Path]:
    """Two files of so many people in orders of their own."""
    draws = np.random.default_rng(1)
    people = draws.permutation(3 * rows)
    paths = []
    for name, some in (("alice", people[:rows]), ("bob", people[rows // 2 : rows // 2 + rows])):
        lines = (
            f"p{k:09d},{v:.3f}"
            for k, v in zip(draws.permutation(some).tolist(), draws.normal(size=rows).tolist(), strict=True)
        )
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text("id,x\n" + "\n".join(lines) + "\n")
    return paths


def of_tacit(folder: Path, files: list[Path], options: list[str]) -> list[list[float]]:
    """A row for each role."""
    program = folder / "program.py"
    program.write_text(PROGRAM.format(alice=str(files[0]), bob=str(files[1])))
    command = [sys.executable, "-m", "tacit", "local", *options, str(program)]
    return found(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def found(text: str) -> list[list[float]]:
    """The figures that a program has printed."""
    return [[float(word) for word in line.split()] for line in re.findall(r"ROW (.*)", text)]


def main() -> None:
    """Measure, and print a line for each system."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--passes", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write(folder, int(asked.rows))
        for _ in range(asked.passes):
            results = {
                "tacit": of_tacit(folder, files, []),
                "tacit-two-party": of_tacit(folder, files, ["--without-producer"]),
            }
            for system, rows in results.items():
                count, read, join, columns = max(rows, key=lambda row: sum(row[1:4]))[:4]
                print(
                    f"{system:16} {int(count)} rows, read {read:.2f} s, join {join:.2f} s, columns {columns:.2f} s, "
                    f"in all {read + join + columns:.2f} s; CPU of a process {max(row[4] for row in rows):.2f} s; "
                    f"{sum(row[5] for row in rows):.1f} MB sent",
                    flush=True,
                )


if __name__ == "__main__":
    main()
