"""`tacit local`: all roles of a run on this machine, each in a process of its own, over real sockets with TLS."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

import click
from rich.console import Console
from rich.text import Text

from tacit.errors import ConfigError
from tacit.net.emulation import Conditions, Relay
from tacit.session.config import SETTINGS, Config
from tacit.session.preparation import check_prepares
from tacit.session.ranks import Rank
from tacit.session.roles import ALONE
from tacit.session.trial import free_ports, write_trial

__all__ = ["OnLine", "follow", "launch_local", "local"]

OnLine = Callable[[str, str], None]
"""Called with a role and a line that it printed, one call at a time."""

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")

GRACE = 5.0
"""Seconds that the other roles get, after one has failed, to say why they stop. After that they are ended."""


@click.command()
@click.argument("script", type=click.Path(path_type=Path))
@click.option("--parties", default="alice,bob", show_default=True, help="The computing parties, separated by commas.")
@click.option("--without-producer", is_flag=True, help="Two parties alone, by the two-party protocol.")
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads of each role.  [default: cores / roles]")
@click.option("--wan", metavar="LINK", help="Emulate a wide-area link, say 40ms,350mbit (round trip, each direction).")
@click.option(
    "--ranks", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes of each role, as by torchrun."
)
@click.option("--prepared", type=click.Path(path_type=Path), help="A store that `tacit prepare` has made of SCRIPT.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoints of a run that was ended.")
@click.option(
    "--restart",
    type=click.IntRange(min=0),
    default=0,
    metavar="TIMES",
    help="Start all roles again with --resume if one dies, up to so many times.",
)
@click.option("--traceback", "show_traceback", is_flag=True, help="Show where in the program an error was raised.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def local(
    script: Path,
    parties: str,
    without_producer: bool,
    threads: int | None,
    wan: str | None,
    ranks: int,
    prepared: Path | None,
    resume: bool,
    restart: int,
    show_traceback: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run SCRIPT as all roles, each in a process on this machine, and merge what they print.

    With `--prepared` there are the parties alone, and the store is used up. What stands after `--` is for the script.
    """
    names = tuple(filter(None, (name.strip() for name in parties.split(","))))
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = launch_local(
            script,
            parties=names,
            args=arguments,
            settings={"protocol": ALONE} if without_producer else {},
            threads=threads,
            wan=wan,
            ranks=ranks,
            prepared=prepared,
            resume=resume,
            restart=restart,
            show_traceback=show_traceback,
        )
        sys.exit(code)
    except KeyboardInterrupt:
        sys.exit(130)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def printer(roles: Sequence[str]) -> OnLine:
    """Return a function that prints lines behind the name of their role, a colour a role."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(map(len, roles))
    prefixes = {role: Text(f"{role:>{width}} │ ", COLOURS[at % len(COLOURS)]) for at, role in enumerate(roles)}

    def on_line(role: str, line: str) -> None:
        console.print(prefixes[role] + Text.from_ansi(line))

    return on_line


def launch_local(
    script: str | Path,
    *,
    parties: Sequence[str] = ("alice", "bob"),
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    settings: Mapping[str, object] | None = None,
    threads: int | None = None,
    wan: str | None = None,
    ranks: int = 1,
    prepared: str | Path | None = None,
    resume: bool = False,
    restart: int = 0,
    on_line: OnLine | None = None,
    show_traceback: bool = False,
) -> int:
    """Run a script as all roles, and return 0, or the exit code of the role that failed first.

    Args:
        script: path of the program; it runs in this process's working directory.
        parties: the computing parties; the roles that help them come with them.
        args: arguments of the program.
        env: environment variables beside this process's.
        settings: what the config holds under the key "tacit"; the protocol that it names says which roles help.
        threads: threads of each role; without it, roles share the cores evenly.
        wan: the link to emulate between each two roles, say "40ms,350mbit": a round trip, and a rate in each direction.
        ranks: how many processes each role is, which find each other by `torch.distributed` as those of torchrun do.
        prepared: a store for this script and these parties; the roles that help are not started then.
        resume: whether loops go on from their checkpoints, in the working directory's `checkpoints`.
        restart: how often all roles are started again, to go on from there, after one has failed.
        on_line: called with each line that a role prints; printed here if not given.
        show_traceback: whether a role says where in the program an error was raised.
    """
    if not Path(script).is_file():
        raise ConfigError(f"there is no script {script}")
    conditions = None if wan is None else _conditions(wan)
    with tempfile.TemporaryDirectory(prefix="tacit-") as folder, contextlib.ExitStack() as relays:
        here = {key: str(Path.cwd() / key.replace("_", "-")) for key in ("data", "used_stores", "checkpoints")}
        config = write_trial(folder, parties, {**here, "threads": threads, **(settings or {})}, ranks=ranks)
        checked = Config.load(config)
        if checked.awaits_clients:
            raise ConfigError("at least two parties must compute, not 1: a server alone is for `tacit serve`")
        if prepared is not None:
            check_prepares(checked)
        roles = checked.roles if prepared is None else checked.parties
        each = {Rank(rank, ranks).of(role): (role, rank) for role in roles for rank in range(ranks)}
        configs = dict.fromkeys(each, config) if conditions is None else _relayed(config, conditions, relays, ranks)
        environment = {**os.environ, **_threads(len(roles) * ranks, threads), "PYTHONUNBUFFERED": "1", **(env or {})}
        jobs = _jobs(roles, ranks, config.read_text(encoding="utf-8")) if ranks > 1 else {}
        run = [sys.executable, "-m", "tacit", "run", str(script), *["--traceback"] * show_traceback]
        run += [] if prepared is None else ["--prepared", str(prepared)]
        tell = on_line or printer(list(each))
        own = {
            name: {**jobs[role], "RANK": str(rank), "LOCAL_RANK": str(rank)}
            for name, (role, rank) in each.items()
            if jobs
        }
        for left in range(restart, -1, -1):
            again = [*run, "--resume"] if resume else run
            commands = {
                name: [*again, "--config", str(configs[name]), "--as", role, "--", *args]
                for name, (role, _) in each.items()
            }
            code = follow(commands, environment, tell, own)
            if not code or not left:
                break
            resume = True
            tell(
                next(iter(commands)),
                f"a role has failed: all start again from what was kept, {left - 1} times more at most",
            )
        return code


def _jobs(roles: Sequence[str], ranks: int, config: str) -> dict[str, dict[str, str]]:
    """What torchrun tells each process of a role, but for its rank: no port is another role's, or in the config."""
    ports = free_ports(len(roles), {int(port) for port in re.findall(r":(\d+)\"", config)})
    world = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "GROUP_RANK": "0"}
    return {
        role: world | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for role, port in zip(roles, ports, strict=True)
    }


