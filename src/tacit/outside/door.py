"""Where clients reach one party: who is there, what they ask for, and how a door opens and closes.

What is done for them is the business of *handlers*: `datasets.intake` takes submissions in, `predictions.questions`
passes requests to a service.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from tacit.errors import ConfigError, ConnectError, DataError, NetworkError, Overloaded, Refused
from tacit.outside.deployment import server_terms
from tacit.outside.guests import ANONYMOUS, Crowd, Visit, place_of
from tacit.outside.loop import Loop
from tacit.outside.wire import BUFFER_BYTES, PROTOCOL, Connection, refusal
from tacit.products import Serving
from tacit.session.addresses import Address
from tacit.session.config import Config

__all__ = ["Door", "DoorThread", "Handler"]

LOG = logging.getLogger("tacit.serve")

HANDSHAKE_SECONDS = 10.0

PARTING_SECONDS = 2.0
"""Seconds that a closing door waits for what is under way."""

PATIENCE = 30.0
"""Seconds to wait for the next bytes in the middle of a message."""


BACKLOG = 256
"""Connections that the operating system keeps while the loop is busy."""


class Handler(ABC):
    """What a door does for clients that ask for one kind of thing. Its methods run in the door's event loop."""

    verbs: frozenset[str]
    """What such a client says that it wants: the values of "do"."""

    def __init__(self, *verbs: str) -> None:
        self.verbs = frozenset(verbs)

    @abstractmethod
    def greeting(self) -> dict[str, Any]:
        """What clients are told of it when they come."""

    @abstractmethod
    def open(self) -> None:
        """Make ready: the door is about to open."""

    @abstractmethod
    async def handle(self, visit: Visit, head: dict[str, Any]) -> None:
        """Do what a client asks for, or raise `Refused`, which it is told."""


