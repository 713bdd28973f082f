"""One connection to one peer: frames in and out of a non-blocking socket.

Two threads use a link, the program's and the courier's (`courier.py`). `reading` is held while somebody is in the
middle of an incoming frame, `_sending` while something goes out, `_order` while a frame is numbered and queued. Nothing
here waits: whoever calls decides how.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tacit.errors import LinkDown
from tacit.net.framing import HEADER_BYTES, Header, Kind, pack_header, unpack_header
from tacit.net.tls import PIECE_BYTES, RECORD_BYTES, Wire

__all__ = ["Link", "Promised", "Wait", "describe"]

SMALL_BYTES = RECORD_BYTES
"""Frames up to this size travel together; a longer payload travels by itself, from its tensor and into its tensor.
Longer frames would gain nothing from company, and would be copied once more at each end."""

BUFFER_BYTES = 1 << 16
"""Room for incoming small frames that nobody has asked for yet. More would save system calls in plaintext only."""

PIECES_AT_ONCE = 4
"""Pieces that one `flush` writes. More starves whoever wants to read the same connection meanwhile."""

_NOT_NOW = (BlockingIOError, InterruptedError)

Wait = Callable[["Link"], None]
"""Block until the link may have something to read, or raise."""


@dataclass
class Promised:
    """An announcement that comes as the next frame of a link, before anybody has read it and after."""

    digest: bytes
    """What its frame says of all that was before it."""
    message: bytes | None = None


class Link:
    """Frames to and from one peer. `sent` and `received` count whole numbered frames: data, announcements, the bye."""

    def __init__(
        self,
        peer: str,
        address: str,
        sock: socket.socket,
        pair_key: bytes,
        *,
        same_script: bool,
        wire: Wire | None = None,
    ) -> None:
        self.peer, self.address, self.pair_key, self.same_script = peer, address, pair_key, same_script
        self.sent = self.received = 0
        self.received_bytes = 0
        self.heard = time.monotonic()
        """When the peer last gave a sign of life."""
        self.finished = False
        """Whether the peer has said bye: nothing more can come."""
        self.reading = threading.RLock()
        self.promised: deque[Promised] = deque()
        """Announcements that come before all else, and that nobody has read yet."""
        sock.setblocking(False)
        self._socket = sock
        self._wire: Wire = sock if wire is None else wire
        self._sending = threading.Lock()
        self._order = threading.Lock()
        self._pushed = self._written = 0
        self._frames: deque[bytes | memoryview] = deque()
        """What nobody has begun to send: small frames and headers as bytes, long payloads as views of their tensors."""
        self._writing = memoryview(b"")
        """What is being sent."""
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._low = self._high = 0
        self._torn = False
        """Whether somebody is writing, or was when an error or a Ctrl-C hit, so that nobody knows what is gone."""
        self._why = "a write was interrupted"
        """What was the matter, if `_torn` stays."""
        self._rest = 0
        """Payload bytes of the current incoming frame that nobody has read yet."""
        self.readable = select.poll()
        self.readable.register(sock, select.POLLIN)

    def fileno(self) -> int:
        """The socket's number, for `select.poll`."""
        return self._socket.fileno()

    # --- sending ---------------------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Bytes that wait for the socket to take them."""
        return self._pushed - self._written

    def push(self, kind: Kind, payload: bytes | memoryview, digest: bytes) -> None:
        """Queue a frame; a long payload is not copied and must stay as it is until `queued` is zero."""
        size = len(payload)
        numbered = kind in _NUMBERED
        with self._order:
            header = pack_header(kind, self.sent if numbered else 0, size, digest)
            if size <= SMALL_BYTES:
                self._frames.append(header + payload)
            else:
                self._frames += (header, memoryview(payload))
            self._pushed += HEADER_BYTES + size
            self.sent += numbered

    def flush(self) -> bool:
        """Give the socket what it takes, up to a limit that lets others have their turn; return whether all is gone.

        After a write that was interrupted nothing more goes out: what is gone might go twice, in the middle of a frame.
        """
        with self._sending:
            if self._torn:
                raise LinkDown(self, self.peer, f"cannot be reached any more ({self._why})")
            self._torn = True
            try:
                for _ in range(PIECES_AT_ONCE):
                    if not self._writing:
                        if not self._frames:
                            break
                        self._writing = self._gather()
                    done = self._wire.send(self._writing)
                    self._written += done
                    self._writing = self._writing[done:]
            except _NOT_NOW:
                self._torn = False
                return False
            except (OSError, ValueError) as error:
                self._why = describe(error)
                raise self._down(error) from None
            self._torn = False
        return not self.queued

    def _gather(self) -> memoryview:
        """Take what to send next off the queue: a long payload, or as many small frames as may travel together."""
        frames = self._frames
        first = frames.popleft()
        if isinstance(first, memoryview):
            return first
        joined, size = [first], len(first)
        while frames and isinstance(frames[0], bytes) and size + len(frames[0]) <= SMALL_BYTES:
            frame = frames.popleft()
            assert isinstance(frame, bytes)
            joined.append(frame)
            size += len(frame)
        return memoryview(first if len(joined) == 1 else b"".join(joined))

    def drop_queue(self) -> None:
        """Forget frames that have not begun to travel: the run is over, and bad news should not stand behind them.

        If a Ctrl-C has hit the middle of a write, nobody knows what is gone, so nothing more can be said on this link.
        """
        with self._sending, self._order:
            begun = self._frames and isinstance(self._frames[0], memoryview)
            rest = [self._frames[0]] if begun else []
            self._frames.clear()
            self._frames += rest
            if self._torn:
                self._frames.clear()
                self._writing = self._writing[:0]
                self.half_close()
            self._pushed = self._written + len(self._writing) + sum(map(len, self._frames))

    def _down(self, error: BaseException | None = None) -> LinkDown:
        """The connection has ended, by the peer or by an error."""
        why = "closed its connection" if error is None else f"cannot be reached any more ({describe(error)})"
        return LinkDown(self, self.peer, why)

    # --- receiving -------------------------------------------------------------------------------------------------

    def fill(self) -> bool:
        """Read into the buffer what is there, at most one record; return whether there was something.

        Whoever calls holds `reading`. A connection that has ended raises `LinkDown`.
        """
        if self._low == self._high:
            self._low = self._high = 0
        elif BUFFER_BYTES - self._high < SMALL_BYTES + HEADER_BYTES:
            size = self._high - self._low
            self._buffer[:size] = bytes(self._buffer[self._low : self._high])
            self._low, self._high = 0, size
        count = self._read(self._buffer[self._high : self._high + RECORD_BYTES])
        self._high += count
        return count > 0

    def _read(self, view: memoryview) -> int:
        """Read some bytes, or none if there are none yet."""
        try:
            count = self._wire.recv_into(view)
        except _NOT_NOW:
            return 0
        except (OSError, ValueError) as error:
            raise self._down(error) from None
        if count == 0:
            raise self._down()
        self.heard = time.monotonic()
        self.received_bytes += count
        return count

    def peek(self) -> Header | None:
        """The header of the next frame, left in the buffer, if that frame's beginning has come."""
        if self._rest or self._high - self._low < HEADER_BYTES:
            return None
        return unpack_header(self._buffer, self._low, self.peer)

    def skip_alive(self) -> bool:
        """Take a sign of life off the front of the buffer, if there is a whole one."""
        header = self.peek()
        if header is None or header.kind is not Kind.ALIVE:
            return False
        size = HEADER_BYTES + header.length
        if self._high - self._low < size:
            return False
        self._low += size
        return True

    def take(self, header: bytes, length: int) -> bool:
        """Take the next frame's header if it has come and is exactly this one: the short way for what goes well."""
        if self._high - self._low < HEADER_BYTES and not self.fill():
            return False
        end = self._low + HEADER_BYTES
        if self._high < end or self._buffer[self._low : end] != header:
            return False
        self._low, self._rest = end, length
        return True

    def next_header(self, wait: Wait) -> Header:
        """Wait for the next frame's header and take it."""
        while self._high - self._low < HEADER_BYTES:
            if not self.fill():
                wait(self)
        header = unpack_header(self._buffer, self._low, self.peer)
        self._low += HEADER_BYTES
        self._rest = header.length
        return header

    def read_payload(self, target: memoryview, wait: Wait) -> None:
        """Fill the target with the payload of the frame whose header was taken: the whole of it, or its next part."""
        at, size = 0, len(target)
        while at < size:
            part = self._read_part(target[at:] if at else target)
            if not part:
                wait(self)
            at += part

    def _read_part(self, target: memoryview) -> int:
        """Read the next part of the current frame's payload, or nothing if nothing has come."""
        part = min(len(target), self._high - self._low)
        if part:
            target[:part] = self._buffer[self._low : self._low + part]
            self._low += part
        elif self._rest > SMALL_BYTES:
            part = self._read(target)
        elif self.fill():
            return self._read_part(target)
        self._rest -= part
        return part

    def take_payload(self, wait: Wait) -> bytes:
        """Return the payload of the frame whose header was taken; `unpack_header` has bounded its size."""
        payload = bytearray(self._rest)
        self.read_payload(memoryview(payload), wait)
        return bytes(payload)

    def skip_payload(self, wait: Wait) -> None:
        """Read the rest of the current frame and forget it."""
        waste = memoryview(bytearray(min(self._rest, PIECE_BYTES)))
        while self._rest:
            if not self._read_part(waste[: self._rest]):
                wait(self)

    # --- the end ---------------------------------------------------------------------------------------------------

    @property
    def hung_up(self) -> bool:
        """Whether the peer has closed its end, even if unread frames stand before that, or this end is closed."""
        place = self._socket.fileno()
        if place < 0:
            return True
        poll = select.poll()
        poll.register(place, select.POLLRDHUP)
        return bool(poll.poll(0))

    def half_close(self) -> None:
        """Say that nothing more follows, so that the peer reads to the end before it sees the connection close."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def drain(self, deadline: float) -> None:
        """Read until the peer closes, and close: closing a socket with unread bytes would destroy sent ones.

        A peer that takes nothing until the deadline gets a reset, which it notices without reading what comes before.
        """
        if self._socket.fileno() < 0:
            return
        with socket.socket(fileno=self._socket.detach()) as raw, contextlib.suppress(OSError):
            raw.settimeout(max(deadline - time.monotonic(), 0.001))
            with contextlib.suppress(TimeoutError):
                while raw.recv(1 << 20):
                    raw.settimeout(max(deadline - time.monotonic(), 0.001))
                return
            if _unsent(raw):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    @property
    def sent_bytes(self) -> int:
        """Bytes pushed so far, framing included."""
        return self._pushed

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


_NUMBERED = frozenset((Kind.DATA, Kind.ANNOUNCE, Kind.BYE))


def _unsent(raw: socket.socket) -> bool:
    """Whether the operating system still holds bytes that the peer has not taken."""
    import fcntl
    import termios

    return bool(int.from_bytes(fcntl.ioctl(raw, termios.TIOCOUTQ, bytes(4)), sys.byteorder))


def describe(error: BaseException) -> str:
    """An operating system's error in its own words, without numbers and class names."""
    if isinstance(error, ssl.SSLEOFError) or (isinstance(error, ConnectionError) and not error.strerror):
        return "the connection has ended"
    return (error.strerror or str(error) or type(error).__name__) if isinstance(error, OSError) else str(error)
