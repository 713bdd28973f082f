"""What clients and server agree on before the first round; no message of the server can change it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tacit.federated.errors import ThresholdError
from tacit.federated.identity import Roster
from tacit.federated.masks.encoding import Encoding
from tacit.federated.masks.wide import Wide, size
from tacit.federated.privacy.noise import Privacy
from tacit.federated.update import WEIGHT, Layout
from tacit.federated.view import agreement

__all__ = ["HEAD", "Settings"]

HEAD = 1
"""Coordinates before the counts of what saturated, which precede the values: whether the examples did."""


@dataclass(frozen=True)
class Settings:
    """Secure aggregation's settings, the same at every client and at the server.

    `minimum`: the fewest clients in a sum; a client refuses to take part in a smaller one. None is more than
    `threshold` of the whole roster: no server can tell some clients that they are all there is. A smaller number is
    safe against a server that colludes with fewer than minimum - 1 clients.
    `threshold`: more than this fraction of a client's neighbourhood must survive a round, and must help to unmask it.
    With 2/3, no server that colludes with less than a third of the clients learns both secrets of one client, even
    if it tells different clients different stories. Larger: more colluders tolerated, fewer drop-outs.
    `degree`: masks are shared with so many neighbours; None is everybody. `plan` finds one for many clients.
    `limit`: largest magnitude of a coordinate of an update; larger ones saturate, and are counted and told by name.
    2^18 if you say nothing, with 32 bits 64. Smaller: a finer encoding. Metrics and arrays of whole numbers (counters)
    have a range of their own, 2^64, whatever `bits` and `limit` are.
    `max_examples`: the weight of a client is its number of examples over this, at most one. 2^18, with 32 bits 10,000.
    `bits`: 64, or 32 for half the traffic and a coarser encoding.
    `weighted_by`: the metric that weighs a client, the strategy's `weighted_by_key`.
    `privacy`: clip each client's update and add distributed noise. All clients then weigh the same.
    """

    minimum: int | None = None
    threshold: float = 2 / 3
    degree: int | None = None
    limit: float = None  # type: ignore[assignment]  # a number in every instance
    max_examples: int = None  # type: ignore[assignment]
    bits: int = 64
    weighted_by: str = WEIGHT
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        for name, (wide, narrow) in {"limit": (2.0**18, 64.0), "max_examples": (2**18, 10_000)}.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, narrow if self.bits == 32 else wide)
        if self.minimum is not None and self.minimum < 2:
            raise ValueError("the sum of one client is no secret: minimum must be 2 or more")
        if not 0.5 <= self.threshold < 1:
            raise ValueError("threshold must be from 0.5, so that never both secrets of a client meet, to below 1")
        if self.degree is not None and (self.degree < 2 or self.degree % 2):
            raise ValueError("degree must be even and positive")
        if self.max_examples < 1:
            raise ValueError("max_examples must be positive")
        if self.privacy is not None and self.privacy.clip > self.limit:
            raise ValueError("privacy.clip must not be above limit: else how much saturates would tell of the updates")
        if self.privacy is not None and self.minimum is not None and self.privacy.honest > self.minimum:
            raise ValueError("privacy.honest must not be above minimum: so many survivors are not certain to add noise")

    def fewest(self, clients: int) -> int:
        """Return the fewest clients in a sum, of so many in the roster."""
        fewest = max(self.needed(clients), 2) if self.minimum is None else self.minimum
        if self.privacy is not None and self.privacy.honest > fewest:
            raise ThresholdError(
                f"privacy.honest is {self.privacy.honest}, and {fewest} clients may be all that survive"
            )
        return fewest

    def agreed(self, roster: Roster) -> bytes:
        """Return the digest of what all clients and the server must have alike: all but what each asks for itself."""
        privacy = None if self.privacy is None else replace(self.privacy, budget=math.inf)
        return agreement(replace(self, minimum=None, privacy=privacy), roster)

    def head(self, layout: Layout) -> int:
        """Return how many coordinates come before the values. With noise nothing saturates: clips are within limits."""
        return HEAD + (len(layout.names) if self.privacy is None else 0)

    def words(self, layout: Layout) -> tuple[int, int]:
        """Return how many words a vector has, and how many, at its end, hold the weight, metrics and counters."""
        words = size(1 + layout.wide, self.bits)
        return self.head(layout) + layout.count - layout.wide + words, words

    def wide(self, clients: int) -> Wide:
        """Return the encoding of weights, metrics and counters for sums over at most so many clients."""
        return Wide(clients)

    def needed(self, holders: int) -> int:
        """Return how many of the holders of a secret's shares must help."""
        return math.floor(self.threshold * holders) + 1

    def encoding(self, clients: int) -> Encoding:
        """Return the encoding for sums over at most so many clients."""
        noise = self.privacy.largest_noise(clients) if self.privacy else 0.0
        return Encoding(self.bits, self.limit, clients, noise)
