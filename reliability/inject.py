"""Disturb the actors of a scene, one way at a time, and write down what the others do: `make reliability`.

Actors are processes on this machine, over real sockets with TLS. One is killed, stopped or slowed, or its connections
are cut off, cut short, silenced, delayed or changed, in each phase of what goes on (`scenes`). What is asked of the
others: they end within the time limit, by a sentence that names who is missing and where they were, or go on where
they need not end, and leave nothing behind; and once all are started again, all ends as if nothing had been. The result
is a table in docs/reliability.md; the exit code is 1 if anything was otherwise.

    python reliability/inject.py [--write] [--jobs N] [PART OF A CASE'S NAME …]

With a part of its name, as "bob killed training", only such cases run, and with `--write` their rows alone are put into
the table.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from relay import FAULTS, Relay
from scenes import PAUSE, SCENES, Play, Scene, ask
from torch import nn

import tacit
from tacit.api.active import _close_all
from tacit.session.config import SETTINGS, Config
from tacit.session.trial import free_ports, write_trial

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"

TIMEOUT = 6.0
"""Seconds of the setting `timeout`, and of `connect_timeout`: what is missing has to be noticed within it."""

GRACE = 60.0
"""Seconds more, for a machine that does other things, until an actor counts as hanging."""

TURN = 0.05
"""Seconds: an actor that is slowed runs for a tenth of each."""

PASSING = ("delayed", "slowed")
"""What nobody ends of."""

TO_PROCESSES = ("killed", "stopped", "slowed")
HANGS = 99


class Case(NamedTuple):
    """One disturbance."""

    scene: str
    actor: str
    fault: str
    phase: str

    def __str__(self) -> str:
        return f"{self.scene}: {self.actor} {self.fault} {self.phase}"


def cases(scene: str, faults: str, actors: str, phases: str) -> list[Case]:
    """All that these words, separated by commas, make together."""
    words = (text.split(", ") for text in (actors, faults, phases))
    return [Case(scene, *each) for each in product(*words)]


STEPS = "sharing, training, keeping, revealing"
SERVERS = "server0, server1, crypto-producer"
CASES = [
    *cases("training", "killed, stopped", "alice, bob, crypto-producer", f"meeting, {STEPS}"),
    *cases("training", "cut off, cut short", "alice, bob, crypto-producer", "training, revealing"),
    *cases("training", "cut off", "alice", "meeting, sharing, keeping"),
    *cases("training", "silenced, changed", "alice, bob, crypto-producer", "training"),
    *cases("training", "silenced, changed", "alice", "sharing, keeping, revealing"),
    *cases("training", "delayed", "alice", "meeting, sharing, training, revealing"),
    *cases("training", "slowed", "alice, bob, crypto-producer", "training"),
    *cases("training by two", "killed, stopped", "alice, bob", f"meeting, {STEPS}"),
    *cases("training by two", "cut off, cut short, silenced, changed, delayed", "alice", "training"),
    *cases("training by two", "slowed", "bob", "training"),
    *cases("predictions", "killed, stopped", f"{SERVERS}, client", "answering"),
    *cases("predictions", "killed", SERVERS, "waiting"),
    *cases("predictions", "cut off, silenced, changed, delayed", "server0, server1, client", "answering"),
    *cases("predictions", "slowed", SERVERS, "answering"),
    *cases("one server", "killed, stopped", "server, client", "asking"),
    *cases("one server", "cut off, cut short, silenced, changed, delayed", "client", "asking"),
    *cases("submissions", "killed, stopped", "server0, server1, client", "sending, committing"),
    *cases("submissions", "cut off, silenced, changed", "server0, client", "sending, committing"),
    *cases("submissions", "delayed", "client", "sending"),
]


class Stage:
    """One run of a scene: its relays and its processes."""

    def __init__(self, scene: Scene, here: Path, phase: str, *, resume: bool) -> None:
        self.scene, self.here = scene, here
        self._phase, self._resume = phase, resume
        for old in here.glob("*.*"):
            if old.is_file():
                old.unlink()
        settings = {
            "timeout": TIMEOUT,
            "connect_timeout": TIMEOUT,
            "seed": 7,
            "checkpoints": str(here / "kept"),
            "threads": 1,
            **({"data": str(here / "data")} if scene.name == "submissions" else {}),
        }
        config = write_trial(here / f"trial{time.monotonic_ns()}", scene.parties, {**settings, **scene.settings})
        self.roles = (
            scene.parties if scene.client not in (None, ask) or len(scene.parties) == 1 else Config.load(config).roles
        )
        self.relays, self._configs = _relayed(config, self.roles)
        self.processes: dict[str, int] = {}
        self.codes: dict[str, int] = {}
        self._slow: list[str] = []

    # --- processes -------------------------------------------------------------------------------------------------

    def start(self, actor: str, *, as_client: bool = False) -> None:
        """Play an actor in a process of its own; PyTorch is imported already."""
        child = os.fork()
        if child:
            self.processes[actor] = child
            return
        code = 1
        try:
            out = os.open(self.here / f"said.{actor}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(out, 1)
            os.dup2(out, 2)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            faulthandler.register(signal.SIGUSR1)
            config = self._configs.get(actor, self._configs[""])
            play = Play(actor, config, self.here, self._phase, self._resume, TIMEOUT)
            code = (self.scene.client if as_client else self.scene.act)(play)  # type: ignore[misc]
            _close_all()  # as the interpreter's end would
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def wait(self, *actors: str) -> None:
        """Wait for the end of some, and end them if that takes too long."""
        deadline = time.monotonic() + TIMEOUT + GRACE + PAUSE
        while missing := [actor for actor in actors if not self.ended(actor)]:
            if time.monotonic() > deadline:
                for actor in missing:
                    os.kill(self.processes[actor], signal.SIGUSR1)  # it writes down where it is
                    time.sleep(0.5)
                    self.kill(actor)
                    self.codes[actor] = HANGS
            self._take_turns()
            time.sleep(0.01)

    def ended(self, actor: str) -> bool:
        """Whether a process has ended."""
        if actor not in self.codes:
            done, status = os.waitpid(self.processes[actor], os.WNOHANG)
            if done:
                self.codes[actor] = os.waitstatus_to_exitcode(status)
        return actor in self.codes

    def kill(self, actor: str) -> None:
        """End a process that does not end by itself."""
        if not self.ended(actor):
            os.kill(self.processes[actor], signal.SIGKILL)
            os.waitpid(self.processes[actor], 0)
            self.codes[actor] = -signal.SIGKILL

    def _take_turns(self) -> None:
        for actor in self._slow:
            if not self.ended(actor):
                os.kill(self.processes[actor], signal.SIGSTOP)
                time.sleep(0.9 * TURN)
                os.kill(self.processes[actor], signal.SIGCONT)
                time.sleep(0.1 * TURN)

    # --- what happens ----------------------------------------------------------------------------------------------

    def until(self, phase: str, *actors: str) -> None:
        """Wait until all of some are in a phase, or one of them has ended."""
        deadline = time.monotonic() + GRACE
        while not all((self.here / f"{phase}.{actor}").exists() for actor in actors):
            if time.monotonic() > deadline or any(actor in self.processes and self.ended(actor) for actor in actors):
                return
            time.sleep(0.01)

    def disturb(self, case: Case) -> None:
        """Do what a case says."""
        if case.actor in self.processes and self.ended(case.actor):
            raise RuntimeError(f"{case}: {case.actor} has ended before: {self.said(case.actor)}")
        if case.fault in FAULTS:
            for relay in self.relays:
                relay.disturb(case.fault, case.actor)
        elif case.fault == "slowed":
            self._slow.append(case.actor)
        else:
            os.kill(self.processes[case.actor], signal.SIGKILL if case.fault == "killed" else signal.SIGSTOP)

    def calm(self) -> None:
        """Disturb nobody any more."""
        self._slow.clear()
        for relay in self.relays:
            relay.leave()

    def stop(self) -> None:
        """Ask the roles of a service to end, if there is one, and wait for all."""
        if self.scene.client is not None:
            for role in self.roles if self.scene.name == "submissions" else self.roles[:1]:
                if not self.ended(role):
                    os.kill(self.processes[role], signal.SIGTERM)
        self.wait(*self.processes)

    def said(self, actor: str) -> str:
        """What an actor has printed."""
        path = self.here / f"said.{actor}"
        return path.read_text(errors="replace").strip() if path.exists() else ""

    def close(self) -> None:
        """End all that is left."""
        for actor in self.processes:
            self.kill(actor)
        for relay in self.relays:
            relay.close()


def _relayed(config: Path, roles: Sequence[str]) -> tuple[list[Relay], dict[str, Path]]:
    """Put a relay before each party, for other roles and for clients; return all configs by role, and a client's."""
    literal, checked = json.loads(config.read_text()), Config.load(config)
    relays, own = [], {role: dict[str, str]() for role in roles}
    for role in (party for party in checked.parties if party in literal):
        (port,) = free_ports(1)
        relays.append(Relay(role, port, checked.roles))
        literal[role], own[role]["listen"] = f"127.0.0.1:{relays[-1].port}", f"127.0.0.1:{port}"
        if "clients" in literal[SETTINGS]:
            (port,) = free_ports(1)
            relays.append(Relay(role, port, ()))
            literal[SETTINGS]["clients"][role] = f"127.0.0.1:{relays[-1].port}"
            own[role]["listen_clients"] = f"127.0.0.1:{port}"
    paths = {role: config.with_name(f"{role}.json") for role in (*roles, "")}
    for role, path in paths.items():
        path.write_text(json.dumps({**literal, SETTINGS: {**literal[SETTINGS], **own.get(role, {})}}))
    return relays, paths


