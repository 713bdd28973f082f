"""The prediction service: one model, loaded once, that answers clients who alone see the predictions.

All roles run it. Clients leave shares of their inputs at the parties' doors. The first party puts requests into
batches and tells the other parties their identities; the parties compute the batch under secret sharing, and each
hands its fresh share of every result to the client that asked. The weights are opened (under their masks) once.
Where the parties own the columns themselves, clients name people instead, and each owner puts in what it has of them.

Every batch is padded with zeros to the same number of rows, so that all batches are one and the same computation: the
helpers need not know who asks when. They make what batches to come will need while nobody asks, until `outbox_bytes` of
it wait for each party. Parties without helpers make it themselves, in pieces, between which they look for requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tacit.api import active_protocol, release
from tacit.datasets.intake import Intake
from tacit.datasets.store import Limits
from tacit.errors import ConfigError, PeerAborted, Refused, TacitError
from tacit.outside.door import DoorThread
from tacit.outside.plan import KeyPlan, Plan
from tacit.predictions.inputs import ByClients, ByOwners, Inputs, check_columns
from tacit.predictions.queue import Answer, Desk, Entry, Queue
from tacit.products import CLIENTS
from tacit.protocols.protocol import Protocol
from tacit.records.table import Records

__all__ = ["MOST_ROWS", "Service"]

IDLE_SECONDS = 5.0
"""Seconds without requests after which the parties make sure of each other. Longer notices a dead one later."""

REST_SECONDS = 0.005
"""Seconds without requests after which parties that work ahead make another piece. Longer: fewer are made where many
ask; shorter: a request waits for one more often."""

AHEAD_BATCHES, PIECE = 16, 1 << 16
"""Batches that are worked ahead for, as far as there is room, and transfers of a piece, which take some milliseconds: a
request that comes meanwhile waits so long. Larger: fewer messages for all of it."""

STOPPED = "the service has been stopped"
LEDGER_ENTRIES = 10_000
"""Ledger entries kept in memory; a service that should remember all of them has a ledger file."""

ID_BYTES = 16
NAMED_BYTES = ID_BYTES + 1
STOP = 255
"""Where a number of requests stands otherwise: the service ends."""
MOST_ROWS = STOP - 1


class Service:
    """Serves one model in the innermost session, which ends with it.

    Args:
        model: from a secret of shape [batch, *shape] to one of shape [batch, …], a module as a rule, which is put into
            evaluation mode. It must treat rows alike and apart: those of a batch belong to different clients.
        shape: of one input that clients send.
        tables: in its place, the tables of owners who put in their columns of whom clients name, as
            `tacit.read_table` returns them, prepared as they were for training, and in the same order.
        given: the owners to whom clients may give columns, of a new row or for a case. Whoever may can try out columns
            of this owner beside another one's true ones, and learn whether the other one knows a person. Nobody's else.
        columns: the names of the columns that the model was trained with, `people.columns`. Tables that have others, or
            have them in another order, are refused; without it nobody checks that.
        dtype: of inputs, torch.float32 or torch.int64.
        batch: rows computed at once; each batch costs as much as a full one, whoever asks.
        wait: seconds that the first request of a batch waits for others.
        places: requests that may wait at each party; one more is refused with `Overloaded`.
        name: what the ledger calls results, and the reveal policy is asked about, with "clients" as receivers.
        limits: of data that is submitted at the same doors.
        log: told what comes in.
        desk: where requests come from, if not from doors of its own.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        shape: Sequence[int] | None = None,
        *,
        tables: Sequence[Records] | None = None,
        given: Sequence[str] = (),
        columns: Sequence[str] | None = None,
        dtype: torch.dtype = torch.float32,
        batch: int = 8,
        wait: float = 0.002,
        places: int = 64,
        name: str = "prediction",
        limits: Limits | None = None,
        log: Callable[[str], None] | None = None,
        desk: Desk | None = None,
    ) -> None:
        if not 1 <= batch <= MOST_ROWS or places < 1:
            raise ConfigError(f"a service has batches of 1 to {MOST_ROWS} rows, and at least one place")
        if dtype not in (torch.float32, torch.int64):
            raise ConfigError(f"inputs are torch.float32 or torch.int64, not {dtype}")
        if (shape is None) == (tables is None):
            raise ConfigError("a service has the shape of what clients send, or the tables of owners, one of the two")
        if given and tables is None:
            raise ConfigError("given= names owners of tables: it goes with tables=[…]")
        if columns is not None and tables is None:
            raise ConfigError("columns= are those of tables: it goes with tables=[…]")
        self.answered = self.batches = 0
        """Requests answered and batches computed so far."""
        self._model = model.eval() if isinstance(model, nn.Module) else model
        self._wait, self._name = wait, name
        self._protocol = active_protocol()
        self._session = self._protocol.session
        self._indices = self._session.party_indices
        self._inputs: Inputs = _inputs(self._protocol, shape, tables, given, dtype, batch)
        if columns is not None:
            check_columns(tables or (), list(columns))
        self._parties = [self._session.parties[index] for index in self._indices]
        self._queues, self._doors = self._opened(places, limits, log) if desk is None else self._behind(desk)
        self._resting = self._session.ahead is None
        """Whether nothing is left to make ahead, which all parties know alike."""
        self._dtype = ""

    def _opened(
        self, places: int, limits: Limits | None, log: Callable[[str], None] | None
    ) -> tuple[list[Desk], AbstractContextManager[object]]:
        """Queues of the parties here, and the doors before them."""
        config, queues = self._session.config, [Queue(self.plan, places) for _ in self._indices]
        handlers = {
            party: [Intake(config, party, limits, log), self._inputs.handler(queue, party)]
            for party, queue in zip(self._parties, queues, strict=True)
        }
        return list(queues), DoorThread(config, handlers)

    def _behind(self, desk: Desk) -> tuple[list[Desk], AbstractContextManager[object]]:
        """The desk of the party here, whose door somebody else keeps."""
        if len(self._indices) > 1:
            raise ConfigError("a desk is one party's: a session of all roles has doors of its own")
        if isinstance(self.plan, KeyPlan):
            raise ConfigError(
                "owners' columns are looked up where the table was read, which is at one process of each role: serve "
                "tables() without --ranks"
            )
        return [desk for _ in self._indices], nullcontext()

    @property
    def plan(self) -> Plan | KeyPlan:
        """What clients are told of it."""
        return self._inputs.plan

    @property
    def refused(self) -> int:
        """Requests turned away for want of a place."""
        return sum(queue.refused for queue in self._queues)

    def stop(self) -> None:
        """Answer what has been accepted, then end the service at all roles. Call it at the first party, any thread."""
        for queue in self._queues:
            queue.close(STOPPED)

    def run(self, started: Callable[[], None] | None = None) -> None:
        """Serve until stopped. `started` is called when the model has run once and the doors are open.

        Raises what ends a session: a role that died, diverged, or was interrupted. Clients that wait are told.
        """
        session = self._session
        session.ledger.check(self._name, ["client"])
        session.transcript.record(f"tacit.serve({self._name}: {self.plan})")
        error: BaseException = TacitError(STOPPED)
        try:
            with torch.no_grad(), ExitStack() as stack:
                y = self._inputs.run(self._model, [self._inputs.blank(party) for party in self._parties])
                self._dtype = "float32" if y.dtype.is_floating_point else "int64"
                stack.enter_context(self._doors)
                stack.callback(self._dismiss)
                if started is not None:
                    started()
                self._serve()
        except BaseException as caught:
            error = caught
            if not (isinstance(caught, PeerAborted) and STOPPED in str(caught)):
                raise
        finally:
            session.end(error)

    def _dismiss(self) -> None:
        for queue in self._queues:
            queue.dismiss(STOPPED)

    def _serve(self) -> None:
        """Batch after batch: at the parties those that they agree on, at helpers one after the other."""
        while True:
            agreed = self._agree() if self._indices else []
            if agreed is None:
                return
            if self._indices and not agreed[0]:
                self._session.transport.look()  # whether helpers are there, which parties ask nothing meanwhile
                self._resting = not self._session.prepare_ahead(AHEAD_BATCHES, PIECE)
                continue
            self._resting = self._session.ahead is None
            clients = [CLIENTS.named(request.client) for request in agreed[0]] if agreed else []
            start = time.monotonic()
            shares = release(self._inputs.run(self._model, self._padded(agreed)), clients, name=self._name)
            for queue in self._queues:
                queue.batch_seconds = time.monotonic() - start
            del self._session.ledger.entries[:-LEDGER_ENTRIES]
            for requests, share in zip(agreed, shares.values(), strict=True):
                self._answer(requests, share)
            self.answered += len(clients)
            self.batches += 1

    def _padded(self, agreed: Sequence[Sequence[Entry]]) -> list[Tensor]:
        """What each hosted party has of a batch; for the rows that nobody asked for that is zero."""
        tensors = []
        for party, requests in zip(self._parties, agreed, strict=True):
            tensor = self._inputs.blank(party)
            rows = torch.cat([request.content for request in requests])
            tensor[: len(rows)] = rows
            tensors.append(tensor)
        return tensors

    def _answer(self, requests: Sequence[Entry], share: Tensor) -> None:
        at = 0
        for request in requests:
            request.resolve(Answer(share[at : at + request.rows].clone(), self._dtype))
            at += request.rows

    # --- agreement among the parties -------------------------------------------------------------------------------

    def _agree(self) -> list[list[Entry]] | None:
        """The requests of the next batch at each hosted party; None when the service is to end.

        The first party names identities and rows, and every party says which of them it holds: what all hold counts.
        An honest client has made sure of that before, so nobody waits here; what a party lacks was cut off since.
        """
        named = self._announced()
        if named is None:
            return None
        taken = [queue.take(named) for queue in self._queues]
        marks = [torch.tensor([request is not None for request in row], dtype=torch.uint8) for row in taken]
        if not named:
            return [[] for _ in taken]
        everywhere = torch.stack(self._session.gather(marks)[self._indices[0]]).amin(0).bool().tolist()
        agreed: list[list[Entry]] = []
        for row in taken:
            for request, good in zip(row, everywhere, strict=True):
                if request is not None and not good:
                    request.resolve(Refused("another server does not hold this request any more: ask again"))
            agreed.append([request for request, good in zip(row, everywhere, strict=True) if request and good])
        return agreed

    def _announced(self) -> list[tuple[str, int]] | None:
        """Identities and rows, from the first party to all parties; helpers need not know."""
        size = 1 + self.plan.batch * NAMED_BYTES
        sent = [torch.empty(0, dtype=torch.uint8) for _ in self._indices]
        if self._indices[0] == 0:
            sent[0] = torch.frombuffer(bytearray(self._message(self._next()).ljust(size, b"\0")), dtype=torch.uint8)
        sizes = [size, *(0 for _ in self._session.parties[1:])]
        data = bytes(self._session.gather(sent, sizes)[self._indices[0]][0].numpy())
        if data[0] == STOP:
            return None
        entries = [data[1 + i * NAMED_BYTES : 1 + (i + 1) * NAMED_BYTES] for i in range(data[0])]
        return [(entry[:ID_BYTES].hex(), entry[ID_BYTES]) for entry in entries]

    def _next(self) -> list[tuple[str, int]] | None:
        """At the first party: what to compute next, perhaps nothing, or None to end the service."""
        chosen = self._queues[0].next(self._wait, IDLE_SECONDS if self._resting else REST_SECONDS)
        return None if not chosen and self._queues[0].closed else [(request.id, request.rows) for request in chosen]

    def _message(self, named: Sequence[tuple[str, int]] | None) -> bytes:
        if named is None:
            return bytes([STOP])
        return bytes([len(named)]) + b"".join(bytes.fromhex(identity) + bytes([rows]) for identity, rows in named)


def _inputs(
    protocol: Protocol,
    shape: Sequence[int] | None,
    tables: Sequence[Records] | None,
    given: Sequence[str],
    dtype: torch.dtype,
    batch: int,
) -> Inputs:
    if tables is not None:
        return ByOwners(protocol, tables, batch, given)
    return ByClients(protocol, Plan(tuple(shape or ()), str(dtype).removeprefix("torch."), batch))
