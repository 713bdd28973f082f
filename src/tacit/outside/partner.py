"""The client's end where there is one server: in the caller's process, the other of the two parties who compute."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.api import beside
from tacit.errors import (
    AuthenticationError,
    ConnectError,
    DataError,
    NetworkError,
    Overloaded,
    PeerAborted,
    PeerLost,
    TacitError,
)
from tacit.net.link import describe
from tacit.net.tcp import Tcp
from tacit.net.tls import Tls, Wire
from tacit.outside.deployment import Endpoint
from tacit.outside.graph.form import MOST_BYTES, Graph
from tacit.outside.graph.run import check
from tacit.outside.pairing import Terms, answered, called, check_times, client_config, linked, prepared, secrets_of
from tacit.outside.plan import Plan
from tacit.protocols.protocol import Protocol
from tacit.ring.fixed_point import encode
from tacit.session.registered import GUEST

__all__ = ["Partner"]

LEDGER_ENTRIES = 10_000
"""Ledger entries kept in memory; who wants all of them names a folder."""


@dataclass(slots=True)
class _Meeting:
    """A session with the server, as long as it lasts."""

    transport: Tcp
    protocol: Protocol
    graph: Graph
    weights: list[Tensor]
    asked: int = 0
    until: float = 0.0
    """Before which the server allows no request."""


class Partner:
    """Asks one server. The session is opened when it is needed, and kept until `close`."""

    def __init__(
        self, server: Endpoint, identity: Path | None, timeout: float, model: str | None, ledger: str | Path | None
    ) -> None:
        self._server, self._identity, self._timeout = server, identity, timeout
        self._where = f"{server.name} ({server.address})"
        self._model = model
        self._ledger = None if ledger is None else str(ledger)
        self._lock = threading.RLock()
        self._meeting: _Meeting | None = None
        self._terms: Terms | None = None
        self._graph: tuple[str, Graph] | None = None
        self._earlier_bytes = 0
        weakref.finalize(self, _forget, self.__dict__)

    @property
    def plan(self) -> Plan:
        """What the server serves."""
        with self._lock:
            return self._met()[1].plan

    @property
    def model(self) -> str:
        """The digest of the model that the server serves."""
        with self._lock:
            return self._met()[1].model

    @property
    def wire_bytes(self) -> int:
        """Bytes sent and received so far, encryption excluded."""
        with self._lock:
            now = 0 if self._meeting is None else sum(self._meeting.transport.wire_bytes.values())
            return self._earlier_bytes + now

    def predict(self, inputs: Tensor) -> Tensor:
        """The results for one input, or for several."""
        with self._lock:
            meeting, terms = self._met()
            single = tuple(inputs.shape) == terms.plan.shape
            rows = _rows(inputs[None] if single else inputs, inputs, meeting.graph, terms)
            results = [self._asked(chunk) for chunk in rows.split(meeting.graph.rows[-1])]
            return results[0][0] if single else torch.cat(results)

    def prepare(self, times: int) -> None:
        """Make ahead, with the server, what no input changes."""
        check_times(times)
        with self._lock:
            meeting, _ = self._met()
            try:
                self._wait_to_ask(meeting)
                _announce(meeting, prepare=times)
                prepared(meeting.protocol, times)
            except Overloaded:
                raise
            except BaseException as error:
                self._leave(error)
                raise

    def close(self) -> None:
        """End the session in agreement with the server."""
        with self._lock:
            meeting = self._meeting
            if meeting is None:
                return
            try:
                if self._may_ask(meeting):
                    _announce(meeting, rows=0)
                    meeting.protocol.session.end(None)
            except (TacitError, Overloaded):
                pass
            finally:
                self._leave(TacitError("the client has left"))

    # --- a request -------------------------------------------------------------------------------------------------

    def _asked(self, rows: Tensor) -> Tensor:
        """One request. A session that has ended since the last one, of which nobody knew, is replaced by another."""
        meeting, _ = self._met()
        again = meeting.asked > 0
        while True:
            try:
                return self._ask(meeting, rows)
            except Overloaded:
                raise
            except (PeerLost, PeerAborted) as error:
                self._leave(error)
                if not again:
                    raise
                again = False
                meeting, _ = self._met()
            except BaseException as error:
                self._leave(error)
                raise

    def _ask(self, meeting: _Meeting, rows: Tensor) -> Tensor:
        self._wait_to_ask(meeting)
        count = next(size for size in meeting.graph.rows if size >= len(rows))
        filled = torch.zeros(count, *rows.shape[1:], dtype=rows.dtype)
        filled[: len(rows)] = rows
        _announce(meeting, rows=count)
        result = answered(meeting.protocol, meeting.graph, meeting.weights, count, filled)
        assert result is not None
        meeting.asked += 1
        del meeting.protocol.session.ledger.entries[:-LEDGER_ENTRIES]
        return result[: len(rows)]

    def _wait_to_ask(self, meeting: _Meeting) -> None:
        if not self._may_ask(meeting):
            wait = meeting.until - time.monotonic()
            raise Overloaded(f"{self._where}: too many requests of one client: ask more slowly", max(wait, 0.0))

    def _may_ask(self, meeting: _Meeting) -> bool:
        """Whether the server allows a request, which it says ahead: mostly it has said so already."""
        if time.monotonic() < meeting.until:
            return False
        head = _heard(meeting, self._where)
        wait = head.get("wait")
        if wait is None:
            return True
        if not isinstance(wait, int | float) or not 0 <= wait <= 1e9:
            raise NetworkError(f"{self._where} sent something that is not a message of Tacit")
        meeting.until = time.monotonic() + wait
        return False

    # --- the session -----------------------------------------------------------------------------------------------

    def _met(self) -> tuple[_Meeting, Terms]:
        """A session that has not ended, as far as is known."""
        if self._meeting is not None and self._meeting.transport.troubled:
            self._leave(TacitError("its server has gone"))
        if self._meeting is None or self._terms is None:
            self._meeting, self._terms = self._meet()
        return self._meeting, self._terms

    def _meet(self) -> tuple[_Meeting, Terms]:
        sock = self._connected()
        try:
            wire = self._secured(sock)
            known = "" if self._graph is None else self._graph[0]
            terms, key = called(wire, self._where, known, self._model)
            transport = linked(
                sock, wire, here=GUEST, peer=terms.role, where=str(self._server.address), key=key, server=terms.role,
                timeout=self._timeout,
            )  # fmt: skip
        except BaseException:
            sock.close()
            raise
        protocol = beside(transport, client_config(terms, self._timeout, self._ledger))
        try:
            graph = self._told(protocol, terms)
            weights = secrets_of(protocol, graph, None)
        except BaseException as error:
            protocol.session.end(error)
            raise
        return _Meeting(transport, protocol, graph, weights), terms

    def _told(self, protocol: Protocol, terms: Terms) -> Graph:
        """The graph of the server's model, checked before anything is computed by it."""
        if self._graph is None or self._graph[0] != terms.model:
            text = protocol.session.announce(terms.role, None)
            graph = Graph.parse(text)
            if len(text) > MOST_BYTES or graph.digest != terms.model:
                raise DataError(f"{self._where} sent another model than it has announced")
            if (graph.shape, graph.dtype) != (terms.plan.shape, terms.plan.dtype):
                raise DataError(f"{self._where} sent a model of other inputs than it has announced")
            check(graph)
            self._graph = terms.model, graph
        return self._graph[1]

    def _connected(self) -> socket.socket:
        try:
            sock = socket.create_connection(self._server.address, timeout=self._timeout)
        except TimeoutError:
            raise ConnectError(f"{self._where} has not answered within {self._timeout:g} s") from None
        except OSError as error:
            raise ConnectError(f"{self._where} cannot be reached: {describe(error)}") from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _secured(self, sock: socket.socket) -> Wire:
        terms = self._server.terms(self._identity)
        if terms is None:
            return sock
        other = AuthenticationError(f"{self._where} presents a certificate that is not the one in the public file")
        tls = Tls(sock, terms.context(), self._where, server=False)
        try:
            certificate = tls.shake_hands()
        except ssl.SSLCertVerificationError:
            raise other from None
        except ssl.SSLError as error:
            raise AuthenticationError(f"no TLS connection to {self._where}: {error.reason}") from None
        except TimeoutError:
            raise ConnectError(f"{self._where} has not answered within {self._timeout:g} s") from None
        except OSError as error:
            raise PeerLost(f"{self._where} closed the connection: {describe(error)}") from None
        if not self._server.is_pinned(certificate):
            raise other
        return tls

    def _leave(self, error: BaseException) -> None:
        """Let the session go; the next request opens another."""
        meeting, self._meeting = self._meeting, None
        if meeting is not None:
            self._earlier_bytes += sum(meeting.transport.wire_bytes.values())
            meeting.protocol.session.end(error)


