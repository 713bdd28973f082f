"""The server's end of one client's session, in a process of its own: nothing of one client is where another's is."""

from __future__ import annotations

import json
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tacit.api import beside
from tacit.errors import ConfigError, NetworkError, Refused
from tacit.net.tcp import Tcp
from tacit.net.tls import Tls, Wire
from tacit.outside.deployment import server_terms
from tacit.outside.graph.trace import Traced, traced
from tacit.outside.guests import ANONYMOUS, PATIENCE
from tacit.outside.pairing import NAME, Terms, answered, linked, prepared, secrets_of, send_head, welcomed
from tacit.outside.plan import Plan
from tacit.outside.wire import refusal
from tacit.protocols.protocol import Protocol
from tacit.session.config import Config, RevealRule
from tacit.session.ledger import Ledger
from tacit.session.registered import GUEST

if TYPE_CHECKING:
    from OpenSSL import SSL

__all__ = ["MOST_ROWS", "Line", "Served", "attend", "served", "turn_away"]

MOST_ROWS = 256
"""That a request may have at once; of more rows a client makes several requests."""

HANDSHAKE_SECONDS = 10.0
"""That a client may be silent in the middle of a greeting."""

LOOK_SECONDS = 0.25
"""Between looks at a client that is made to wait."""

LEDGER_ENTRIES = 1_000
"""Ledger entries kept in memory; a server that should remember all of them has a ledger file."""


@dataclass(frozen=True)
class Served:
    """What all clients of a server are told, and what it keeps to itself."""

    config: Config
    terms: Terms
    traced: Traced
    context: SSL.Context | None
    known: dict[bytes, str]
    """The names of the clients it works for by certificate; empty: anybody."""


def served(
    model: Callable[[Any], Any],
    config: Config,
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    batch: int = 8,
) -> Served:
    """Make ready to serve a model: it is traced, and what this server's policy says of predictions is asked."""
    if not config.awaits_clients:
        names = " and ".join(config.roles)
        raise ConfigError(f"a server that computes with its clients has a config of one role, and not of {names}")
    if not 1 <= batch <= MOST_ROWS:
        raise ConfigError(f"a request has up to {MOST_ROWS} rows")
    if dtype not in (torch.float32, torch.int64):
        raise ConfigError(f"inputs are torch.float32 or torch.int64, not {dtype}")
    role, plan = config.parties[0], Plan(tuple(shape), str(dtype).removeprefix("torch."), batch)
    rules = config.reveal if config.reveal is not None else (RevealRule(NAME, ("clients",)),)
    Ledger(role, rules, None).check(NAME, [GUEST])
    tls, known = server_terms(config, role)
    found = traced(model, plan.shape, plan.dtype, batch, frac_bits=config.frac_bits)
    terms = Terms(role, config.frac_bits, plan, found.graph.digest)
    return Served(replace(config, reveal=rules), terms, found, None if tls is None else tls.context(), known)


class Line(ABC):
    """To whoever keeps the books of all clients."""

    @abstractmethod
    def came(self, client: str) -> None:
        """Say who is there."""

    @abstractmethod
    def allowed(self) -> float:
        """Ask for a request: seconds to wait first; of more than `PATIENCE`, ask again afterwards."""

    @abstractmethod
    def begins(self, rows: int) -> None:
        """Say that a request about so many rows is being computed, or about none that work is done ahead."""


def turn_away(sock: socket.socket, served: Served, why: Refused) -> None:
    """Tell a client that there is no place for it."""
    wire, _ = _secured(sock, served)
    send_head(wire, **refusal(why))


def attend(sock: socket.socket, served: Served, line: Line, where: str) -> None:
    """Serve one client until it leaves; raise what ends its session otherwise."""
    wire, client = _secured(sock, served)
    line.came(client)
    terms = served.terms
    key, knows = welcomed(wire, "the client", terms)
    transport = linked(
        sock, wire, here=terms.role, peer=GUEST, where=where, key=key, server=terms.role, timeout=served.config.timeout
    )
    protocol = beside(transport, served.config)
    session, graph = protocol.session, served.traced.graph
    try:
        session.ledger.check(NAME, [GUEST])
        session.ledger.note("client", {"name": client, "address": where})
        if not knows:
            session.announce(terms.role, graph.text)
        weights = secrets_of(protocol, graph, served.traced.weights)
        while _answer(transport, protocol, served, line, weights):
            del session.ledger.entries[:-LEDGER_ENTRIES]
    except BaseException as error:
        session.end(error)
        raise
    session.end(None)


def _answer(transport: Tcp, protocol: Protocol, served: Served, line: Line, weights: list[Tensor]) -> bool:
    """One request, allowed ahead, so that the client need not ask for it; False when the client leaves."""
    session, graph, role = protocol.session, served.traced.graph, served.terms.role
    while (wait := line.allowed()) > PATIENCE:
        session.announce(role, json.dumps({"wait": round(wait, 3)}).encode())
        _pause(transport, wait)
    _pause(transport, wait)
    session.announce(role, b"{}")
    what, count = _asked(session.announce(GUEST, None))
    if what == "prepare":
        line.begins(0)
        prepared(protocol, count)
    elif count:
        if count not in graph.steps:
            raise NetworkError(f"the client asks about {count} rows at once, where there may be {graph.rows}")
        line.begins(count)
        answered(protocol, graph, weights, count, None)
    return what == "prepare" or count > 0


def _asked(message: bytes) -> tuple[str, int]:
    """What the client wants: rows to be predicted, none of them when it leaves, or work ahead."""
    try:
        ((what, count),) = json.loads(message).items()
    except (ValueError, AttributeError, TypeError, RecursionError):
        what, count = "", 0
    if what not in ("rows", "prepare") or type(count) is not int or count < 0:
        raise NetworkError("the client sent something that is not a message of Tacit")
    return what, count


def _pause(transport: Tcp, seconds: float) -> None:
    """Wait, but not longer than the client is there."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not transport.troubled:
        time.sleep(min(left, LOOK_SECONDS))


def _secured(sock: socket.socket, served: Served) -> tuple[Wire, str]:
    """What to talk by, and who is there."""
    sock.settimeout(HANDSHAKE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if served.context is None:
        return sock, ANONYMOUS
    tls = Tls(sock, served.context, "the client", server=True)
    try:
        certificate = tls.shake_hands()
    except OSError as error:
        raise NetworkError(f"no TLS connection to the client: {type(error).__name__}") from None
    if not served.known:
        return tls, ANONYMOUS
    name = served.known.get(certificate or b"")
    if name is None:
        raise NetworkError("a client whose certificate is not among the providers'")
    return tls, name
