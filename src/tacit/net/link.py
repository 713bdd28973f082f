"""One connection to one peer: frames in and out of a non-blocking socket.

Two threads use a link, the program's and the courier's (`courier.py`). `reading` is held while somebody is in the
middle of an incoming frame; `_calls` for single calls into the socket, because TLS must not be entered twice at once;
`_order` while a frame is numbered and queued. Nothing here waits: whoever calls decides how.
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

from tacit.net.framing import HEADER_BYTES, Header, Kind, pack_header, unpack_header

__all__ = ["Link", "LinkDown", "Wait", "describe"]

RECORD_BYTES = 1 << 14
"""What one TLS record holds. Small frames are joined up to this size; larger reads go straight to their tensor."""

BUFFER_BYTES = 1 << 16
"""Room for incoming frames that nobody has asked for yet. More saves nothing: a read returns one record at most."""

RECORDS_AT_ONCE = 64
"""Records of 16 KiB that one `flush` writes. More starves whoever wants to read the same connection meanwhile."""

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, InterruptedError)

Wait = Callable[["Link"], None]
"""Block until the link may have something to read, or raise."""


class LinkDown(Exception):
    """A connection has ended. `Tcp` turns this into an error that says what it means for the run."""

    def __init__(self, link: Link, error: BaseException | None) -> None:
        self.link = link
        self.why = "closed its connection" if error is None else f"cannot be reached any more ({describe(error)})"
        super().__init__(f"{link.peer} {self.why}")


class Link:
    """Frames to and from one peer. `sent` and `received` count whole numbered frames: data, announcements, the bye."""

    def __init__(self, peer: str, address: str, sock: socket.socket, pair_key: bytes, *, same_script: bool) -> None:
        self.peer, self.address, self.pair_key, self.same_script = peer, address, pair_key, same_script
        self.sent = self.received = 0
        self.received_bytes = 0
        self.heard = time.monotonic()
        """When the peer last gave a sign of life."""
        self.finished = False
        """Whether the peer has said bye: nothing more can come."""
        self.reading = threading.RLock()
        sock.setblocking(False)
        self._socket = sock
        self._calls = threading.Lock()
        self._order = threading.Lock()
        self._pushed = self._written = 0
        self._frames: deque[bytes | tuple[bytes, memoryview]] = deque()
        self._writing: deque[memoryview] = deque()
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._low = self._high = 0
        self._torn = False
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
        """Queue a frame; a large payload is not copied and must stay as it is until `queued` is zero."""
        size = len(payload)
        numbered = kind in _NUMBERED
        with self._order:
            header = pack_header(kind, self.sent if numbered else 0, size, digest)
            self._frames.append(header + payload if size <= RECORD_BYTES else (header, memoryview(payload)))
            self._pushed += HEADER_BYTES + size
            self.sent += numbered

    def flush(self) -> bool:
        """Give the socket what it takes, up to a limit that lets others have their turn; return whether all is gone."""
        try:
            for _ in range(RECORDS_AT_ONCE):
                with self._calls:
                    if not (self._writing or self._frames):
                        return True
                    self._torn = True
                    if not self._writing:
                        self._gather()
                    segment = self._writing[0]
                    done = self._socket.send(segment)
                    self._written += done
                    if done == len(segment):
                        self._writing.popleft()
                    else:
                        self._writing[0] = segment[done:]
                    self._torn = False
        except _NOT_NOW:
            self._torn = False
            return False
        except (OSError, ValueError) as error:
            raise LinkDown(self, error) from None
        return not self.queued

    def _gather(self) -> None:
        """Turn queued frames into what to write next: small ones joined, a large one as its head and its rest."""
        joined: list[bytes | memoryview] = []
        rest, size = None, 0
        while self._frames and rest is None:
            frame = self._frames[0]
            if isinstance(frame, tuple):
                split = max(RECORD_BYTES - size - HEADER_BYTES, 0)
                joined += (frame[0], frame[1][:split])
                rest = frame[1][split:]
            elif joined and size + len(frame) > RECORD_BYTES:
                break
            else:
                joined.append(frame)
                size += len(frame)
            self._frames.popleft()
        self._writing.append(memoryview(b"".join(joined) if len(joined) > 1 else joined[0]))
        if rest is not None:
            self._writing.append(rest)

    def drop_queue(self) -> None:
        """Forget frames that have not begun to travel: the run is over, and bad news should not stand behind them.

        If a Ctrl-C has hit the middle of a write, nobody knows what is gone, so nothing more can be said on this link.
        """
        with self._calls, self._order:
            self._frames.clear()
            if self._torn:
                self._writing.clear()
                self.half_close()
            self._pushed = self._written + sum(map(len, self._writing))

    # --- receiving -------------------------------------------------------------------------------------------------

    def fill(self) -> bool:
        """Read into the buffer what is there, at most one record; return whether there was something.

        Whoever calls holds `reading`. A connection that has ended raises `LinkDown`.
        """
        if self._low == self._high:
            self._low = self._high = 0
        elif BUFFER_BYTES - self._high < RECORD_BYTES:
            size = self._high - self._low
            self._buffer[:size] = bytes(self._buffer[self._low : self._high])
            self._low, self._high = 0, size
            if BUFFER_BYTES - size < RECORD_BYTES:
                return False
        count = self._read(self._buffer[self._high :])
        self._high += count
        return count > 0

    def _read(self, view: memoryview) -> int:
        """Read some bytes, or none if there are none yet."""
        with self._calls:
            try:
                count = self._socket.recv_into(view)
            except _NOT_NOW:
                return 0
            except (OSError, ValueError) as error:
                raise LinkDown(self, error) from None
        if count == 0:
            raise LinkDown(self, None)
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

    def next_header(self, wait: Wait) -> Header:
        """Wait for the next frame's header and take it."""
        while self._high - self._low < HEADER_BYTES:
            wait(self)
            self.fill()
        header = unpack_header(self._buffer, self._low, self.peer)
        self._low += HEADER_BYTES
        self._rest = header.length
        return header

    def read_payload(self, target: memoryview, wait: Wait) -> None:
        """Fill the target with the payload of the frame whose header was taken: the whole of it, or its next part."""
        at, size = 0, len(target)
        while at < size:
            part = min(size - at, self._high - self._low)
            if part:
                target[at : at + part] = self._buffer[self._low : self._low + part]
                self._low += part
            elif size - at >= RECORD_BYTES:
                part = self._read(target[at:])
                if not part:
                    wait(self)
            elif not self.fill():
                wait(self)
            at += part
            self._rest -= part

    def take_payload(self, wait: Wait) -> bytes:
        """Return the payload of the frame whose header was taken; `unpack_header` has bounded its size."""
        payload = bytearray(self._rest)
        self.read_payload(memoryview(payload), wait)
        return bytes(payload)

    def skip_payload(self, wait: Wait) -> None:
        """Read the rest of the current frame and forget it."""
        waste = memoryview(bytearray(min(self._rest, BUFFER_BYTES)))
        while self._rest:
            self.read_payload(waste[: self._rest], wait)

    # --- the end ---------------------------------------------------------------------------------------------------

    @property
    def hung_up(self) -> bool:
        """Whether the peer has closed its end, even if unread frames stand before that."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
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
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
