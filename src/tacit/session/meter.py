"""Rounds and bytes. Every role runs the same program, so every role can count what all of them send."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Cost", "Meter", "readable"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a piece of program cost: online rounds, payload bytes sent by each role, seconds at this role."""

    rounds: int = 0
    online: dict[str, int] = field(default_factory=dict)
    """Bytes each computing party sent to its peers, framing excluded."""
    producer: int = 0
    """Bytes the crypto-producer sent to all parties together: correlated randomness and nothing else."""
    seconds: float = 0.0

    def __sub__(self, earlier: Cost) -> Cost:
        online = {role: sent - earlier.online.get(role, 0) for role, sent in self.online.items()}
        return Cost(
            self.rounds - earlier.rounds, online, self.producer - earlier.producer, self.seconds - earlier.seconds
        )

    def __add__(self, other: Cost) -> Cost:
        roles = dict.fromkeys([*self.online, *other.online])
        online = {role: self.online.get(role, 0) + other.online.get(role, 0) for role in roles}
        return Cost(self.rounds + other.rounds, online, self.producer + other.producer, self.seconds + other.seconds)

    def __str__(self) -> str:
        sent = ", ".join(f"{role} sent {readable(count)}" for role, count in self.online.items())
        return f"{self.rounds} rounds, {sent}, producer sent {readable(self.producer)}, {self.seconds:.3g} s"


class Meter:
    """Counts what a session does. `cost` is the total so far; subtract two of them for a part."""

    __slots__ = ("_online", "_producer", "_rounds", "_start")

    def __init__(self, parties: tuple[str, ...]) -> None:
        self._rounds = 0
        self._online = dict.fromkeys(parties, 0)
        self._producer = 0
        self._start = time.perf_counter()

    def round(self, sent: dict[str, int]) -> None:
        """Count one round in which each role sends this many bytes, to all its peers together."""
        self._rounds += 1
        for role, count in sent.items():
            self._online[role] += count

    def opening(self, count: int) -> None:
        """Count one round in which every party sends `count` bytes to every other party."""
        self._rounds += 1
        for role in self._online:
            self._online[role] += count * (len(self._online) - 1)

    def dealt(self, count: int) -> None:
        """Count bytes from the producer; nobody waits for them unless the producer is behind."""
        self._producer += count

    @property
    def cost(self) -> Cost:
        """The total since the session began."""
        return Cost(self._rounds, dict(self._online), self._producer, time.perf_counter() - self._start)


def readable(count: int) -> str:
    """Bytes with a unit."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
