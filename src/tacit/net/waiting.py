"""How the program's thread waits: it looks, it sleeps, and whatever else can move meanwhile moves."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence

from tacit.net.courier import Courier
from tacit.net.link import Link
from tacit.net.verdict import Verdict

__all__ = ["Waiting"]

SLICE_MS = 250
"""Milliseconds of waiting after which the program's thread looks whether waiting still makes sense."""


class Waiting:
    """Waits for peers, not longer than it makes sense. Looks for `spin` seconds before it sleeps."""

    def __init__(
        self, links: Sequence[Link], courier: Courier, verdict: Verdict, *, spin: float, timeout: float
    ) -> None:
        self.now: tuple[Link, int] | None = None
        """For whom the program's thread waits, and after how many frames of it."""
        self._all, self._courier, self._verdict = links, courier, verdict
        self._spin, self._timeout = spin, timeout

    def for_frame(self, link: Link) -> None:
        """Return when the link may be readable; meanwhile write what is queued."""
        for other in self._all:
            if other.queued:
                self._wait_writing(link)
                return
        poll, now, stop = link.readable.poll, time.perf_counter, 0.0
        while not poll(0):
            stop = stop or now() + self._spin
            if now() > stop:
                break
        else:
            return
        if not poll(SLICE_MS):
            self._wait_long(link)

    def _wait_long(self, link: Link) -> None:
        since = time.monotonic() - SLICE_MS / 1000
        self.now = link, link.received
        try:
            while True:
                self._check(link, since)
                if link.readable.poll(SLICE_MS):
                    return
        finally:
            self.now = None

    def _wait_writing(self, link: Link) -> None:
        since = time.monotonic()
        self.now = link, link.received
        try:
            while any(other.queued for other in self._all):
                poll = select.poll()
                for other in self._all:
                    if other.queued:
                        poll.register(other, select.POLLOUT | (select.POLLIN if other is link else 0))
                    elif other is link:
                        poll.register(other, select.POLLIN)
                events = dict(poll.poll(SLICE_MS))
                if not events:
                    self._check(link, since)
                for other in self._all:
                    if events.get(other.fileno(), 0) & ~select.POLLIN:
                        other.flush()
                if events.get(link.fileno(), 0) & ~select.POLLOUT:
                    return
        finally:
            self.now = None

    def until_written(self, link: Link, limit: int) -> None:
        """Write until at most `limit` bytes are queued for this peer."""
        since = time.monotonic()
        poll = select.poll()
        poll.register(link, select.POLLOUT)
        while link.queued > limit and not link.flush():
            before = link.queued
            poll.poll(SLICE_MS)
            if link.queued >= before:
                self._check(link, since)

    def _check(self, link: Link, since: float) -> None:
        """Raise if there is bad news from anybody, or nothing at all from this peer for too long."""
        if self._courier.trouble is not None:
            raise self._verdict.last_words(self._courier.trouble)
        if time.monotonic() - max(link.heard, since) > self._timeout:
            text = f"{link.peer} ({link.address}) has given no sign of life for {self._timeout:g} s"
            raise self._verdict.blame("stalled", link.peer, f"{text}, {self._verdict.place()}")
