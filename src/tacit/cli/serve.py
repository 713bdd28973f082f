"""`tacit serve`: one role of a prediction service."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
import torch

import tacit
from tacit.datasets.store import Limits
from tacit.errors import ConfigError, TacitError
from tacit.outside.plan import KeyPlan, Plan
from tacit.predictions.desk import FarDesk
from tacit.predictions.front import Front
from tacit.predictions.host import Host
from tacit.predictions.service import MOST_ROWS
from tacit.products import Serving
from tacit.serve import Service
from tacit.session.config import Config
from tacit.session.launch import launched, start
from tacit.session.program import executed
from tacit.session.ranks import here

__all__ = ["serve"]

SEED = 1
"""Of public randomness at ranks that serve, if the config names none: what load() draws is the same at all of them."""


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help="The config of the run.")
@click.option("--as", "role", metavar="ROLE", help="The role that this machine plays, where there are several.")
@click.option("--batch", type=click.IntRange(1, MOST_ROWS), default=8, show_default=True, help="Inputs at once.")
@click.option("--wait", type=click.FloatRange(0, 10_000), help="ms to fill a batch.  [default: 2]")
@click.option(
    "--places", type=click.IntRange(min=1), help="Requests that may wait, or clients of one server.  [default: 64, 16]"
)
@click.option("--largest", type=click.IntRange(min=1), help="Largest share, in MiB.  [default: 4096]")
@click.option(
    "--ranks", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that answer, of each role."
)
@click.option("--line", type=int, hidden=True, help="Of a rank, to the process that keeps its door.")
def serve(
    model: Path,
    config_path: Path,
    role: str | None,
    batch: int,
    wait: float | None,
    places: int | None,
    largest: int | None,
    ranks: int,
    line: int | None,
) -> None:
    """Answer clients' requests with the model in MODEL, until interrupted; all roles run this, with the same options.

    MODEL is a Python file with INPUT, the shape of one input, and load(), which every role calls in the session and
    which returns the model; DTYPE, if it is there, is the dtype of inputs. If the columns are the parties' own, it has
    tables() in the place of INPUT, which returns their tables, prepared as for training: clients say whom they ask
    about, and each owner puts in its columns. Only owners that GIVEN names take columns from clients; columns(), if
    it is there, returns the names of those that the model was trained with, which the tables must have. Clients may
    submit data as well, as to `tacit receive`. An interrupt at the first party lets it answer what it has accepted; one
    at another role ends the service at once.

    With a config of one role, {"server": "host:port"}, each client is the other party: it computes with this server and
    keeps its rows, and load() returns a plain model, whose weights stay here.

    With --ranks, all roles have so many processes, each with the whole model, and requests go to whichever is idle. One
    that dies is left out, and what it had not answered is answered by others.
    """
    if here().count > 1 and line is None:
        raise ConfigError(
            "processes that serve are started by `tacit serve --ranks`, one command a role: leave torchrun out"
        )
    config = Config.load(config_path)
    if config.awaits_clients:
        if ranks > 1:
            raise ConfigError("one server has a process for each of its clients already: leave --ranks out")
        if wait is not None or largest is not None:
            raise ConfigError("one server fills no batches and takes no shares: leave --wait and --largest out")
        if role is not None:
            config.check_role(role)
        serve_alone(model, config, batch, places or 16)
        return
    if role is None:
        raise ConfigError(f"say which role this machine plays: --as, with one of {', '.join(config.roles)}")
    config.check_role(role)
    wait, places, largest = (2.0 if wait is None else wait) / 1000, places or 64, largest or 4096
    limits = Limits(submission_bytes=largest << 20)
    if ranks > 1:
        own = ["--batch", str(batch), "--wait", str(wait * 1000), "--places", str(places), "--largest", str(largest)]
        command = [sys.executable, "-m", "tacit", "serve", str(model), "--config", str(config_path), "--as", role, *own]
        serve_by_ranks(config, role, ranks, command, places=places, limits=limits)
        return
    desk = None if line is None else FarDesk(socket.socket(fileno=line))
    launch = launched(config, role, model)
    load, tables, given, columns, shape, dtype = _read_model(model)
    start(launch)
    signal.signal(signal.SIGTERM, _interrupt)
    with tacit.session(seed=None if desk is None else SEED) as session:
        service = Service(
            load(), shape, tables=tables and tables(), given=given, columns=columns and columns(), dtype=dtype,
            batch=batch, wait=wait, places=places, limits=limits, log=click.echo, desk=desk,
        )  # fmt: skip
        if desk is not None:
            plan = service.plan if role in config.parties else None
            service.run(lambda: desk.ready(plan))
            return
        if role == session.parties[0]:
            _stop_gently(service)
        service.run(lambda: click.echo(_greeting(config, role, service.plan)))
    if role in config.parties:
        done = f"{service.answered} requests in {service.batches} batches"
        click.echo(f"{role} answered {done}, and refused {service.refused}")


def serve_by_ranks(
    config: Config, role: str, ranks: int, command: Sequence[str], *, places: int, limits: Limits
) -> None:
    """Keep the door of a role, and start its ranks behind it."""

    def of_line(line: int) -> list[str]:
        return [*command, "--line", str(line)]

    front = Front(
        config, role, ranks, of_line, places=places, limits=limits, log=lambda text: click.echo(text, err=True)
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: front.stop())
    well = front.run(lambda plan, left: click.echo(f"{_greeting(config, role, plan)}, by {left} of {ranks} ranks"))
    if role in config.parties:
        click.echo(f"{role} answered {front.answered} requests, and refused {front.refused}")
    if not well:
        sys.exit(1)


def serve_alone(path: Path, config: Config, batch: int, places: int) -> None:
    """Serve a model to clients who are each the other party."""
    role = config.parties[0]
    launched(config, role, path)
    torch.set_num_threads(1)
    load, tables, _, _, shape, dtype = _read_model(path)
    if tables is not None or shape is None:
        raise ConfigError(f"{path} has tables() of several owners: with one server it has INPUT, which clients give")
    try:
        model = load()
    except TacitError as error:
        raise ConfigError(
            f"{path}: with one server load() returns a plain model, without tacit.share or tacit.load ({error})"
        ) from None
    host = Host(model, config, shape, dtype=dtype, batch=batch, places=places, log=click.echo)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: host.stop())
    host.run(lambda: click.echo(_invitation(config, host)))
    click.echo(f"{role} answered {host.answered} requests, and turned {host.refused} clients away")


def _invitation(config: Config, host: Host) -> str:
    terms, (single, constant) = host.terms, host.told
    return (
        f"{terms.role} computes with clients at {config.addresses[0]}: up to {terms.plan.batch} inputs of shape "
        f"{terms.plan.shape} at once, by the model {terms.model}\n"
        f"clients are told of the model: its operators and shapes, {single} numbers of its code, and {constant} in "
        f"constant tensors"
    )


Maker = Callable[[], Any]
Loaded = tuple[Maker, Maker | None, Sequence[str], Maker | None, Sequence[int] | None, torch.dtype]
"""What makes the model, what reads the tables of owners, if it does, which of them take columns of clients, what says
with which columns it was trained, and shape and dtype of what clients send."""


def _read_model(path: Path) -> Loaded:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    sys.path.insert(0, str(path.resolve().parent))
    names = executed(path, "served_model")
    tables, shape = names.get("tables"), names.get("INPUT")
    if not callable(names.get("load")) or callable(tables) == (shape is not None):
        raise ConfigError(
            f"{path} must define INPUT, the shape of one input, or tables(), which returns the tables of owners, "
            f"and load(), which returns the model"
        )
    given, dtype = names.get("GIVEN", ()), names.get("DTYPE", torch.float32)
    tables, columns = (each if callable(each) else None for each in (tables, names.get("columns")))
    return names["load"], tables, given, columns, shape, dtype


def _stop_gently(service: Service) -> None:
    """Let the first interrupt end the service in order, and the second one at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, _interrupt)
        service.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _greeting(config: Config, role: str, plan: Plan | KeyPlan | None) -> str:
    if role not in config.parties or plan is None:
        return f"{role} makes correlated randomness ahead"
    address = config.of(Serving).clients[config.parties.index(role)]
    if isinstance(plan, KeyPlan):
        owners = " and ".join(owner for owner, _ in plan.owners)
        return f"{role} answers at {address}: up to {plan.batch} people at once, of whom {owners} have the columns"
    return f"{role} answers at {address}: up to {plan.batch} inputs of shape {plan.shape} at once"
