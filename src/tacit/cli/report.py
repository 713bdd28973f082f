"""How the command line says that something went wrong."""

from __future__ import annotations

import click

__all__ = ["fail"]


def fail(error: BaseException | str) -> None:
    """Print one sentence on standard error, in red on a terminal."""
    click.secho(f"error: {error}", err=True, fg="red")
