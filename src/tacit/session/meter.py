"""Rounds and bytes. Every role runs the same program, so every role can count what all of them send."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tacit.session.roles import Helper

__all__ = ["Cost", "Meter", "readable"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a piece of program cost: online rounds, payload bytes sent by each role, seconds at this role."""

    rounds: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes by role, framing excluded: of a party to its peers, of a helper to all parties together."""
    helpers: tuple[Helper, ...] = ()
    """Which of the roles help; the others are the computing parties."""
    seconds: float = 0.0
    prepared: dict[str, int] = field(default_factory=dict)
    """Bytes by role that depend on no input, so that they may be sent ahead of the run. None of them is in `sent`."""
    ahead_seconds: float = 0.0
    """Of the seconds, those in which the parties made what these bytes are for, waiting for peers included."""

    @property
    def online(self) -> dict[str, int]:
        """Bytes each computing party sent to its peers."""
        helping = [helper.name for helper in self.helpers]
        return {role: count for role, count in self.sent.items() if role not in helping}

    @property
    def helped(self) -> dict[str, int]:
        """Bytes each helper sent to all parties together, by the short name that it has in tables."""
        return {helper.short: self.sent.get(helper.name, 0) for helper in self.helpers}

    @property
    def producer(self) -> int:
        """Bytes the helpers sent: of the crypto-producer, correlated randomness and nothing else."""
        return sum(self.helped.values())

    def __sub__(self, earlier: Cost) -> Cost:
        sent, prepared = _less(self.sent, earlier.sent), _less(self.prepared, earlier.prepared)
        seconds, ahead = self.seconds - earlier.seconds, self.ahead_seconds - earlier.ahead_seconds
        return Cost(self.rounds - earlier.rounds, sent, self.helpers, seconds, prepared, ahead)

    def __add__(self, other: Cost) -> Cost:
        sent, prepared = _more(self.sent, other.sent), _more(self.prepared, other.prepared)
        helpers = tuple(dict.fromkeys([*self.helpers, *other.helpers]))
        seconds, ahead = self.seconds + other.seconds, self.ahead_seconds + other.ahead_seconds
        return Cost(self.rounds + other.rounds, sent, helpers, seconds, prepared, ahead)

    def __str__(self) -> str:
        sent = [f"{role} sent {readable(count)}" for role, count in (*self.online.items(), *self.helped.items())]
        prepared = [f"{role} prepared {readable(count)}" for role, count in self.prepared.items() if count]
        ahead = [f"{self.ahead_seconds:.3g} s of them to prepare"] if self.ahead_seconds else []
        return ", ".join([f"{self.rounds} rounds", *sent, *prepared, f"{self.seconds:.3g} s", *ahead])


class Meter:
    """Counts what a session does. `cost` is the total so far; subtract two of them for a part."""

    __slots__ = ("_ahead", "_ahead_seconds", "_giving", "_helped", "_helpers", "_online", "_rounds", "_start")

    def __init__(self, parties: Sequence[str], helpers: Sequence[Helper] = ()) -> None:
        self._rounds = 0
        self._giving = False
        self._online = dict.fromkeys(parties, 0)
        self._ahead: dict[str, int] = {}
        self._ahead_seconds = 0.0
        self._helpers = tuple(helpers)
        self._helped = {helper.name: 0 for helper in helpers}
        self._start = time.perf_counter()

    def round(self, sent: dict[str, int]) -> None:
        """Count one round in which each party sends this many bytes, to all its peers together."""
        self._rounds += 1
        self._giving = False
        for role, count in sent.items():
            self._online[role] += count

    def opening(self, count: int) -> None:
        """Count one round in which every party sends `count` bytes to every other party."""
        self.openings(1, count)

    def openings(self, rounds: int, count: int) -> None:
        """Count so many of those rounds, and their bytes together."""
        self._rounds += rounds
        self._giving = False
        for role in self._online:
            self._online[role] += count * (len(self._online) - 1)

    def given(self, owner: str, count: int, *, beside: bool = False) -> None:
        """Count bytes that an owner sends when it shares something, to all its peers together.

        None of it waits for an answer, so all that is given in a row is one round; and none, `beside` an opening.
        """
        if count and not beside:
            self._rounds += not self._giving
            self._giving = True
        self._online[owner] += count

    def ahead(self, sent: dict[str, int]) -> None:
        """Count bytes that parties send whatever the inputs are: sent ahead of the run, nobody waits for them."""
        for role, count in sent.items():
            if role not in self._online:
                raise KeyError(role)
            self._ahead[role] = self._ahead.get(role, 0) + count

    def worked_ahead(self, seconds: float) -> None:
        """Count seconds in which parties made what no input changes."""
        self._ahead_seconds += seconds

    def dealt(self, helper: str, count: int) -> None:
        """Count bytes from a helper; nobody waits for them unless it is behind."""
        self._helped[helper] += count

    @property
    def rounds(self) -> int:
        """Those until now."""
        return self._rounds

    @property
    def cost(self) -> Cost:
        """The total since the session began."""
        seconds = time.perf_counter() - self._start
        sent = self._online | self._helped
        return Cost(self._rounds, sent, self._helpers, seconds, dict(self._ahead), self._ahead_seconds)


def _more(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {role: one.get(role, 0) + other.get(role, 0) for role in dict.fromkeys([*one, *other])}


def _less(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {role: count - other.get(role, 0) for role, count in one.items()}


def readable(count: int) -> str:
    """Bytes with a unit, three digits of them."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size - size / 2000:  # 999,500 bytes round to 1 MB
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
