"""`tacit prepare`: the crypto-producer's work for one run, done ahead of it and put into a file for each party."""

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

__all__ = ["prepare"]

LOOK = 0.1
"""Seconds between two looks at how far it is."""


@click.command()
@click.argument("script", type=click.Path(path_type=Path))
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help="The config of the run.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Where the store goes: a folder to be made."
)
@click.option("--traceback", "show_traceback", is_flag=True, help="Show where in the program an error was raised.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def prepare(script: Path, config_path: Path, out: Path, show_traceback: bool, arguments: tuple[str, ...]) -> None:
    """Make what SCRIPT needs of the crypto-producer, ahead of its run and alone, into a file for each party.

    It needs nobody's data and no network: the script runs as the crypto-producer, and values that it reveals are not
    known. Each party gets its own file, and nobody else's; `tacit run --prepared` then runs without the
    crypto-producer. A store serves one run. Two parties without a crypto-producer have no use for one: what they need
    beside their inputs they make together in the session. What stands after `--` is for the script.
    """
    config = Config.load(config_path)
    if not script.is_file():
        raise ConfigError(f"there is no script {script}")
    check_prepares(config)
    preparation = Preparation(out, script_digest(script))
    start(launched(config, config.helpers[0], script, preparation=preparation))
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
        click.echo(f"{preparation.pieces} pieces: {files}; give each party its own file, where no other can read it")
    sys.exit(code)


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
