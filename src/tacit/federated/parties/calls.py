"""How Flower's server asks the computing parties for a round: one gRPC call to each role, over TLS, at once.

The request is a description of the round, then that party's boxes, one message a client; the reply says whose boxes did
not open, then brings the party's share of the result. Both ends prove who they are by pinned certificates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tacit import private_files
from tacit.errors import ConfigError
from tacit.federated.errors import FederatedError, ForgeryError
from tacit.federated.parties.computation import Outcome
from tacit.federated.parties.directory import Aggregators
from tacit.federated.parties.work import Work
from tacit.federated.vectors import Ring
from tacit.net.certificates import signing_key

__all__ = ["METHOD", "OPTIONS", "call_roles", "pem"]

METHOD = "/tacit.Aggregator/Round"
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
"""A share of ten million coordinates has 80 MB; whoever may call has been authenticated."""


def pem(folder: Path, name: str) -> bytes:
    """Read a key or a certificate; a key that is encrypted, by its passphrase."""
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError:
        raise ConfigError(f"there is no {path}: make it with `tacit keygen` or get it from its role") from None
    if path.suffix == ".key" and not private_files.is_private(path):
        raise ConfigError(f"{path} can be read by other users of this machine: run `chmod 600 {path}`")
    if path.suffix == ".key" and b"ENCRYPTED" in content:
        return signing_key(folder, path.stem).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return content


def call_roles(
    aggregators: Aggregators, certs: Path, work: Work, boxes: dict[int, list[bytes]], timeout: float | None
) -> Outcome:
    """Let all roles compute a round, and return the parties' shares. The first to fail ends it for all."""
    own = pem(certs, f"{aggregators.server}.key"), pem(certs, f"{aggregators.server}.crt")
    channels = [_channel(aggregators, role, certs, own) for role in aggregators.roles]
    head = json.dumps(work.literal()).encode()
    parties = tuple(aggregators.keys)
    calls = {}
    try:
        for role, channel in zip(aggregators.roles, channels, strict=True):
            party = parties.index(role) if role in parties else None
            calls[role] = channel.stream_stream(METHOD)(_request(head, work, boxes, party), timeout=timeout)
        return _outcome(_replies(calls), parties)
    finally:
        for call in calls.values():
            call.cancel()
        for channel in channels:
            channel.close()


def _channel(aggregators: Aggregators, role: str, certs: Path, own: tuple[bytes, bytes]) -> grpc.Channel:
    """Open a channel to a role: its certificate, which is all that is trusted, has its name and no other address."""
    credentials = grpc.ssl_channel_credentials(pem(certs, f"{role}.crt"), *own)
    options = [*OPTIONS, ("grpc.ssl_target_name_override", role)]
    return grpc.secure_channel(aggregators.addresses[role], credentials, options)


def _request(head: bytes, work: Work, boxes: dict[int, list[bytes]], party: int | None) -> Iterator[bytes]:
    yield head
    if party is not None:
        for client in work.clients:
            yield boxes[client][party]


def _replies(calls: dict[str, Any]) -> dict[str, list[bytes]]:
    """Wait for all roles; an error of one is told in preference to what the others say of it."""
    replies, errors = {}, {}
    for role, call in calls.items():
        try:
            replies[role] = list(call)
        except grpc.RpcError as error:
            errors[role] = error
    if errors:
        first = min(errors, key=lambda role: errors[role].code() is not grpc.StatusCode.FAILED_PRECONDITION)
        raise FederatedError(f"the parties computed nothing: {first}: {errors[first].details()}")
    return replies


def _outcome(replies: dict[str, list[bytes]], parties: tuple[str, ...]) -> Outcome:
    shares: dict[str, Ring] = {}
    excluded: set[tuple[int, ...]] = set()
    try:
        for role, reply in replies.items():
            excluded.add(tuple(int(client) for client in json.loads(reply[0])["excluded"]))
            if role in parties:
                shares[role] = np.frombuffer(reply[1], dtype=np.uint64)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        raise ForgeryError(f"the reply of {role} is damaged") from None
    if len(excluded) != 1 or len({share.size for share in shares.values()}) != 1:
        raise ForgeryError("the parties do not tell the same about the round")
    return Outcome(shares, excluded.pop())
