"""The command `tacit`. Subcommands are imported when they are used, so that help and errors stay quick."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Sequence

import click

import tacit
from tacit.cli.report import fail
from tacit.errors import TacitError
from tacit.ring import kernels

__all__ = ["cli", "main"]

COMMANDS = {
    "run": ("tacit.cli.run:run", "Run a program as one role."),
    "prepare": ("tacit.cli.prepare:prepare", "Make ahead of a run what its helper would send in it."),
    "local": ("tacit.cli.local:local", "Run a program as all roles, each in a process on this machine."),
    "keygen": ("tacit.cli.keygen:keygen", "Make the certificates by which roles know each other."),
    "submit": ("tacit.cli.submit:submit", "Share a file with the servers of a deployment."),
    "receive": ("tacit.cli.receive:receive", "Take in, as one party, what clients submit."),
    "datasets": ("tacit.cli.receive:datasets", "List the data sets that a party holds."),
    "aggregate": ("tacit.cli.aggregate:aggregate", "Be one of the servers of federated learning that see no update."),
    "supernode": ("tacit.cli.supernode:supernode", "Be a site of a Flower federation that runs approved apps only."),
    "ledger": ("tacit.cli.ledger:ledger", "Check what roles wrote down of their reveals."),
    "serve": ("tacit.cli.serve:serve", "Answer clients' requests with a secret model, as one role."),
    "serve-fhe": ("tacit.cli.serve_fhe:serve_fhe", "Answer encrypted queries over HTTP."),
    "demo": ("tacit.cli.demo:demo", "See a worked example."),
    "bench": ("tacit.cli.bench:bench", "Measure how fast Tacit is on this machine."),
}


OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What no program is at fault for."""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports only the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tacit.__version__, message=f"tacit %(version)s, kernels: {kernels.describe()}")
def cli() -> None:
    """Run ordinary PyTorch programs on data that no single machine may see."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what Tacit refuses becomes one sentence and exit code 1."""
    try:
        cli(arguments)
    except TacitError as error:
        fail(error)
        sys.exit(1)
    except OSError as error:
        if error.errno not in OF_DISKS:
            raise
        fail(f"{error.filename or 'a file'} cannot be written: {error.strerror}")
        sys.exit(1)
