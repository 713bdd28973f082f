"""How a program begins a session."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import tacit.aten
import tacit.optim  # noqa: F401 - registers the operators, and what steps of optimizers need
from tacit.api.active import enter
from tacit.api.revealing import reveal
from tacit.errors import ConfigError
from tacit.net.alone import Alone
from tacit.net.in_process import InProcess
from tacit.net.rehearsal import Rehearsal
from tacit.net.transcript import Transcript
from tacit.net.transport import Transport
from tacit.protocols.protocol import Protocol
from tacit.protocols.schemes import protocol_of
from tacit.session.among import pulse_of
from tacit.session.config import Config, read_range
from tacit.session.launch import Launch, connect, current, launched
from tacit.session.preparation import Preparation, check_prepares
from tacit.session.ranks import here
from tacit.session.roles import DEFAULT
from tacit.session.session import Session
from tacit.session.store import Shelf
from tacit.watch.precision import Precision, stop, warn
from tacit.watch.range import Range

__all__ = ["beside", "embedded", "session"]

NAMES = ("alice", "bob")
"""Who computes in a program that does not say."""


def session(
    config: str | Path | Config | None = None,
    role: str | None = None,
    *,
    parties: Sequence[str] = NAMES,
    roles: Sequence[str] | None = None,
    seed: int | None = None,
    frac_bits: int = 16,
    round_bytes: int | None = None,
    protocol: str | None = None,
    check: bool | str = False,
    range_check: bool | float | None = None,
    prepared: str | Path | None = None,
    resume: bool = False,
) -> Session:
    """Start a session and return it: use it in a `with` statement, or call its `close()` at the end.

    Without arguments the same program runs embedded, all roles in this process (a script, a notebook), or as the one
    role that `tacit run` or `tacit local` gave it. In a launched run the config decides, and of the other arguments
    only `range_check` counts, and `seed` where the config has none.

    Args:
        config: path of a config file, or a checked `Config`; with it comes a role.
        role: the role this process plays.
        parties: names of the computing parties when embedded; the roles that help them are there as well.
        roles: instead of `parties`, all roles that there are, as in a config: `["alice", "bob"]` compute alone.
        seed: seed of PyTorch's public generator at every role; drawn at random and agreed on if not given.
        frac_bits: fractional bits of numbers, when embedded.
        round_bytes: bytes that a round is worth, when embedded; see the [setting](config.md).
        protocol: how they compute, when embedded: "additive", the default, with a crypto-producer; "two-party", by
            two parties alone; or "plain", which computes on plain integers, for trying a program: it is faster, hides
            nothing, and is refused over a network.
        check: compare every operator's result with PyTorch's on plain values, when embedded, and raise
            `PrecisionError` at the first that deviates by more than is documented; with "warn", warn and go on. For
            developing, on data that one may see: messages hold numbers.
        range_check: check securely that outputs of modules, losses, gradients and parameters are in range, and secret
            positions that nobody owns, and raise `PrecisionError` once they are not; a number is the magnitude they
            must stay below, half of what a square may have without one. Each check takes 6 rounds, of positions 8, and
            reveals one bit to all, named "within range".
        prepared: a store that `tacit prepare` has made of this program, as `tacit run --prepared` takes it: the folder,
            or this party's file. The crypto-producer takes no part in the run.
        resume: let loops go on from their checkpoints, as `tacit run --resume` does; see `tacit.checkpoint`.

    Raises:
        ConfigError: for a config that cannot be used.
        ConnectError, AuthenticationError: if the other roles do not come or are not who they should be.
    """
    launch = current()
    if config is not None:
        checked = config if isinstance(config, Config) else Config.load(config)
        if role is None:
            raise ConfigError(
                f"a config needs a role: tacit.session(config, role=…) with one of {', '.join(checked.roles)}"
            )
        pinned = checked.program is not None or checked.environment is not None
        launch = launched(checked, role, sys.argv[0]) if pinned else Launch(checked, checked.check_role(role))
    if check not in (False, True, "warn"):
        raise ConfigError(f'tacit.session(check=…) takes True, False or "warn", not {check!r}')
    if launch is None:
        if roles is not None and tuple(parties) != NAMES:
            raise ConfigError("tacit.session takes `parties`, or `roles`, which are the parties and all that help them")
        settings = Config.embedded(
            parties,
            roles=roles,
            seed=seed,
            frac_bits=frac_bits,
            round_bytes=round_bytes,
            range_check=range_check,
            protocol=protocol or (DEFAULT if roles is None else None),
        )
        if prepared is not None:
            return _from_store(settings.at(here()), prepared, seed)
        return embedded(settings.at(here()), check=check, resume=resume)
    if check:
        raise ConfigError(
            f"tacit.session(check={check!r}) needs all shares in one process, and this one plays {launch.role!r}: run "
            f"the script by itself to check it, and leave `check` out here"
        )
    checked = launch.config.at(here())
    launch = replace(launch, config=checked)
    if range_check is not None:
        checked = replace(checked, range_check=read_range("range_check", range_check, checked.frac_bits))
        launch = replace(launch, config=checked)
    _share_cores(checked)
    if launch.preparation is not None:
        return _preparing(launch, launch.preparation, seed)
    prepared = launch.prepared if prepared is None else prepared
    if prepared is not None:
        return _from_store(checked, prepared, seed, launch)
    return _activate(Session(connect(launch, Transcript()), checked, resume=launch.resume or resume), seed)


def _preparing(launch: Launch, preparation: Preparation, seed: int | None) -> Session:
    """Start a session that writes a store: of the helper alone, or of the parties, who make together what is in it."""
    config, transcript = launch.config, Transcript()
    preparation.check_first()
    transport: Transport
    if config.helpers:
        transport = Alone(launch.role, config.parties, transcript)
    elif preparation.party is None:
        transport = Rehearsal(InProcess(config.parties, transcript))
    else:
        transport = Rehearsal(connect(launch, transcript, "the one that is made now"))
    return _activate(Session(transport, config, preparation), seed)


def _from_store(config: Config, prepared: str | Path, seed: int | None, launch: Launch | None = None) -> Session:
    """Start a session of the parties alone. The store is begun once all are there. Each rank has one of its own."""
    check_prepares(config)
    prepared = Path(prepared)
    prepared = prepared.with_name(config.rank.file(prepared.name))
    if launch is not None and launch.role not in config.parties:
        raise ConfigError(f"{launch.role} takes no part in a run from a store: start the parties alone")
    store = Shelf(prepared, config, config.parties if launch is None else (launch.role,))
    try:
        transport = InProcess(config.parties) if launch is None else connect(launch, Transcript(), store.identity)
    except BaseException:
        store.abandon()
        raise
    opened = Session(transport, config, store)
    try:
        store.agree(seed if config.seed is None else config.seed, config)  # before anything of it is spent
        store.begin(config)
    except BaseException as error:
        opened.end(error)
        raise
    return _activate(opened, seed)


def embedded(config: Config, *, check: bool | str = False, resume: bool = False) -> Session:
    """Start a session with all roles in this process, also where this process was launched as one of them."""
    opened = _activate(Session(InProcess(config.roles), config, resume=resume))
    if check:
        opened.watcher = Precision(warn if check == "warn" else stop)
    return opened


def beside(transport: Transport, config: Config) -> Protocol:
    """Start a session that is not the innermost one, for what works beside a program, and return its protocol.

    PyTorch's generator stays where the program has left it.
    """
    opened = Session(transport, config)
    try:
        with torch.random.fork_rng(devices=[]):
            opened.agree_seed()
        return protocol_of(opened)
    except BaseException as error:
        opened.end(error)
        raise


def _share_cores(config: Config) -> None:
    """Let PyTorch use the threads that the config says or, with all roles on one machine, this role's part of it."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    elif config.on_one_machine and "OMP_NUM_THREADS" not in os.environ:
        processes = len(config.roles) * config.rank.count
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def _activate(opened: Session, seed: int | None = None) -> Session:
    try:
        if opened.rank.count > 1:
            pulse_of(opened)
        opened.agree_seed(seed)
        protocol = protocol_of(opened)
        bound = opened.config.range_check
        if bound is not False:
            opened.guard = Range(protocol, None if bound is True else float(bound), reveal)
        enter(protocol)
    except BaseException as error:
        opened.end(error)
        raise
    return opened
