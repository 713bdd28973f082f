"""`tacit submit`: data of somebody who is no computing party."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from tacit.datasets.files import read_tensors
from tacit.serve import Client

__all__ = ["submit"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--to", "config", required=True, type=click.Path(path_type=Path), help="The servers' public file.")
@click.option("--dataset", required=True, help="The data set to append to.")
@click.option("--label", help="The column of a CSV file that becomes the tensor y.")
@click.option("--identity", type=click.Path(path_type=Path), help="This client's key, where the servers ask for one.")
@click.option("--timeout", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds of patience.")
def submit(
    file: Path, config: Path, dataset: str, label: str | None, identity: Path | None, timeout: float
) -> None:  # fmt: skip
    """Share FILE with the servers, which append its rows to a data set and learn nothing of them.

    FILE is .npz or .safetensors with tensors by name, .npy, or .csv. All tensors have the same number of rows. Every
    server must confirm; without that, nothing has been submitted.
    """
    with Client(config, identity=identity, timeout=timeout) as client:
        tensors = read_tensors(file, label)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"to {dataset}", total=None)
            show = lambda sent, total: bar.update(task, completed=sent, total=total)  # noqa: E731
            receipt = client.submit(tensors, dataset, progress=show)
    click.echo(receipt)
