"""What clients, server and computing parties agree on in advance, and how updates are written for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tacit.federated.errors import FederatedError
from tacit.federated.identity import Roster
from tacit.federated.parties.rules import ClippedMean, Rule
from tacit.federated.privacy.noise import Privacy
from tacit.federated.update import WEIGHT, Layout, Update
from tacit.federated.vectors import Floats, Ring
from tacit.federated.view import agreement

__all__ = ["FRAC_BITS", "HEAD", "ROOM", "Terms"]

FRAC_BITS = 16
"""Of the updates under computation, as in all of Tacit: an error of 2^-17 for each coordinate."""

HEAD = 2
"""Columns before the values: how many saturated, and the number of examples."""

ROOM = 2.0**30
"""Sums of examples times coordinates stay below this, so that their products stay within 62 bits."""


@dataclass(frozen=True)
class Terms:
    """What clients, server and parties agree on in advance; no message of the server can change it.

    `rule`: how updates become one. `minimum`: the fewest clients in an aggregate; None is more than two thirds of the
    roster. A smaller number is safe against a server that colludes with fewer than minimum - 1 clients.
    `limit`: largest magnitude of a coordinate and of a metric. Clients clamp and count what is larger, and the parties
    clamp again what a client that lies has sent; a rule may need less (`Rule.bound`).
    `max_examples`: a client that claims more counts with so many.
    `weighted_by`: the metric that weighs a client, the strategy's `weighted_by_key`.
    `privacy`: updates are clipped to `privacy.clip`, and every party adds noise; for `ClippedMean` of that norm. All
    clients then weigh the same, and neither metrics nor what saturated is aggregated.
    """

    rule: Rule
    minimum: int | None = None
    limit: float = 64.0
    max_examples: int = 10_000
    privacy: Privacy | None = None
    weighted_by: str = WEIGHT

    def __post_init__(self) -> None:
        if self.minimum is not None and self.minimum < self.rule.fewest():
            raise ValueError(f"{self.rule} needs {self.rule.fewest()} clients or more, and minimum is {self.minimum}")
        if not (0 < self.limit < ROOM and self.max_examples >= 1):
            raise ValueError("limit and max_examples must be positive, and limit below 2^30")
        if self.privacy is not None:
            if self.rule != ClippedMean(self.privacy.clip):
                raise ValueError(f"noise for this privacy is for ClippedMean({self.privacy.clip}), not {self.rule}")
            if self.privacy.clip > self.limit:
                raise ValueError("privacy.clip must not be above limit")

    def fewest(self, clients: int) -> int:
        """Return the fewest clients in an aggregate, of so many in the roster."""
        return max(2 * clients // 3 + 1, self.rule.fewest()) if self.minimum is None else self.minimum

    def agreed(self, roster: Roster) -> bytes:
        """Return the digest of what clients, server and parties must have alike: all but a client's own budget."""
        privacy = None if self.privacy is None else replace(self.privacy, budget=math.inf)
        return agreement(replace(self, privacy=privacy), roster)

    def encode(self, update: Update) -> Ring:
        """Return a client's vector: how many coordinates saturated, its examples, and its values."""
        values, examples = update.values, min(update.examples, self.max_examples)
        beyond = int(update.examples > self.max_examples)
        if self.privacy is not None:
            values, examples, beyond = self.privacy.clipped(values), 1.0, 0
        bounds = np.concatenate([np.full(len(part), bound) for part, bound in self._parts(values, update.layout)])
        beyond += int((np.abs(values) > bounds).sum()) if self.privacy is None else 0
        whole = np.concatenate([[beyond, examples], np.clip(values, -bounds, bounds)])
        return np.rint(whole * 2.0**FRAC_BITS).astype(np.int64).view(np.uint64)

    def _parts(self, values: Floats, layout: Layout) -> list[tuple[Floats, float]]:
        metrics, arrays = np.split(values, [len(layout.metrics)])
        return [(metrics, self.limit), (arrays, self.bound(layout))]

    def bound(self, layout: Layout) -> float:
        """Return the magnitude to which each coordinate of the arrays is held."""
        return self.rule.bound(layout.count - len(layout.metrics), self.limit)

    def rho(self, layout: Layout) -> float | None:
        """Return the zero-concentrated privacy loss of a round.

        A clipped update is rounded to 2^-17, its factor 1 / sqrt(max(1, ...)) is below 1 + 2^-21, and the product is
        off by at most 2^-16: together a client moves the sum by at most C (1 + 2^-21) + sqrt(d) 2^-15.
        """
        if self.privacy is None:
            return None
        return self.privacy.loss(self.privacy.clip * (1 + 2.0**-21) + math.sqrt(layout.count) * 2.0**-15)

    def read(self, shares: Sequence[Ring], layout: Layout, clients: int) -> tuple[Floats, float, int]:
        """Return mean, examples and saturated coordinates from all parties' shares of what `compute` released."""
        total: Floats = (
            np.stack(shares).sum(axis=0, dtype=np.uint64).view(np.int64).astype(np.float64) * 2.0**-FRAC_BITS
        )
        if self.privacy is not None:
            return total / clients, float(clients), 0
        saturated, examples, weight = total[0], total[1], total[2]
        metrics, values = np.split(total[3:], [len(layout.metrics)])
        if examples <= 0 or (layout.arrays and weight <= 0):
            raise FederatedError("no client had any weight: nothing can be averaged")
        return np.concatenate([metrics / examples, values / (weight or 1.0)]), float(examples), round(saturated)
