"""The client's side: somebody who is no computing party, gives the servers shares, and alone knows what they hold."""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tacit.errors import AuthenticationError, ConfigError, ConnectError, DataError, NetworkError, PeerLost, Refused
from tacit.outside.deployment import Deployment, Endpoint, client_identity
from tacit.outside.loop import Loop
from tacit.outside.plan import INPUT, Plan
from tacit.outside.schema import NAME, PURPOSE, Schema, bytes_of, encoded, from_bytes
from tacit.outside.sharing import Cut, cut, join
from tacit.outside.wire import BUFFER_BYTES, PROTOCOL, Connection
from tacit.ring.fixed_point import decode
from tacit.ring.given import real_tensor
from tacit.session.config import Config

__all__ = ["Client", "Receipt"]

T = TypeVar("T")

ANSWER_BYTES = 1 << 30
"""The largest share of a result that a client takes from a server."""

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
        schema, shares = self._cut(data)
        head = {"dataset": dataset, "id": os.urandom(16).hex()}
        self._run(lambda: self._submit(head, schema, shares, progress))
        return Receipt(head["id"], dataset, schema.rows, self.deployment.names)

    def _cut(self, data: Any) -> tuple[Schema, Cut]:
        """Encode data and cut it into fresh shares; each time another server gets its in full, to spread traffic."""
        servers = len(self.deployment.servers)
        schema, content = encoded(data, self.deployment.frac_bits)
        return schema, cut(content, servers, PURPOSE, explicit=secrets.randbelow(servers))

    async def _submit(self, head: dict[str, str], schema: Schema, shares: Cut, progress: Progress | None) -> None:
        connections = await self._connected()
        about = {"schema": schema.literal(), "frac_bits": self.deployment.frac_bits}

        async def stage(place: int) -> None:
            connection, seed = connections[place], shares.seeds[place]
            await connection.send(do="submit", **head, **about, form="share" if seed is None else "seed")
            await connection.receive()

        async def fill(place: int) -> None:
            connection, seed = connections[place], shares.seeds[place]
            pieces = [memoryview(seed)] if seed is not None else map(bytes_of, shares.rest())
            await connection.send_body(pieces if seed or not progress else _counted(pieces, schema, progress))
            await connection.receive()

        async def commit(place: int) -> Any:
            await connections[place].send(do="commit")
            return await connections[place].receive()

        for step in (stage, fill):
            await self._at_all(step)
        try:
            committed = await self._at_all(commit)
        except NetworkError:
            await self._find_out(head)
        else:
            if not all(answer.get("settled") for answer in committed):
                receipts = [answer.get("receipt") for answer in committed]
                await self._settle(head, dict(zip(self.deployment.names, receipts, strict=True)))

    async def _settle(self, head: dict[str, str], receipts: dict[str, Any]) -> None:
        """Show each server that all hold the first submission of a data set; it counts without that, too."""

        async def show(place: int) -> None:
            await self._connections[place].send(do="settle", **head, receipts=receipts)
            await self._connections[place].receive()

        try:
            await self._at_all(show)
        except (NetworkError, Refused):
            await _hang_up(self._connections)

    async def _find_out(self, head: dict[str, str]) -> None:
        """Ask whether a submission counts whose confirmation was lost; raise if it does not."""
        await _hang_up(self._connections)
        connections = await self._connected()
        lacking = []
        for connection in connections:
            await connection.send(do="status", **head)
            if not (await connection.receive()).get("held"):
                lacking.append(connection.peer)
        if lacking:
            raise Refused(f"{' and '.join(lacking)} lost the submission before it counted: submit it again")

    # --- predictions -----------------------------------------------------------------------------------------------

    def predict(self, inputs: Any) -> Tensor:
        """Ask the service for its model's results on inputs that only this client sees, as it alone sees the results.

        Args:
            inputs: one input of the service's shape, or several of shape [n, *shape], of any n.

        Returns the results of shape […] or [n, …].

        Cost: two round trips to the servers beside what they compute; 8 bytes an element of inputs to one of them, and
        of results from each.

        Raises:
            DataError: for inputs of another shape, and for what are no numbers.
            Overloaded: if all places are taken. Nothing was accepted: ask again later.
            Refused: for another reason that the message gives.
            ConnectError, AuthenticationError, PeerLost, PeerStalled: if a server does not answer.
        """
        return self._run(lambda: self._predict(real_tensor(inputs, "what is asked about")))

    @property
    def plan(self) -> Plan:
        """What the servers serve: the shape and dtype of inputs, and how many they compute at once."""
        return self._run(self._ask_plan)

    async def _ask_plan(self) -> Plan:
        return _common_plan(await self._connected())

    async def _predict(self, inputs: Tensor) -> Tensor:
        connections = await self._connected()
        plan = _common_plan(connections)
        if plan.torch_dtype.is_floating_point:
            inputs = inputs.to(torch.float64)
        single = tuple(inputs.shape) == plan.shape
        rows = inputs[None] if single else inputs
        if tuple(rows.shape[1:]) != plan.shape or not len(rows):
            raise DataError(f"the service takes inputs of shape {plan.shape}, not {tuple(inputs.shape)}")
        results = [await self._ask(connections, chunk) for chunk in rows.split(plan.batch)]
        return results[0][0] if single else torch.cat(results)

    async def _ask(self, connections: list[Connection], rows: Tensor) -> Tensor:
        """One request: share, make sure that all servers hold it, let them go ahead, and put the answers together."""
        asked, shares = self._cut({INPUT: rows})
        head = {"do": "predict", "id": os.urandom(16).hex(), "schema": asked.literal()}

        async def hold(place: int) -> None:
            connection, seed = connections[place], shares.seeds[place]
            await connection.send(**head, form="share" if seed is None else "seed")
            await connection.send_body([memoryview(seed)] if seed else map(bytes_of, shares.rest()))
            await connection.receive()

        async def go(place: int) -> tuple[Schema, Tensor]:
            await connections[place].send(do="go")
            answer = await connections[place].receive()
            schema = Schema.parse(answer.get("schema"))
            if schema.rows != len(rows) or schema.nbytes > ANSWER_BYTES:
                raise Refused(f"the answer of {connections[place].peer} does not fit the request")
            return schema, from_bytes(await connections[place].whole(schema.nbytes))

        await self._at_all(hold)
        answers = await self._at_all(go)
        schema = answers[0][0]
        if any(other != schema for other, _ in answers):
            raise Refused("the servers' answers do not belong together")
        total = join([share for _, share in answers])
        (field,) = schema.fields
        return decode(total, self.deployment.frac_bits, field.torch_dtype).view(len(rows), *field.shape)

    # --- connections -----------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something with the servers; after any trouble, begin with fresh connections the next time."""
        with self._lock:
            if self._loop is None:
                self._loop = Loop("tacit-client", partial(_hang_up, self._connections))
                weakref.finalize(self, self._loop.close)
            try:
                return self._loop.call(work())
            except BaseException:
                self._loop.call(_hang_up(self._connections))
                raise

    async def _at_all(self, step: Callable[[int], Coroutine[Any, Any, T]]) -> list[T]:
        """Do something at all servers at once; wait for all of them, and raise the first error, or if all are refusals
        the one that says to wait longest."""
        results = await asyncio.gather(*map(step, range(len(self.deployment.servers))), return_exceptions=True)
        errors = [error for error in results if isinstance(error, BaseException)]
        if errors:
            refusals = [error for error in errors if isinstance(error, Refused)]
            whole = len(refusals) == len(errors)
            raise max(refusals, key=lambda error: error.after or 0.0) if whole else errors[0]
        return [result for result in results if not isinstance(result, BaseException)]

    async def _connected(self) -> list[Connection]:
        """Connections to all servers."""
        if not self._connections or not all(connection.fresh for connection in self._connections):
            await _hang_up(self._connections)
            results = await asyncio.gather(*map(self._connect, self.deployment.servers), return_exceptions=True)
            self._connections += [result for result in results if isinstance(result, Connection)]
            for error in results:
                if isinstance(error, BaseException):
                    raise error
        return self._connections

    async def _connect(self, server: Endpoint) -> Connection:
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
            connection.greeting = await _greeting(connection, identified=self._identity is not None)
            self._check(server, connection.greeting)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _check(self, server: Endpoint, greeting: dict[str, Any]) -> None:
        if greeting.get("tacit") != PROTOCOL:
            raise ConfigError(f"{server.name} runs another version of Tacit: install the same one")
        if greeting.get("role") != server.name:
            raise ConfigError(f"another role than {server.name} answers at {server.address}: is the config right?")
        if greeting.get("frac_bits") != self.deployment.frac_bits:
            raise ConfigError(f"{server.name} computes with other fractional bits than the config says")