def follow(
    commands: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
    on_line: OnLine,
    own: Mapping[str, Mapping[str, str]] | None = None,
) -> int:
    """Run each role's command, pass on what they print, and return 0, or the exit code of the one that failed first.

    `own` are variables that one role's process has and the others' have not.
    """
    with _processes(commands, environment, own or {}) as processes:
        return _follow(processes, on_line)


def _conditions(wan: str) -> Conditions:
    try:
        return Conditions.parse(wan)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _relayed(config: Path, conditions: Conditions, relays: contextlib.ExitStack, ranks: int) -> dict[str, Path]:
    """Put a relay before every process, and write its config: others call the relays, it listens behind its own."""
    literal, paths = json.loads(config.read_text(encoding="utf-8")), {}
    each = [Rank(index, ranks) for index in range(ranks)]
    behind = [Config.load(config).at(rank) for rank in each]
    for role in behind[0].roles:
        ports = [relays.enter_context(Relay(conditions, there.address(role).port)).port for there in behind]
        listed = [f"127.0.0.1:{port}" for port in ports]
        literal[role] = listed if ranks > 1 else listed[0]
    for rank, there in zip(each, behind, strict=True):
        for role in there.roles:
            listen = there.address(role).shifted(-rank.index * there.port_stride)  # which each rank shifts back
            own = {**literal[SETTINGS], "listen": str(listen)}
            path = paths[rank.of(role)] = config.with_name(f"{rank.of(role)}.json")
            path.write_text(json.dumps({**literal, SETTINGS: own}), encoding="utf-8")
    return paths


def _threads(roles: int, threads: int | None) -> dict[str, str]:
    """Share the cores among the roles, unless the user has decided."""
    if threads is None and "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(threads or max(1, (os.cpu_count() or 1) // roles))}


@contextlib.contextmanager
def _processes(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], own: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Start the processes; whatever happens, none is left when the block ends."""
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for role, command in commands.items():
            processes[role] = subprocess.Popen(  # noqa: S603
                command,
                env={**environment, **own.get(role, {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        yield processes
    finally:
        _end(processes.values(), patience=GRACE if sys.exc_info()[0] is KeyboardInterrupt else 0)
        for process in processes.values():
            if process.stdout is not None:
                process.stdout.close()


def _end(processes: Iterable[subprocess.Popen[str]], patience: float) -> None:
    """Wait for processes to end by themselves, then ask them to, then make them."""
    for act, seconds in ((None, patience), (subprocess.Popen.terminate, 3.0), (subprocess.Popen.kill, 3.0)):
        left = [process for process in processes if process.poll() is None]
        for process in left:
            if act is not None:
                act(process)
        deadline = time.monotonic() + seconds
        for process in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))


def _follow(processes: dict[str, subprocess.Popen[str]], on_line: OnLine) -> int:
    """Pass on what the processes print until all have ended, and return the exit code of the first that failed."""
    lock = threading.Lock()
    readers = [
        threading.Thread(target=_read, args=(role, process.stdout, on_line, lock), daemon=True)
        for role, process in processes.items()
    ]
    for reader in readers:
        reader.start()
    code, deadline, killed = 0, float("inf"), set[str]()
    running = True
    while running and time.monotonic() < deadline:
        ended = {role: process.poll() for role, process in processes.items()}
        running = None in ended.values()
        for role, left in ended.items():
            if left and not code:
                code, deadline = left, time.monotonic() + GRACE
            if left is not None and left < 0 and role not in killed:
                killed.add(role)
                with lock:
                    on_line(role, _killed(role, -left))
        time.sleep(0.02)
    _end(processes.values(), patience=0)
    for reader in readers:
        reader.join(1.0)
    return 128 - code if code < 0 else code


def _killed(role: str, number: int) -> str:
    """What there is to say of a role that could not say it."""
    try:
        name = f" ({signal.Signals(number).name})"
    except ValueError:
        name = ""
    hint = "; the system does that when memory runs out" if number == signal.SIGKILL else ""
    return f"{role} was killed by signal {number}{name}{hint}"


def _read(role: str, stream: IO[str] | None, on_line: OnLine, lock: threading.Lock) -> None:
    if stream is None:
        return
    with contextlib.suppress(ValueError):
        for line in stream:
            with lock:
                on_line(role, line.rstrip("\r\n"))
