"""The client's side: somebody who is no computing party, gives the servers shares, and alone knows what they hold.

Where there is one server there is nobody to give a share to: the client computes with it, see `partner`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tacit.errors import ConfigError, DataError, NetworkError, Refused, Unanswered
from tacit.outside.connecting import common, connect, hang_up
from tacit.outside.deployment import Deployment, client_identity
from tacit.outside.loop import Loop
from tacit.outside.partner import Partner
from tacit.outside.people import NOTHING, Said, pushed, said
from tacit.outside.plan import INPUT, KeyPlan, Plan
from tacit.outside.schema import NAME, PURPOSE, Schema, bytes_of, encoded, from_bytes
from tacit.outside.sharing import Cut, cut, join
from tacit.outside.wire import Connection
from tacit.ring.fixed_point import decode
from tacit.ring.given import real_tensor
from tacit.session.config import Config

__all__ = ["Client", "Receipt"]

T = TypeVar("T")

ANSWER_BYTES = 1 << 30
"""The largest share of a result that a client takes from a server."""

AGAIN = 4
"""Times that a request is asked again whose ranks have died. More: it gets through where many die at once; fewer: who
asks what makes them die is told sooner, and has ended fewer of them."""

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
    it if they all pool their shares. Of one server the client is the other party of a computation, and keeps its data.

    Args:
        config: the public file that `tacit keygen --public` wrote, or a config with the servers' certificates; or the
            address of one server, "host:port".
        identity: this client's key and certificate (`clinic.key` and `clinic.crt` by the path `clinic`), where the
            servers ask for one; without, it is anonymous.
        timeout: seconds to wait for a server's answer.
        certificate: with an address, the file of the server's certificate; on this machine it may do without one.
        model: with one server, the digest of the only model that this client asks; it refuses another.
        ledger: with one server, a folder in which this client writes down what it is told.

    Raises:
        ConfigError: for a file that cannot be used.
    """

    def __init__(
        self,
        config: str | Path | Config | Deployment,
        *,
        identity: str | Path | None = None,
        timeout: float = 30.0,
        certificate: str | Path | None = None,
        model: str | None = None,
        ledger: str | Path | None = None,
    ) -> None:
        self.deployment = Deployment.load(config) if certificate is None else Deployment.at(str(config), certificate)
        self._identity = None if identity is None else client_identity(identity)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._connections: list[Connection] = []
        self._partner: Partner | None = None
        if len(self.deployment.servers) == 1:
            self._partner = Partner(self.deployment.servers[0], self._identity, timeout, model, ledger)
        elif model is not None or ledger is not None:
            raise ConfigError("only where there is one server has a client a model to compare, and a ledger")

    def __repr__(self) -> str:
        return f"Client({', '.join(self.deployment.names)})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. The client connects again if it is used again."""
        if self._partner is not None:
            self._partner.close()
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
        if self._partner is not None:
            raise ConfigError("data are submitted to two servers or more: one alone would see them")
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
            await hang_up(self._connections)

    async def _find_out(self, head: dict[str, str]) -> None:
        """Ask whether a submission counts whose confirmation was lost; raise if it does not."""
        await hang_up(self._connections)
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
        of results from each. With one server what the two-party protocol takes, and the weights, encrypted, once.

        Raises:
            DataError: for inputs of another shape, and for what are no numbers.
            Overloaded: if all places are taken. Nothing was accepted: ask again later.
            Unanswered: if ranks of the service have died over it, five times.
            Refused: for another reason that the message gives.
            ConnectError, AuthenticationError, PeerLost, PeerStalled: if a server does not answer.
        """
        rows = real_tensor(inputs, "what is asked about")
        return self._run(lambda: self._predict(rows)) if self._partner is None else self._partner.predict(rows)

    def score(self, about: Any = None, *, case: str | None = None) -> Tensor:
        """Ask the service for its model's results on people whose columns the servers themselves have.

        Args:
            about: a key, which all owners look up in their tables: a text, a whole number, a date, or a tuple of these
                where it is made of several columns; or a list of keys. Or a dict that says by the names of owners what
                each is told: a key, or the columns of a new row, {"alice": {"income": 2400}, "bob": "DE-1"}, which only
                that owner sees, and prepares as it did for training; a service says which owners take such columns.
            case: of owners of whom `about` says nothing, the name under which they have been pushed columns.

        Returns float32 of shape […], or [n, …] for a list. Of those whom not all owners have in their tables it is NaN;
        which of the owners that is, nobody learns, unless the client gives the columns of all owners but one: then it
        is told whether this one has the person, and what the model makes of its columns beside chosen ones.

        Reveals: to each owner, that this client asks about the keys that it has; of others it sees a digest.

        Raises:
            DataError: for what is no key or row; and for a single key, if not all owners have it.
            Refused: for columns that an owner does not take, or cannot prepare, and why; and what `predict` raises.
        """
        if self._partner is not None:
            raise ConfigError("owners who put in columns of their own are two or more, and this is one server")
        return self._run(lambda: self._score(about, case))

    def push(self, row: Mapping[str, Any], owner: str, case: str) -> None:
        """Give an owner its columns of one person for a case, a name that `case()` has made, for a minute.

        The system of each owner does this; then whoever has the case's name may ask, once, `score(case=…)`. No key is
        told to anybody so.

        Raises:
            Refused: for columns that the owner does not take, or cannot prepare, and why.
        """
        if owner not in self.deployment.names:
            raise ConfigError(f"{owner!r} is none of the servers, {', '.join(self.deployment.names)}")
        if self._partner is not None:
            raise ConfigError("owners who put in columns of their own are two or more, and this is one server")
        self._run(lambda: self._push(pushed(row), owner, case))

    @staticmethod
    def case() -> str:
        """A fresh name for a case. Who knows it can ask for the case, so only those concerned should."""
        return os.urandom(16).hex()

    @property
    def plan(self) -> Plan:
        """What the servers serve: the shape and dtype of inputs, and how many they compute at once."""
        return self._run(self._ask_plan) if self._partner is None else self._partner.plan

    def prepare(self, times: int = 1) -> None:
        """With one server: while there is time, make ahead what requests need that depends on no input.

        So much is made as requests have needed since the last call, so many times, as memory allows. It counts as a
        request, and both wait until it is done.
        """
        if self._partner is None:
            raise ConfigError("several servers make ahead by themselves what requests need")
        self._partner.prepare(times)

    @property
    def model(self) -> str:
        """The digest of the model that one server serves: of its operators, shapes and public numbers."""
        if self._partner is None:
            raise ConfigError("only where there is one server has a client a model to compare")
        return self._partner.model

    @property
    def wire_bytes(self) -> int | None:
        """Bytes sent to one server, and received from it, so far; None where there are several."""
        return None if self._partner is None else self._partner.wire_bytes

    async def _ask_plan(self) -> Plan:
        return common(await self._connected(), "serves", Plan.parse)

    async def _predict(self, inputs: Tensor) -> Tensor:
        connections = await self._connected()
        plan = common(connections, "serves", Plan.parse)
        if plan.torch_dtype.is_floating_point:
            inputs = inputs.to(torch.float64)
        single = tuple(inputs.shape) == plan.shape
        rows = inputs[None] if single else inputs
        if tuple(rows.shape[1:]) != plan.shape or not len(rows):
            raise DataError(f"the service takes inputs of shape {plan.shape}, not {tuple(inputs.shape)}")
        results = [await self._ask_surely(chunk) for chunk in rows.split(plan.batch)]
        return results[0][0] if single else torch.cat(results)

    async def _ask_surely(self, rows: Tensor) -> Tensor:
        """Ask, and if ranks have died over it, ask others: by shares and an identity that are fresh each time."""
        for _ in range(AGAIN):
            try:
                return await self._ask(await self._connected(), rows)
            except Unanswered:  # what other servers have of it is nothing any more
                await hang_up(self._connections)
        return await self._ask(await self._connected(), rows)

    async def _ask(self, connections: list[Connection], rows: Tensor) -> Tensor:
        """One request: share, make sure that all servers hold it, let them go ahead, and put the answers together."""
        asked, shares = self._cut({INPUT: rows})
        head = {"do": "predict", "id": os.urandom(16).hex(), "schema": asked.literal()}

        async def tell(place: int) -> None:
            connection, seed = connections[place], shares.seeds[place]
            await connection.send(**head, form="share" if seed is None else "seed")
            await connection.send_body([memoryview(seed)] if seed else map(bytes_of, shares.rest()))

        return await self._answer(connections, tell, len(rows))

    async def _answer(
        self, connections: list[Connection], tell: Callable[[int], Coroutine[Any, Any, None]], rows: int
    ) -> Tensor:
        """Tell all servers, and put their shares of the results together."""

        async def hold(place: int) -> None:
            await tell(place)
            await connections[place].receive()

        async def go(place: int) -> tuple[Schema, Tensor]:
            await connections[place].send(do="go")
            answer = await connections[place].receive()
            schema = Schema.parse(answer.get("schema"))
            if schema.rows != rows or schema.nbytes > ANSWER_BYTES:
                raise Refused(f"the answer of {connections[place].peer} does not fit the request")
            return schema, from_bytes(await connections[place].whole(schema.nbytes))

        await self._at_all(hold)
        answers = await self._at_all(go)
        schema = answers[0][0]
        if any(other != schema for other, _ in answers):
            raise Refused("the servers' answers do not belong together")
        total = join([share for _, share in answers])
        (field,) = schema.fields
        return decode(total, self.deployment.frac_bits, field.torch_dtype).view(rows, *field.shape)

    async def _score(self, about: Any, case: str | None) -> Tensor:
        connections = await self._connected()
        plan = common(connections, "scores", KeyPlan.parse)
        told, count, single = said(plan, about, case)
        found = []
        for first in range(0, count, plan.batch):
            rows = min(plan.batch, count - first)
            head = {"do": "score", "id": os.urandom(16).hex(), "rows": rows}
            part = {owner: each.of(first, rows) for owner, each in told.items()}

            async def tell(place: int, head: Any = head, part: Any = part) -> None:
                await _say(connections[place], head, part.get(self.deployment.names[place], NOTHING))

            answer = await self._answer(connections, tell, rows)
            if answer.shape[1:] != plan.answer.shape:
                raise Refused("the servers' answers do not fit what they serve")
            known = answer[:, -1:] > 0.5
            found.append(torch.where(known, answer[:, :-1], torch.nan).view(rows, *plan.result))
        if single and bool(torch.isnan(found[0]).all()):
            raise DataError("not all owners have somebody of this key in their tables")
        return found[0][0] if single else torch.cat(found)

    async def _push(self, row: Said, owner: str, case: str) -> None:
        place = self.deployment.names.index(owner)
        connection = (await self._connected())[place]
        await _say(connection, {"do": "push", "case": case}, row)
        await connection.receive()

    # --- connections -----------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something with the servers; after any trouble, begin with fresh connections the next time."""
        with self._lock:
            if self._loop is None:
                self._loop = Loop("tacit-client", partial(hang_up, self._connections))
                weakref.finalize(self, self._loop.close)
            try:
                return self._loop.call(work())
            except BaseException:
                self._loop.call(hang_up(self._connections))
                raise

    async def _at_all(self, step: Callable[[int], Coroutine[Any, Any, T]]) -> list[T]:
        """Do something at all servers at once; wait for all of them, and raise the first error, or if all are refusals
        the one that says to wait longest. Where one has lost a request, nobody waits for the others."""
        tasks = [asyncio.ensure_future(step(place)) for place in range(len(self.deployment.servers))]
        try:
            pending = set(tasks)
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if isinstance(error := task.exception(), Unanswered):
                        raise error
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [error for error in results if isinstance(error, BaseException)]
        if errors:
            refusals = [error for error in errors if isinstance(error, Refused)]
            whole = len(refusals) == len(errors)
            raise max(refusals, key=lambda error: error.after or 0.0) if whole else errors[0]
        return [result for result in results if not isinstance(result, BaseException)]

    async def _connected(self) -> list[Connection]:
        """Connections to all servers."""
        if not self._connections or not all(connection.fresh for connection in self._connections):
            await hang_up(self._connections)
            who = self._identity, self._timeout, self.deployment.frac_bits
            reached = [connect(server, *who) for server in self.deployment.servers]
            results = await asyncio.gather(*reached, return_exceptions=True)
            self._connections += [result for result in results if isinstance(result, Connection)]
            for error in results:
                if isinstance(error, BaseException):
                    raise error
        return self._connections


async def _say(connection: Connection, head: dict[str, Any], about: Said) -> None:
    await connection.send(**head, **about.head)
    if about.body:
        await connection.send_body([memoryview(about.body)])


def _counted(pieces: Iterable[memoryview], schema: Schema, progress: Progress) -> Iterator[memoryview]:
    sent = 0
    for piece in pieces:
        yield piece
        sent += len(piece)
        progress(sent, schema.nbytes)
