"""What a role's links carry after the handshake: records under AES-256-GCM, as QUIC has them after its own.

::

    bytes of the plaintext (4) │ ciphertext │ tag (16)

TLS 1.3 has proven who is at the other end, and inside of it both ends have told each other fresh random bytes, of which
they have made a key. From that follows one for each direction, so a record stands for its sender and cannot be sent
back. The number of a record is its nonce, and no number is used twice; the length is authenticated along. So a record
that is changed, left out, repeated or moved fails, and ends the run. Where a run ends, its frames say: an end without a
bye is a peer that was lost.

Why not TLS to the end: its records hold 16 KiB at most, each passes through buffers of OpenSSL and Python, and OpenSSL
3.0, which many a Python has, knows no vectors for them. Per gigabyte and for both ends together, the processor time was
0.64 s more than without protection, and 0.17 s here, which leaves the floor, the two passes of the cipher, at 0.14 s
(one core with VAES; `cryptography` brings its own OpenSSL).
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tacit.errors import NetworkError
from tacit.net.tls import MORE, PIECE_BYTES, Tls

__all__ = ["RENEWAL", "Direction", "Sealed", "sealed"]

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
LENGTH: Final = struct.Struct("<I")
NONCE_BYTES: Final = 12

RENEWAL = 1 << 20
"""Records to a key: at most 2^33 blocks of the cipher, which are told from random ones with an advantage of 2^-63 (TLS
1.3 allows 2^34.5 of them). More: fewer derivations, of some 10 µs each; fewer: less to go by for who breaks a key."""

RECORD_BYTES: Final = LENGTH.size + PIECE_BYTES + TAG_BYTES


def sealed(sock: socket.socket, tls: Tls, key: bytes, here: str, peer: str) -> Sealed:
    """What two ends that have agreed on a key inside TLS go on by."""
    own, other = (_derived(key, f"records of {role}") for role in (here, peer))
    return Sealed(sock, tls.peer, own, other, tls.surplus())


def _derived(key: bytes, purpose: str) -> bytes:
    return HKDFExpand(hashes.SHA256(), KEY_BYTES, b"tacit " + purpose.encode()).derive(key)


class Direction:
    """The keys of what one end sends, and how many records they have served for."""

    def __init__(self, secret: bytes) -> None:
        self._secret, self._count = secret, 0
        self._cipher = AESGCM(secret)

    def next(self) -> tuple[AESGCM, bytes]:
        """The key of the next record, and its nonce. It is spent at once, whatever becomes of the record."""
        number = self._count
        self._count = number + 1
        if number and number % RENEWAL == 0:
            self._secret = _derived(self._secret, "next records")
            self._cipher = AESGCM(self._secret)
        return self._cipher, number.to_bytes(NONCE_BYTES, "little")


class Sealed:
    """A socket whose bytes travel in these records: a `Wire`. One thread may send while another receives."""

    def __init__(self, sock: socket.socket, peer: str, sent: bytes, received: bytes, arrived: bytes = b"") -> None:
        """Of two keys, one for each direction; `arrived` is what the handshake has read of the first records."""
        self._socket, self._peer = sock, peer
        self._out, self._in = Direction(sent), Direction(received)
        self._records = memoryview(bytearray(2 * RECORD_BYTES))
        self._held = 0
        """Bytes of a record that waits for the next one, to leave with it."""
        self._unsent = memoryview(b"")
        self._sending = 0
        self._space = memoryview(bytearray(max(2 * RECORD_BYTES, len(arrived))))
        self._space[: len(arrived)] = arrived
        self._low, self._high = 0, len(arrived)
        self._rest = memoryview(b"")
        """Of a record that was longer than what it was asked for."""

    def send(self, data: memoryview, flags: int = 0) -> int:
        """Send the beginning of the data, and return how much that was; with `MORE`, it may wait for what follows.

        After a `BlockingIOError` its record is half under way: the next call must be given the same data.
        """
        if not self._unsent:
            piece = data[:PIECE_BYTES]
            size = self._sending = len(piece)
            record = self._records[self._held : self._held + LENGTH.size + size + TAG_BYTES]
            LENGTH.pack_into(record, 0, size)
            cipher, nonce = self._out.next()
            cipher.encrypt_into(nonce, piece, record[: LENGTH.size], record[LENGTH.size :])
            self._held += len(record)
            if flags & MORE and self._held <= RECORD_BYTES:
                return size
            self._unsent, self._held = self._records[: self._held], 0
        while self._unsent:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        return self._sending

    def recv_into(self, target: memoryview) -> int:
        """Decrypt into the target what has come, as far as there is room."""
        while True:
            count = self._open(target)
            if count or not self._fill():
                return count

    def _fill(self) -> bool:
        """Read the rest of a record and the next one's length, or all that is there; False at the socket's end."""
        low, high = self._low, self._high
        if low == high:
            self._low = self._high = low = high = 0
        elif len(self._space) - low < RECORD_BYTES:
            self._space[: high - low] = bytes(self._space[low:high])
            self._low, self._high = low, high = 0, high - low
        end = len(self._space)
        if high - low >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._space, low)
            end = low + LENGTH.size + size + TAG_BYTES + LENGTH.size  # no part of a record that would have to be moved
        count = self._socket.recv_into(self._space[high:end])
        self._high = high + count
        return count > 0

    def _open(self, target: memoryview) -> int:
        """Whole records that have come, as many as there is room for; or the beginning of one that is too long."""
        if self._rest:
            return self._hand_out(target)
        at, room = 0, len(target)
        while self._high - self._low >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._space, self._low)
            if not 0 < size <= PIECE_BYTES:
                raise self._broken()
            end = self._low + LENGTH.size + size + TAG_BYTES
            if end > self._high:
                break
            if at + size <= room:
                self._decrypt(end, target[at : at + size])
                at += size
            elif at:
                break
            else:
                rest = memoryview(bytearray(size))
                self._decrypt(end, rest)
                self._rest = rest
                return self._hand_out(target)
        return at

    def _decrypt(self, end: int, target: memoryview) -> None:
        head = self._low + LENGTH.size
        cipher, nonce = self._in.next()
        try:
            cipher.decrypt_into(nonce, self._space[head:end], self._space[self._low : head], target)
        except InvalidTag:
            raise self._broken() from None
        self._low = end

    def _hand_out(self, target: memoryview) -> int:
        part = min(len(target), len(self._rest))
        target[:part] = self._rest[:part]
        self._rest = self._rest[part:]
        return part

    def _broken(self) -> NetworkError:
        return NetworkError(
            f"what came from {self._peer} is not what it sent: somebody, or something broken, changed it on the way"
        )
