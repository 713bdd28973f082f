"""`tacit bench`: how fast Tacit is on this machine, and how fast others are beside it."""

from __future__ import annotations

import importlib
import os
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
@click.option("--wan", metavar="LINK", help="Emulate a wide-area link, say 40ms,350mbit (round trip, each direction).")
@click.option("--growth", is_flag=True, help="How cost grows: with batch, width, depth and parties, a figure each.")
@click.option("--tiny", is_flag=True, help="Tiny sizes, for trying the benchmark out.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where results go.  [default: benchmarks/results]")
@click.pass_context
def bench(
    context: click.Context,
    only: str,
    peers: Path | None,
    passes: int,
    threads: int,
    wan: str | None,
    growth: bool,
    tiny: bool,
    folder: Path | None,
) -> None:
    """Time training, inference and single operators, in three processes on loopback, with TLS and over plain TCP.

    Writes rows.jsonl, table.md and plot.svg. With `--peers` other frameworks do the same tasks in turn. With `--wan`
    the files are wan.jsonl, wan-table.md and wan-plot.svg; with `--growth`, growth.jsonl and four plots.
    """
    if context.invoked_subcommand is not None:
        return
    scripts = find("benchmarks")
    try:
        re.compile(only)
    except re.error as error:
        raise ConfigError(f"--only is not a regular expression: {error}") from None
    sys.path.insert(0, str(scripts))
    os.environ["TACIT_BENCH_TINY"] = "1" if tiny else "0"
    target = folder or scripts / "results"
    if growth:
        click.echo(importlib.import_module("growth").run(folder=target, threads=threads, tiny=tiny))
        return
    side_by_side = importlib.import_module("side_by_side")
    try:
        table = side_by_side.run(
            folder=target, only=only, peers=peers, passes=passes, threads=threads, wan=wan, tiny=tiny
        )
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from None
    click.echo(table.read_text())


bench.add_command(bench_serve)
