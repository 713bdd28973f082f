"""Turn rows of measurements into a Markdown table and a plot.

python benchmarks/report.py benchmarks/results/rows.jsonl
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import floor

Row = dict[str, Any]

DISTURBED = 0.2
"""CPUs that others used during a measurement from which on it does not count if a calmer one is there."""
NAMES = {
    "tacit": "Tacit",
    "tacit-plain": "Tacit, plain TCP",
    "tacit-two-party": "Tacit, two parties alone",
    "tacit-two-party-plain": "two parties alone, plain TCP",
    "tacit-two-party-prepared": "transfers made ahead, plain TCP",
    "tacit-two-party-owned": "each with what it knows, plain TCP",
    "crypten": "CrypTen",
    "spu-semi2k": "SPU SEMI2K",
    "spu-aby3": "SPU ABY3",
    "spu-cheetah": "SPU CHEETAH",
}
HELPED = ("tacit-plain", "tacit")
ALONE = ("tacit-two-party-plain", "tacit-two-party")
FIGURES = {
    "train.logreg.1epoch": 0.90,
    "train.netA.3steps": 3 * 0.196,
    "train.netB.1step": 3.3,
    "train.netC.1step": 8.1,
    "train.netD.1step": 0.32,
    "infer.lenet.batch32": 1.5,
    "op.relu.1e6": 0.54,
}
"""Seconds of MP-SPDZ (three parties, replicated ring shares, compiled C++) on a machine like this one, measured once by
hand: a figure to compare with, not part of a run."""


LIMITS = {
    min: ("rtt_us", "rtt_looking_us", "wan_measured_ms"),
    max: ("bandwidth_gb_s", "gmac_s", "copy_gb_s", "wan_one_way_mbit_s", "wan_both_ways_mbit_s"),
}
"""What is measured of the machine in each pass: others can only make it look slower."""


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def at_its_best(rows: list[Row]) -> Row:
    """Return what is known of the machine, its limits as the best pass found them."""
    machines = [row for row in rows if row["system"] == "machine"]
    limits = {
        key: choose(row[key] for row in machines if key in row)
        for choose, keys in LIMITS.items()
        for key in keys
        if any(key in row for row in machines)
    }
    return machines[0] | limits


def best(rows: list[Row]) -> dict[tuple[str, str], Row]:
    """Return for each task and system the row of the fastest calm pass: a machine drifts, but only ever to slower."""
    chosen: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: (disturbance(row) > DISTURBED, row["seconds"]), reverse=True):
        chosen[row["task"], row["system"]] = row
    return chosen


def disturbance(row: Row) -> float:
    """CPUs that others used, just before or, as far as that can be told, during the measurement."""
    return max(row["foreign_cpus"], row.get("busy_cpus_before", 0.0))


def table(rows: list[Row]) -> str:
    """Return the Markdown table, a line a task."""
    failed = {(row["task"], row["system"]) for row in rows if "failed" in row}
    chosen = best([row for row in rows if "seconds" in row])
    systems = [name for name in NAMES if any(system == name for _, system in [*chosen, *failed])]
    peers = {
        "CrypTen's": (("crypten",), HELPED),
        "SPU's": (("spu-semi2k", "spu-aby3"), HELPED),
        "CHEETAH's": (("spu-cheetah",), ALONE),
    }
    peers = {name: pair for name, pair in peers.items() if set(pair[0]) & set(systems)}
    alone = any(system.startswith("tacit-two-party") for system in systems)
    machine = at_its_best(rows)
    figures = not machine.get("tiny") and "wan" not in machine
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows if "task" in row):
        of = {system: chosen[task, system] for system in systems if (task, system) in chosen}
        cells = [f"`{task}`"]
        cells += [
            f"{of[system]['seconds']:.3g}" if system in of else "failed" if (task, system) in failed else ""
            for system in systems
        ]
        cells += [_ratio(of, *pair) for pair in peers.values()]
        if figures:
            cells.append(f"{FIGURES[task]:.3g}" if task in FIGURES else "")
        cells += _own_cells(of, machine)
        cells += _alone_cells(of) if alone else []
        lines.append("| " + " | ".join(cells) + " |")
    head = ["task", *(f"{NAMES[system]}, s" for system in systems), *(f"times {name} speed" for name in peers)]
    head += ["MP-SPDZ, s (figure, not run here)"] if figures else []
    head += ["rounds", "online, MB", "producer, MB", "producer, CPU s", "floor, s", "times the floor", "largest error"]
    what_alone = ("rounds", "online, MB", "prepared, MB", "prepared, s", "largest error")
    head += [f"alone: {what}" for what in what_alone] if alone else []
    return "\n".join(["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1), *lines])


def _ratio(of: dict[str, Row], peers: Sequence[str], systems: Sequence[str]) -> str:
    """How many times as fast as the fastest of these peers Tacit is: over plain TCP as they are, and with TLS."""
    seconds = [of[peer]["seconds"] for peer in peers if peer in of]
    if not seconds:
        return ""
    ratios = [f"{min(seconds) / of[own]['seconds']:.3g}" for own in systems if own in of]
    return f"{ratios[0]} ({ratios[1]} with TLS)" if len(ratios) == 2 else "".join(ratios)


def _own_cells(of: dict[str, Row], machine: Row) -> list[str]:
    """What only Tacit's meter knows, and how far above its floor it is."""
    row = of.get("tacit-plain") or of.get("tacit")
    if row is None:
        return [""] * 7
    least = sum(floor.seconds(row, machine).values())
    return [
        str(row["rounds"]),
        f"{row['online_bytes'] / 1e6:.3g}",
        f"{row['producer_bytes'] / 1e6:.3g}",
        f"{row['producer_cpu_seconds']:.3g}",
        f"{least:.2g}",
        f"{row['seconds'] / least:.2g}",
        _error(row),
    ]


