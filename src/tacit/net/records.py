"""What protects a connection after its handshake: records of AES-128-GCM, as in TLS 1.3 but longer.

::

    plaintext length (4) │ ciphertext (of that length) │ tag (16)

The handshake (`handshake.py`) is TLS 1.3: it proves who is at the other end and agrees on fresh secrets. What follows
is long tensors, and there TLS is slow for two reasons that its interface in Python does not let us change: a record
holds 16 KiB, with two system calls to read it, and the cipher is the slowest of the three. Per gigabyte and for both
ends together, a connection took 0.22 s of processor time without protection, 1.17 s with `ssl`, 0.87 s with pyOpenSSL,
and takes 0.31 s with these records, whose cipher is that of the `cryptography` package.

Each direction has a key of its own, which only these two processes know and which is used in this run only. The nonce
of a record is its number, so a record that is dropped, repeated, moved or changed fails its tag and ends the run; that
a connection was cut short shows in the frames, which end with a farewell.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tacit.errors import NetworkError

__all__ = ["PIECE_BYTES", "Sealed", "Wire"]

PIECE_BYTES: Final = 1 << 18
"""The most that one record holds. Longer saves system calls and calls of the cipher (16 KiB took twice the processor
time of 256 KiB); shorter stays in smaller caches between cipher and system call."""

RENEWAL: Final = 1 << 20
"""Records after which a direction's key is replaced. AES-GCM under one key leaks less than 2^-57 up to 2^34.5 blocks
(RFC 8446, section 5.5); this is 2^34 blocks, or 256 GiB."""

LENGTH: Final = struct.Struct("<I")
TAG_BYTES: Final = 16
OVERHEAD: Final = LENGTH.size + TAG_BYTES

SPACE: Final = PIECE_BYTES + OVERHEAD
"""Room for what has come but is not opened yet. More than one record asks the operating system less often, and leaves
the processor's cache."""


class Wire(Protocol):
    """Bytes to and from a peer, without waiting: a plain non-blocking socket is one, and so is `Sealed`."""

    def send(self, data: memoryview, /) -> int:
        """Send some of the data, and return how much. If nothing goes, raise `BlockingIOError`, and get it again."""

    def recv_into(self, target: memoryview, /) -> int:
        """Fill some of the target, and return how much: 0 at the end. If nothing is there, raise `BlockingIOError`."""


class Key:
    """The key of one direction; every record takes the next nonce."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._renew()

    def _renew(self) -> None:
        """Take a new key from the secret, and a new secret from which this key cannot be had."""
        material = HKDFExpand(hashes.SHA256(), 48, b"tacit record key").derive(self._secret)
        self._secret, self._cipher, self._count = material[:32], AESGCM(material[32:]), 0

    def seal(self, data: memoryview, target: memoryview) -> None:
        """Write ciphertext and tag of one record."""
        self._cipher.encrypt_into(self._count.to_bytes(12, "little"), data, None, target)
        self._next()

    def open(self, sealed: memoryview, target: memoryview) -> None:
        """Write the plaintext of one record, or raise `InvalidTag`."""
        self._cipher.decrypt_into(self._count.to_bytes(12, "little"), sealed, None, target)
        self._next()

    def _next(self) -> None:
        self._count += 1
        if self._count == RENEWAL:
            self._renew()


class Sealed:
    """A socket whose bytes travel in records. One thread may send while another receives."""

    def __init__(self, sock: socket.socket, outgoing: bytes, incoming: bytes, peer: str) -> None:
        self._socket, self._peer = sock, peer
        self._outgoing, self._incoming = Key(outgoing), Key(incoming)
        self._record = memoryview(bytearray(PIECE_BYTES + OVERHEAD))
        self._unsent = self._record[:0]
        self._sending = 0
        self._space = memoryview(bytearray(SPACE))
        self._low = self._high = 0

    def send(self, data: memoryview) -> int:
        """Send one record with the beginning of the data, and return how much of it that was.

        After a `BlockingIOError` the record is half under way: the next call must be given the same data.
        """
        if not self._unsent:
            size = min(len(data), PIECE_BYTES)
            LENGTH.pack_into(self._record, 0, size)
            self._outgoing.seal(data[:size], self._record[LENGTH.size : size + OVERHEAD])
            self._unsent, self._sending = self._record[: size + OVERHEAD], size
        while self._unsent:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        return self._sending

    def recv_into(self, target: memoryview) -> int:
        """Open the next record into the target, which must have room for the whole of it."""
        while True:
            size = self._waiting()
            if size is not None:
                return self._open(size, target)
            count = self._socket.recv_into(self._space[self._high :])
            if not count:
                return 0
            self._high += count

    def _waiting(self) -> int | None:
        """The size of the next record if the whole of it has come; if not, make room for the rest of it."""
        there = self._high - self._low
        if there < LENGTH.size:
            needed = LENGTH.size
        else:
            (size,) = LENGTH.unpack_from(self._space, self._low)
            if not 0 < size <= PIECE_BYTES:
                raise NetworkError(f"{self._peer} sent a record with an impossible length, {size}")
            needed = size + OVERHEAD
            if there >= needed:
                return int(size)
        if self._low + needed > SPACE or not there:
            self._space[:there] = bytes(self._space[self._low : self._high])
            self._low, self._high = 0, there
        return None

    def _open(self, size: int, target: memoryview) -> int:
        if size > len(target):
            raise NetworkError(f"{self._peer} sent a record of {size} bytes where only {len(target)} fit a frame")
        start, end = self._low + LENGTH.size, self._low + OVERHEAD + size
        try:
            self._incoming.open(self._space[start:end], target[:size])
        except InvalidTag:
            raise NetworkError(
                f"what came from {self._peer} is not what it sent: somebody, or something broken, changed it on the way"
            ) from None
        self._low = end
        return size
