"""TLS 1.3 on a socket, from the two halves that Python's `ssl` has: `SSLObject` for records, `MemoryBIO` for bytes.

The socket stays a plain one, so whoever waits for it, shuts it down or drains it does so as without TLS; and one lock
here keeps two threads out of OpenSSL. Protection has its price: per gigabyte and for both ends together 1.2 s of
processor time (1.27 s with `ssl.SSLSocket`), in place of 0.3 s (two cores, OpenSSL 3.0, 256-bit AES-GCM). On a
core twice as fast, 0.64 of 0.73 s are protection: 0.4 the cipher, for which OpenSSL 3.0 has no wide vectors, and
0.17 copies into and out of what OpenSSL and Python keep of it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Final, Protocol

from tacit.errors import NetworkError

__all__ = ["PIECE_BYTES", "RECORD_BYTES", "Tls", "Wire"]

RECORD_BYTES: Final = 1 << 14
"""The most that one TLS record holds, and that one call of OpenSSL returns."""

PIECE_BYTES: Final = 1 << 17
"""The most that is encrypted at once, and asked of the operating system at once. Longer saves system calls; shorter
stays in smaller caches between cipher and system call."""


class Wire(Protocol):
    """Bytes to and from a peer: a plain socket is one, and so is `Tls`. Both wait if their socket does."""

    def send(self, data: memoryview, /) -> int:
        """Send some of the data, and return how much. If nothing goes, raise `BlockingIOError`, and get it again."""

    def recv_into(self, target: memoryview, /) -> int:
        """Fill some of the target, and return how much: 0 at the end. If nothing is there, raise `BlockingIOError`."""


class Tls:
    """A socket whose bytes travel in TLS records. One thread may send while another receives."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, peer: str, *, server: bool) -> None:
        self._socket, self._peer = sock, peer
        self._arrived, self._departing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._departing, server_side=server)
        self._calls = threading.Lock()
        """OpenSSL must not be entered twice at once for one connection."""
        self._unsent = memoryview(b"")
        self._sending = 0
        self._space = memoryview(bytearray(PIECE_BYTES))

    def shake_hands(self) -> bytes | None:
        """Agree on keys over a socket that waits, and return the peer's certificate in DER; raise `OSError`."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._socket.sendall(self._departing.read())
                if not self._fill():
                    raise ConnectionResetError("the connection was closed") from None
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._socket.sendall(self._departing.read())  # an alert, by which the peer knows why
                raise
            else:
                self._socket.sendall(self._departing.read())
                return self._tls.getpeercert(binary_form=True)

    def send(self, data: memoryview) -> int:
        """Send the beginning of the data, and return how much of it that was.

        After a `BlockingIOError` its records are half under way: the next call must be given the same data.
        """
        if not self._unsent:
            piece = data[:PIECE_BYTES]
            with self._calls:
                self._sending = self._tls.write(piece)
                self._unsent = memoryview(self._departing.read())
        while self._unsent:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        return self._sending

    def recv_into(self, target: memoryview) -> int:
        """Decrypt into the target what has come, as far as there is room."""
        while True:
            count = self._decrypt(target)
            if count or not self._fill():
                return count

    def _fill(self) -> bool:
        """Read a piece off the socket; return False at its end."""
        count = self._socket.recv_into(self._space)
        self._arrived.write(self._space[:count])
        return count > 0

    def _decrypt(self, target: memoryview) -> int:
        at, size = 0, len(target)
        with self._calls:
            try:
                # a read that finds nothing raises, and costs more than one that finds a small record
                while at < size and (self._arrived.pending or self._tls.pending()):
                    count = self._tls.read(size - at, target[at:])
                    if not count:
                        break
                    at += int(count)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                if "alert" in str(error).lower():
                    raise
                raise NetworkError(
                    f"what came from {self._peer} is not what it sent: somebody, or something broken, "
                    "changed it on the way"
                ) from None
        return at
