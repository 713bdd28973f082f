"""`tacit prepare`: what a run needs beside its inputs, made ahead of it and put into a file for each party."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import FileSizeColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from tacit.cli.report import fail
from tacit.cli.run import execute
from tacit.errors import ConfigError, TacitError
from tacit.session.config import Config
from tacit.session.launch import launched, script_digest, start
from tacit.session.meter import readable
from tacit.session.preparation import Preparation, check_prepares
from tacit.session.ranks import here

__all__ = ["prepare"]

LOOK = 0.1
"""Seconds between two looks at how far it is."""


@click.command()
@click.argument("script", type=click.Path(path_type=Path))
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help="The config of the run.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Where the store goes: a folder to be made."
)
@click.option("--as", "role", metavar="ROLE", help="The party that this machine plays, where nobody helps.")
@click.option("--traceback", "show_traceback", is_flag=True, help="Show where in the program an error was raised.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def prepare(
    script: Path, config_path: Path, out: Path, role: str | None, show_traceback: bool, arguments: tuple[str, ...]
) -> None:
    """Make what SCRIPT needs beside its inputs, ahead of its run, into a file for each party.

    It needs nobody's data: values that the script reveals are not known. The crypto-producer does it alone, without a
    network; each party gets its own file, and nobody else's, and `tacit run --prepared` then runs without the
    crypto-producer. Two parties alone make it together: both start this at the same time, each with `--as` itself, and
    each writes its own file. (With a config of one machine, it writes the files of both without `--as`.) A store serves
    one run. With several ranks, torchrun starts this as it starts the run, and each rank makes a store of its own, OUT,
    OUT[1] and so on. What stands after `--` is for the script.
    """
    config = Config.load(config_path)
    if not script.is_file():
        raise ConfigError(f"there is no script {script}")
    check_prepares(config)
    player = _player(config, role)
    out = out.with_name(here().file(out.name))
    preparation = Preparation(out, script_digest(script), None if config.helpers else role)
    start(launched(config, player, script, preparation=preparation))
    try:
        with _shown(preparation):
            code = execute(script, arguments, show_traceback)
            if not code:
                _close()
    finally:
        preparation.abandon()
    if not code and not preparation.sizes:
        fail(f"{script} has not ended a session, so there is nothing to run: it begins one by `with tacit.session():`")
        code = 1
    if not code:
        files = ", ".join(f"{out / party}.store {readable(size)}" for party, size in preparation.sizes.items())
        keep = "keep it where nobody else" if preparation.party else "give each party its own file, where no other"
        click.echo(f"{preparation.pieces} pieces: {files}; {keep} can read it")
    sys.exit(code)


def _player(config: Config, role: str | None) -> str:
    """Who prepares here."""
    if config.helpers:
        if role not in (None, *config.helpers):
            raise ConfigError(f"{config.helpers[0]} prepares a run of this config, alone: leave --as {role} out")
        return config.helpers[0]
    if role is None and not config.on_one_machine:
        raise ConfigError(
            "two parties alone prepare a run together, each on its own machine: add "
            f"--as {config.parties[0]} at one and --as {config.parties[1]} at the other"
        )
    return config.check_role(role or config.parties[0])


def _close() -> None:
    """End a session that the program has left open, as the end of its process would."""
    from tacit.api import current_session

    try:
        opened = current_session()
    except TacitError:
        return
    opened.close()


@contextlib.contextmanager
def _shown(preparation: Preparation) -> Iterator[None]:
    """Show how much has been written, on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("preparing"), FileSizeColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    ended = threading.Event()
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=None)

        def look() -> None:
            while not ended.wait(LOOK):
                progress.update(task, completed=preparation.written)

        thread = threading.Thread(target=look, name="tacit-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
