"""How a program learns which role it plays: from `tacit run`, or from two environment variables.

`TACIT_CONFIG=config.json TACIT_ROLE=alice python script.py` does what `tacit run script.py --config config.json --as
alice` does. With neither, the program is embedded: all roles live in its process.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tacit.errors import ConfigError
from tacit.net.certificates import Identity
from tacit.net.handshake import Endpoint
from tacit.net.rendezvous import connect as meet
from tacit.net.tcp import SPIN, SPIN_ALONE, Tcp
from tacit.net.transcript import FAR_HISTORY, Transcript
from tacit.session.config import Config
from tacit.session.preparation import Preparation
from tacit.session.program import Program, approve, only

__all__ = ["Launch", "connect", "current", "launched", "script_digest", "start"]

CONFIG_VARIABLE = "TACIT_CONFIG"
ROLE_VARIABLE = "TACIT_ROLE"


STORE = "the store given by --prepared"


@dataclass(frozen=True, slots=True)
class Launch:
    """One role of a distributed run, in this process."""

    config: Config
    role: str
    script_digest: str = ""
    """Of the program's files, see `program`: a difference between two roles is no error, but explains one."""
    prepared: str | Path | None = None
    """The store that the party takes its correlations from, in a run without the crypto-producer."""
    resume: bool = False
    """Whether loops go on from their checkpoints; see `resume.py`."""
    preparation: Preparation | None = None
    """The store that the crypto-producer fills, alone."""


_started: Launch | None = None


def start(launch: Launch | None) -> None:
    """Make this process play a role from now on; None makes it embedded again."""
    global _started
    if launch is not None:
        launch.config.check_role(launch.role)
    _started = launch


def current() -> Launch | None:
    """The role that this process plays, or None when the program is embedded."""
    if _started is not None:
        return _started
    path, role = os.environ.get(CONFIG_VARIABLE), os.environ.get(ROLE_VARIABLE)
    if not path and not role:
        return None
    if not path or not role:
        raise ConfigError(f"set both {CONFIG_VARIABLE} and {ROLE_VARIABLE}, or neither")
    config = Config.load(path)
    return launched(config, role, sys.argv[0])


def script_digest(path: str | Path) -> str:
    """A digest of a program's files, empty if there is no such script (as in a notebook)."""
    return Program.read(path).digest


def launched(config: Config, role: str, script: str | Path, **settings: Any) -> Launch:
    """A role that will run a script, once it is the one that the role has approved, if the config names one.

    From then on this process imports nothing else than that program and installed packages.
    """
    program = Program.read(script)
    approve(config.check_role(role), program, config.program, config.environment)
    if config.program is not None:
        only(program)
    return Launch(config, role, program.digest, **settings)


def connect(launch: Launch, transcript: Transcript, store: str = "") -> Tcp:
    """Connect this role to all the others; `transcript` is the one that the session records operators in.

    In a run from a store, by its public name, the parties are among themselves.
    """
    config, role = launch.config, launch.role
    config.check_role(role)
    if config.awaits_clients:
        raise ConfigError(
            f"this config names {role} alone, whose other party is whoever comes: serve a model with `tacit serve`, or "
            "name the other role"
        )
    if not config.addresses:
        raise ConfigError("a config without addresses is for programs that run in one process")
    if role in config.helpers:
        transcript.keep(FAR_HISTORY)
    roles, rank = config.parties if store else config.roles, config.rank
    if role not in roles:
        raise ConfigError(f"{role} takes no part in a run from a store: it has done its work already")
    peers = tuple(peer for peer in roles if peer != role)
    roles_here = len(roles) * rank.count if config.on_one_machine else 1
    endpoint = Endpoint(
        role=rank.of(role),
        roles=tuple(map(rank.of, roles)),
        addresses={rank.of(peer): config.address(peer) for peer in roles},
        version=version("tacit"),
        shared=config.shared | ({STORE: store} if store else {}),
        script=launch.script_digest,
        identity=None if config.plaintext else Identity.load(Path(config.tls), role, peers, config.revoked),
        listen=config.listen,
        connect_timeout=config.connect_timeout,
        timeout=config.timeout,
        outbox_bytes=config.outbox_bytes,
        spin=SPIN_ALONE if (os.cpu_count() or 1) > roles_here else SPIN,
    )
    return meet(endpoint, transcript)
