"""Bad news: how a role that stops tells its peers why, and how a peer finds out, so that all report the first cause."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Sequence
from typing import NamedTuple

from tacit.errors import (
    DivergenceError,
    LinkDown,
    NetworkError,
    PeerAborted,
    PeerLost,
    PeerStalled,
    TacitError,
    UnequalOpenings,
)
from tacit.net.framing import Kind, printable
from tacit.net.link import Link, Wait

__all__ = ["PARTING", "Cause", "farewell", "hang_up", "hearsay", "search", "write_out"]

PARTING = 1.0
"""Seconds that an abort may take to reach the peers; a peer that does not read by then learns it from the silence."""

HEARSAY = 0.25
"""Seconds to listen to the others when a peer has gone without a word. Longer: a role that stopped for somebody else's
reason is told apart more surely; shorter: a peer that was killed is reported sooner."""

ERRORS: dict[str, type[TacitError]] = {
    "stopped": PeerAborted,
    "lost": PeerLost,
    "stalled": PeerStalled,
    "diverged": DivergenceError,
    "unequal": UnequalOpenings,
    "network": NetworkError,
}
"""What an abort frame may say, and the error that it becomes at the other end."""


class Cause(NamedTuple):
    """Why a run ends: what happened (a key of `ERRORS`), to which role, and the sentence about it."""

    kind: str
    role: str
    text: str

    def to_bytes(self) -> bytes:
        """The payload of an abort frame."""
        return json.dumps(self._replace(text=self.text[:4000])._asdict()).encode()

    @staticmethod
    def from_bytes(payload: bytes, peer: str) -> Cause:
        """Read the payload of an abort frame; whatever is wrong with it, it remains an abort."""
        try:
            literal = json.loads(payload)
            kind, role, text = literal["kind"], literal["role"], literal["text"]
        except (ValueError, KeyError, TypeError, RecursionError):
            kind, role, text = "stopped", peer, "for a reason that cannot be read"
        if not (isinstance(kind, str) and kind in ERRORS and isinstance(role, str) and isinstance(text, str)):
            kind, role, text = "stopped", peer, "for a reason that cannot be read"
        return Cause(kind, printable(role[:80]), printable(text[:4000]))

    def error(self, here: str, reporter: str | None = None) -> TacitError:
        """The error that says so at the role `here`, which knows it from `reporter` or has seen it itself."""
        if reporter is None:
            return ERRORS[self.kind](self.text)
        if self.kind == "stopped":
            return PeerAborted(f"{self.role} stopped: {self.text}")
        if self.role == here:
            return PeerAborted(f"{reporter} stopped: {self.text}")
        return ERRORS[self.kind](f"{self.text} (reported by {reporter})")


def search(link: Link, seconds: float, kinds: tuple[Kind, ...]) -> tuple[Kind, bytes] | None:
    """Read on, past whatever else there is, to the next frame of these kinds; None if there is none in time."""
    wait = _until(time.monotonic() + seconds)
    try:
        with link.reading:
            while True:
                link.skip_payload(wait)
                header = link.next_header(wait)
                if header.kind in kinds:
                    return header.kind, link.take_payload(wait)
    except (LinkDown, NetworkError, TimeoutError):
        return None


def hearsay(links: Sequence[Link]) -> tuple[Link, bytes] | None:
    """An abort that one of these peers has sent: it may know why another has gone without a word."""
    deadline = time.monotonic() + HEARSAY
    for link in links:
        found = search(link, max(deadline - time.monotonic(), 0.01), (Kind.ABORT,))
        if found is not None:
            return link, found[1]
    return None


def _until(deadline: float) -> Wait:
    """Return a way of waiting that gives up with `TimeoutError`."""

    def wait(link: Link) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not link.readable.poll(left * 1000):
            raise TimeoutError

    return wait


def write_out(links: Sequence[Link], deadline: float) -> None:
    """Write what is queued for these peers, as far as they take it before the deadline."""
    left = list(links)
    while left and time.monotonic() < deadline:
        poll = select.poll()
        for link in tuple(left):
            try:
                done = link.flush()
            except LinkDown:
                done = True
            if done:
                left.remove(link)
            else:
                poll.register(link, select.POLLOUT)
        if left:
            poll.poll(50)


def farewell(links: Sequence[Link], cause: Cause) -> None:
    """Tell every peer why this role stops, wait a moment for that to arrive, and close."""
    deadline = time.monotonic() + PARTING
    for link in links:
        link.drop_queue()
        link.push(Kind.ABORT, cause.to_bytes(), bytes(8))
    write_out(links, deadline)
    hang_up(links, deadline)


def hang_up(links: Sequence[Link], deadline: float) -> None:
    """Close so that what was sent still arrives: first our end of each connection, then, with the peer's, the rest."""
    for link in links:
        link.half_close()
    for link in links:
        link.drain(deadline)
        link.close()
