"""A client and a server who compute together, without anybody else: how they greet each other, and one request.

Over TLS, where the client knows the server's certificate and the server perhaps the client's, each sends a head as
those of `wire`: versions, what is served, and 32 random bytes, from which follows the key that only the two have. From
then on they are the two parties of a session: the server announces the graph of its model, and then, as often as it
allows a request, that it does; the client announces how many rows it asks about; both compute, and the client is told.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

from tacit.api import adopted, reveal
from tacit.errors import ConfigError, DataError, NetworkError, PeerLost, PeerStalled, TacitError
from tacit.net.handshake import WIRE_VERSION
from tacit.net.link import Link
from tacit.net.tcp import Tcp
from tacit.net.tls import Wire
from tacit.net.transcript import Transcript
from tacit.outside.graph.form import Graph
from tacit.outside.graph.run import run
from tacit.outside.plan import Plan
from tacit.outside.schema import DTYPES
from tacit.outside.wire import HEAD_BYTES, PROTOCOL, head_of
from tacit.protocols.protocol import Protocol
from tacit.session.config import FRAC_BITS, ROLE_NAME, Config, RevealRule
from tacit.session.registered import GUEST
from tacit.session.roles import ALONE

__all__ = [
    "NAME",
    "Terms",
    "answered",
    "called",
    "check_times",
    "client_config",
    "linked",
    "prepared",
    "read_head",
    "secrets_of",
    "send_head",
    "welcomed",
]

NAME = "prediction"
"""What the ledgers of both call a result."""

MOST_TIMES = 64
"""That one call makes ahead what requests needed. More: longer pauses, and more memory at both ends."""

NONCE_BYTES = 32
CONTEXT = b"tacit client and server\0"


class Terms(NamedTuple):
    """What a server tells whoever comes."""

    role: str
    frac_bits: int
    plan: Plan
    model: str
    """The digest of the model's graph."""


# --- greeting --------------------------------------------------------------------------------------------------------


def send_head(wire: Wire, **head: Any) -> None:
    """Send a head over a connection that waits."""
    text = json.dumps(head).encode()
    left = memoryview(len(text).to_bytes(4, "little") + text)
    while left:
        left = left[wire.send(left) :]


def read_head(wire: Wire, peer: str) -> dict[str, Any]:
    """The next head, over a connection that waits; a refusal is raised as the error that it stands for."""
    size = int.from_bytes(_exactly(wire, 4, peer), "little")
    if size > HEAD_BYTES:
        raise NetworkError(f"{peer} sent something that is not a message of Tacit")
    return head_of(_exactly(wire, size, peer), peer)


def _exactly(wire: Wire, size: int, peer: str) -> bytes:
    data, at = bytearray(size), 0
    try:
        while at < size:
            part = wire.recv_into(memoryview(data)[at:])
            if not part:
                raise PeerLost(f"{peer} closed the connection")
            at += part
    except TimeoutError:
        raise PeerStalled(f"{peer} has not answered") from None
    except OSError:
        raise PeerLost(f"{peer} closed the connection") from None
    return bytes(data)


def welcomed(wire: Wire, peer: str, terms: Terms) -> tuple[bytes, bool]:
    """The server's side: the key that both have now, and whether the client knows the graph already."""
    nonce = os.urandom(NONCE_BYTES)
    own = {"wire": WIRE_VERSION, "version": version("tacit"), "model": terms.model, "nonce": nonce.hex()}
    about = {"role": terms.role, "frac_bits": terms.frac_bits, "serves": terms.plan.literal()}
    send_head(wire, tacit=PROTOCOL, **about, pair=own)
    theirs: Any = read_head(wire, peer).get("pair")
    other = _nonce(theirs, peer)
    _check_version(theirs, peer)
    return _key(terms.role, nonce, other), theirs.get("knows") == terms.model


