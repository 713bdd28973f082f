"""The client's side: somebody who is no computing party, gives the servers shares, and alone knows what they hold."""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tacit.errors import AuthenticationError, ConfigError, ConnectError, NetworkError, PeerLost, Refused
from tacit.serve.deployment import Deployment, Server, client_identity
from tacit.serve.layout import NAME, Cut, Layout, bytes_of, cut
from tacit.serve.loop import Loop
from tacit.serve.wire import BUFFER_BYTES, PROTOCOL, Connection
from tacit.session.config import Config

__all__ = ["Client", "Receipt"]

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with the number of bytes that have been sent, and of those that there are."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What all servers have confirmed: they hold a submission of this identity."""

    id: str
    dataset: str
    rows: int
    servers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rows} rows are in {self.dataset} at {' and '.join(self.servers)} (submission {self.id})"


class Client:
    """A client of a deployment's servers. Connections are made when needed and kept until `close`.

    No server learns anything of what is sent but its size and time: each gets a share, uniform on its own. They learn
    it if they all pool their shares.

    Args:
        config: the public file that `tacit keygen --public` wrote, or a config with the servers' certificates.
        identity: this client's key and certificate (`clinic.key` and `clinic.crt` by the path `clinic`), where the
            servers ask for one; without, it is anonymous.
        timeout: seconds to wait for a server's answer.

    Raises:
        ConfigError: for a file that cannot be used.
    """

    def __init__(
        self,
        config: str | Path | Config | Deployment,
        *,
        identity: str | Path | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.deployment = Deployment.load(config)
        self._identity = None if identity is None else client_identity(identity)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._connections: list[Connection] = []

    def __repr__(self) -> str:
        return f"Client({', '.join(self.deployment.names)})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. The client connects again if it is used again."""
        with self._lock:
            if self._loop is not None:
                self._loop.call(self._hang_up())
                self._loop.close()
                self._loop = None

    # --- data sets -------------------------------------------------------------------------------------------------

    def submit(self, data: Any, dataset: str, *, progress: Progress | None = None) -> Receipt:
        """Share rows of data with the servers, which append them to a data set: all of the rows, or none.

        Args:
            data: a tensor or array of shape [rows, …], which becomes the tensor "x" of the data set, or a dict of
                several with the same number of rows. Floating-point numbers become fixed point, integers int64.
            dataset: its name; all submissions to it have the same names, dtypes and shapes of rows.
            progress: called with how many bytes have been sent, and how many there are.

        Cost: 8 bytes an element to one of the servers and a seed of 16 bytes to each of the others.

        Raises:
            DataError: for data that cannot be shared, EncodingError with the index of a number out of range.
            Refused: by a server, with its reason; nothing has changed then.
            ConnectError, AuthenticationError, PeerLost, PeerStalled: if a server does not take part to the end.
        """
        if not NAME.fullmatch(dataset):
            raise ConfigError(f"{dataset!r} cannot name a data set: use up to 63 letters, digits, '-', '_' and '.'")
        shares = cut(data, self.deployment.frac_bits, len(self.deployment.servers))
        identity = os.urandom(16).hex()
        self._run(lambda: self._submit(shares, dataset, identity, progress))
        return Receipt(identity, dataset, shares.layout.rows, self.deployment.names)

    async def _submit(self, shares: Cut, dataset: str, identity: str, progress: Progress | None) -> None:
        connections = await self._connected()
        head: dict[str, Any] = {"do": "submit", "dataset": dataset, "id": identity, "layout": shares.layout.literal()}
        head["frac_bits"] = self.deployment.frac_bits

        async def stage(place: int) -> None:
            connection, seed = connections[place], shares.seeds[place]
            await connection.send(**head, form="share" if seed is None else "seed")
            await connection.receive()

        async def fill(place: int) -> None:
            connection, seed = connections[place], shares.seeds[place]
            pieces = [memoryview(seed)] if seed is not None else map(bytes_of, shares.remainder())
            await connection.send_body(pieces if seed or not progress else _counted(pieces, shares.layout, progress))
            await connection.receive()

        async def commit(place: int) -> None:
            await connections[place].send(do="commit")
            await connections[place].receive()

        for step in (stage, fill):
            await self._at_all(step)
        try:
            await self._at_all(commit)
        except NetworkError:
            await self._find_out(dataset, identity)

    async def _find_out(self, dataset: str, identity: str) -> None:
        """Ask whether a submission counts whose confirmation was lost; raise if it does not."""
        await self._hang_up()
        connections = await self._connected()
        lacking = []
        for connection in connections:
            await connection.send(do="status", dataset=dataset, id=identity)
            if not (await connection.receive()).get("held"):
                lacking.append(connection.peer)
        if lacking:
            raise Refused(f"{' and '.join(lacking)} lost the submission before it counted: submit it again")

    # --- connections -----------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something with the servers; after any trouble, begin with fresh connections the next time."""
        with self._lock:
            if self._loop is None:
                self._loop = Loop("tacit-client")
            try:
                return self._loop.call(work())
            except BaseException:
                self._loop.call(self._hang_up())
                raise

    async def _at_all(self, step: Callable[[int], Coroutine[Any, Any, T]]) -> list[T]:
        """Do something at all servers at once; wait for all of them, and raise the first error."""
        results = await asyncio.gather(*map(step, range(len(self.deployment.servers))), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error
        return [result for result in results if not isinstance(result, BaseException)]

    async def _connected(self) -> list[Connection]:
        """Connections to all servers."""
        if not self._connections or not all(connection.fresh for connection in self._connections):
            await self._hang_up()
            results = await asyncio.gather(*map(self._connect, self.deployment.servers), return_exceptions=True)
            self._connections = [result for result in results if isinstance(result, Connection)]
            for error in results:
                if isinstance(error, BaseException):
                    raise error
        return self._connections

    async def _connect(self, server: Server) -> Connection:
        where = f"{server.name} ({server.address})"
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(*server.address, ssl=server.context(self._identity), limit=BUFFER_BYTES),
                self._timeout,
            )
        except ssl.SSLCertVerificationError:
            raise AuthenticationError(f"{where} presents a certificate that is not the one in the config") from None
        except ssl.SSLError as error:
            raise AuthenticationError(f"no TLS connection to {where}: {error.reason}") from None
        except TimeoutError:
            raise ConnectError(f"{where} has not answered within {self._timeout:g} s") from None
        except OSError as error:
            raise ConnectError(f"{where} cannot be reached: {error.strerror or error}") from None
        connection = Connection(reader, writer, where, self._timeout)
        try:
            tls = writer.get_extra_info("ssl_object")
            if not server.is_pinned(None if tls is None else tls.getpeercert(binary_form=True)):
                raise AuthenticationError(f"{where} presents a certificate that is not the one in the config")
            self._check(server, await _greeting(connection, identified=self._identity is not None))
        except BaseException:
            await connection.close()
            raise
        return connection

    def _check(self, server: Server, greeting: dict[str, Any]) -> None:
        if greeting.get("tacit") != PROTOCOL:
            raise ConfigError(f"{server.name} runs another version of Tacit: install the same one")
        if greeting.get("role") != server.name:
            raise ConfigError(f"another role than {server.name} answers at {server.address}: is the config right?")
        if greeting.get("frac_bits") != self.deployment.frac_bits:
            raise ConfigError(f"{server.name} computes with other fractional bits than the config says")

    async def _hang_up(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._connections))
        self._connections = []


async def _greeting(connection: Connection, *, identified: bool) -> dict[str, Any]:
    """What a server says first. One that does not know our certificate hangs up instead."""
    try:
        return await connection.receive()
    except PeerLost:
        what = "this client's certificate" if identified else "clients without a certificate"
        raise AuthenticationError(f"{connection.peer} hung up at once: it may not work for {what}") from None


def _counted(pieces: Iterable[memoryview], layout: Layout, progress: Progress) -> Iterator[memoryview]:
    sent = 0
    for piece in pieces:
        yield piece
        sent += len(piece)
        progress(sent, layout.nbytes)