class Outcome(NamedTuple):
    """What became of the actors."""

    codes: dict[str, int]
    """Negative for a signal, and `HANGS` for one that had to be ended."""
    said: dict[str, str]
    seconds: float
    """From the disturbance to the end of the last that it concerns."""


def disturbed(case: Case, here: Path) -> Outcome:
    """Play a scene, and disturb one actor where it should be."""
    scene = SCENES[case.scene]
    stage = Stage(scene, here, case.phase, resume=False)
    try:
        for role in stage.roles:
            stage.start(role)
        if scene.client is not None:
            stage.until("waiting", *stage.roles)
            if case.phase != "waiting":
                stage.start("client", as_client=True)
        stage.until(case.phase, case.actor)
        time.sleep(PAUSE / 4)
        stage.disturb(case)
        began = time.monotonic()
        if scene.client is not None and case.phase != "waiting":
            if case.actor == "client" and case.fault == "stopped":
                time.sleep(TIMEOUT)
            else:
                stage.wait("client")
            seconds = time.monotonic() - began
        if scene.client is not None and serves_on(case):
            stage.calm()
            stage.start("another client", as_client=True)
            stage.wait("another client")
            stage.kill("client")
            stage.stop()
        else:
            if case.scene != "submissions":  # there a server needs no other
                stage.wait(*(a for a in stage.processes if a != case.actor or case.fault not in TO_PROCESSES))
            seconds = time.monotonic() - began
            if case.fault == "stopped":
                stage.kill(case.actor)
            stage.stop()
        said = {actor: stage.said(actor) for actor in stage.processes}
        return Outcome(dict(stage.codes), said, seconds)
    finally:
        stage.close()


