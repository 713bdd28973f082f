"""`tacit run`: one role of a run, on the machine of its owner."""

from __future__ import annotations

import hashlib
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType

import click

from tacit.cli.report import fail
from tacit.errors import ConfigError, TacitError, UnusableTable, tellable
from tacit.session.config import Config
from tacit.session.launch import launched, start
from tacit.session.ledger import is_library
from tacit.session.program import SCHEME, Program, environment, environment_digest, executed
from tacit.session.ranks import here

__all__ = ["execute", "run"]

INTERRUPTED = 130


@click.command()
@click.argument("script", type=click.Path(path_type=Path))
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help="The config of the run.")
@click.option("--as", "role", required=True, metavar="ROLE", help="The role that this machine plays.")
@click.option("--prepared", type=click.Path(path_type=Path), help="A store that `tacit prepare` has made of SCRIPT.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoints of a run that was ended.")
@click.option("--dry-run", is_flag=True, help="Run nothing: show what would run, with the digests to agree on.")
@click.option("--traceback", "show_traceback", is_flag=True, help="Show where in the program an error was raised.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    script: Path,
    config_path: Path,
    role: str,
    prepared: Path | None,
    resume: bool,
    dry_run: bool,
    show_traceback: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run SCRIPT as one role. All roles of the config run the same script, in any order of starting.

    With `--prepared`, the folder of a store or this party's file of it, the parties run it alone, and the store is used
    up, whatever becomes of the run. What stands after `--` is for the script.
    """
    config = Config.load(config_path)
    config.check_role(role)
    if not script.is_file():
        raise ConfigError(f"there is no script {script}")
    if dry_run:
        _show(script)
        return
    rank = here()
    if rank.count > 1:
        signal.signal(signal.SIGTERM, partial(_ended, rank.of(role)))
    start(launched(config, role, script, prepared=prepared, resume=resume))
    sys.exit(execute(script, arguments, show_traceback))


def _ended(name: str, number: int, frame: FrameType | None) -> None:
    """Say to the peers what has become of the job, which they would take for a lost connection."""
    raise KeyboardInterrupt(f"{name} was told to end, as torchrun tells the ranks that are left when one has failed")


def _show(script: Path) -> None:
    """Print the files of a program and the versions of the environment, and their digests."""
    program, versions = Program.read(script), environment()
    click.echo(f'"program": "{SCHEME}{program.digest}"')
    for name, content in program.files.items():
        click.echo(f"    {hashlib.sha256(content).hexdigest()}  {name}")
    click.echo(f'"environment": "{SCHEME}{environment_digest()}"')
    click.echo("    " + ", ".join(f"{name} {version}" for name, version in versions.items()))


def execute(script: Path, arguments: tuple[str, ...], show_traceback: bool) -> int:
    """Run the script in this process, as `python script.py` would, and return the exit code."""
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        executed(script, "__main__")
    except KeyboardInterrupt as error:
        _remember(error)
        fail(str(error) or "interrupted")
        return INTERRUPTED
    except Exception as error:
        _remember(error)
        if (tellable(error) or isinstance(error, UnusableTable)) and not show_traceback:
            fail(error if isinstance(error, TacitError) else f"{error} ({_line(error, script)})")
        else:
            _print_traceback(error, script)
        return 1
    return 0


def _remember(error: BaseException) -> None:
    """Do what the interpreter does for an uncaught exception: a session that is still open tells its peers of it."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__


def _line(error: BaseException, script: Path) -> str:
    """The innermost line of the user's program in a traceback."""
    lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    own = [line for line in lines if not is_library(line)]
    return own[-1] if own else str(script)


def _print_traceback(error: BaseException, script: Path) -> None:
    """Print the traceback from the script on, without the frames of this command."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(script):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace or error.__traceback__)
