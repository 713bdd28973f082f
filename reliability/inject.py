"""Disturb the roles of a run, one way at a time, and write down what the others do: `make reliability`.

Roles are processes on this machine, over real sockets with TLS. Each is killed, stopped, cut off, slowed or has bytes
changed on its way, in each phase of a program. What is asked of the others: they end within the time limit, say which
role is missing, and leave nothing behind; and once all are started again with `--resume`, the run ends as if nothing
had been. Where a link is slow only, the run ends by itself. The result is a table in docs/reliability.md; the exit code
is 1 if anything was otherwise.

    python reliability/inject.py [--write] [PART OF A CASE'S NAME …]

With a part of its name, only such cases run, and nothing is written without `--write`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import tacit
from tacit.api.active import _close_all
from tacit.cli.run import execute
from tacit.session.config import SETTINGS, Config
from tacit.session.launch import launched, start
from tacit.session.trial import free_ports, write_trial

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("program.py")
PAGE = ROOT / "docs" / "reliability.md"

TIMEOUT = 6.0
"""Seconds of the setting `timeout`, and of `connect_timeout`: what is missing has to be noticed within it."""

GRACE = 40.0
"""Seconds more, for a machine that does other things, until a role counts as hanging."""

PAUSE = 1.0
"""Seconds that a role stays at the beginning of a phase."""

ROLES = ("alice", "bob", "crypto-producer")
PHASES = ("meeting", "sharing", "training", "keeping", "revealing")


class Case(NamedTuple):
    """One disturbance."""

    fault: str
    role: str
    phase: str

    def __str__(self) -> str:
        return f"{self.fault} {self.role} {self.phase}"


CASES = [
    *(Case("killed", role, phase) for role in ROLES for phase in PHASES),
    *(Case("stopped", role, phase) for role in ROLES for phase in ("sharing", "training")),
    *(
        Case(fault, "alice", phase)
        for fault in ("cut off", "silenced", "changed")
        for phase in ("training", "revealing")
    ),
    *(Case("slowed", "alice", phase) for phase in ("meeting", "training")),
]


class Relay:
    """What stands before a role: passes on bytes, until it is told to disturb them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.way = "pass"
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._server.accept()
                callee = socket.create_connection(("127.0.0.1", self._target), timeout=2)
            except OSError:
                if self._server.fileno() < 0:
                    return
                caller.close()
                continue
            callee.settimeout(None)
            self._sockets += [caller, callee]
            for one, other in ((caller, callee), (callee, caller)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                while self.way == "silenced":
                    time.sleep(0.05)
                if self.way == "slowed":
                    time.sleep(0.05)
                if self.way == "changed":
                    data = data[:-1] + bytes([data[-1] ^ 1])
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def disturb(self, fault: str) -> None:
        """Do from now on what a fault says."""
        self.way = fault
        if fault == "cut off":
            self.close()

    def close(self) -> None:
        """Drop all connections."""
        self.way = "closed"
        self._server.close()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Outcome(NamedTuple):
    """What became of a run."""

    codes: dict[str, int]
    """By role; negative for a signal, and `HANGS` for a role that had to be killed in the end."""
    said: dict[str, str]
    seconds: float
    """From the disturbance to the end of the last role."""


HANGS = 99


def fork(role: str, config: Path, here: Path, phase: str, *, resume: bool) -> int:
    """Play a role in a process of its own; PyTorch is imported already."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        out = os.open(here / f"said.{role}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        faulthandler.register(signal.SIGUSR1)
        os.environ["RELIABILITY_ROLE"] = role
        start(launched(Config.load(config), role, PROGRAM, resume=resume))
        code = execute(PROGRAM, (str(here), str(PAUSE), phase), show_traceback=False)
        _close_all()  # as the interpreter's end would
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def play(here: Path, case: Case | None, *, resume: bool) -> Outcome:
    """Start all roles, disturb one when it is where it should be, and wait for all."""
    for old in here.glob("*.*"):
        if old.is_file() and old.name != "config.json":
            old.unlink()
    settings = {
        "timeout": TIMEOUT,
        "connect_timeout": TIMEOUT,
        "seed": 7,
        "checkpoints": str(here / "kept"),
        "threads": 1,
    }
    config = write_trial(here / f"trial{time.monotonic_ns()}", ("alice", "bob"), settings)
    relay, paths = _relayed(config)
    phase = "" if case is None else case.phase
    processes = {role: fork(role, paths[role], here, phase, resume=resume) for role in ROLES}
    began = time.monotonic()
    if case is not None:
        marker = here / f"{case.phase}.{case.role}"
        while not marker.exists() and time.monotonic() < began + 60:
            time.sleep(0.02)
        time.sleep(PAUSE / 4)
        if case.fault in ("killed", "stopped"):
            os.kill(processes[case.role], signal.SIGKILL if case.fault == "killed" else signal.SIGSTOP)
        else:
            relay.disturb(case.fault)
        began = time.monotonic()
    codes = _wait(processes, victim=case.role if case is not None and case.fault == "stopped" else "")
    relay.close()
    said = {role: (here / f"said.{role}").read_text(errors="replace").strip() for role in ROLES}
    return Outcome(codes, said, time.monotonic() - began)


def _relayed(config: Path) -> tuple[Relay, dict[str, Path]]:
    """Put a relay before alice, whom all others call."""
    literal, (port,) = json.loads(config.read_text()), free_ports(1)
    relay = Relay(port)
    literal["alice"] = f"127.0.0.1:{relay.port}"
    paths = {}
    for role in ROLES:
        own = {**literal[SETTINGS], **({"listen": f"127.0.0.1:{port}"} if role == "alice" else {})}
        paths[role] = config.with_name(f"{role}.json")
        paths[role].write_text(json.dumps({**literal, SETTINGS: own}))
    return relay, paths


def _wait(processes: dict[str, int], victim: str) -> dict[str, int]:
    """Wait for all roles but one that is stopped, and kill what is left."""
    codes: dict[str, int] = {}
    deadline = time.monotonic() + TIMEOUT + GRACE + PAUSE
    while len(codes) < len(processes):
        late = time.monotonic() > deadline
        for role, process in processes.items():
            if role in codes:
                continue
            others = all(other in codes for other in processes if other != role)
            if late or (role == victim and others):
                if role != victim:
                    os.kill(process, signal.SIGUSR1)  # it writes down where it is
                    time.sleep(0.5)
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                codes[role] = -signal.SIGKILL if role == victim else HANGS
                continue
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                codes[role] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return codes


def judge(case: Case, outcome: Outcome) -> list[str]:
    """What was otherwise than it should be."""
    wrong = []
    recovers = case.fault == "slowed"
    for role in ROLES:
        if role == case.role and case.fault in ("killed", "stopped"):
            continue
        code, said = outcome.codes[role], outcome.said[role]
        if code == HANGS:
            wrong.append(f"{role} hangs")
        elif recovers and code:
            wrong.append(f"{role} ended with {code}: {said}")
        elif not recovers and not code and role != case.role and case.phase != "revealing":
            wrong.append(f"{role} ended as if nothing had been")
        elif code and "error: " not in said:
            wrong.append(f"{role} ended without one sentence: {said[-200:]}")
        elif code and case.fault in ("killed", "stopped") and case.role not in said:
            wrong.append(f"{role} does not name {case.role}: {said}")
    return wrong


def expected() -> torch.Tensor:
    """The weights that PyTorch alone comes to."""
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(16, 3, generator=generator), torch.randn(16, 1, generator=generator)
    torch.manual_seed(2)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model.weight.detach()


def warm_up() -> None:
    """Import, before any role is forked, what the first step of a training imports."""
    with tacit.session():
        model, rows = tacit.share(nn.Linear(3, 1)), tacit.share(torch.ones(4, 3))
        nn.functional.mse_loss(model(rows), tacit.share(torch.ones(4, 1))).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        tacit.reveal(model.weight)


def run(case: Case) -> tuple[str, bool]:
    """One row of the table, and whether all was as it should be."""
    with tempfile.TemporaryDirectory(prefix="tacit-reliability-") as folder:
        here = Path(folder)
        outcome = play(here, case, resume=False)
        wrong = judge(case, outcome)
        sentence = _sentence(case, outcome)
        again = "not needed"
        if case.fault != "slowed":
            second = play(here, None, resume=True)
            again = "ends as undisturbed"
            if any(second.codes.values()):
                wrong.append(f"after --resume: {second.codes}, {second.said}")
        weight = here / "weight.pt"
        if not weight.exists() or not torch.allclose(torch.load(weight), expected(), atol=1e-3):
            wrong.append("the weights are not those of an undisturbed run")
        if list(here.glob("kept/*/*/.*")):
            wrong.append("something is left beside the checkpoints")
    if wrong:
        again = "WRONG: " + "; ".join(wrong)
    row = [case.role, case.fault, case.phase, f"{outcome.seconds:.1f}", sentence, again]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |", not wrong


def _sentence(case: Case, outcome: Outcome) -> str:
    """What one of the others said."""
    for role in ROLES:
        if role != case.role and outcome.codes[role] not in (0, HANGS):
            lines = [line for line in outcome.said[role].splitlines() if line.startswith("error: ")]
            if lines:
                return f"{role}: {_plain(lines[-1].removeprefix('error: '))}"
    return "all ended" if not any(outcome.codes.values()) else "nothing"


def _plain(text: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "host:port", re.sub(r"operator \d+", "operator n", text))


def write(rows: Sequence[str]) -> None:
    """Put the table into the page, between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    ran = f"{len(rows)} of {len(CASES)} cases, on {time.strftime('%Y-%m-%d')}."
    begin, end = "<!-- reliability -->", "<!-- end of reliability -->"
    head = (
        "| role | is | while | seconds | the others say | started again with `--resume` |\n|---|---|---|---|---|---|\n"
    )
    before, after = page.split(begin)[0], page.split(end)[1]
    PAGE.write_text(f"{before}{begin}\n\n{ran}\n\n{head}" + "\n".join(rows) + f"\n\n{end}{after}", encoding="utf-8")


def main(wanted: Sequence[str]) -> int:
    """Run all cases, or those whose names contain one of these texts."""
    torch.set_num_threads(1)
    parts = [text for text in wanted if text != "--write"]
    chosen = [case for case in CASES if not parts or any(text in str(case) for text in parts)]
    warm_up()
    rows, good = [], True
    for case in chosen:
        row, fine = run(case)
        print(row, flush=True)
        rows.append(row)
        good = good and fine
    if not parts or "--write" in wanted:
        write(rows)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
