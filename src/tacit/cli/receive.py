"""`tacit receive` and `tacit datasets`: the parties' side of `tacit submit`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tacit.datasets.intake import Doors
from tacit.datasets.store import Limits, Store
from tacit.products import Serving
from tacit.session.config import Config
from tacit.session.meter import readable

__all__ = ["datasets", "receive", "stopped_by_signal"]

CONFIG = click.option(
    "--config", "config_path", required=True, type=click.Path(path_type=Path), help="The config of the run."
)
ROLE = click.option("--as", "role", required=True, metavar="ROLE", help="The party that this machine plays.")


@click.command()
@CONFIG
@ROLE
@click.option(
    "--largest", type=click.IntRange(min=1), default=4096, show_default=True, help="Largest share taken in, in MiB."
)
def receive(config_path: Path, role: str, largest: int) -> None:
    """Take in what clients submit, and keep this party's shares, until interrupted.

    Clients come to the address under "clients" in the config. All parties run this; the roles that help them do not.
    `tacit serve` does it, too, beside answering requests.
    """
    config = Config.load(config_path)
    stop = stopped_by_signal()
    with Doors(config, config.check_role(role), limits=Limits(submission_bytes=largest << 20), log=click.echo):
        click.echo(f"{role} takes data in at {config.of(Serving).clients[config.parties.index(role)]}")
        stop.wait()


def stopped_by_signal() -> threading.Event:
    """Return an event that is set when somebody interrupts or terminates this process."""
    event = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: event.set())
    return event


@click.command()
@CONFIG
@ROLE
def datasets(config_path: Path, role: str) -> None:
    """List the data sets that this party holds shares of. Only submissions that all parties hold will count."""
    config = Config.load(config_path)
    store = Store(Path(config.of(Serving).data) / config.check_role(role))
    table = Table("data set", "tensors", "submissions", "rows", "size", "providers", "last")
    for name in store.datasets():
        held = store.submissions(name)
        if not held:
            continue
        fields = "\n".join(map(str, held[0].schema.fields))
        size = readable(sum(each.schema.nbytes for each in held))
        rows = sum(each.schema.rows for each in held)
        providers = ", ".join(sorted({each.provider for each in held}))
        table.add_row(name, fields, str(len(held)), str(rows), size, providers, held[-1].received[:16])
    Console().print(table if table.row_count else f"{role} holds no data sets in {store.folder}")
