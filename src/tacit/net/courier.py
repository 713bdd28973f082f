"""The one thread of a `Tcp`: it carries what is long, or what a peer does not take at once, says that we are alive, and
listens for bad news.

*Signs of life.* Every few seconds each link gets a small ALIVE frame. They come from this thread, so a role in a long
computation keeps sending them, while one whose process has stopped, or whose machine is gone, does not.

*Bad news.* The program's thread reads a link only when it wants something from it, a helper's almost never.
This thread looks at the front of every link that nobody is reading: an abort, a divergence or a closed connection is
put down in `trouble`, and the program's thread raises it at its next call.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Sequence

from tacit.errors import LinkDown, NetworkError
from tacit.net.framing import Kind
from tacit.net.link import Link

__all__ = ["Courier"]

TICK = 0.25
"""Seconds between looks at quiet links. Shorter notices bad news sooner, and wakes an idle process more often."""


class Courier:
    """Start with `start`, end with `stop`; the thread never raises."""

    def __init__(self, links: Sequence[Link], interval: float, sign_of_life: Callable[[Link], bytes]) -> None:
        self.trouble: Link | None = None
        """A link with bad news at its front, for the program's thread to read."""
        self.closing = False
        """Set before this role says bye: from then on, a peer may close its connection."""
        self._links, self._interval, self._sign_of_life = links, interval, sign_of_life
        self._asleep = self._stopped = False
        self._broken: set[Link] = set()
        self._ears, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        self._thread = threading.Thread(target=self._run, name="tacit-courier", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Say that something was queued. Costs a system call only if the thread is asleep."""
        if self._asleep:
            self._asleep = False
            os.write(self._bell, b"!")

    def stop(self) -> None:
        """End the thread and wait for it; what is queued stays queued."""
        if self._stopped:
            return
        self._stopped = True
        os.write(self._bell, b"!")
        self._thread.join()
        os.close(self._ears)
        os.close(self._bell)

    def _run(self) -> None:
        next_tick = next_sign = time.monotonic()
        while not self._stopped:
            self._asleep = True
            busy = [link for link in self._links if link.queued and link not in self._broken]
            self._sleep(busy, next_tick - time.monotonic())
            self._asleep = False
            for link in self._links:
                if link.queued:
                    self._guarded(link, Link.flush)
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK
                sign = now >= next_sign
                next_sign = now + self._interval if sign else next_sign
                for link in self._links:
                    self._guarded(link, self._say_alive if sign else self._listen)

    def _sleep(self, busy: list[Link], seconds: float) -> None:
        """Sleep until somebody rings, a busy link can take more, or the time is over."""
        poll = select.poll()
        poll.register(self._ears, select.POLLIN)
        for link in busy:
            poll.register(link, select.POLLOUT)
        rung = any(number == self._ears for number, _ in poll.poll(max(seconds, 0) * 1000))
        if rung:
            os.read(self._ears, 64)

    def _guarded(self, link: Link, act: Callable[[Link], object]) -> None:
        """Do something with a link; what goes wrong becomes `trouble`."""
        if link.finished or self._stopped or link in self._broken:
            return
        try:
            act(link)
        except (LinkDown, NetworkError):
            self._broken.add(link)
            self._report(link)

    def _report(self, link: Link) -> None:
        if not self.closing:
            self._broken.add(link)
            self.trouble = self.trouble or link

    def _say_alive(self, link: Link) -> None:
        """Queue a sign of life, unless other bytes are on their way and will do."""
        if not link.queued:
            link.push(Kind.ALIVE, self._sign_of_life(link), bytes(8))
            link.flush()
        self._listen(link)

    def _listen(self, link: Link) -> None:
        """Read signs of life off a link that nobody reads, and stop before anything else."""
        if not link.reading.acquire(blocking=False):
            return
        try:
            while True:
                while link.skip_alive():
                    pass
                header = link.peek()
                if header is not None and header.kind is not Kind.ALIVE:
                    if header.kind in (Kind.ABORT, Kind.DIVERGED):
                        self._report(link)
                    break
                if not link.fill():
                    break
        finally:
            link.reading.release()
        if link.hung_up:
            self._report(link)
