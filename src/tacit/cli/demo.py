"""`tacit demo`: worked examples, run as they would run between organisations, and compared with plain PyTorch."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tacit.cli.local import launch_local, printer
from tacit.cli.repository import find
from tacit.errors import ConfigError
from tacit.session.config import Config
from tacit.session.roles import ALONE, DEFAULT

__all__ = ["demo"]

PARTIES = ("alice", "bob")
LEARNING_RATE = 0.5
GENERATED, BREAST_CANCER = "generated", "breast-cancer"
HELD_OUT = {GENERATED: 1000, BREAST_CANCER: 200}
EPOCHS = {GENERATED: 5, BREAST_CANCER: 10}
MAKERS = {GENERATED: "generate", BREAST_CANCER: "breast_cancer", "credit": "credit_records"}
STEP = re.compile(r"(epoch \d+/\d+), step (\d+)/(\d+)")


@click.group()
def demo() -> None:
    """See a worked example."""


@demo.command()
@click.option("--data", type=click.Choice([GENERATED, BREAST_CANCER]), default=GENERATED, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training rows.  [default: 5, or 10]")
@click.option("--directory", type=click.Path(path_type=Path), default=Path("tacit-run"), show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Of data and training.")
@click.option("--without-producer", is_flag=True, help="The bank and the tax office alone, in two processes.")
def fraud(data: str, epochs: int | None, directory: Path, seed: int, without_producer: bool) -> None:
    """Train a fraud model on the columns of a bank and a tax office, in three processes.

    With `--data breast-cancer` the same on scikit-learn's data, which needs scikit-learn.
    """
    console = Console()
    directory = directory if data == GENERATED else directory / data
    example = _Example(find("examples/fraud"))
    written = example.write_missing(data, directory, seed)
    console.print(f"Wrote {' and '.join(map(str, written))}." if written else f"Using the files in {directory}.")
    settings = {
        "epochs": epochs or EPOCHS[data],
        "learning_rate": LEARNING_RATE,
        "held_out": HELD_OUT[data],
        "seed": seed,
    }
    protocol = ALONE if without_producer else DEFAULT
    report = _train(console, example.folder / "train.py", directory, settings, protocol)
    plain = example.compare(directory, **settings)
    _print_weights(console, report["weights"])
    _print_quality(console, report, plain, HELD_OUT[data])
    _print_cost(console, report["cost"])
    _print_revealed(console, report["revealed"])


@demo.command()
@click.option(
    "--epochs", type=click.IntRange(min=1), default=5, show_default=True, help="Passes over the training rows."
)
@click.option("--directory", type=click.Path(path_type=Path), default=Path("credit-run"), show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Of the made-up records.")
def credit(epochs: int, directory: Path, seed: int) -> None:
    """Find who repays a loan from the raw records of a bank and a credit bureau, in three processes.

    Their tables are joined without showing who is in them, prepared by their owners, and trained on.
    Needs pip install 'tacit[data]'.
    """
    console = Console()
    if importlib.util.find_spec("duckdb") is None:
        raise ConfigError("this demo reads tables as people have them: pip install 'tacit[data]'")
    example = _Example(find("examples/credit"))
    written = example.write_missing("credit", directory, seed)
    console.print(f"Wrote {' and '.join(map(str, written))}." if written else f"Using the files in {directory}.")
    code = launch_local(example.folder / "train.py", parties=PARTIES, args=[str(directory), str(epochs)])
    if code:
        raise SystemExit(code)


class _Example:
    """The example's own modules: who makes up the data, and who trains on it in plain PyTorch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if str(folder) not in sys.path:
            sys.path.append(str(folder))

    def write_missing(self, data: str, directory: Path, seed: int) -> list[Path]:
        try:
            maker = importlib.import_module(MAKERS[data])
        except ModuleNotFoundError as error:
            if error.name != "sklearn":
                raise
            raise ConfigError(f"--data {data} is scikit-learn's: pip install scikit-learn") from None
        try:
            written: list[Path] = maker.write_missing(directory, seed)
        except OSError as error:
            raise ConfigError(f"{error.filename or directory} cannot be written: {error.strerror}") from None
        return written

    def compare(self, directory: Path, **settings: float) -> dict[str, Any]:
        results: dict[str, Any] = importlib.import_module("plain").compare(directory, **settings)
        return results