async def _hang_up(connections: list[Connection]) -> None:
    await asyncio.gather(*(connection.close() for connection in connections))
    connections.clear()


def _common_plan(connections: list[Connection]) -> Plan:
    """What the servers say that they compute."""
    plans = []
    for connection in connections:
        if not isinstance(connection.greeting.get("serves"), dict):
            raise Refused(f"{connection.peer} takes data in but answers no requests")
        try:
            plans.append(Plan.parse(connection.greeting["serves"]))
        except (KeyError, TypeError, ValueError):
            raise Refused(f"{connection.peer} says nothing sensible of what it serves") from None
    if len(set(plans)) != 1:
        raise Refused("the servers do not serve the same model")
    return plans[0]


async def _greeting(connection: Connection, *, identified: bool) -> dict[str, Any]:
    """What a server says first. One that does not know our certificate hangs up instead."""
    try:
        return await connection.receive()
    except PeerLost:
        what = "this client's certificate" if identified else "clients without a certificate"
        raise AuthenticationError(f"{connection.peer} hung up at once: it may not work for {what}") from None


def _counted(pieces: Iterable[memoryview], schema: Schema, progress: Progress) -> Iterator[memoryview]:
    sent = 0
    for piece in pieces:
        yield piece
        sent += len(piece)
        progress(sent, schema.nbytes)
