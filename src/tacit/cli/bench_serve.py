"""`tacit bench serve`: how many clients a prediction service answers, and how long each of them waits."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tacit.cli.repository import find
from tacit.errors import ConfigError, TacitError
from tacit.predictions.load import Load, measure
from tacit.predictions.service import MOST_ROWS
from tacit.session.config import Config
from tacit.session.roles import ALONE
from tacit.session.trial import write_trial

__all__ = ["bench_serve"]

PERCENTILES = (50, 90, 99)
ENDING_SECONDS = 10.0


@click.command("serve")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--to", "config", type=click.Path(path_type=Path), help="Ask this service instead (a public file).")
@click.option("--clients", default="1,4,16", show_default=True, metavar="N,…", help="How many ask at once, in turn.")
@click.option("--requests", type=click.IntRange(min=1), default=50, show_default=True, help="Of each client.")
@click.option("--batch", type=click.IntRange(1, MOST_ROWS), default=8, show_default=True, help="Inputs at once.")
@click.option("--wait", type=click.FloatRange(0, 10_000), default=2.0, show_default=True, help="ms to fill a batch.")
@click.option("--places", type=click.IntRange(min=1), default=64, show_default=True, help="Requests that may wait.")
@click.option("--without-producer", is_flag=True, help="Two servers alone, by the two-party protocol.")
@click.option("--one-server", is_flag=True, help="One server, which computes with each client.")
def bench_serve(
    model: Path | None, config: Path | None, clients: str, requests: int, batch: int, wait: float, places: int,
    without_producer: bool, one_server: bool,
) -> None:  # fmt: skip
    """Measure latency and throughput of a prediction service, with several clients at once.

    Without --to, all roles serve MODEL on this machine, each in a process, over TLS; at first a small convolutional
    network for images of digits.
    """
    try:
        counts = [int(count) for count in clients.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ConfigError(f"--clients is a list of numbers such as 1,4,16, not {clients!r}")
    if config is not None:
        _show([measure(config, count, requests) for count in counts])
        return
    if one_server:
        with _service(
            model or find("benchmarks") / "served_alone.py", ["--batch", str(batch)], {}, ("server",)
        ) as alone:
            _show([measure(alone, count, requests) for count in counts])
        return
    options = ["--batch", str(batch), "--wait", str(wait), "--places", str(places)]
    settings = {"protocol": ALONE} if without_producer else {}
    with _service(model or find("benchmarks") / "served.py", options, settings) as deployed:
        _show([measure(deployed, count, requests) for count in counts])


@contextmanager
def _service(
    model: Path,
    options: Sequence[str],
    settings: Mapping[str, object],
    servers: Sequence[str] = ("server0", "server1"),
) -> Iterator[Config]:
    """All roles of a service on this machine, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="tacit-") as folder:
        path = write_trial(folder, servers, settings)
        config = Config.load(path)
        command = [sys.executable, "-m", "tacit", "serve", str(model), "--config", str(path), *options, "--as"]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        roles = [
            subprocess.Popen([*command, role], stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
            for role in config.settled
        ]
        try:
            for role in roles:
                if role.stdout is None or not role.stdout.readline():
                    raise TacitError(f"the service did not start: see the errors above (is {model} right?)")
            yield config
        finally:
            roles[0].terminate()
            _end(roles)


def _end(roles: Sequence[subprocess.Popen[str]]) -> None:
    """Wait for processes that were asked to end, and make those that do not."""
    for role in roles:
        try:
            role.communicate(timeout=ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            role.kill()
            role.communicate()


def _show(loads: Sequence[Load]) -> None:
    alone = any(load.kilobytes for load in loads)
    first = ("first ms", "kB each") if alone else ()
    table = Table("clients", "requests", "answers a second", *(f"p{p} ms" for p in PERCENTILES), "refused", *first)
    for load in loads:
        percentiles = [f"{1000 * load.latency(p):.1f}" for p in PERCENTILES]
        answered = str(len(load.latencies))
        more = (f"{1000 * load.first:.0f}", f"{load.kilobytes:.0f}") if alone else ()
        table.add_row(str(load.clients), answered, f"{load.throughput:.1f}", *percentiles, str(load.refused), *more)
    Console().print(table)
    click.echo(f"Clients run on this machine, which has {os.cpu_count()} cores for everything.")