def called(wire: Wire, peer: str, knows: str, wanted: str | None) -> tuple[Terms, bytes]:
    """The client's side: what the server offers, and the key. `knows` is the digest of a graph that it has, and
    `wanted` that of the only model it will ask."""
    head = read_head(wire, peer)
    theirs = head.get("pair")
    if not isinstance(theirs, dict):
        raise NetworkError(f"{peer} does not compute with its clients: its public file names other servers as well")
    try:
        role, frac_bits, plan = str(head["role"]), head["frac_bits"], Plan.parse(head["serves"])
        if not ROLE_NAME.fullmatch(role) or role == GUEST or type(frac_bits) is not int or frac_bits not in FRAC_BITS:
            raise ValueError
        terms = Terms(role, frac_bits, plan, str(theirs["model"])[:100])
    except (KeyError, TypeError, ValueError, TacitError):
        raise NetworkError(f"{peer} sent something that is not a message of Tacit") from None
    other = _nonce(theirs, peer)
    nonce = os.urandom(NONCE_BYTES)
    own = {"wire": WIRE_VERSION, "version": version("tacit"), "nonce": nonce.hex(), "knows": knows}
    send_head(wire, pair=own)
    _check_version(theirs, peer)
    if wanted is not None and wanted != terms.model:
        raise ConfigError(f"{peer} serves another model, {terms.model}, than this client asks for, {wanted}")
    return terms, _key(role, other, nonce)


def _nonce(theirs: Any, peer: str) -> bytes:
    try:
        nonce = bytes.fromhex(theirs["nonce"])
    except (KeyError, TypeError, ValueError, AttributeError):
        nonce = b""
    if len(nonce) != NONCE_BYTES:
        raise NetworkError(f"{peer} sent something that is not a message of Tacit")
    return nonce


def _check_version(theirs: dict[str, Any], peer: str) -> None:
    """Both must do the same operators in the same way."""
    found, own = str(theirs.get("version"))[:40], version("tacit")
    if found != own or theirs.get("wire") != WIRE_VERSION:
        raise ConfigError(f"{peer} runs Tacit {found!r}, and here runs {own!r}: install the same version at both ends")


def _key(role: str, server: bytes, client: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=CONTEXT + role.encode()).derive(server + client)


# --- a session -------------------------------------------------------------------------------------------------------


def linked(
    sock: socket.socket, wire: Wire, *, here: str, peer: str, where: str, key: bytes, server: str, timeout: float
) -> Tcp:
    """The transport of a session of the two over a connection that they have greeted each other on."""
    sock.settimeout(None)
    link = Link(peer, where, sock, key, same_script=True, wire=wire)
    return Tcp(here, (server, GUEST), {peer: link}, Transcript(), timeout=timeout)


def client_config(terms: Terms, timeout: float, ledger: str | None) -> Config:
    """What the client's end of a session goes by: predictions may be told to clients, and nothing else to anybody."""
    return Config(
        parties=(terms.role, GUEST), helpers=(), protocol=ALONE, frac_bits=terms.frac_bits, timeout=timeout,
        tls="insecure-plaintext", ledger=ledger, reveal=(RevealRule(NAME, ("clients",)),),
    )  # fmt: skip


def secrets_of(protocol: Protocol, graph: Graph, rings: Sequence[Tensor] | None) -> list[Tensor]:
    """The weights of a graph as secrets of the server, who knows them; the client gives None."""
    server = protocol.session.parties[0]
    found: list[Tensor] = []
    for place, weight in enumerate(graph.weights):
        shared = protocol.share(None if rings is None else rings[place], server, weight.shape, weight.frac_bits)
        found.append(adopted(shared, getattr(torch, weight.dtype)))
    return found


def prepared(protocol: Protocol, times: int) -> None:
    """Make what no input changes for requests to come: of as many as since the last time, so many times."""
    protocol.session.prepare_ahead(check_times(times))


def check_times(times: int) -> int:
    """Return how often something is made ahead, if it may be so often."""
    if type(times) is not int or not 1 <= times <= MOST_TIMES:
        raise DataError(f"what no input changes is made ahead 1 to {MOST_TIMES} times, not {times!r}")
    return times


def answered(
    protocol: Protocol, graph: Graph, weights: Sequence[Tensor], count: int, rows: Tensor | None
) -> Tensor | None:
    """One request about so many rows, which the client gives as ring elements; it alone gets the answer."""
    protocol.session.transcript.record(f"tacit.serve({count} rows)")
    dtype = DTYPES[graph.dtype]
    frac_bits = protocol.frac_bits if dtype.is_floating_point else 0
    x = adopted(protocol.share(rows, GUEST, (count, *graph.shape), frac_bits), dtype)
    y: Tensor | None = reveal(run(graph, x, weights), to=GUEST, name=NAME)
    return y
