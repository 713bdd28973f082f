"""`tacit bench`: how fast Tacit is on this machine, and how fast others are beside it."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import click

from tacit.cli.bench_serve import bench_serve
from tacit.cli.repository import find
from tacit.errors import ConfigError

__all__ = ["bench"]


@click.group(invoke_without_command=True)
@click.option("--only", default="", metavar="REGEX", help="Tasks whose name matches, say 'train|op.mul'.")
@click.option("--peers", type=click.Path(path_type=Path), help="Folder with virtual environments crypten/ and spu/.")
@click.option("--passes", type=click.IntRange(min=1), default=1, show_default=True, help="How often to go through all.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each process.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where results go.  [default: benchmarks/results]")
@click.pass_context
def bench(
    context: click.Context, only: str, peers: Path | None, passes: int, threads: int, folder: Path | None
) -> None:
    """Time training, inference and single operators, in three processes over TLS on loopback.

    Writes rows.jsonl, table.md and plot.svg. With `--peers` other frameworks do the same tasks in turn.
    """
    if context.invoked_subcommand is not None:
        return
    scripts = find("benchmarks")
    try:
        re.compile(only)
    except re.error as error:
        raise ConfigError(f"--only is not a regular expression: {error}") from None
    sys.path.insert(0, str(scripts))
    side_by_side = importlib.import_module("side_by_side")
    try:
        table = side_by_side.run(
            folder=folder or scripts / "results", only=only, peers=peers, passes=passes, threads=threads
        )
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from None
    click.echo(table.read_text())


bench.add_command(bench_serve)
