"""Where clients reach one party: who is there, what they ask for, and how a door opens and closes.

What is done for them is the business of *handlers*: `datasets.intake` takes submissions in, `predictions.questions`
passes requests to a service.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tacit.errors import ConfigError, ConnectError, DataError, NetworkError, Refused
from tacit.outside.deployment import server_context
from tacit.outside.loop import Loop
from tacit.outside.wire import BUFFER_BYTES, PROTOCOL, Connection, refusal
from tacit.products import Serving
from tacit.session.config import Config

__all__ = ["Door", "DoorThread", "Handler", "Visit"]

LOG = logging.getLogger("tacit.serve")

CONNECTIONS = 512
"""Clients that may be connected at once. More: more patience with strangers; fewer: less memory, 2 MiB each at most."""

IDLE_SECONDS = 300.0
"""Seconds a client may be connected and silent after a request. Longer saves it handshakes."""

HANDSHAKE_SECONDS = 10.0

PARTING_SECONDS = 2.0
"""Seconds that a closing door waits for what is under way."""

PATIENCE = 30.0
"""Seconds to wait for the next bytes in the middle of a message."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A client that is there: its connection, and its certificate's name or "anonymous"."""

    connection: Connection
    client: str


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
        if not config.of(Serving).clients:
            raise ConfigError('the config names no addresses for clients: set "clients" under "tacit"')
        self.role, self.handlers = role, handlers
        self._config = config
        self._context, self._known = server_context(config, role)
        self._connections: set[Connection] = set()
        self._acting: set[asyncio.Future[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Start to listen."""
        for handler in self.handlers:
            handler.open()
        serving = self._config.of(Serving)
        host, port = serving.listen_clients or serving.clients[self._config.parties.index(self.role)]
        try:
            self._server = await asyncio.start_server(
                self._admit, host, port, ssl=self._context, limit=BUFFER_BYTES,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._context else None,
            )  # fmt: skip
        except OSError as error:
            raise ConnectError(f"{self.role} cannot listen for clients at {host}:{port}: {error.strerror}") from None

    async def close(self) -> None:
        """Stop to listen, give answers that are on their way a moment, and hang up on everybody."""
        if self._server is not None:
            self._server.close()
        if self._acting:
            await asyncio.wait(self._acting, timeout=PARTING_SECONDS)
        for connection in tuple(self._connections):
            connection.drop()

    # --- connections -----------------------------------------------------------------------------------------------

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, "the client", PATIENCE)
        if len(self._connections) >= CONNECTIONS:
            connection.drop()
            return
        self._connections.add(connection)
        try:
            visit = Visit(connection, self._client(writer))
            await connection.send(**self._greeting())
            patience = PATIENCE
            while True:
                head = await connection.receive(patience)
                patience = IDLE_SECONDS
                act = asyncio.ensure_future(self._act(visit, head))
                self._acting.add(act)
                act.add_done_callback(self._acting.discard)
                await act
        except NetworkError as error:
            LOG.debug("%s: %s", self.role, error)
        finally:
            self._connections.discard(connection)
            await connection.close()

    def _client(self, writer: asyncio.StreamWriter) -> str:
        """Who is there: the name of its certificate, or "anonymous" where everybody may come."""
        if not self._known:
            return "anonymous"
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
            for handler in self.handlers:
                if head.get("do") in handler.verbs:
                    await handler.handle(visit, head)
                    return
            raise Refused(f"{self.role} does not know what to do")
        except (Refused, DataError) as error:
            await visit.connection.send(**refusal(error))


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
