"""Who is at a door, and how much of it: so that one client, however hostile, leaves room for the others.

Connections are counted by network address, before anything is done for them, a handshake included; what is asked for
over them by client, which is a certificate where clients have them, and the address otherwise.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tacit.errors import Overloaded
from tacit.outside.wire import Connection
from tacit.products import ClientLimits

__all__ = ["ANONYMOUS", "Allowance", "Crowd", "Guest", "Visit", "place_of"]

T = TypeVar("T")

ANONYMOUS = "anonymous"
BURST_SECONDS = 4.0
"""A client may do in one moment what it may do in so many seconds. More: kinder to programs that ask in bursts."""
PATIENCE = 1.0
"""Seconds that a request which comes too soon is kept waiting; what would have to wait longer is refused."""
DAY = 86_400.0
REQUESTS_AN_ARRIVAL = 4
"""Requests that one connection counts for: a handshake takes a millisecond of the loop, a small request a quarter."""
TURNED_AWAY = 32
"""Connections beyond the limit that are told so. More: fewer clients that only see a closed door."""
AT_DISK = 2
"""Files that are written for one client at once. More: more speed for one, less for the others."""
KNOWN = 4096
"""Guests in memory, half a kilobyte each, before those are forgotten of whom nothing has to be remembered."""


class Allowance:
    """So much at once, and so much a second in the long run."""

    __slots__ = ("_clock", "_left", "_most", "_rate", "_then")

    def __init__(self, rate: float, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._clock = rate, most, clock
        self._left, self._then = most, clock()

    def take(self, amount: float = 1.0, patience: float = 0.0) -> float:
        """Take so much, and return after how many seconds it may be used: at most `patience`, or nothing is taken."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._then) * self._rate)
        self._then = now
        wait = max(0.0, (amount - self._left) / self._rate)
        if wait <= patience:
            self._left -= amount
        return wait

    def give_back(self, amount: float) -> None:
        """Return what was not used."""
        self._left = min(self._most, self._left + amount)

    @property
    def full(self) -> bool:
        """Whether it is as if nothing had been taken."""
        return self._left + (self._clock() - self._then) * self._rate >= self._most


class Guest:
    """What one client does at one door, over all its connections."""

    def __init__(self, limits: ClientLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.visits = 0
        self.submissions = 0
        """Those that are under way."""
        arrivals = limits.requests / REQUESTS_AN_ARRIVAL
        self.arrivals = Allowance(arrivals, max(1.0, arrivals * BURST_SECONDS), clock)
        self.requests = Allowance(limits.requests, max(1.0, limits.requests * BURST_SECONDS), clock)
        self.bytes = Allowance(limits.daily_bytes / DAY, limits.daily_bytes, clock)
        self.rows = Allowance(limits.daily_rows / DAY, limits.daily_rows, clock)
        self._at_disk = asyncio.Semaphore(AT_DISK)

    async def at_disk(self, act: Callable[..., T], *arguments: Any) -> T:
        """Do something that may wait for the disk in another thread, a little at a time for each guest."""
        async with self._at_disk:
            return await asyncio.to_thread(act, *arguments)

    async def pace(self) -> None:
        """Wait until this client may ask for something, or raise `Overloaded`."""
        wait = self.requests.take(patience=PATIENCE)
        if wait > PATIENCE:
            await asyncio.sleep(PATIENCE)  # who does not wait by itself is made to
            raise Overloaded("too many requests of one client: ask more slowly", after=wait)
        if wait:
            await asyncio.sleep(wait)

    @property
    def forgettable(self) -> bool:
        """Whether it is as if this client had never come."""
        idle = not self.visits and not self.submissions
        return idle and all(each.full for each in (self.requests, self.bytes, self.rows, self.arrivals))


@dataclass(eq=False, repr=False, slots=True)
class Visit:
    """One connection of a client, from its first packet on."""

    place: str
    """Where it comes from."""
    client: str = ANONYMOUS
    """The name of its certificate."""
    guest: Guest = field(init=False)
    leave: Callable[[], object] = field(init=False)
    """Ends it at once."""
    connection: Connection = field(init=False)
    busy: bool = True
    turned_away: bool = False
    since: float = field(default_factory=time.monotonic)
    """When it last became idle, or came."""

    @property
    def account(self) -> str:
        """What its requests are counted under."""
        return self.place if self.client == ANONYMOUS else f"client {self.client}"


class Crowd:
    """All who are at one door."""

    def __init__(self, limits: ClientLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._guests: dict[str, Guest] = {}
        self._visits: dict[str, list[Visit]] = {}
        self._turned_away = 0

    def __len__(self) -> int:
        return sum(map(len, self._visits.values()))

    def visits(self) -> list[Visit]:
        """Everybody who is there."""
        return [visit for visits in self._visits.values() for visit in visits]

    def guest(self, account: str) -> Guest:
        """The books of a client."""
        if account not in self._guests:
            if len(self._guests) >= KNOWN:
                self._guests = {key: guest for key, guest in self._guests.items() if not guest.forgettable}
            self._guests[account] = Guest(self._limits, self._clock)
        return self._guests[account]

    def enter(self, visit: Visit) -> bool:
        """Let somebody in, if need be in another's place; who has to be turned away is marked, and False is not even
        worth an answer."""
        own = len(self._visits.get(visit.place, ()))
        if self.guest(visit.place).arrivals.take():
            return False
        if len(self) >= self._limits.connections:
            greediest = max(self._visits.values(), key=len)
            if len(greediest) > own + 1:
                last = max(
                    greediest, key=lambda other: (not other.busy, -other.since if not other.busy else other.since)
                )
                self.exit(last)
                last.leave()
            elif self._turned_away < TURNED_AWAY:
                visit.turned_away = True
                self._turned_away += 1
                return True
            else:
                return False
        self._visits.setdefault(visit.place, []).append(visit)
        return True

    def exit(self, visit: Visit) -> None:
        """Forget a visit that has ended."""
        if visit.turned_away:
            visit.turned_away = False
            self._turned_away -= 1
        visits = self._visits.get(visit.place, [])
        if visit in visits:
            visits.remove(visit)
            if not visits:
                del self._visits[visit.place]


def place_of(address: Any) -> str:
    """The network address of a peer without its port; of IPv6 the part that one customer of a provider has."""
    try:
        host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    except (ValueError, IndexError, TypeError):
        return "somewhere"
    if isinstance(host, ipaddress.IPv6Address):
        if host.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(host) >> 64 << 64, 64)))
        host = host.ipv4_mapped
    return str(host)
