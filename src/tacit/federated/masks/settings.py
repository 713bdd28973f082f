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
    safe against a server that colludes with fewer than minimum - 1 clients, and with no more than `threshold` allows.
    `threshold`: no server that colludes with C = (2 threshold - 1) n of the n clients in the roster or fewer, a third
    with 2/3, learns both secrets of one client, whoever takes part and whatever it tells whom. So of m that take part
    more than (m + C) / 2 must survive, and help: fewer than (m - C) / 2 may vanish, a third if all take part, none of
    a third. Larger: more colluders tolerated, fewer drop-outs. Few sampled of many: 1/2 + C / 2n for the C you fear.
    `degree`: masks are shared with so many neighbours; None is everybody. `plan` finds one for many clients. What is
    said of the roster then holds of a neighbourhood: degree + 1 clients, and as many colluders if fewer take part.
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
        if self.bits not in (32, 64):
            raise ValueError(f"bits are 32 or 64, not {self.bits!r}")
        if not 0 < self.limit < math.inf:
            raise ValueError(f"limit must be positive and finite, not {self.limit!r}")
        if any(type(n) not in (int, type(None)) for n in (self.minimum, self.degree, self.max_examples)):
            raise ValueError("minimum, degree and max_examples are whole numbers")
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
        more = math.floor(self.threshold * clients) + 1
        fewest = max(more, 2) if self.minimum is None else self.minimum
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

    def needed(self, holders: int, clients: int) -> int:
        """Return how many of the h holders of a secret's shares must help, of so many clients in the roster.

            t = floor((h + C) / 2) + 1, at most h          C = (2 threshold - 1) N,  N = clients, or degree + 1 if less

        An honest holder helps to one of a client's two secrets, a colluder to both: both would take 2 t <= h + c
        shares. C counts those who might take part, not those whom the server lets: to leave honest ones out is no use.
        """
        whole = clients if self.degree is None else min(clients, self.degree + 1)
        half = round(self.threshold * whole - (whole - holders) / 2, 9)  # 1/2 + C / 2n is not exact in floating point
        return min(math.floor(half) + 1, holders)

    def encoding(self, clients: int) -> Encoding:
        """Return the encoding for sums over at most so many clients."""
        noise = self.privacy.largest_noise(clients) if self.privacy else 0.0
        return Encoding(self.bits, self.limit, clients, noise)
