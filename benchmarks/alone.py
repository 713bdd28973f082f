"""Two parties and nobody else, beside a crypto-producer and beside CHEETAH: a table of its own, from a folder's rows.

    tacit bench --folder F --peers DIR --systems 'tacit-plain|tacit-two-party|cheetah'
    tacit bench --folder F --peers DIR --systems 'tacit-two-party-plain|cheetah' --wan 40ms,350mbit
    python benchmarks/alone.py F

The first two write it as they go; `rows.jsonl` and `wan.jsonl` are what it is made of, as far as they are there. The
documentation has that of benchmarks/results/alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import report
from report import Row

__all__ = ["about", "table", "write"]

PLAIN, TLS = "tacit-two-party-plain", "tacit-two-party"
PREPARED, OWNED, CHEETAH = "tacit-two-party-prepared", "tacit-two-party-owned", "spu-cheetah"
HELPED = "tacit-plain"

Of = dict[str, Row]
"""The rows of a task, by system."""


def own(of: Of) -> Row | None:
    """The row that a peer is compared with: over plain TCP as the peer is, if that was measured."""
    return of.get(PLAIN) or of.get(TLS)


def seconds(system: str) -> Callable[[Of, Of], str]:
    """A column of seconds."""
    return lambda of, _: f"{of[system]['seconds']:.3g}" if system in of else ""


def times(of: Of) -> str:
    """How many times CHEETAH's speed."""
    peer, mine = of.get(CHEETAH), own(of)
    return "" if peer is None or mine is None else f"{peer['seconds'] / mine['seconds']:.3g}"


def number(key: str, unit: float = 1.0) -> Callable[[Of, Of], str]:
    """A column of what the meter has counted."""

    def cell(of: Of, wide: Of) -> str:
        row = own(of) or own(wide)
        if row is None:
            return ""
        return str(row[key]) if isinstance(row[key], int) and unit == 1 else f"{row[key] / unit:.3g}"

    return cell


def memory(system: str | None) -> Callable[[Of, Of], str]:
    """A column of the most memory of a party, less what it has before there is any work."""

    def cell(of: Of, wide: Of) -> str:
        row = own(of) or own(wide) if system is None else of.get(system) or wide.get(system)
        if row is None or "peak_bytes" not in row:
            return ""
        return f"{max(row['peak_bytes'] - row['base_bytes'], 0) / 1e6:.3g}"

    return cell


def far(of: Of, wide: Of) -> str:
    """Seconds over the wide-area link."""
    row = own(wide)
    return "" if row is None else f"{row['seconds']:.3g}"


COLUMNS: dict[str, Callable[[Of, Of], str]] = {
    "with a producer, s": seconds(HELPED),
    "alone, s": seconds(PLAIN),
    "with TLS, s": seconds(TLS),
    "transfers made ahead, s": seconds(PREPARED),
    "each with what it knows, s": seconds(OWNED),
    "CHEETAH, s": seconds(CHEETAH),
    "times its speed": lambda of, _: times(of),
    "hops": number("rounds"),
    "online, MB": number("online_bytes", 1e6),
    "prepared, MB": number("prepared_bytes", 1e6),
    "prepared, s": number("prepared_seconds"),
    "memory a party, MB": memory(None),
    "CHEETAH's, MB": memory(CHEETAH),
    "wide area, s": far,
    "CHEETAH there, s": lambda _, wide: seconds(CHEETAH)(wide, {}),
    "times its speed there": lambda _, wide: times(wide),
}
"""A task's cells, of its rows on this machine and over the wide-area link. A column without any measurement is left
out."""


def table(rows: Sequence[Row], wide: Sequence[Row]) -> str:
    """Return the Markdown table, a line a task."""
    near, distant = (report.best([row for row in some if "seconds" in row]) for some in (rows, wide))
    tasks = dict.fromkeys(row["task"] for row in (*rows, *wide) if "task" in row)
    lines = []
    for task in tasks:
        of, there = ({s: row for (t, s), row in some.items() if t == task} for some in (near, distant))
        if own(of) is not None or own(there) is not None:
            lines.append([f"`{task}`", *(cell(of, there) for cell in COLUMNS.values())])
    names = ["task", *COLUMNS]
    kept = [k for k in range(len(names)) if any(line[k] for line in lines)]
    head = ["| " + " | ".join(names[k] for k in kept) + " |", "|---|" + "---:|" * (len(kept) - 1)]
    return "\n".join([*head, *("| " + " | ".join(line[k] for k in kept) + " |" for line in lines)])


def about(rows: Sequence[Row], wide: Sequence[Row]) -> str:
    """Return what the rows say of the machine and of the link."""
    machine = report.at_its_best([*rows] or [*wide])
    done = report.best([row for row in (*rows, *wide) if "seconds" in row]).values()
    foreign = max((report.disturbance(row) for row in done), default=0.0)
    threads = sorted({row["threads"] for row in (*rows, *wide) if "threads" in row})
    versions = {row["version"] for row in (*rows, *wide) if row["system"] == CHEETAH and "version" in row}
    parts = [
        "**Tiny sizes: for trying the benchmark out, not for reading.**" if machine.get("tiny") else "",
        f"{machine['time'][:10]}, {machine['processor']}, {machine['cores']} cores; threads a process: "
        f"{', '.join(map(str, threads))}; at most {foreign:.2g} CPUs were used by others.",
        f"CHEETAH is that of SPU {', '.join(sorted(versions))}, over plain TCP." if versions else "",
        f"{report.link(report.at_its_best([*wide]))}" if wide else "",
    ]
    return " ".join(filter(None, map(str.strip, parts)))


READING = """All inputs are shared at random, as CHEETAH has them, but in the column that says otherwise. Seconds are
over plain TCP, as CHEETAH's are, but in the column with TLS. What is prepared depends on no input: it is inside the
seconds, except where it was made ahead. Memory is the most that a party had at a time, less what it had before its
first input."""


def write(folder: Path) -> Path | None:
    """Write the table beside the rows of a folder, if two parties alone are among them; return its path."""
    rows, wide = (
        report.rows_of(path) if path.exists() else [] for path in (folder / "rows.jsonl", folder / "wan.jsonl")
    )
    if not any(row["system"] in (PLAIN, TLS) and "seconds" in row for row in (*rows, *wide)):
        return None
    target = folder / "alone-table.md"
    target.write_text(f"# Two parties alone\n\n{about(rows, wide)}\n\n{table(rows, wide)}\n\n{READING}\n")
    return target


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
