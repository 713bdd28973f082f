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
@click.option("--systems", default="", metavar="REGEX", help="Systems whose name matches, say 'tacit-plain|spu'.")
@click.option("--add", is_flag=True, help="Add to the results that are there, instead of beginning anew.")
@click.option("--passes", type=click.IntRange(min=1), default=1, show_default=True, help="How often to go through all.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each process.")
@click.option("--wan", metavar="LINK", help="Emulate a wide-area link, say 40ms,350mbit (round trip, each direction).")
@click.option("--growth", is_flag=True, help="How cost grows: with batch, width, depth and parties, a figure each.")
@click.option("--trees", is_flag=True, help="How a boosted tree grows: with rows, columns, depth and bins.")
@click.option("--small", is_flag=True, help="What one small operator costs, beside the floor of its rounds.")
@click.option("--join", is_flag=True, help="Two tables of 10^6 rows; with --peers, others beside it.")
@click.option("--models", is_flag=True, help="Models of real size: ResNet, ViT, BERT, GPT-2, Llama, Whisper.")
@click.option("--tiny", is_flag=True, help="Tiny sizes, for trying the benchmark out.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where results go.  [default: benchmarks/results]")
@click.pass_context
def bench(
    context: click.Context,
    only: str,
    systems: str,
    add: bool,
    peers: Path | None,
    passes: int,
    threads: int,
    wan: str | None,
    growth: bool,
    trees: bool,
    small: bool,
    join: bool,
    models: bool,
    tiny: bool,
    folder: Path | None,
) -> None:
    """Time training, inference and single operators, in three processes on loopback, with TLS and over plain TCP.

    Writes rows.jsonl, table.md and plot.svg. With `--peers` other frameworks do the same tasks in turn. With `--wan`
    the files are wan.jsonl, wan-table.md and wan-plot.svg; with `--growth`, growth.jsonl and four plots; with
    `--small`, small.jsonl and small-table.md; with `--trees`, trees.jsonl and trees-table.md; with `--join`, join.jsonl
    and join-table.md; with `--models`, models.jsonl and models-table.md, and each model is stopped after four minutes;
    with `--models --wan`, models-wan.jsonl and models-wan-table.md, after a quarter of an hour.
    """
    if context.invoked_subcommand is not None:
        return
    scripts = find("benchmarks")
    for option, pattern in (("only", only), ("systems", systems)):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"--{option} is not a regular expression: {error}") from None
    sys.path.insert(0, str(scripts))
    os.environ["TACIT_BENCH_TINY"] = "1" if tiny else "0"
    target = folder or scripts / "results"
    for study, chosen in (("growth", growth), ("trees", trees), ("small", small), ("models", models)):
        if chosen:
            settings = {"folder": target, "threads": threads, "tiny": tiny}
            settings |= {"only": only} if study in ("trees", "models") else {}
            settings |= {"wan": wan} if study == "models" else {}
            try:
                click.echo(importlib.import_module(study).run(**settings))
            except ValueError as error:
                raise ConfigError(str(error)) from None
    if join:
        click.echo(importlib.import_module("join").run(folder=target, peers=peers, passes=passes, tiny=tiny))
    if growth or small or trees or join or models:
        return
    side_by_side = importlib.import_module("side_by_side")
    try:
        table = side_by_side.run(
            folder=target,
            only=only,
            systems=systems,
            add=add,
            peers=peers,
            passes=passes,
            threads=threads,
            wan=wan,
            tiny=tiny,
        )
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from None
    click.echo(table.read_text())


bench.add_command(bench_serve)
