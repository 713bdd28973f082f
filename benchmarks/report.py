"""Turn rows of measurements into a Markdown table and a plot.

python benchmarks/report.py benchmarks/results/rows.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]

DISTURBED = 0.2
"""CPUs that others used during a measurement from which on it does not count if a calmer one is there."""
NAMES = {"tacit": "Tacit", "crypten": "CrypTen", "spu": "SPU"}


def best(rows: list[Row]) -> dict[tuple[str, str], Row]:
    """Return for each task and system the row of the fastest calm pass: a machine drifts, but only ever to slower."""
    chosen: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: (_disturbance(row) > DISTURBED, row["seconds"]), reverse=True):
        chosen[row["task"], row["system"]] = row
    return chosen


def _disturbance(row: Row) -> float:
    """CPUs that others used, just before or, as far as that can be told, during the measurement."""
    return max(row["foreign_cpus"], row.get("busy_cpus_before", 0.0))


def table(rows: list[Row]) -> str:
    """Return the Markdown table, a line a task."""
    measured = [row for row in rows if "seconds" in row]
    failed = {(row["task"], row["system"]): row["failed"] for row in rows if "failed" in row}
    chosen = best(measured)
    systems = [name for name in NAMES if any(system == name for _, system in [*chosen, *failed])]
    tasks = list(dict.fromkeys(row["task"] for row in rows if "task" in row))
    head = ["task", *(f"{NAMES[s]}, s" for s in systems), *(f"{NAMES[s]}, MB on the wire" for s in systems)]
    head += ["rounds", "a party sent, MB", "producer sent, MB", "Tacit's largest error"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for task in tasks:
        cells = [task]
        for key, scale in (("seconds", 1.0), ("loopback_bytes", 1e6)):
            for system in systems:
                row = chosen.get((task, system))
                cells.append(f"{row[key] / scale:.3g}" if row else "failed" if (task, system) in failed else "")
        cells += _own_cells(chosen.get((task, "tacit")))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _own_cells(row: Row | None) -> list[str]:
    """What only Tacit's meter knows."""
    if row is None:
        return [""] * 4
    error = f"{row['max_abs_err']:.1e}" if "max_abs_err" in row else f"{1 - row['accuracy']:.1%} of rows"
    return [str(row["rounds"]), f"{row['party_bytes'] / 1e6:.3g}", f"{row['producer_bytes'] / 1e6:.3g}", error]


def describe(rows: list[Row]) -> str:
    """Return a paragraph about the machine and how the systems were set."""
    machines = [row for row in rows if row["system"] == "machine"]
    versions = {row["system"]: row["version"] for row in rows if "version" in row}
    here, last = machines[0], machines[-1]
    threads = {row["threads"] for row in rows if "threads" in row}
    foreign = max(map(_disturbance, best([row for row in rows if "seconds" in row]).values()), default=0.0)
    systems = ", ".join(f"{NAMES[system]} {version}" for system, version in versions.items())
    frac_bits = next((row["frac_bits"] for row in rows if "frac_bits" in row), "?")
    return (
        f"{systems}. {here['time'][:10]}, {here['processor']}, {here['cores']} cores, {here['memory_gb']} GB; all "
        f"processes on this machine, threads per process: {', '.join(map(str, sorted(threads)))}. Plain TCP over "
        f"loopback: {here['rtt_us']} µs round trip, {here['bandwidth_gb_s']} GB/s. Tacit: ring Z_2^64, {frac_bits} "
        f"fractional bits, mutual TLS 1.3; CrypTen: 16 fractional bits, no encryption; SPU: 18, no encryption. Passes: "
        f"{len(machines)}. Calibration at the beginning and at the end: {here['calibration_ms']} and "
        f"{last['calibration_ms']} ms. At most {foreign} CPUs were used by others. Loopback device of its own: "
        f"{'yes' if here['isolated_loopback'] else 'no'}."
    )


def plot(rows: list[Row], path: Path) -> None:
    """Draw the seconds of each system on a logarithmic axis, a group of bars a task."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "tacit"  # the same rows give the same file
    from matplotlib import pyplot, ticker

    chosen = best([row for row in rows if "seconds" in row])
    systems = [name for name in NAMES if any(system == name for _, system in chosen)]
    tasks = list(dict.fromkeys(task for task, _ in chosen))[::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 + 0.5 * len(tasks)), layout="constrained")
    height = 0.8 / len(systems)
    for place, system in enumerate(systems):
        seconds = [chosen[task, system]["seconds"] if (task, system) in chosen else float("nan") for task in tasks]
        places = [i + (len(systems) - 1 - 2 * place) * height / 2 for i in range(len(tasks))]
        bars = axes.barh(places, seconds, height, label=NAMES[system])
        axes.bar_label(bars, labels=["" if s != s else f" {s:.2g}" for s in seconds], fontsize=7)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_xlabel("seconds (less is better)")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def write(path: Path) -> Path:
    """Write table.md and plot.svg beside the rows; return the path of the table."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    text = f"# Benchmark results\n\n{describe(rows)}\n\n{table(rows)}\n\n![seconds per task](plot.svg)\n"
    target = path.with_name("table.md")
    target.write_text(text)
    if any("seconds" in row for row in rows):
        plot(rows, path.with_name("plot.svg"))
    return target


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