def serves_on(case: Case) -> bool:
    """Whether a service that was so disturbed answers the next client."""
    return case.fault in PASSING or case.actor == "client"


def undisturbed(case: Case, here: Path) -> list[str]:
    """Start all again, and say what is wrong then."""
    scene = SCENES[case.scene]
    stage = Stage(scene, here, "", resume=scene.client is None)
    try:
        for role in stage.roles:
            stage.start(role)
        if scene.client is not None:
            stage.until("waiting", *stage.roles)
            stage.start("client", as_client=True)
            stage.wait("client")
        stage.stop()
        return [f"{actor} ended with {code}: {stage.said(actor)}" for actor, code in stage.codes.items() if code]
    finally:
        stage.close()


def judge(case: Case, outcome: Outcome) -> list[str]:
    """What was otherwise than it should be."""
    wrong, going = [], SCENES[case.scene].client is not None and serves_on(case)
    for actor, code in outcome.codes.items():
        said, victim = outcome.said[actor], actor == case.actor
        if (victim and case.fault in ("killed", "stopped")) or (actor == "client" and case.actor == "client"):
            if code == HANGS:
                wrong.append(f"{actor} hangs")
            continue
        if code == HANGS:
            wrong.append(f"{actor} hangs: {said[-1500:]}")
        elif (going or case.fault in PASSING) and code:
            wrong.append(f"{actor} ended with {code}: {said}")
        elif code and "error: " not in said:
            wrong.append(f"{actor} ended without one sentence: {said[-300:]}")
        elif code and not victim and not names(case, actor, said):
            wrong.append(f"{actor} does not say who is missing: {said}")
        elif not code and not going and must_end(case, actor):
            wrong.append(f"{actor} ended as if nothing had been")
    return wrong


def must_end(case: Case, actor: str) -> bool:
    """Whether an actor cannot have done all that it had to do."""
    if (case.scene, case.fault) == ("one server", "stopped"):
        return False  # who has been let in may be answered
    if case.scene == "submissions":
        return actor == "client" and case.phase == "sending"
    return case.fault not in PASSING and case.phase != "revealing" and actor != case.actor


def names(case: Case, actor: str, said: str) -> bool:
    """Whether a sentence names who is missing and, of a role in a session, where it was.

    A client knows the servers only. Of a connection each end thinks that the other one has gone.
    """
    roles = [*SCENES[case.scene].parties, "crypto-producer", "client"]
    concerned = [case.actor] if case.fault in ("killed", "stopped") and actor != "client" else roles
    where = actor == "client" or case.phase in ("meeting", "waiting") or "operator" in said or "stopped: " in said
    return where and any(role in said for role in concerned)