def _alone_cells(of: dict[str, Row]) -> list[str]:
    """What two parties alone sent: for this input, and of what no input changes, and how long the latter took."""
    names = *ALONE, "tacit-two-party-owned", "tacit-two-party-prepared"
    row = next((of[name] for name in names if name in of), None)
    if row is None:
        return [""] * 5
    sent = [f"{row[key] / 1e6:.3g}" for key in ("online_bytes", "prepared_bytes")]
    return [str(row["rounds"]), *sent, f"{row['prepared_seconds']:.3g}", _error(row)]


def _error(row: Row) -> str:
    return f"{row['max_abs_err']:.1e}" if "max_abs_err" in row else f"{1 - row['accuracy']:.1%} of rows"


def describe(rows: list[Row]) -> str:
    """Return a paragraph about the machine and how the systems were set."""
    machines = [row for row in rows if row["system"] == "machine"]
    versions = {row["system"].split("-")[0]: row["version"] for row in rows if "version" in row}
    here, last = at_its_best(rows), machines[-1]
    threads = {row["threads"] for row in rows if "threads" in row}
    foreign = max(map(disturbance, best([row for row in rows if "seconds" in row]).values()), default=0.0)
    labels = {"tacit": "Tacit", "crypten": "CrypTen", "spu": "SPU"}
    systems = ", ".join(f"{labels[system]} {version}" for system, version in versions.items())
    own = next((row for row in rows if "frac_bits" in row), {})
    tiny = "**Tiny sizes: for trying the benchmark out, not for reading.** " if here.get("tiny") else ""
    return (
        f"{tiny}{systems}. {here['time'][:10]}, {here['processor']}, {here['cores']} cores, {here['memory_gb']} GB; "
        f"all processes on this machine, threads per process: {', '.join(map(str, sorted(threads)))}. {link(here)}"
        f"Plain TCP over loopback: {here['rtt_us']} µs round trip{_looking(here)}, {here['bandwidth_gb_s']} GB/s; "
        f"64-bit matrix product: {here['gmac_s']} G multiply-adds/s a thread; copy in memory: {here['copy_gb_s']} GB/s "
        "read and written. Tacit: two parties and the crypto-producer, ring Z_2^64, "
        f"{own.get('frac_bits', '?')} fractional bits, kernels: {own.get('kernels', '?')}, TLS 1.3 in the first "
        "column; CrypTen: two parties, 16 fractional bits; SPU: 18; both over plain TCP. "
        f"Passes: {_passes(rows)}. Calibration at the beginning and at the end: "
        f"{here['calibration_ms']} and {last['calibration_ms']} ms. At most {foreign} CPUs were used by others."
        + ("" if "wan" in here else f" Loopback device of its own: {'yes' if here['isolated_loopback'] else 'no'}.")
    )


def _looking(machine: Row) -> str:
    return f" ({machine['rtt_looking_us']} µs without sleeping)" if "rtt_looking_us" in machine else ""


def _passes(rows: list[Row]) -> str:
    """Say how often tasks were gone through: each as often, or some less than others."""
    passes: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        if "task" in row:
            passes.setdefault((row["task"], row["system"]), set()).add(row.get("pass", 0))
    counts = sorted(map(len, passes.values())) or [0]
    return f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"


def link(machine: Row) -> str:
    """Describe the emulated link, if there is one."""
    if "wan" not in machine:
        return ""
    if not machine["wan_hosts"]:
        return f"Links between roles: emulated, {machine['wan']}, by relaying each connection. "
    return (
        f"Every party on a host of its own (a network namespace), links between hosts: emulated, {machine['wan']} each "
        f"way; measured: {machine['wan_measured_ms']} ms, {machine['wan_one_way_mbit_s']} Mbit/s, and "
        f"{machine['wan_both_ways_mbit_s']} each way when both ends send. "
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
    figure, axes = pyplot.subplots(figsize=(8, 0.5 + 0.7 * len(tasks)), layout="constrained")
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


def page(path: Path) -> str:
    """Return what a file of rows says: the machine, the table, and how to read it."""
    rows = rows_of(path)
    return f"{describe(rows)}\n\n{table(rows)}\n\n{READING}"


READING = """Seconds are medians, of the fastest calm pass; what takes longer than half a minute was run once. The floor
is the least work of the protocol at the rates above: ring products over the cores, every number and byte through memory
once, every byte over the wire once, half a round trip a round. Rounds, bytes, the producer's work and the floor are
those of Tacit over plain TCP; with TLS, rounds and bytes are the same."""


def write(path: Path) -> Path:
    """Write a table and a plot beside the rows; return the path of the table."""
    rows = rows_of(path)
    stem = {"rows": ("table", "plot")}.get(path.stem, (f"{path.stem}-table", f"{path.stem}-plot"))
    target = path.with_name(f"{stem[0]}.md")
    target.write_text(f"# Benchmark results\n\n{page(path)}\n\n![seconds per task]({stem[1]}.svg)\n")
    if any("seconds" in row for row in rows):
        plot(rows, path.with_name(f"{stem[1]}.svg"))
    return target


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
