"""TLS 1.3 on a socket, by the OpenSSL that `cryptography` brings: pyOpenSSL's connection between two memory BIOs.

The socket stays a plain one, so whoever waits for it, shuts it down or drains it does so as without TLS; and one lock
here keeps two threads out of OpenSSL.

*Whose OpenSSL.* Protection costs 0.34 s of processor time a gigabyte, for both ends together, beside 0.37 s of plain
TCP over loopback (two cores with AVX-512, 256-bit AES-GCM). By Python's `ssl` it was 0.69 s: the OpenSSL 3.0 of many a
Python encrypts in vectors of 128 bits, OpenSSL 4.0 of 512, and `ssl` copies what leaves into new bytes. A small message
there and back takes 4 µs more than by `ssl`, for calls through cffi, of 29 µs that both ends take.

*Whose calls.* Context, handshake and certificates are pyOpenSSL's. Records go by the functions that its methods call,
through the same bindings, from the tensor and into the tensor: `Connection.recv_into` and `bio_read` allocate, and copy
twice what they return, which costs 0.15 s a gigabyte more, and 2 µs for each small message.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from tacit.errors import NetworkError

if TYPE_CHECKING:
    from OpenSSL import SSL

__all__ = ["PIECE_BYTES", "RECORD_BYTES", "Tls", "Wire", "as_ssl_error"]

RECORD_BYTES: Final = 1 << 14
"""The most that one TLS record holds, and that one call of OpenSSL returns."""

PIECE_BYTES: Final = 1 << 17
"""The most that is encrypted at once, and asked of the operating system at once. Longer saves system calls; shorter
stays in smaller caches between cipher and system call."""

_PROTECTED_BYTES = PIECE_BYTES + PIECE_BYTES // RECORD_BYTES * 64
"""Room for the records of a piece, each with a header, a tag and its type, 22 bytes; and for an answer of OpenSSL's."""


class Wire(Protocol):
    """Bytes to and from a peer: a plain socket is one, and so is `Tls`. Both wait if their socket does."""

    def send(self, data: memoryview, /) -> int:
        """Send some of the data, and return how much. If nothing goes, raise `BlockingIOError`, and get it again."""

    def recv_into(self, target: memoryview, /) -> int:
        """Fill some of the target, and return how much: 0 at the end. If nothing is there, raise `BlockingIOError`."""


