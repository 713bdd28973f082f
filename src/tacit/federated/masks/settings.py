"""What clients and server agree on before the first round; no message of the server can change it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tacit.federated.masks.encoding import Encoding
from tacit.federated.privacy.noise import Privacy

__all__ = ["HEAD", "Settings"]

HEAD = 2
"""Coordinates before the values: how many saturated, and the weight."""


@dataclass(frozen=True)
class Settings:
    """Secure aggregation's settings, the same at every client and at the server.

    `minimum`: the fewest clients in a sum. A client refuses to take part in a smaller one.
    `threshold`: more than this fraction of a client's neighbourhood must survive a round, and must help to unmask it.
    With 2/3, no server that colludes with less than a third of the clients learns both secrets of one client, even
    if it tells different clients different stories. Larger: more colluders tolerated, fewer drop-outs.
    `degree`: masks are shared with so many neighbours; None is everybody. `plan` finds one for many clients.
    `limit`: largest magnitude of a coordinate of an update, and of a metric; larger ones saturate and are counted.
    `max_examples`: the weight of a client is its number of examples over this, at most one.
    `bits`: 64, or 32 for half the traffic and a coarser encoding.
    `privacy`: clip each client's update and add distributed noise. All clients then weigh the same.
    """

    minimum: int = 3
    threshold: float = 2 / 3
    degree: int | None = None
    limit: float = 64.0
    max_examples: int = 10_000
    bits: int = 64
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        if self.minimum < 2:
            raise ValueError("the sum of one client is no secret: minimum must be 2 or more")
        if not 0.5 <= self.threshold < 1:
            raise ValueError("threshold must be from 0.5, so that never both secrets of a client meet, to below 1")
        if self.degree is not None and (self.degree < 2 or self.degree % 2):
            raise ValueError("degree must be even and positive")
        if self.max_examples < 1:
            raise ValueError("max_examples must be positive")
        if self.privacy is not None and self.privacy.clip > self.limit:
            raise ValueError("privacy.clip must not be above limit: else how much saturates would tell of the updates")

        if self.privacy is not None and self.privacy.honest > self.minimum:
            raise ValueError("privacy.honest must not be above minimum: so many survivors are not certain to add noise")

    def needed(self, holders: int) -> int:
        """Return how many of the holders of a secret's shares must help."""
        return math.floor(self.threshold * holders) + 1

    def encoding(self, clients: int) -> Encoding:
        """Return the encoding for sums over at most so many clients."""
        noise = self.privacy.largest_noise(clients) if self.privacy else 0.0
        return Encoding(self.bits, self.limit, clients, noise)
