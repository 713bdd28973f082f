"""Where clients reach one party: it takes their shares in, and passes requests to the prediction service.

A *submission* takes two steps, so that it enters a data set at all servers or at none that counts: the client sends
every server its share, which the server *stages*, and tells all of them to *commit* once all have staged. A client that
breaks off before that leaves nothing. One that breaks off in the middle of committing leaves a submission that some
servers have and some have not, and `open_dataset` takes only what all of them have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.errors import ConfigError, ConnectError, DataError, NetworkError, PeerLost, PeerStalled, Refused
from tacit.serve.deployment import server_context
from tacit.serve.desk import Answer, Desk, Request
from tacit.serve.layout import SEED_BYTES, Layout, bytes_of, expanded, from_bytes
from tacit.serve.loop import Loop
from tacit.serve.store import Limits, Staged, Store, checked_identity
from tacit.serve.wire import BUFFER_BYTES, PROTOCOL, Connection, refusal
from tacit.session.config import Config

__all__ = ["Door", "Doors"]

LOG = logging.getLogger("tacit.serve")

CONNECTIONS = 512
"""Clients that may be connected at once. More: more patience with strangers; fewer: less memory, 2 MiB each at most."""

IDLE_SECONDS = 300.0
"""Seconds a client may be connected and silent after a request. Longer saves it handshakes."""

HANDSHAKE_SECONDS = 10.0
HOLD_SECONDS = 10.0
"""Seconds that a request may wait for its client to hear from the other servers. Longer: clients on slow lines get
through; shorter: a client that goes to one server only takes a place for less time."""

PARTING_SECONDS = 2.0
"""Seconds that a closing door waits for what is under way."""

PATIENCE = 30.0
"""Seconds to wait for the next bytes in the middle of a message."""


class Door:
    """The server of one party. `log` is told what comes in, one line each, with nothing secret in it."""

    def __init__(
        self,
        config: Config,
        role: str,
        *,
        desk: Desk | None = None,
        limits: Limits | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        if role not in config.parties:
            raise ConfigError(f"clients come to the computing parties, {', '.join(config.parties)}, not to {role}")
        if not config.clients:
            raise ConfigError('the config names no addresses for clients: set "clients" under "tacit"')
        self.role = role
        self.store = Store(Path(config.data) / role, limits)
        self.desk = desk
        self._config = config
        self._context, self._known = server_context(config, role)
        self._log = log or LOG.info
        self._connections: set[Connection] = set()
        self._acting: set[asyncio.Future[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Start to listen."""
        self.store.clear_staging()
        own = self._config.clients[self._config.parties.index(self.role)]
        host, port = self._config.listen_clients or own
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
            provider = self._provider(writer)
            await connection.send(**self._greeting())
            patience = PATIENCE
            while True:
                head = await connection.receive(patience)
                patience = IDLE_SECONDS
                act = asyncio.ensure_future(self._act(connection, provider, head))
                self._acting.add(act)
                act.add_done_callback(self._acting.discard)
                await act
        except NetworkError as error:
            LOG.debug("%s: %s", self.role, error)
        finally:
            self._connections.discard(connection)
            await connection.close()

    def _provider(self, writer: asyncio.StreamWriter) -> str:
        """Who is there: the name of its certificate, or "anonymous" where everybody may come."""
        if not self._known:
            return "anonymous"
        name = self._known.get(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        if name is None:
            raise NetworkError("a client whose certificate is not among the providers'")
        return name

    def _greeting(self) -> dict[str, Any]:
        greeting = {"tacit": PROTOCOL, "role": self.role, "frac_bits": self._config.frac_bits}
        return greeting | ({} if self.desk is None else {"serves": self.desk.plan.literal()})

    async def _act(self, connection: Connection, provider: str, head: dict[str, Any]) -> None:
        """Do what a client asks for, or say why not."""
        try:
            await self._do(connection, provider, head)
        except (Refused, DataError) as error:
            await connection.send(**refusal(error))

    async def _do(self, connection: Connection, provider: str, head: dict[str, Any]) -> None:
        do = head.get("do")
        if do == "submit":
            await self._submit(connection, provider, head)
        elif do == "predict":
            await self._predict(connection, provider, head)
        elif do == "status":
            name, identity = str(head.get("dataset")), str(head.get("id"))
            await connection.send(held=any(entry.id == identity for entry in self.store.entries(name)))
        else:
            raise Refused(f"{self.role} does not know what to do")

    # --- data sets -------------------------------------------------------------------------------------------------

    async def _submit(self, connection: Connection, provider: str, head: dict[str, Any]) -> None:
        layout = Layout.parse(head.get("layout"))
        if head.get("frac_bits") != self._config.frac_bits:
            raise Refused(f"the servers compute with {self._config.frac_bits} fractional bits")
        identity, name = str(head.get("id")), str(head.get("dataset"))
        staged = self.store.stage(identity, name, layout, self._config.frac_bits, provider)
        try:
            await connection.send(ok="send")
            await self._fill(connection, staged, seeded=head.get("form") == "seed")
            await asyncio.to_thread(staged.finish)
            await connection.send(ok="staged")
            if (await connection.receive()).get("do") != "commit":
                raise Refused("a submission that is staged can be committed, or left alone")
            self.store.commit(staged)
            self._log(f"{name}: {layout.rows} rows from {provider}, submission {identity}")
            await connection.send(ok="committed")
        finally:
            self.store.discard(staged)

    async def _fill(self, connection: Connection, staged: Staged, *, seeded: bool) -> None:
        """Write a share that comes as it is, or as the seed that it is made from."""
        if seeded:
            seed = await connection.whole(SEED_BYTES)
            await asyncio.to_thread(_write_expanded, staged, seed)
            return
        async with contextlib.aclosing(connection.body(staged.layout.nbytes)) as pieces:
            async for piece in pieces:
                staged.write(piece)

    # --- predictions -----------------------------------------------------------------------------------------------

    async def _predict(self, connection: Connection, provider: str, head: dict[str, Any]) -> None:
        if self.desk is None:
            raise Refused(f"{self.role} takes data in but answers no requests")
        layout = Layout.parse(head.get("layout"))
        self.desk.plan.check(layout)
        identity = checked_identity(head.get("id"))
        share = await self._collect(connection, layout, seeded=head.get("form") == "seed")
        client = identity[:8] if provider == "anonymous" else f"{provider} {identity[:8]}"
        request = Request(identity, client, share)
        self.desk.hold(request)
        try:
            await connection.send(ok="held")
            await self._until_ready(connection)
            self.desk.ready(request)
            answer = await _first(request, connection)
            await connection.send(ok="answer", layout=answer.layout.literal())
            await connection.send_body([bytes_of(answer.share)])
        finally:
            self.desk.drop(request)

    async def _collect(self, connection: Connection, layout: Layout, *, seeded: bool) -> Tensor:
        """A share that is small enough for memory."""
        if seeded:
            flat = torch.cat(list(expanded(await connection.whole(SEED_BYTES), layout)))
        else:
            flat = from_bytes(await connection.whole(layout.nbytes))
        return flat.view(layout.rows, *layout.fields[0].shape)

    async def _until_ready(self, connection: Connection) -> None:
        """Wait until the client knows that all servers hold its request."""
        try:
            if (await connection.receive(HOLD_SECONDS)).get("do") != "go":
                raise Refused("a request that is held can go ahead, or be left alone")
        except PeerStalled:
            raise Refused(f"the other servers have not held this request within {HOLD_SECONDS:g} s") from None


async def _first(request: Request, connection: Connection) -> Answer:
    """The answer to a request, or `PeerLost` if the client goes away before it comes."""
    gone = asyncio.ensure_future(connection.ended())
    try:
        either: set[asyncio.Future[Any]] = {gone, request.answer}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not request.answer.done():
            raise PeerLost("the client went away before its answer came")
        return request.answer.result()
    finally:
        gone.cancel()


def _write_expanded(staged: Staged, seed: bytes) -> None:
    for piece in expanded(seed, staged.layout):
        staged.write(bytes_of(piece))


class Doors:
    """The doors of one or several parties, in a thread beside the program: use it in a `with` statement."""

    def __init__(
        self,
        config: Config,
        *roles: str,
        desks: Sequence[Desk] = (),
        limits: Limits | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.each = [
            Door(config, role, desk=desk, limits=limits, log=log) for role, desk in zip_longest(roles, desks)
        ]  # fmt: skip
        self._loop: Loop | None = None

    def __enter__(self) -> Doors:
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
