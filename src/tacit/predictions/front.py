"""The front of one role whose ranks serve: it keeps the door, and hands requests to ranks that compute each by itself.

Each rank is a replica of the service: a process that this one has started, in a session with the ranks of its number at
other roles. A rank that has nothing to do takes what waits, and the first party's rank tells the others what it has
taken; so there is nothing to agree on beside what one session agrees on.

A rank that dies takes its session with it, at all roles. Each request goes to one rank and never to another: what a
party hands to its client is a share of one computation, and shares of two do not fit together. Of requests that a dead
rank leaves, clients are told at each party (`Unanswered`), and ask again, under another identity, whoever is left.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from tacit.datasets.intake import Intake
from tacit.datasets.store import Limits
from tacit.errors import DataError, NetworkError, Refused, TacitError, Unanswered
from tacit.outside.door import DoorThread
from tacit.outside.plan import Plan
from tacit.predictions.desk import receive, send, tensor_of
from tacit.predictions.questions import Questions
from tacit.predictions.queue import Answer, Queue, Request
from tacit.session.config import Config
from tacit.session.ranks import Rank

__all__ = ["Front"]

GRACE_SECONDS = 5.0
"""Until a rank that has closed its line, or was told to end, is ended."""
TICK_SECONDS = 0.25

STOPPED = "the service has been stopped"
NOBODY = "no rank of the service is left"


@dataclass(eq=False)
class _Seat:
    """One rank, as the front knows it."""

    name: str
    process: subprocess.Popen[bytes]
    line: socket.socket
    phase: str = "comes"
    """"comes", "serves", "leaves" (it was told that all is done), or "gone"."""
    mine: dict[str, Request] = field(default_factory=dict)
    """Requests that it has chosen or taken, and not answered."""
    code: int | None = None
    """How its process has ended, once it has."""


class Front:
    """Starts the ranks of one role, and keeps the door of a party before them.

    Args:
        config: of the service.
        role: that is served here; one that helps has ranks, and no door.
        count: of ranks.
        command: starts a rank, which finds its line to the front at the file descriptor that is given.
        places: requests that may wait.
        limits: of data that is submitted at the same door.
        log: told who is lost.
    """

    def __init__(
        self,
        config: Config,
        role: str,
        count: int,
        command: Callable[[int], Sequence[str]],
        *,
        places: int = 64,
        limits: Limits | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._config, self.role, self._command = config, role, command
        self._ranks = [Rank(index, count) for index in range(count)]
        self._places, self._limits, self._log = places, limits, log or (lambda text: None)
        self._seats: list[_Seat] = []
        self._changed = threading.Condition()
        self._queue: Queue | None = None
        self._stopping = False
        self.answered = 0
        """Requests answered so far."""

    @property
    def refused(self) -> int:
        """Requests turned away for want of a place."""
        return 0 if self._queue is None else self._queue.refused

    @property
    def left(self) -> int:
        """Ranks that serve."""
        return sum(seat.phase in ("serves", "leaves") for seat in self._seats)

    def stop(self) -> None:
        """At the first party, answer what has been accepted, then end the service; elsewhere, or again, end at once."""
        gently = self.role == self._config.parties[0] and not self._stopping and self._queue is not None
        self._stopping = True
        if gently and self._queue is not None:
            self._queue.close(STOPPED)
        else:
            for seat in self._seats:
                seat.process.terminate()

    def run(self, started: Callable[[Plan | None, int], None]) -> bool:
        """Serve until stopped, or until no rank is left, in the main thread; whether it was stopped.

        `started` is called with what is served, and by how many ranks, once all of them are ready or have failed.
        """
        with ExitStack() as stack:
            stack.callback(self._end)
            for rank in self._ranks:
                self._seats.append(self._start(rank))
            threads = [
                threading.Thread(target=self._attend, args=(seat,), name="tacit-seat", daemon=True)
                for seat in self._seats
            ]
            for thread in threads:
                thread.start()
            self._until(lambda: all(seat.phase != "comes" for seat in self._seats))
            if self.left:
                if self._queue is not None:
                    assert isinstance(self._queue.plan, Plan)
                    handlers = [
                        Intake(self._config, self.role, self._limits, self._log),
                        Questions(self._queue.plan, self._queue),
                    ]
                    stack.enter_context(DoorThread(self._config, {self.role: handlers}))
                    stack.callback(self._dismiss)
                started(None if self._queue is None else self._queue.plan, self.left)  # type: ignore[arg-type]
            self._until(lambda: all(seat.code is not None for seat in self._seats))
            return any(seat.code == 0 for seat in self._seats)

    # --- ranks --------------------------------------------------------------------------------------------------------

    def _start(self, rank: Rank) -> _Seat:
        """Start a rank in a process group of its own, so that only the front hears an interrupt of the terminal."""
        here, there = socket.socketpair()
        with there:
            environment = {**os.environ, **self._cores(), "RANK": str(rank.index), "WORLD_SIZE": str(rank.count)}
            process = subprocess.Popen(  # noqa: S603
                self._command(there.fileno()),
                env=environment, stdin=subprocess.DEVNULL, pass_fds=[there.fileno()], process_group=0,
            )  # fmt: skip
        return _Seat(rank.of(self.role), process, here)

    def _cores(self) -> dict[str, str]:
        """Ranks share a machine, which no session knows where other roles have machines of their own."""
        if "OMP_NUM_THREADS" in os.environ or self._config.threads is not None or self._config.on_one_machine:
            return {}
        return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(self._ranks)))}

    def _attend(self, seat: _Seat) -> None:
        """Do what a rank asks for, until it has gone."""
        trouble = ""
        try:
            while True:
                head, body = receive(seat.line)
                self._act(seat, head, body)
        except OSError:
            pass
        except (TacitError, ValueError, KeyError, TypeError, AttributeError) as error:
            trouble = str(error) if isinstance(error, TacitError) else f"its line is garbled ({type(error).__name__})"
        self._lost(seat, trouble)

    def _act(self, seat: _Seat, head: dict[str, Any], body: bytearray) -> None:
        what, queue = head["do"], self._queue
        if what == "ready":
            self._ready(seat, head["plan"])
            send(seat.line, {})
        elif queue is None:
            raise NetworkError(f"{seat.name} asks before it is ready")
        elif what == "next":
            chosen = queue.next(float(head["wait"]), float(head["idle"]))
            seat.mine.update({request.id: request for request in chosen})
            if not chosen and queue.closed:
                seat.phase = "leaves"
                send(seat.line, {"stop": True})
            else:
                send(seat.line, {"named": [[request.id, request.rows] for request in chosen]})
        elif what == "take":
            taken = queue.take([(str(identity), int(rows)) for identity, rows in head["named"]])
            there = [request for request in taken if request is not None]
            seat.mine.update({request.id: request for request in there})
            for identity, _ in head["named"]:
                if identity in seat.mine and seat.mine[identity] not in there:  # its client has gone meanwhile
                    del seat.mine[identity]
            clients = [None if request is None else request.client for request in taken]
            send(seat.line, {"clients": clients}, *(request.content.contiguous() for request in there))
        else:
            request = seat.mine.pop(head["id"])
            if what == "answer":
                queue.batch_seconds = float(head["seconds"]) / max(1, self.left)
                request.resolve(Answer(tensor_of(body, head["shape"]), str(head["dtype"])))
                with self._changed:
                    self.answered += 1
            else:
                request.resolve(Refused(str(head["why"])))

    def _ready(self, seat: _Seat, literal: dict[str, Any] | None) -> None:
        with self._changed:
            if literal is not None:
                plan = Plan.parse(literal)
                if self._queue is None:
                    self._queue = Queue(plan, self._places)
                elif self._queue.plan != plan:
                    raise DataError(f"{seat.name} serves another model than the ranks before it")
            seat.phase = "serves"
            self._changed.notify_all()

    def _lost(self, seat: _Seat, trouble: str) -> None:
        """Tell who waits for a rank that has gone, and say what is left."""
        served = seat.phase
        with self._changed:
            seat.phase = "gone"
        seat.line.close()
        held, seat.mine = seat.mine, {}
        for request in held.values():
            if self._queue is not None:
                self._queue.drop(request)
            request.resolve(Unanswered(f"{seat.name} has gone, with what it was computing: ask again"))
        code = _ended(seat.process)
        if (code or trouble) and not self._stopping:
            how = trouble or (f"was killed by signal {-code}" if code < 0 else f"has ended with exit code {code}")
            asked = f", {len(held)} of its requests go to others" if held else ""
            rest = "nobody is left" if not self.left else f"{self.left} of {len(self._ranks)} ranks are left"
            before = " before it was ready" if served == "comes" else ""
            self._log(f"{seat.name} {how}{before}{asked}: {rest}")
        with self._changed:
            seat.code = code
            self._changed.notify_all()

    # --- the end ------------------------------------------------------------------------------------------------------

    def _until(self, there: Callable[[], bool]) -> None:
        """Wait; handlers of signals run meanwhile."""
        while True:
            with self._changed:
                if there() or self._changed.wait_for(there, TICK_SECONDS):
                    return

    def _dismiss(self) -> None:
        if self._queue is not None:
            self._queue.dismiss(STOPPED if self._stopping else NOBODY)

    def _end(self) -> None:
        for seat in self._seats:
            if seat.process.poll() is None:
                seat.process.terminate()
        for seat in self._seats:
            _ended(seat.process)


def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process, which is ended if it does not end soon."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(GRACE_SECONDS)
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        return process.wait(GRACE_SECONDS)
    process.kill()
    return process.wait()