def _forget(state: dict[str, Any]) -> None:
    """A client that nobody has closed hangs up."""
    meeting = state.get("_meeting")
    if meeting is not None:
        meeting.protocol.session.end(TacitError("the client has left"))


def _rows(rows: Tensor, given: Tensor, graph: Graph, terms: Terms) -> Tensor:
    """Rows as ring elements; what is wrong with them is said before anything is sent."""
    plan = terms.plan
    if tuple(rows.shape[1:]) != plan.shape or not len(rows):
        raise DataError(f"the service takes inputs of shape {plan.shape}, not {tuple(given.shape)}")
    if not plan.torch_dtype.is_floating_point and given.dtype.is_floating_point:
        raise DataError(f"the service takes inputs of {plan.torch_dtype}, not {given.dtype}")
    if plan.torch_dtype.is_floating_point:
        return encode(rows.to(torch.float64), terms.frac_bits, name="what is asked about").contiguous()
    return encode(rows, 0, name="what is asked about").contiguous()


def _announce(meeting: _Meeting, **asked: int) -> None:
    meeting.protocol.session.announce(GUEST, json.dumps(asked).encode())


def _heard(meeting: _Meeting, where: str) -> dict[str, Any]:
    try:
        head = json.loads(meeting.protocol.session.announce(meeting.protocol.session.parties[0], None))
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise NetworkError(f"{where} sent something that is not a message of Tacit")
    return head