class Tls:
    """A socket whose bytes travel in TLS records. One thread may send while another receives.

    Errors are those of `ssl`, so that nobody else need know whose OpenSSL this is.
    """

    def __init__(self, sock: socket.socket, context: SSL.Context, peer: str, *, server: bool) -> None:
        from cryptography.hazmat.bindings.openssl.binding import Binding  # late: who has no peers needs neither
        from OpenSSL import SSL

        self._socket, self._peer = sock, peer
        self._connection = connection = SSL.Connection(context, None)
        if server:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
        self._lib: Any = Binding.lib
        self._ffi: Any = Binding.ffi
        self._borrow = Binding.ffi.from_buffer
        """Always with `with`: Python 3.11 crashes when it finds a view and who borrows it in one heap of garbage."""
        # what pyOpenSSL's methods hand to the same functions; they live as long as the connection
        self._tls, self._arrived, self._departing = connection._ssl, connection._into_ssl, connection._from_ssl
        self._calls = threading.Lock()
        """OpenSSL must not be entered twice at once for one connection."""
        protected, space = bytearray(_PROTECTED_BYTES), bytearray(PIECE_BYTES)
        self._protected, self._space = memoryview(protected), memoryview(space)
        self._protected_place, self._space_place = map(self._ffi.from_buffer, (protected, space))
        self._unsent = self._protected[:0]
        self._more = False
        """Whether OpenSSL may have more to send than `_unsent`."""
        self._sending = 0
        self._readable = False
        """Whether OpenSSL may have something that came and that nobody has decrypted."""
        self._over = False
        """Whether the peer has said goodbye: what comes after that is nothing, and is not read."""

    def shake_hands(self) -> bytes | None:
        """Agree on keys over a socket that waits, and return the peer's certificate in DER; raise `OSError`."""
        from OpenSSL import SSL, crypto

        while True:
            try:
                self._lib.ERR_clear_error()
                self._connection.do_handshake()
            except SSL.WantReadError:
                self._answer()
                arrived = self._socket.recv_into(self._space)
                if not arrived:
                    raise ConnectionResetError("the connection was closed") from None
                self._put(arrived)
                self._readable = True
            except SSL.Error as error:
                with contextlib.suppress(OSError):
                    self._answer()  # an alert, by which the peer knows why
                raise as_ssl_error(error) from None
            else:
                self._answer()
                certificate = self._connection.get_peer_certificate()
                if certificate is None:
                    return None
                return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)

    def _answer(self) -> None:
        """Send what OpenSSL has to say in the handshake."""
        self._collect()
        while self._unsent:
            self._socket.sendall(self._unsent)
            self._collect()

    def send(self, data: memoryview) -> int:
        """Send the beginning of the data, and return how much of it that was.

        After a `BlockingIOError` its records are half under way: the next call must be given the same data.
        """
        if not (self._unsent or self._more):
            piece = data[:PIECE_BYTES]
            with self._calls, self._borrow(piece) as place:
                self._sending = self._lib.SSL_write(self._tls, place, len(piece))
                if self._sending != len(piece):
                    raise _ssl_error(self._reason())
                self._collect()
        while True:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            if not self._more:
                return self._sending
            with self._calls:
                self._collect()

    def _collect(self) -> None:
        """Take what OpenSSL wants to have sent."""
        count = self._lib.BIO_read(self._departing, self._protected_place, _PROTECTED_BYTES)
        self._unsent = self._protected[: max(count, 0)]
        self._more = count == _PROTECTED_BYTES

    def recv_into(self, target: memoryview) -> int:
        """Decrypt into the target what has come, as far as there is room; 0 after the peer's goodbye, too."""
        if self._readable and (count := self._decrypt(0, target)):
            return count
        while not self._over and (arrived := self._socket.recv_into(self._space)):
            if count := self._decrypt(arrived, target):
                return count
        return 0

    def _decrypt(self, arrived: int, target: memoryview) -> int:
        """Give OpenSSL so many bytes of `_space`, and take what it makes of all that it has."""
        at, size, read, tls = 0, len(target), self._lib.SSL_read, self._tls
        with self._calls, self._borrow(target, require_writable=True) as place:
            if arrived:
                self._put(arrived)
            self._readable = True
            while at < size:
                count = read(tls, place + at, min(size - at, RECORD_BYTES))
                if count <= 0:
                    self._readable = False
                    self._check(count)
                    break
                at += count
        return at

    def _put(self, arrived: int) -> None:
        if self._lib.BIO_write(self._arrived, self._space_place, arrived) != arrived:
            raise MemoryError("there is no memory for what has come")

    def _check(self, count: int) -> None:
        """Raise unless OpenSSL has read all that came: what it says must be asked at once, and by the same thread.

        Its errors are the thread's, so there may be one that somebody else has left; of an error of this connection
        the answer stays another than that more is to be read.
        """
        lib = self._lib
        fine = lib.SSL_ERROR_WANT_READ, lib.SSL_ERROR_ZERO_RETURN
        found, reason = lib.SSL_get_error(self._tls, count), ""
        if found not in fine:
            reason = self._reason()
            found = lib.SSL_get_error(self._tls, count)
        if found in fine:
            self._over = found == lib.SSL_ERROR_ZERO_RETURN
            return
        if "alert" in reason:
            raise _ssl_error(reason)
        raise NetworkError(
            f"what came from {self._peer} is not what it sent: somebody, or something broken, changed it on the way"
        )

    def _reason(self) -> str:
        """Why the last call of OpenSSL failed, in its words."""
        reason = ""
        while number := self._lib.ERR_get_error():
            text = self._lib.ERR_reason_error_string(number)
            reason = self._ffi.string(text).decode() if text else ""
        return reason


def as_ssl_error(error: SSL.Error) -> ssl.SSLError:
    """An error of pyOpenSSL as one of `ssl`."""
    from OpenSSL import SSL

    if isinstance(error, SSL.ZeroReturnError):
        return ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "the connection was closed")
    if isinstance(error, SSL.SysCallError):
        return ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the connection was closed")
    reasons = [reason for _, _, reason in error.args[0]] if error.args else []
    return _ssl_error(reasons[-1] if reasons else "")


def _ssl_error(reason: str) -> ssl.SSLError:
    kind = ssl.SSLCertVerificationError if reason == "certificate verify failed" else ssl.SSLError
    error = kind(ssl.SSL_ERROR_SSL, reason or "no reason given")
    error.reason = reason.upper().replace(" ", "_")
    return error
