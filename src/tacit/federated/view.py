"""What a client was asked to compute on, as a digest that all clients of a round must agree on.

An average tells nothing of one client only if all of them started from the same model: a server that sends a model with
dead units to all but one gets the update of that one, n times smaller. So a client's masks and signatures hold for its
view alone: the arrays and settings that came, of which kind the round is, and what was agreed on before the run.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import ArrayRecord, Context, Message

from tacit.federated.errors import ForgeryError, UpdateError
from tacit.federated.records import RECORD

__all__ = ["agreement", "common_view", "run_view", "view", "whole"]


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    bool: lambda x: b"%d" % x,
    int: lambda x: b"%d" % x,
    float: lambda x: struct.pack(">d", x),
    str: str.encode,
    bytes: bytes,
}
"""How a value is written, whatever subclass of its type the server put into the record: clients get the plain type."""


def view(message: Message) -> bytes:
    """Return the digest of a message as the ClientApp gets it: its type, and all records but Tacit's own."""
    digest = hashlib.sha256(b"tacit view")
    _add(digest, message.metadata.message_type.encode())
    for name, record in sorted(message.content.items()):
        if name != RECORD:
            _add(digest, type(record).__name__.encode(), name.encode(), str(len(record)).encode())
            # arrays in their order, which is that of the model's parameters
            items = record.items() if isinstance(record, ArrayRecord) else sorted(record.items())
            for key, value in items:
                _add(digest, str(key).encode(), *_parts(value))
    return digest.digest()


def run_view(context: Context) -> bytes:
    """Return the digest of the run's settings, which the app reads too; a server can only ask clients for it."""
    digest = hashlib.sha256(b"tacit run config")
    for key, value in sorted(context.run_config.items()):
        _add(digest, str(key).encode(), *_parts(value))
    return digest.digest()


def whole(seen: bytes, run: bytes) -> bytes:
    """Return the view that is agreed on: the message, and the run's settings."""
    return hashlib.sha256(b"tacit whole view" + seen + run).digest()


def common_view(messages: Iterable[Message]) -> bytes:
    """Return the view that all these messages give; each record is read once however many messages hold it."""
    seen: dict[tuple[object, ...], bytes] = {}
    for message in messages:
        key = message.metadata.message_type, *((name, id(record)) for name, record in message.content.items())
        if key not in seen:
            seen[key] = view(message)
    if len(set(seen.values())) > 1:
        raise UpdateError(
            "the strategy sends different models or settings to different clients: an average over these would tell "
            "of single clients. Send the same to all, and let clients read what is their own from their node's config"
        )
    return next(iter(seen.values()), b"")


def agreement(*settings: object) -> bytes:
    """Return the digest of what is agreed on before a run; each setting prints as what it is."""
    digest = hashlib.sha256(b"tacit agreement")
    _add(digest, *(repr(setting).encode() for setting in settings))
    return digest.digest()


def _parts(value: Any) -> Iterable[bytes]:
    """Return what a record holds under a name: an array, a number, text, bytes, or a list of these."""
    if isinstance(value, list):
        return [b"list", str(len(value)).encode(), *(part for each in value for part in _parts(each))]
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return kind.__name__.encode(), write(value)
    try:
        return b"array", value.stype.encode(), value.dtype.encode(), repr(tuple(value.shape)).encode(), value.data
    except AttributeError:
        raise ForgeryError(f"a message holds a {type(value).__name__}, which no client can agree on") from None


def _add(digest: hashlib._Hash, *parts: bytes) -> None:
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