def _train(
    console: Console, script: Path, directory: Path, settings: Mapping[str, float], protocol: str
) -> dict[str, Any]:
    """Run the example as a process a role behind a progress bar, and return what Alice learned."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    with tempfile.TemporaryDirectory(prefix="tacit-") as folder, Progress(*columns, console=console) as progress:
        report = Path(folder) / "alice.json"
        *roles, last = Config.embedded(PARTIES, protocol=protocol).roles
        bar = progress.add_task(f"starting {', '.join(roles)} and {last}", total=None)
        show = printer((*roles, last))

        def on_line(role: str, line: str) -> None:
            if step := STEP.fullmatch(line):
                progress.update(bar, description=step[1], completed=int(step[2]), total=int(step[3]))
            else:
                show(role, line)

        arguments += [f"--directory={directory}", f"--report={report}"]
        code = launch_local(
            script,
            parties=PARTIES,
            args=arguments,
            env={"TACIT_PROGRESS": "lines"},
            settings={"protocol": protocol},
            on_line=on_line,
        )
        if code:
            raise SystemExit(code)
        result: dict[str, Any] = json.loads(report.read_text())
    return result


def _print_weights(console: Console, weights: Mapping[str, Mapping[str, float]]) -> None:
    """Print the features of both owners side by side, with their weights."""
    table = Table(title="At Alice: the weight of each feature, per standard deviation", title_justify="left")
    for owner in weights:
        table.add_column(f"{owner.capitalize()}'s feature")
        table.add_column("weight", justify="right")
    cells = [[(name, f"{weight:+.3f}") for name, weight in features.items()] for features in weights.values()]
    for row in zip_longest(*cells, fillvalue=("", "")):
        table.add_row(*chain.from_iterable(row))
    console.print(table)


def _print_quality(console: Console, report: Mapping[str, Any], plain: Mapping[str, Any], held_out: int) -> None:
    """Print how good the secret model is, beside the plain ones."""
    table = Table(title=f"On {held_out:,} rows that training never touched", title_justify="left")
    table.add_column("trained on")
    table.add_column("accuracy", justify="right")
    table.add_column("AUC", justify="right")
    table.add_row("both owners' secrets, with Tacit", f"{report['accuracy']:.1%}", f"{report['auc']:.3f}", style="bold")
    names = {
        "pooled": "pooled plain data, which nobody may have",
        "alice alone": "Alice's columns alone",
        "bob alone": "Bob's columns alone",
    }
    for key, name in names.items():
        table.add_row(name, f"{plain[key].accuracy:.1%}", f"{plain[key].auc:.3f}")
    console.print(table)
    weights = chain.from_iterable(features.values() for features in report["weights"].values())
    pairs = zip(weights, plain["pooled"].weights.tolist(), strict=True)
    difference = max(abs(secret - other) for secret, other in pairs)
    console.print(f"Largest difference between a weight and that of pooled plain PyTorch: {difference:.1e}")


def _print_cost(console: Console, cost: Mapping[str, Mapping[str, Any]]) -> None:
    """Print rounds, bytes and seconds of training and evaluation; "prepared" is what no input changes."""
    table = Table(title="Cost", title_justify="left")
    table.add_column("")
    table.add_column("rounds", justify="right")
    kinds = [(kind, role) for kind in ("sent", "prepared") for role in _roles(cost, kind)]
    for kind, role in kinds:
        table.add_column(f"{role} {kind}", justify="right")
    table.add_column("seconds", justify="right")
    for name, part in cost.items():
        counts = [f"{part[kind].get(role, 0) / 1e6:,.2f} MB" for kind, role in kinds]
        table.add_row(name, f"{part['rounds']:,}", *counts, f"{part['seconds']:.2f}")
    console.print(table)


def _roles(cost: Mapping[str, Mapping[str, Any]], kind: str) -> Sequence[str]:
    """Whose bytes of a kind were counted; those that no input changes are counted apart, where there are any."""
    return list(dict.fromkeys(role for part in cost.values() for role in part[kind]))


def _print_revealed(console: Console, revealed: Sequence[Mapping[str, Any]]) -> None:
    """Print Alice's ledger: all that left the computation."""
    table = Table(title="Revealed, and nothing else", title_justify="left")
    for column in ("what", "shape", "to"):
        table.add_column(column)
    for entry in revealed:
        table.add_row(entry["name"], "×".join(map(str, entry["shape"])), ", ".join(entry["receivers"]))
    console.print(table)
