"""The frames on a connection: a header of 21 bytes, then the payload, and nothing that could be executed.

::

    kind (1) │ sequence number (4) │ payload length (8) │ transcript digest of the sender (8) │ payload

The length is never trusted: a data frame must have the size of the tensor that waits for it, every other kind a limit.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from tacit.errors import NetworkError
from tacit.net.transcript import DIGEST_BYTES

__all__ = ["HEADER_BYTES", "LIMITS", "SEQUENCE_MASK", "Header", "Kind", "pack_header", "printable", "unpack_header"]

HEADER = struct.Struct(f"<BIQ{DIGEST_BYTES}s")
HEADER_BYTES = HEADER.size
SEQUENCE_MASK = 0xFFFF_FFFF


class Kind(IntEnum):
    """What a frame carries."""

    DATA = 1
    ANNOUNCE = 2
    ALIVE = 3
    ABORT = 4
    DIVERGED = 5
    BYE = 6


KINDS = {kind.value: kind for kind in Kind}

LIMITS = {
    Kind.DATA: (1 << 63) - 1,
    Kind.ANNOUNCE: 1 << 24,
    Kind.ALIVE: 64,
    Kind.ABORT: 1 << 16,
    Kind.DIVERGED: 1 << 24,
    Kind.BYE: 0,
}
"""The longest payload of each kind. Data has none of its own: its length must equal the waiting tensor's."""


class Header(NamedTuple):
    """The first bytes of a frame."""

    kind: Kind
    sequence: int
    length: int
    digest: bytes


def pack_header(kind: Kind, sequence: int, length: int, digest: bytes) -> bytes:
    """Write a header; sequence numbers wrap at 2^32."""
    return HEADER.pack(kind, sequence & SEQUENCE_MASK, length, digest)


def unpack_header(data: bytes | bytearray | memoryview, at: int, peer: str) -> Header:
    """Read the header at `at`, refusing unknown kinds and lengths beyond the kind's limit."""
    number, sequence, length, digest = HEADER.unpack_from(data, at)
    kind = KINDS.get(number)
    if kind is None:
        raise NetworkError(f"{peer} sent something that is not a frame of Tacit (kind {number})")
    if length > LIMITS[kind]:
        raise NetworkError(f"{peer} sent a frame of kind {kind.name.lower()} with an impossible length, {length}")
    return Header(kind, sequence, length, digest)


def printable(text: str) -> str:
    """What a peer wrote, without the control characters that could play tricks on a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
