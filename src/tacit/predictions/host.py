"""A server that computes with each of its clients: who may come, and how long each of them may stay.

One process, which computes nothing, takes callers in and keeps the books; each client's session is in a process that
is forked for it (`attendant`). So a client that is hostile, dead or slow holds its own process and no more, and that
one is ended, with whatever it holds, when its time is up or others need its place.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import torch
from typing_extensions import override

from tacit.errors import ConfigError, ConnectError, Dismissed, NetworkError, Overloaded, TacitError
from tacit.outside.guests import PATIENCE, Crowd, Visit, place_of
from tacit.outside.pairing import Terms
from tacit.predictions.attendant import Line, attend, served, turn_away
from tacit.products import Serving
from tacit.session.config import Config

__all__ = ["Host"]

LOG = logging.getLogger("tacit.serve")

GREETING_SECONDS = 30.0
"""Until a client that has come must be ready to ask: longer for slower lines, shorter for silent callers."""
GRACE_SECONDS = 3.0
"""Until a process that was asked to end is ended."""
PARTING_SECONDS = 10.0
"""That a server which is stopped gives requests that are being computed."""
TICK_SECONDS = 0.25
BACKLOG = 256
LINE_BYTES = 1 << 12

STOPPED = "the service has been stopped"
ALONE = "the process that lets clients in has gone, or does not answer"


@dataclass(eq=False)
class _Guest:
    """A client's process, as the books have it."""

    visit: Visit
    line: socket.socket
    process: int
    phase: str = "comes"
    """"comes", "idle", "asks" (a request is being computed), or "leaves"."""
    since: float = field(default_factory=time.monotonic)
    rows: int = 0
    requests: int = 0
    answered: int = 0
    rest: bytes = b""

    def enter(self, phase: str) -> None:
        """Begin another phase."""
        self.phase, self.since = phase, time.monotonic()
        self.visit.busy, self.visit.since = phase != "idle", self.since


