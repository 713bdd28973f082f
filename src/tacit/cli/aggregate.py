"""`tacit aggregate`: one of the computing parties of federated learning, or a role that helps them, as a process."""

from __future__ import annotations

import logging
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from tacit.errors import ConfigError
from tacit.session.config import Config
from tacit.session.launch import launched
from tacit.session.program import executed

if TYPE_CHECKING:
    from tacit.federated.parties.form import ComputingParties

__all__ = ["aggregate"]

NAME = "FORM"


@click.command()
@click.argument("settings", type=click.Path(path_type=Path), required=False)
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help="The parties' config.")
@click.option("--as", "role", required=True, metavar="ROLE", help="The role that this machine plays.")
@click.option("--aggregators", type=click.Path(path_type=Path), help="The public file of addresses and keys.")
@click.option("--roster", type=click.Path(path_type=Path), help="The clients' names and public keys.")
@click.option("--rounds", type=click.Path(path_type=Path), help="Where to note rounds  [default: beside the keys].")
@click.option("--new-key", is_flag=True, help="Make this party's key for clients' shares, print its public half, stop.")
def aggregate(
    settings: Path | None,
    config_path: Path,
    role: str,
    aggregators: Path | None,
    roster: Path | None,
    rounds: Path | None,
    new_key: bool,
) -> None:
    """Wait for rounds of Flower's server, and compute each with the other roles.

    SETTINGS is a Python file that holds FORM, a ComputingParties: the same as at clients and server. Keys and
    certificates lie in the folder that the config names, among them `federation.crt`, the certificate of the server.
    """
    from tacit.federated.identity import Roster
    from tacit.federated.parties.aggregator import Aggregator, Rounds
    from tacit.federated.parties.directory import Aggregators, make_box_key

    config = Config.load(config_path)
    certs = Path(config.tls)
    if new_key:
        click.echo(make_box_key(certs, config.check_role(role)).hex())
        return
    if settings is None or aggregators is None or roster is None:
        raise click.UsageError("SETTINGS, --aggregators and --roster are needed")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    launched(config, role, settings)
    config = replace(config, program=None, environment=None)  # what was approved has been compared
    party = Aggregator(
        _form(settings).terms, config, role, Aggregators.load(aggregators), Roster.load(roster),
        Rounds(rounds or certs / f"{role}.rounds.json"),
    )  # fmt: skip
    signal.signal(signal.SIGTERM, _terminated)
    party.start()
    try:
        party.wait()
    except KeyboardInterrupt:
        party.stop()


def _form(path: Path) -> ComputingParties:
    from tacit.federated.parties.form import ComputingParties

    if not path.is_file():
        raise ConfigError(f"there is no file of settings {path}")
    sys.path.insert(0, str(path.resolve().parent))
    form = executed(path, "settings").get(NAME)
    if not isinstance(form, ComputingParties):
        raise ConfigError(f"{path} does not define {NAME}, a tacit.federated.ComputingParties")
    return form


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
