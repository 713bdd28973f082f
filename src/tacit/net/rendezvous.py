"""How the roles of a run find each other, in any order of starting.

Of two roles, the one that comes first in the config listens and the other calls, again and again until it gets through
or `connect_timeout` has passed. A helper comes last, so it calls everybody and need not be reachable.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

from tacit.errors import ConnectError, LinkDown, NetworkError, Stray, TacitError
from tacit.net.framing import Kind
from tacit.net.handshake import Endpoint, Secured, agree, authenticate, greet
from tacit.net.link import Link, describe
from tacit.net.parting import PARTING, Cause, farewell, hearsay, search
from tacit.net.tcp import Tcp
from tacit.net.transcript import Transcript

__all__ = ["connect"]

LOG = logging.getLogger("tacit")

RETRY = 0.1
"""Seconds between two calls. Shorter connects a little sooner, and knocks at an absent peer's door more often."""

PATIENCE = 10.0
"""Seconds that one connection may take for its handshake, so that a silent stranger does not hold a place for ever."""

STRANGERS = 64
"""Connections that may be in their handshake at once. One more takes the place of the oldest of those from the address
that has most, so that whoever holds connections open holds up nobody: a handshake takes milliseconds."""


def connect(me: Endpoint, transcript: Transcript) -> Tcp:
    """Connect to every other role and return the transport; raise after `connect_timeout`, or at once if hopeless."""
    links = Rendezvous(me).meet()
    return Tcp(
        me.role,
        me.roles,
        {role: links[role] for role in me.roles if role != me.role},
        transcript,
        timeout=me.timeout,
        outbox_bytes=me.outbox_bytes,
        spin=me.spin,
    )