class Host:
    """Serves one model to clients who each compute with this server.

    Args:
        model: a module, whose weights stay here, or a function of a tensor of shape [n, *shape]. It treats rows alike.
        config: one of a single role.
        shape: of one input.
        dtype: of inputs, torch.float32 or torch.int64.
        batch: rows at most in one request.
        places: clients at once, each with a process of its own.
        log: told who comes and goes.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        config: Config,
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        batch: int = 8,
        places: int = 16,
        log: Callable[[str], None] | None = None,
    ) -> None:
        if places < 1:
            raise ConfigError("at least one client has a place")
        self.answered = self.refused = 0
        """Requests answered, and clients turned away for want of a place, so far."""
        torch.set_num_threads(1)  # before PyTorch makes threads, which no fork takes along
        self._served = served(model, config, shape, dtype=dtype, batch=batch)
        self.role, self.places = self._served.terms.role, places
        self._limits = replace(config.of(Serving).client_limits, connections=places)
        self._crowd = Crowd(self._limits)
        self._config, self._log = config, log or (lambda text: None)
        self._guests: list[_Guest] = []
        self._listeners: list[socket.socket] = []
        self._stopping: float | None = None

    @property
    def terms(self) -> Terms:
        """What clients are told."""
        return self._served.terms

    @property
    def told(self) -> tuple[int, int]:
        """How many numbers of the model all clients are told: single ones of its code, and elements of constants."""
        return self._served.traced.graph.told

    def stop(self) -> None:
        """Answer what is being computed, then end; called again, end at once. A handler of signals may call it."""
        self._stopping = 0.0 if self._stopping is not None else time.monotonic() + PARTING_SECONDS

    def run(self, started: Callable[[], None] | None = None) -> None:
        """Serve until stopped, in the main thread. `started` is called when clients may come."""
        self._listeners = self._listen()
        try:
            if started is not None:
                started()
            while self._stopping is None:
                self._turn(self._listeners)
            for listener in self._listeners:
                listener.close()
            self._listeners = []
            while self._guests and time.monotonic() < self._stopping:
                for guest in self._guests:
                    if guest.phase in ("comes", "idle"):
                        self._dismiss(guest, STOPPED)
                self._turn([])
        finally:
            self._end()

    # --- one turn --------------------------------------------------------------------------------------------------

    def _turn(self, listeners: Sequence[socket.socket]) -> None:
        """Take in who comes, hear what the processes say, and see whose time is up."""
        poll = select.poll()
        for sock in (*listeners, *(guest.line for guest in self._guests)):
            poll.register(sock, select.POLLIN)
        ready = {number for number, _ in poll.poll(TICK_SECONDS * 1000)}
        for guest in [each for each in self._guests if each.line.fileno() in ready]:
            self._hear(guest)
        for listener in listeners:
            if listener.fileno() in ready:
                self._accept(listener)
        for guest in self._guests:
            self._look(guest)

    def _look(self, guest: _Guest) -> None:
        seconds = time.monotonic() - guest.since
        if guest.phase == "comes" and seconds > GREETING_SECONDS:
            self._dismiss(guest, f"its client has not greeted within {GREETING_SECONDS:g} s")
        elif guest.phase == "idle" and seconds > self._limits.idle:
            self._dismiss(guest, f"its client has asked for nothing for {self._limits.idle:g} s")
        elif guest.phase == "asks" and seconds > self._limits.computing:
            self._dismiss(guest, f"a request has taken more than {self._limits.computing:g} s")
        elif guest.phase == "leaves" and seconds > GRACE_SECONDS:
            _signal(guest.process, signal.SIGKILL)

    def _dismiss(self, guest: _Guest, why: str) -> None:
        """Ask a process to end its session, and to say why."""
        if guest.phase == "leaves":
            return
        guest.enter("leaves")
        with contextlib.suppress(OSError):
            guest.line.send(json.dumps({"leave": why}).encode() + b"\n")
        _signal(guest.process, signal.SIGTERM)

    def _hear(self, guest: _Guest) -> None:
        """What a process says; its end, if it has ended."""
        try:
            data = guest.line.recv(LINE_BYTES)
        except OSError:
            data = b""
        if not data:
            self._gone(guest)
            return
        *lines, guest.rest = (guest.rest + data).split(b"\n")
        for line in lines:
            self._note(guest, json.loads(line))

    def _note(self, guest: _Guest, said: dict[str, Any]) -> None:
        visit = guest.visit
        if "came" in said:
            visit.client = said["came"]
            visit.guest = self._crowd.guest(visit.account)
            visit.guest.visits += 1
        elif "asks" in said:
            guest.rows, guest.requests = guest.rows + said["asks"], guest.requests + (said["asks"] > 0)
            visit.guest.rows.take(said["asks"], patience=float("inf"))
            self._begin(guest, "asks")
        else:
            self.answered += guest.requests - guest.answered
            guest.answered = guest.requests
            self._begin(guest, "idle")
            wait = visit.guest.rows.take(0.0)
            wait = max(wait, visit.guest.requests.take(patience=PATIENCE if wait <= PATIENCE else -1.0))
            with contextlib.suppress(OSError):
                guest.line.send(json.dumps({"wait": wait}).encode() + b"\n")

    def _begin(self, guest: _Guest, phase: str) -> None:
        if guest.phase != "leaves":
            guest.enter(phase)

    def _gone(self, guest: _Guest) -> None:
        """Strike a client off the books."""
        self._guests.remove(guest)
        guest.line.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(guest.process, 0)
        self._crowd.exit(guest.visit)
        if guest.visit.guest.visits:
            guest.visit.guest.visits -= 1
        if guest.requests:
            self._log(f"{guest.visit.account} has asked about {guest.rows} rows in {guest.requests} requests")

    # --- who comes -------------------------------------------------------------------------------------------------

    def _listen(self) -> list[socket.socket]:
        host, port = self._config.of(Serving).listen_clients or self._config.listen or self._config.addresses[0]
        listeners, trouble = list[socket.socket](), None
        for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
            try:
                listeners.append(socket.create_server(where[:2], family=family, backlog=BACKLOG))
                listeners[-1].setblocking(False)
            except OSError as error:
                trouble = error
        if not listeners:
            why = "" if trouble is None else f": {trouble.strerror}"
            raise ConnectError(f"{self.role} cannot listen for clients at {host}:{port}{why}")
        return listeners

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:  # no descriptors left, say, or a caller that has gone already
            LOG.debug("%s: %s", self.role, error)
            return
        with sock:
            visit = Visit(place_of(address))
            visit.leave = lambda: None
            if not self._crowd.enter(visit):
                return
            visit.guest = self._crowd.guest(visit.place)
            if visit.turned_away:
                self.refused += 1
            self._fork(sock, visit)

    def _fork(self, sock: socket.socket, visit: Visit) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        sys.stdout.flush()
        sys.stderr.flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            process = os.fork()
            if not process:
                _become(self, sock, ours, theirs, visit)
        except OSError as error:
            LOG.warning("%s: %s", self.role, error)
            ours.close()
            self._crowd.exit(visit)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        guest = _Guest(visit, ours, process)
        visit.leave = lambda: self._dismiss(guest, "others needed its place: ask again later")
        self._guests.append(guest)

    # --- the end ---------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """End all processes that are left."""
        for listener in self._listeners:
            listener.close()
        for guest in self._guests:
            self._dismiss(guest, STOPPED)
        deadline = time.monotonic() + GRACE_SECONDS
        while self._guests and time.monotonic() < deadline:
            self._turn([])
        for guest in self._guests:
            _signal(guest.process, signal.SIGKILL)
        for guest in tuple(self._guests):
            self._gone(guest)


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


# --- the process of a client -----------------------------------------------------------------------------------------


def _become(host: Host, sock: socket.socket, ours: socket.socket, theirs: socket.socket, visit: Visit) -> None:
    """In the process that was forked for a client: serve it, and end."""
    code = 1
    try:
        ours.close()
        for other in (*host._listeners, *(guest.line for guest in host._guests)):
            other.close()
        line = _Told(theirs, host._config.timeout)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells all processes: the first of them decides
        signal.signal(signal.SIGTERM, line.leave)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        if host._config.threads is not None:
            torch.set_num_threads(host._config.threads)
        with sock:
            if visit.turned_away:
                turn_away(sock, host._served, Overloaded(f"{host.role} has no place for another client", after=1.0))
            else:
                attend(sock, host._served, line, visit.place)
        code = 0
    except (TacitError, OSError) as error:
        LOG.debug("%s: %s", host.role, error)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class _Told(Line):
    """The line of a client's process to the one that keeps the books."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock, self._rest = sock, b""
        sock.settimeout(timeout)

    @override
    def came(self, client: str) -> None:
        self._say(came=client)

    @override
    def allowed(self) -> float:
        self._say(may=True)
        for said in self._hear():
            if "wait" in said:
                return float(said["wait"])
        raise NetworkError(STOPPED)

    @override
    def begins(self, rows: int) -> None:
        self._say(asks=rows)

    def leave(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal by which a session is ended: raise the reason."""
        why = STOPPED
        self._sock.setblocking(False)
        with contextlib.suppress(OSError):
            for said in self._hear():
                why = said.get("leave", why)
        raise Dismissed(why)

    def _say(self, **said: Any) -> None:
        try:
            self._sock.sendall(json.dumps(said).encode() + b"\n")
        except OSError:
            raise NetworkError(ALONE) from None

    def _hear(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\n" in self._rest:
                line, self._rest = self._rest.split(b"\n", 1)
                yield json.loads(line)
            try:
                data = self._sock.recv(LINE_BYTES)
            except TimeoutError:
                raise NetworkError(ALONE) from None
            if not data:
                return
            self._rest += data
