"""How two roles greet each other on a fresh connection, before the first frame.

1. A *preamble* in the clear: who calls whom, with or without TLS. It proves nothing; it lets both ends say in plain
   words whom they refuse, and a stray caller be turned away.
2. TLS 1.3, each end with its pinned certificate (`certificates.py`).
3. A *hello* inside TLS: versions, the shared part of the config, a digest of the script, and 32 fresh random bytes.
   The random bytes of both ends become the key that only the two of them have.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tacit.errors import AuthenticationError, ConfigError, NetworkError, Stray, TacitError
from tacit.net.certificates import Identity
from tacit.net.framing import printable
from tacit.net.link import describe
from tacit.net.names import plain
from tacit.net.tls import Tls, Wire

__all__ = ["WIRE_VERSION", "Endpoint", "Secured", "agree", "authenticate", "greet"]

WIRE_VERSION = 3
"""Of preamble, hello and frames. Two versions do not talk to each other, so there is nothing to negotiate."""

MAGIC = b"TACIT"
NONCE_BYTES = 32
HELLO_LIMIT = 1 << 20
CONTEXT = b"tacit pair key"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a role brings to its connections. `identity` is None where the config has asked for no encryption."""

    role: str
    roles: tuple[str, ...]
    """With their ranks, if roles have several."""
    addresses: dict[str, tuple[str, int]]
    version: str
    shared: dict[str, str]
    """The part of the config that all roles must have alike, by key; nothing in it is secret."""
    script: str
    """A digest of the program's text. A difference is no error, but explains a later one."""
    identity: Identity | None
    listen: tuple[str, int] | None = None
    connect_timeout: float = 60.0
    timeout: float = 60.0
    outbox_bytes: int = 1 << 28
    spin: float = 0.0
    """Seconds to look for an answer again and again before sleeping."""

    def show(self, role: str) -> str:
        """A role's address, for messages."""
        host, port = self.addresses[role]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Secured(NamedTuple):
    """A connection whose other end is the role it says it is, and runs with the same config."""

    socket: socket.socket
    wire: Wire
    """What sends and receives on the socket: TLS, unless the config has asked for no encryption."""
    pair_key: bytes
    same_script: bool


# --- in the clear ----------------------------------------------------------------------------------------------------


def greet(sock: socket.socket, me: Endpoint, peer: str | None) -> str:
    """Exchange preambles and return who is at the other end. `peer` is whom we called, or None if we were called."""
    try:
        if peer is not None:
            sock.sendall(_preamble(me, peer))
        version, mode, caller, called = _read_preamble(sock)
        expected = me.roles[me.roles.index(me.role) + 1 :] if peer is None else (peer,)
        if caller not in expected or called != me.role:
            raise Stray(f"{printable(caller)!r} answers there and wants to talk to {printable(called)!r}")
        if peer is None:
            sock.sendall(_preamble(me, caller))
    except OSError as error:
        raise Stray(describe(error)) from None
    if version != WIRE_VERSION:
        raise ConfigError(
            f"{me.role} and {caller} run versions of Tacit that do not understand each other (wire version "
            f"{WIRE_VERSION} and {version}): install the same version at both"
        )
    if mode != (me.identity is not None):
        words = ("without TLS", "with TLS")
        raise ConfigError(
            f"the setting 'tacit.tls' differs: {me.role} connects {words[not mode]}, but {caller} {words[mode]}"
        )
    return caller


def _preamble(me: Endpoint, peer: str) -> bytes:
    caller, called = me.role.encode(), peer.encode()
    return MAGIC + bytes((WIRE_VERSION, me.identity is not None, len(caller), len(called))) + caller + called


def _read_preamble(sock: socket.socket) -> tuple[int, bool, str, str]:
    start = _read(sock, len(MAGIC) + 4)
    if not start.startswith(MAGIC):
        raise Stray("something that is not Tacit answers there")
    version, mode, caller, called = start[len(MAGIC) :]
    names = _read(sock, caller + called).decode(errors="replace")
    return version, bool(mode), names[:caller], names[caller:]


# --- inside TLS ------------------------------------------------------------------------------------------------------