class Rendezvous:
    """The threads and sockets of one role until all its links are made."""

    def __init__(self, me: Endpoint) -> None:
        self._me = me
        self._deadline = time.monotonic() + me.connect_timeout
        place = me.roles.index(me.role)
        self._calls, self._called_by = me.roles[:place], me.roles[place + 1 :]
        self._links: dict[str, Link] = {}
        self._troubles: dict[str, str] = {}
        self._suspicion: TacitError | None = None
        """What was wrong with the last caller who claimed to be a role and did not prove it: perhaps that role, wrongly
        set up, and perhaps anybody. Told when time is up, or else the first stranger could end the run."""
        self._strangers: dict[socket.socket, str] = {}
        """Callers in their handshake, the oldest first, and where they call from."""
        self._failure: TacitError | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def meet(self) -> dict[str, Link]:
        """Return a link to each peer, or close everything and raise."""
        listener = self._listen() if self._called_by else None
        try:
            if listener is not None:
                self._spawn(lambda: self._accept(listener))
            for peer in self._calls:
                self._spawn(lambda peer=peer: self._call(peer))  # type: ignore[misc]
            self._watch()
        except BaseException as error:
            self._stop(listener)
            self._part(error)
            raise
        self._stop(listener)
        return self._links

    def _watch(self) -> None:
        """Wait until all links are there; meanwhile look whether those that are have bad news."""
        with self._changed:
            while len(self._links) < len(self._me.roles) - 1:
                if self._failure is not None:
                    raise self._first_cause(self._failure)
                if time.monotonic() > self._deadline:
                    raise self._absent()
                for link in self._links.values():
                    _look(link, self._me.role)
                self._changed.wait(RETRY)

    def _first_cause(self, failure: TacitError) -> TacitError:
        """What a connected peer says of the end of the run, if another has just broken off, or the failure itself."""
        told = hearsay(list(self._links.values())) if type(failure) is NetworkError else None
        return failure if told is None else Cause.from_bytes(told[1], told[0].peer).error(self._me.role, told[0].peer)

    def _absent(self) -> TacitError:
        me = self._me
        missing = [role for role in me.roles if role != me.role and role not in self._links]
        reasons = "; ".join(
            f"{me.show(role)}: {self._troubles.get(role, 'nobody answers')}"
            if role in self._calls
            else f"{role} did not call {me.role} at {me.show(me.role)}"
            for role in missing
        )
        text = f"{' and '.join(missing)} did not come within {me.connect_timeout:g} s ({reasons})"
        if self._suspicion is not None and not set(missing).isdisjoint(self._called_by):
            return type(self._suspicion)(f"{self._suspicion}; {text}")
        return ConnectError(text)

    # --- calling ---------------------------------------------------------------------------------------------------

    def _call(self, peer: str) -> None:
        while not self._stopped:
            try:
                sock = socket.create_connection(self._me.addresses[peer], timeout=self._left(2.0))
            except OSError as error:
                self._troubles[peer] = describe(error).lower()
            else:
                if self._handshake(sock, peer):
                    return
            time.sleep(RETRY)

    def _handshake(self, sock: socket.socket, peer: str | None) -> bool:
        """Make a link of a connection; return False if it turns out not to be one of this run."""
        keeper = sock.dup()
        with self._changed:
            self._sockets.add(keeper)
            if self._stopped:
                _hang_up(keeper)
            elif peer is None:
                self._admit(keeper)
        secured, proven = None, self._me.identity is None or peer is not None
        try:
            sock.settimeout(self._left(PATIENCE))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            role = greet(sock, self._me, peer)
            wire = authenticate(sock, self._me, role, server=peer is None)
            proven = True
            secured = agree(sock, wire, self._me, role)
            self._keep(role, secured, keeper)
        except Stray as error:
            if peer is not None:
                self._troubles[peer] = str(error)
        except (TacitError, OSError) as error:
            self._fail(error if isinstance(error, TacitError) else NetworkError(describe(error)), proven=proven)
        finally:
            with self._changed:
                self._sockets.discard(keeper)
                self._strangers.pop(keeper, None)
            if secured is None:
                _dismiss(keeper)
                sock.close()
            keeper.close()
        return secured is not None

    def _keep(self, role: str, secured: Secured, keeper: socket.socket) -> None:
        link = Link(
            role,
            self._me.show(role),
            secured.socket,
            secured.pair_key,
            same_script=secured.same_script,
            wire=secured.wire,
        )
        with self._changed:
            if role in self._links:
                link.close()
                raise NetworkError(f"{role} has connected twice: is it running twice?")
            self._sockets.discard(keeper)  # before anybody is told: `_stop` shuts down what is in there
            self._links[role] = link
            self._changed.notify_all()

    def _fail(self, error: TacitError, *, proven: bool) -> None:
        """End the meeting, unless it was somebody who has not proven to be a role of it."""
        if not proven and str(error) != str(self._suspicion):
            LOG.warning("somebody called %s as a role and was turned away: %s", self._me.role, error)
        with self._changed:
            if proven:
                self._failure = self._failure or error
            else:
                self._suspicion = error
            self._changed.notify_all()

    def _left(self, most: float) -> float:
        return max(min(most, self._deadline - time.monotonic()), 0.01)

    # --- being called ----------------------------------------------------------------------------------------------

    def _listen(self) -> socket.socket:
        me = self._me
        host, port = me.listen or me.addresses[me.role]
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family, backlog=128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = "another program uses that port; end it, or change the port in everybody's config"
            elif error.errno == errno.EADDRNOTAVAIL:
                why = "that is no address of this machine; if it is behind a router, set 'tacit.listen'"
            else:
                why = describe(error).lower()
            raise ConnectError(f"{me.role} cannot listen at {host}:{port}: {why}") from None

    def _accept(self, listener: socket.socket) -> None:
        listener.settimeout(RETRY)
        while not self._stopped:
            try:
                sock, _ = listener.accept()
            except OSError:
                continue
            self._spawn(lambda sock=sock: self._handshake(sock, None))  # type: ignore[misc]

    def _admit(self, caller: socket.socket) -> None:
        """Count a caller in, and hang up on another where there are too many."""
        if len(self._strangers) >= STRANGERS:
            crowded = Counter(self._strangers.values()).most_common(1)[0][0]
            oldest = next(sock for sock, address in self._strangers.items() if address == crowded)
            del self._strangers[oldest]
            _hang_up(oldest)
        with contextlib.suppress(OSError):
            self._strangers[caller] = str(caller.getpeername()[0])

    # --- the end ---------------------------------------------------------------------------------------------------

    def _spawn(self, run: Callable[[], object]) -> None:
        thread = threading.Thread(target=run, name="tacit-rendezvous", daemon=True)
        thread.start()
        with self._changed:
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]

    def _stop(self, listener: socket.socket | None) -> None:
        """End all threads, and every connection that is not a link."""
        with self._changed:
            self._stopped = True
            for sock in self._sockets:
                _hang_up(sock)
        while self._threads:  # the one that accepts callers is among the first, and starts no more
            self._threads[0].join()
            with self._changed:
                self._threads = [t for t in self._threads if t.is_alive()]
        if listener is not None:
            listener.close()

    def _part(self, error: BaseException) -> None:
        """Tell the peers that are connected already why there will be no run."""
        text = str(error) if isinstance(error, TacitError) else "interrupted by its user"
        farewell(tuple(self._links.values()), Cause("stopped", self._me.role, text))


def _look(link: Link, here: str) -> None:
    """Raise if a peer that is connected already has stopped."""
    try:
        with link.reading:
            header = link.peek()
            if header is None:
                link.fill()
                header = link.peek()
            well = not link.hung_up and (header is None or header.kind is not Kind.ABORT)
    except LinkDown:
        well = False
    if not well:
        found = search(link, PARTING, (Kind.ABORT,))
        text = f"{link.peer} ({link.address}) closed its connection while {here} was waiting for others"
        raise (
            Cause("lost", link.peer, text).error(here)
            if found is None
            else Cause.from_bytes(found[1], link.peer).error(here, link.peer)
        )


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _dismiss(sock: socket.socket) -> None:
    """Close a connection so that what was sent on it, a TLS alert say, still arrives."""
    with sock, contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(1.0)
        while sock.recv(1 << 16):
            pass