class Door:
    """The server of one party."""

    def __init__(self, config: Config, role: str, handlers: Sequence[Handler]) -> None:
        if role not in config.parties:
            raise ConfigError(f"clients come to the computing parties, {', '.join(config.parties)}, not to {role}")
        if config.awaits_clients:
            raise ConfigError("data of clients are taken in by two servers or more: one alone would see them")
        if not config.of(Serving).clients:
            raise ConfigError('the config names no addresses for clients: set "clients" under "tacit"')
        self.role, self.handlers = role, handlers
        self._config, self._serving = config, config.of(Serving)
        terms, self._known = server_terms(config, role)
        self._context = None if terms is None else terms.standard()
        self.crowd = Crowd(self._serving.client_limits)
        self._acting: set[asyncio.Future[None]] = set()
        self._hosting: set[asyncio.Task[None]] = set()
        self._accepting: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Start to listen."""
        address = self._serving.listen_clients or self._serving.clients[self._config.parties.index(self.role)]
        try:
            listeners = await _listen(address)
        except OSError as error:
            raise ConnectError(f"{self.role} cannot listen for clients at {address}: {error.strerror}") from None
        for handler in self.handlers:
            handler.open()
        self._accepting = [asyncio.create_task(self._accept(listener)) for listener in listeners]

    async def close(self) -> None:
        """Stop to listen, give answers that are on their way a moment, and hang up on everybody."""
        for task in self._accepting:
            task.cancel()
        if self._acting:
            await asyncio.wait(self._acting, timeout=PARTING_SECONDS)
        for task in self._hosting:
            task.cancel()
        await asyncio.gather(*self._accepting, *self._hosting, return_exceptions=True)

    # --- connections -----------------------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        """Count who comes before anything is done for them."""
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    sock, address = await loop.sock_accept(listener)
                except OSError as error:  # no descriptors left, say, or a caller that has gone already
                    LOG.debug("%s: %s", self.role, error)
                    await asyncio.sleep(0.05)
                    continue
                visit = Visit(place_of(address))
                if not self.crowd.enter(visit):
                    sock.close()
                    continue
                visit.guest = self.crowd.guest(visit.place)
                task = asyncio.create_task(self._host(visit, sock))
                visit.leave = task.cancel
                self._hosting.add(task)
                task.add_done_callback(self._hosting.discard)
                await asyncio.sleep(0)  # it begins, and owns the socket from now on

    async def _host(self, visit: Visit, sock: socket.socket) -> None:
        """Talk to a client until one of us has enough."""
        connection: Connection | None = None
        try:
            connection, visit.client = await self._shake_hands(sock)
            visit.connection, visit.guest = connection, self.crowd.guest(visit.account)
            visit.guest.visits += 1
            if visit.turned_away:
                await connection.send(**refusal(Overloaded(f"{self.role} has no room for another client", after=1.0)))
            else:
                await connection.send(**self._greeting())
                await self._talk(visit)
        except (OSError, NetworkError) as error:
            LOG.debug("%s: %s", self.role, error)
        except asyncio.CancelledError:
            if connection is not None:
                connection.drop()
        finally:
            self.crowd.exit(visit)
            if connection is not None:
                visit.guest.visits -= 1
                await connection.close()

    async def _shake_hands(self, sock: socket.socket) -> tuple[Connection, str]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(BUFFER_BYTES, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        sock.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, sock, ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if self._context else None,
        )  # fmt: skip
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        connection = Connection(reader, writer, "the client", PATIENCE, self._serving.client_limits.slowest)
        try:
            return connection, self._client(writer)
        except NetworkError:
            connection.drop()
            raise

    async def _talk(self, visit: Visit) -> None:
        """Do what a client asks for, one thing after the other."""
        patience = PATIENCE
        while True:
            visit.busy, visit.since = False, time.monotonic()
            head = await visit.connection.receive(patience)
            visit.busy, patience = True, self._serving.client_limits.idle
            act = asyncio.ensure_future(self._act(visit, head))
            self._acting.add(act)
            act.add_done_callback(self._acting.discard)
            await act

    def _client(self, writer: asyncio.StreamWriter) -> str:
        """Who is there: the name of its certificate, or nobody's where everybody may come."""
        if not self._known:
            return ANONYMOUS
        name = self._known.get(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        if name is None:
            raise NetworkError("a client whose certificate is not among the providers'")
        return name

    def _greeting(self) -> dict[str, Any]:
        greeting = {"tacit": PROTOCOL, "role": self.role, "frac_bits": self._config.frac_bits}
        for handler in self.handlers:
            greeting |= handler.greeting()
        return greeting

    async def _act(self, visit: Visit, head: dict[str, Any]) -> None:
        """Do what a client asks for, or say why not."""
        try:
            await visit.guest.pace()
            for handler in self.handlers:
                if str(head.get("do")) in handler.verbs:
                    await handler.handle(visit, head)
                    return
            raise Refused(f"{self.role} does not know what to do")
        except (Refused, DataError) as error:
            await visit.connection.send(**refusal(error))
        except OSError as error:  # of the disk: those of the network are errors of Tacit by now
            LOG.warning("%s: %s", self.role, error)
            why = f"{self.role} cannot write to its disk: {error.strerror or type(error).__name__}"
            await visit.connection.send(**refusal(Refused(why)))


async def _listen(address: Address) -> list[socket.socket]:
    """Sockets that listen at all network addresses that a host has."""
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listeners: list[socket.socket] = []
    trouble: OSError | None = None
    for family, _, _, _, where in dict.fromkeys(found):
        try:
            listener = socket.create_server(where, family=family, backlog=BACKLOG)
        except OSError as error:
            trouble = error
            continue
        listener.setblocking(False)
        listeners.append(listener)
    if not listeners and trouble is not None:
        raise trouble
    return listeners


class DoorThread:
    """The doors of one or several parties, in a thread beside the program: use it in a `with` statement."""

    def __init__(self, config: Config, handlers: Mapping[str, Sequence[Handler]]) -> None:
        self.each = [Door(config, role, those) for role, those in handlers.items()]
        self._loop: Loop | None = None

    def __enter__(self) -> DoorThread:
        self._loop = Loop("tacit-doors", self._close)
        try:
            for door in self.each:
                self._loop.call(door.open())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what has come in, within a moment, and hang up on all clients."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    async def _close(self) -> None:
        await asyncio.gather(*(door.close() for door in self.each))