def authenticate(sock: socket.socket, me: Endpoint, peer: str, *, server: bool) -> Wire:
    """Let the peer prove who it is, and return what to talk to it by; until then, anybody may be at the other end."""
    if me.identity is None:
        return sock
    try:
        role = plain(peer)
        tls = Tls(sock, me.identity.context(role, server=server), role, server=server)
        if not me.identity.is_pinned(role, tls.shake_hands()):
            raise ssl.SSLCertVerificationError("another certificate")
    except OSError as error:
        sock.close()
        raise _refused(me, peer, error) from None
    return tls


def agree(sock: socket.socket, wire: Wire, me: Endpoint, peer: str) -> Secured:
    """Compare configs and agree on a key; raise an error that both ends understand alike."""
    nonce = os.urandom(NONCE_BYTES)
    try:
        _send(wire, _hello(me, nonce))
        theirs = _read_hello(wire, peer)
        _compare(me, peer, theirs)
    except OSError as error:
        sock.close()
        raise _refused(me, peer, error) from None
    except TacitError:
        sock.close()
        raise
    pair = sorted(((me.role, nonce), (peer, bytes.fromhex(theirs["nonce"]))), key=lambda end: me.roles.index(end[0]))
    info = b"\0".join((CONTEXT, pair[0][0].encode(), pair[1][0].encode()))
    key = HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(pair[0][1] + pair[1][1])
    return Secured(sock, wire, key, theirs["script"] == me.script)


def _refused(me: Endpoint, peer: str, error: OSError) -> NetworkError:
    where = f"{peer} ({me.show(peer)})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return AuthenticationError(
            f"{where} presents a certificate that is not the {plain(peer)}.crt that {me.role} has: "
            f"have {peer} send its certificate again, and compare fingerprints"
        )
    if isinstance(error, ssl.SSLError) and "alert" in str(error).lower():
        return AuthenticationError(
            f"{where} does not accept the certificate of {me.role}: send {plain(me.role)}.crt to {peer} again, "
            f"and compare fingerprints"
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        reason = (error.reason or "no reason given").lower().replace("_", " ")
        return AuthenticationError(f"no TLS connection between {me.role} and {where}: {reason}")
    why = "it closed the connection" if isinstance(error, ssl.SSLError) else error.strerror or error
    return NetworkError(f"{where} broke off while it was connecting to {me.role}: {why}")


def _hello(me: Endpoint, nonce: bytes) -> bytes:
    hello = {"tacit": me.version, "shared": me.shared, "script": me.script, "nonce": nonce.hex()}
    text = json.dumps(hello).encode()
    return len(text).to_bytes(4, "little") + text


def _read_hello(wire: Wire, peer: str) -> dict[str, str]:
    size = int.from_bytes(_read(wire, 4), "little")
    if size > HELLO_LIMIT:
        raise NetworkError(f"{peer} sent a greeting of {size} bytes, which is not Tacit's")
    try:
        hello = json.loads(_read(wire, size))
        texts = {key: str(hello[key]) for key in ("tacit", "script", "nonce")}
        shared = {str(key): str(value) for key, value in hello["shared"].items()}
        if len(bytes.fromhex(texts["nonce"])) != NONCE_BYTES:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NetworkError(f"{peer} sent a greeting that is not Tacit's") from None
    return texts | {f"shared {key}": value for key, value in shared.items()}


def _compare(me: Endpoint, peer: str, theirs: dict[str, str]) -> None:
    if theirs["tacit"] != me.version:
        raise ConfigError(
            f"{me.role} runs Tacit {me.version}, but {peer} runs {theirs['tacit'][:40]!r}: install the same version"
        )
    shared = {key.removeprefix("shared "): value for key, value in theirs.items() if key.startswith("shared ")}
    for key in [*me.shared, *sorted(shared.keys() - me.shared.keys())]:
        mine, other = me.shared.get(key, "nothing"), shared.get(key, "nothing")
        if mine != other:
            raise ConfigError(
                f"the configs of {me.role} and {peer} differ in {key!r}: {mine[:200]} at {me.role}, "
                f"but {printable(other[:200])} at {peer}"
            )


def _send(wire: Wire, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[wire.send(left) :]


def _read(wire: Wire, size: int) -> bytes:
    """Read exactly this many bytes, or raise `OSError`."""
    data, at = bytearray(size), 0
    while at < size:
        part = wire.recv_into(memoryview(data)[at:])
        if not part:
            raise ConnectionResetError("the connection was closed")
        at += part
    return bytes(data)
