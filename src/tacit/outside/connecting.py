"""How a client reaches a deployment's servers, and what they say first: which they are, and what they compute."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tacit.errors import AuthenticationError, ConfigError, ConnectError, PeerLost, Refused
from tacit.net.link import describe
from tacit.outside.deployment import Endpoint
from tacit.outside.wire import BUFFER_BYTES, PROTOCOL, Connection

__all__ = ["common", "connect", "hang_up"]

T = TypeVar("T")

ANSWERS = {
    "serves": "answers for inputs that clients send: ask with predict(…)",
    "scores": "answers for people whose columns the servers have: ask with score(…)",
}
"""What a server does that is asked in the other way, by what it says of it when a client comes."""


async def connect(server: Endpoint, identity: Path | None, timeout: float, frac_bits: int) -> Connection:
    """A connection to a server, which has shown that it is the one that is meant."""
    where = f"{server.name} ({server.address})"
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(*server.address, ssl=server.context(identity), limit=BUFFER_BYTES),
            timeout,
        )
    except ssl.SSLCertVerificationError:
        raise AuthenticationError(f"{where} presents a certificate that is not the one in the config") from None
    except ssl.SSLError as error:
        raise AuthenticationError(f"no TLS connection to {where}: {error.reason}") from None
    except TimeoutError:
        raise ConnectError(f"{where} has not answered within {timeout:g} s") from None
    except OSError as error:
        raise ConnectError(f"{where} cannot be reached: {describe(error)}") from None
    connection = Connection(reader, writer, where, timeout)
    try:
        tls = writer.get_extra_info("ssl_object")
        if not server.is_pinned(None if tls is None else tls.getpeercert(binary_form=True)):
            raise AuthenticationError(f"{where} presents a certificate that is not the one in the config")
        connection.greeting = await _greeting(connection, identified=identity is not None)
        _check(server, connection.greeting, frac_bits)
    except BaseException:
        await connection.close()
        raise
    return connection


def _check(server: Endpoint, greeting: dict[str, Any], frac_bits: int) -> None:
    if greeting.get("tacit") != PROTOCOL:
        raise ConfigError(f"{server.name} runs another version of Tacit: install the same one")
    if greeting.get("role") != server.name:
        raise ConfigError(f"another role than {server.name} answers at {server.address}: is the config right?")
    if greeting.get("frac_bits") != frac_bits:
        raise ConfigError(f"{server.name} computes with other fractional bits than the config says")


async def _greeting(connection: Connection, *, identified: bool) -> dict[str, Any]:
    """What a server says first. One that does not know our certificate hangs up instead."""
    try:
        return await connection.receive()
    except PeerLost:
        what = "this client's certificate" if identified else "clients without a certificate"
        raise AuthenticationError(f"{connection.peer} hung up at once: it may not work for {what}") from None


async def hang_up(connections: list[Connection]) -> None:
    """Close connections, and forget them."""
    await asyncio.gather(*(connection.close() for connection in connections))
    connections.clear()


def common(connections: list[Connection], what: str, parse: Callable[[dict[str, Any]], T]) -> T:
    """What the servers say that they compute."""
    plans = []
    for connection in connections:
        literal = connection.greeting.get(what)
        if not isinstance(literal, dict):
            others = {"serves": "scores", "scores": "serves"}[what]
            if isinstance(connection.greeting.get(others), dict):
                raise Refused(f"{connection.peer} {ANSWERS[others]}")
            raise Refused(f"{connection.peer} takes data in but answers no requests")
        try:
            plans.append(parse(literal))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Refused(f"{connection.peer} says nothing sensible of what it serves") from None
    if any(plan != plans[0] for plan in plans):
        raise Refused("the servers do not serve the same model")
    return plans[0]
