"""The connection between a client and a server: messages of a small JSON head and, after some, raw bytes.

::

    head length (4, little-endian) │ head, a JSON object │ body, whose length both ends know from the head

Nothing on it can be executed, no length is trusted, and every wait is bounded. A server that says no answers
{"refused": kind, "why": text, "after": seconds}, which becomes the same typed error at the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any

from tacit.errors import NetworkError, Overloaded, PeerLost, PeerStalled, Refused, TacitError, Unanswered

__all__ = ["BUFFER_BYTES", "HEAD_BYTES", "PROTOCOL", "REFUSALS", "Connection", "head_of", "refusal"]

PROTOCOL = 2
"""Version of what client and server say to each other."""

HEAD_BYTES = 1 << 18
BUFFER_BYTES = 1 << 20
"""Bytes that one connection buffers in each direction: more moves large shares with fewer wake-ups of the loop."""

REFUSALS = {"refused": Refused, "overloaded": Overloaded, "unanswered": Unanswered}


class Connection:
    """One end of a connection; `peer` is what errors call the other end, `timeout` bounds each wait in seconds.

    A body that comes at fewer bytes a second than `slowest`, beyond one timeout, is given up, whatever its pieces do.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
        timeout: float,
        slowest: float = math.inf,
    ) -> None:
        self._reader, self._writer = reader, writer
        self.peer, self.timeout, self._slowest = peer, timeout, slowest
        self.greeting: dict[str, Any] = {}
        """What a server said first, at the client's end."""
        writer.transport.set_write_buffer_limits(high=BUFFER_BYTES)

    @property
    def fresh(self) -> bool:
        """Whether the other end has not hung up, as far as is known here."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def send(self, **head: Any) -> None:
        """Send a head."""
        text = json.dumps(head).encode()
        await self.send_body([memoryview(len(text).to_bytes(4, "little") + text)])

    async def send_body(self, pieces: Iterable[memoryview]) -> None:
        """Send the pieces of a body."""
        with self._blaming():
            for piece in pieces:
                self._writer.write(piece)
                await asyncio.wait_for(self._writer.drain(), self.timeout)

    async def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """The next head; a refusal is raised as the error that it stands for."""
        with self._blaming():
            size = int.from_bytes(await self._exactly(4, timeout), "little")
            if size > HEAD_BYTES:
                raise NetworkError(f"{self.peer} sent something that is not a message of Tacit")
            text = await self._exactly(size)
        return head_of(text, self.peer)

    async def body(self, count: int) -> AsyncGenerator[bytes, None]:
        """The next `count` bytes, in pieces as they come."""
        deadline = time.monotonic() + self.time_for(count)
        while count:
            with self._blaming():
                patience = min(self.timeout, deadline - time.monotonic())
                piece = await asyncio.wait_for(self._reader.read(min(count, BUFFER_BYTES)), patience)
                if not piece:
                    raise EOFError
            count -= len(piece)
            yield piece

    async def whole(self, count: int) -> bytes:
        """The next `count` bytes at once, for bodies whose size is bounded."""
        with self._blaming():
            return await self._exactly(count, self.time_for(count))

    def time_for(self, count: int) -> float:
        """Seconds within which so many bytes must come."""
        return self.timeout + count / self._slowest

    async def ended(self) -> None:
        """Return when the other end hangs up, or says anything at all."""
        with contextlib.suppress(OSError):
            await self._reader.read(1)

    async def close(self) -> None:
        """Close the connection; never raises."""
        self._writer.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._writer.wait_closed(), 1.0)

    def drop(self) -> None:
        """Close the connection without waiting for anything."""
        self._writer.transport.abort()

    async def _exactly(self, count: int, timeout: float | None = None) -> bytes:
        return await asyncio.wait_for(self._reader.readexactly(count), timeout or self.timeout)

    @contextlib.contextmanager
    def _blaming(self) -> Iterator[None]:
        """Translate what asyncio raises."""
        try:
            yield
        except TimeoutError:
            raise PeerStalled(f"{self.peer} has not answered within {self.timeout:g} s") from None
        except (OSError, EOFError):
            raise PeerLost(f"{self.peer} closed the connection") from None


def head_of(text: bytes, peer: str) -> dict[str, Any]:
    """The head that a peer has sent; a refusal is raised as the error that it stands for."""
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise NetworkError(f"{peer} sent something that is not a message of Tacit")
    if "refused" in head:
        raise REFUSALS.get(str(head["refused"]), Refused)(
            f"{peer}: {_printable(head.get('why'))}", _seconds(head.get("after"))
        )
    return head


def refusal(error: TacitError) -> dict[str, Any]:
    """The head by which a server says no. Messages of Tacit's errors hold no secrets."""
    kind = next((name for name, cls in REFUSALS.items() if type(error) is cls), "refused")
    after = error.after if isinstance(error, Refused) else None
    return {"refused": kind, "why": str(error)} | ({} if after is None else {"after": round(after, 3)})


def _seconds(after: object) -> float | None:
    """When a server says that one may ask again, if it says a time at all."""
    return float(after) if isinstance(after, int | float) and 0 <= after <= 1e9 else None


def _printable(text: object) -> str:
    """What a server says, cut and cleaned for a terminal."""
    return "".join(c for c in str(text)[:500] if c.isprintable())