def run(case: Case) -> tuple[list[str], bool]:
    """The cells of a row of the table, and whether all was as it should be."""
    with tempfile.TemporaryDirectory(prefix="tacit-reliability-") as folder:
        here = Path(folder)
        outcome = disturbed(case, here)
        wrong = judge(case, outcome)
        scene, again = SCENES[case.scene], "not needed"
        if scene.client is not None and serves_on(case):
            again = "the next client is served" if case.actor == "client" else again
            wrong += [f"another client: {outcome.said['another client']}"] * bool(outcome.codes["another client"])
        elif case.fault not in PASSING:
            again = "as undisturbed"
            wrong += [f"started again: {text}" for text in undisturbed(case, here)]
        right = scene.right(here)
        wrong += [right] if right else []
    if wrong:
        again = "WRONG: " + "; ".join(wrong)
    return [*case, f"{outcome.seconds:.0f}", _sentence(case, outcome), again], not wrong


def _sentence(case: Case, outcome: Outcome) -> str:
    """What one of the others said, first a role in a session."""
    others = [actor for actor in outcome.codes if actor != case.actor and outcome.codes[actor] not in (0, HANGS)]
    for actor in sorted(others, key=lambda actor: "client" in actor):
        lines = [line for line in outcome.said[actor].splitlines() if line.startswith("error: ")]
        if lines:
            return f"{actor}: {_plain(lines[-1].removeprefix('error: '))}"
    return "nothing: they go on"


def _plain(text: str) -> str:
    text = re.sub(r"127\.0\.0\.1:\d+", "host:port", re.sub(r"operator \d+", "operator n", text))
    return re.sub(r"/\S*/", "", text)


# --- the table --------------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- reliability -->", "<!-- end of reliability -->"
HEAD = ("scene", "actor", "is", "while", "seconds", "the others say", "started again")


def as_row(cells: Sequence[str]) -> str:
    """A row of the table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def write(rows: Sequence[Sequence[str]]) -> None:
    """Put rows into the page's table, in the place of those of the same cases."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    table, after = rest.split(END)
    found = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in table.splitlines() if line.startswith("| ")]
    kept = {
        Case(*cells[:4]): as_row([c.replace("\\|", "|") for c in cells]) for cells in found if len(cells) == len(HEAD)
    }
    kept |= {Case(*cells[:4]): as_row(cells) for cells in rows}
    lines = [kept[case] for case in CASES if case in kept]
    ran = f"{len(lines)} of {len(CASES)} cases, the last of them on {time.strftime('%Y-%m-%d')}."
    head = f"{as_row(HEAD)}\n|{'---|' * len(HEAD)}\n"
    PAGE.write_text(f"{before}{BEGIN}\n\n{ran}\n\n{head}" + "\n".join(lines) + f"\n\n{END}{after}", encoding="utf-8")


def warm_up() -> None:
    """Import, before any actor is forked, what a first step of training and a first prediction import."""
    for protocol in ("additive", "two-party"):
        with tacit.session(protocol=protocol):
            model, rows = tacit.share(nn.Linear(3, 1)), tacit.share(torch.ones(4, 3))
            nn.functional.mse_loss(model(rows).relu(), tacit.share(torch.ones(4, 1))).backward()
            torch.optim.SGD(model.parameters(), lr=0.1).step()
            tacit.reveal(model.weight)


def run_all(chosen: Sequence[Case], jobs: int) -> list[tuple[list[str], bool]]:
    """Run cases, each in a process of its own, some of them at once: they mostly wait."""
    results: dict[Case, tuple[list[str], bool]] = {}
    left, running = list(chosen), dict[int, tuple[Case, Path]]()
    with tempfile.TemporaryDirectory(prefix="tacit-reliability-") as folder:
        while left or running:
            while left and len(running) < jobs:
                case = left.pop(0)
                path = Path(folder) / str(len(left))
                child = os.fork()
                if not child:
                    try:
                        path.write_text(json.dumps(run(case)))
                    finally:
                        traceback.print_exc() if sys.exc_info()[0] else None
                        os._exit(0)
                running[child] = case, path
            done, _ = os.wait()
            case, path = running.pop(done)
            cells, good = (
                json.loads(path.read_text()) if path.exists() else ([*case, "", "", "WRONG: a fault here"], False)
            )
            print(as_row(cells), flush=True)
            results[case] = cells, good
    return [results[case] for case in chosen]


def main(arguments: Sequence[str]) -> int:
    """Run all cases, or those whose names contain one of these texts."""
    torch.set_num_threads(1)
    words = list(arguments)
    jobs = int(words.pop(words.index("--jobs") + 1)) if "--jobs" in words else 3
    parts = [text for text in words if not text.startswith("--")]
    chosen = [case for case in CASES if not parts or any(text in str(case) for text in parts)]
    warm_up()
    results = run_all(chosen, jobs)
    if not parts or "--write" in words:
        write([cells for cells, _ in results])
    return 0 if all(good for _, good in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
