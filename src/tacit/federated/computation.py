"""What the computing parties compute, in a session of theirs, from the shares of updates that nobody sees.

Every role runs `compute`, the crypto-producer too. What comes out is a share at each party, for Flower's server alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

import tacit
from tacit.api import active_protocol, current_session, release
from tacit.federated.errors import FederatedError, ForgeryError, ThresholdError, UpdateError
from tacit.federated.identity import Roster
from tacit.federated.privacy import Privacy
from tacit.federated.robust import ClippedMean, Rule
from tacit.federated.sealed import Ring, Submission, open_share, session_name
from tacit.federated.secagg.encoding import Floats
from tacit.federated.update import Layout, Update
from tacit.session.config import FEDERATION
from tacit.session.session import Session
from tacit.tensor import SecretTensor

__all__ = ["FRAC_BITS", "Outcome", "Terms", "Work", "compute", "held", "open_boxes"]

FRAC_BITS = 16
"""Of the updates under computation, as in all of Tacit: an error of 2^-17 for each coordinate."""

HEAD = 2
"""Columns before the values: how many saturated, and the number of examples."""

ROOM = 2.0**30
"""Sums of examples times coordinates stay below this, so that their products stay within 62 bits."""


@dataclass(frozen=True)
class Terms:
    """What clients, server and parties agree on in advance; no message of the server can change it.

    `rule`: how updates become one. `minimum`: the fewest clients in an aggregate.
    `limit`: largest magnitude of a coordinate and of a metric. Clients clamp and count what is larger, and the parties
    clamp again what a client that lies has sent; a rule may need less (`Rule.bound`).
    `max_examples`: a client that claims more counts with so many.
    `privacy`: updates are clipped to `privacy.clip`, and every party adds noise; for `ClippedMean` of that norm. All
    clients then weigh the same, and neither metrics nor what saturated is aggregated.
    """

    rule: Rule
    minimum: int = 3
    limit: float = 64.0
    max_examples: int = 10_000
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        if self.minimum < self.rule.fewest():
            raise ValueError(f"{self.rule} needs {self.rule.fewest()} clients or more, and minimum is {self.minimum}")
        if not (0 < self.limit < ROOM and self.max_examples >= 1):
            raise ValueError("limit and max_examples must be positive, and limit below 2^30")
        if self.privacy is not None:
            if self.rule != ClippedMean(self.privacy.clip):
                raise ValueError(f"noise for this privacy is for ClippedMean({self.privacy.clip}), not {self.rule}")
            if self.privacy.clip > self.limit:
                raise ValueError("privacy.clip must not be above limit")

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
        ring: Ring = np.stack(shares).sum(axis=0, dtype=np.uint64)
        total: Floats = ring.view(np.int64).astype(np.float64) * 2.0**-FRAC_BITS
        if self.privacy is not None:
            return total / clients, float(clients), 0
        saturated, examples, weight = total[0], total[1], total[2]
        metrics, values = np.split(total[3:], [len(layout.metrics)])
        if examples <= 0 or (layout.arrays and weight <= 0):
            raise FederatedError("no client had any weight: nothing can be averaged")
        return np.concatenate([metrics / examples, values / (weight or 1.0)]), float(examples), round(saturated)


@dataclass(frozen=True)
class Work:
    """One round, as all roles know it: all of it is public."""

    run: int
    number: int
    layout: Layout
    submissions: tuple[Submission, ...]

    def check(self, terms: Terms, roster: Roster, parties: int) -> None:
        """Raise `FederatedError` unless enough clients of the roster, all different, signed for exactly this round.

        What one party checks, each of them checks: no server can make up clients, or aggregate fewer of them.
        """
        if len(set(self.clients)) != len(self.clients):
            raise ForgeryError("a client is in the round twice")
        if len(self.clients) < terms.minimum:
            raise ThresholdError(f"{len(self.clients)} clients are in the round, {terms.minimum} are needed")
        for submission in self.submissions:
            if submission.layout != self.layout:
                raise ForgeryError(f"client {submission.client} signed for another layout")
            submission.verify(roster, session_name(self.run, self.number), parties)
        if terms.privacy is not None and self.layout.metrics:
            raise UpdateError("metrics have no noise: with differential privacy there are none")

    def literal(self) -> dict[str, Any]:
        """Return the round as JSON can hold it."""
        return {"run": self.run, "number": self.number, "submissions": [s.literal() for s in self.submissions]}

    @classmethod
    def parse(cls, literal: Any) -> Self:
        """Read what `literal` returned."""
        try:
            submissions = tuple(Submission.parse(entry) for entry in literal["submissions"])
            return cls(int(literal["run"]), int(literal["number"]), submissions[0].layout, submissions)
        except (KeyError, TypeError, ValueError, IndexError):
            raise ForgeryError("the description of a round is damaged") from None

    @property
    def clients(self) -> tuple[int, ...]:
        """The clients, in the order of the rows."""
        return tuple(submission.client for submission in self.submissions)

    def without(self, bad: set[int]) -> Work:
        """Return the round without some clients."""
        return replace(self, submissions=tuple(s for s in self.submissions if s.client not in bad))


@dataclass(frozen=True)
class Outcome:
    """What a round left at the parties of this process."""

    shares: dict[str, Ring]
    excluded: tuple[int, ...]
    """Clients whose boxes did not open at some party."""


def open_boxes(private_key: bytes, party: int, work: Work, boxes: Sequence[bytes]) -> dict[int, Ring]:
    """Open all clients' boxes at a party, in the order of the round; those that do not open are left out."""
    opened, session = {}, session_name(work.run, work.number)
    for submission, box in zip(work.submissions, boxes, strict=True):
        client = submission.client
        if not submission.fits(party, box):
            continue
        with contextlib.suppress(ForgeryError):
            opened[client] = open_share(private_key, party, client, session, box, HEAD + work.layout.count)
    return opened


def compute(terms: Terms, work: Work, opened: Mapping[str, Mapping[int, Ring]]) -> Outcome:
    """Aggregate in the active session; `opened` are the shares of clients at the parties of this process.

    Reveals: to all roles, whose boxes did not open; to the server, the aggregate and what `Terms` says.
    """
    session = current_session()
    session.transcript.record(f"tacit.federated.round({work.run}/{work.number})", _digest(terms, work))
    bad = _unopened(session, work, opened)
    kept = work.without(bad)
    if len(kept.clients) < terms.minimum:
        raise ThresholdError(f"{len(kept.clients)} clients sent shares that open, {terms.minimum} are needed")
    if terms.privacy is None and len(kept.clients) * terms.max_examples * terms.limit >= ROOM:
        raise UpdateError(
            f"{len(kept.clients)} clients with {terms.max_examples} examples and coordinates up to {terms.limit:g} do "
            "not fit fixed point: lower max_examples or limit"
        )
    result = _aggregate(terms, work.layout, _rows(kept, opened))
    shares = release(result, FEDERATION, name=f"aggregate of round {work.number}")
    return Outcome({party: t.numpy().view(np.uint64) for party, t in shares.items()}, tuple(sorted(bad)))


def _digest(terms: Terms, work: Work) -> bytes:
    return hashlib.sha256(f"{terms!r} {json.dumps(work.literal())}".encode()).digest()


def _unopened(session: Session, work: Work, opened: Mapping[str, Mapping[int, Ring]]) -> set[int]:
    """Return the clients whose boxes did not open at some party; every party tells all others."""
    bad: set[int] = set()
    for party in session.parties:
        own = opened.get(party)
        marks = None if own is None else bytes(client not in own for client in work.clients)
        bad |= {c for c, mark in zip(work.clients, session.announce(party, marks), strict=True) if mark}
    return bad


def _rows(work: Work, opened: Mapping[str, Mapping[int, Ring]]) -> SecretTensor:
    """Return the sum of all parties' shares as a secret, a row for each client."""
    protocol, shape = active_protocol(), (len(work.clients), HEAD + work.layout.count)
    total = None
    for party in protocol.session.parties:
        own = opened.get(party)
        rows = None if own is None else torch.from_numpy(np.stack([own[c] for c in work.clients]).view(np.int64))
        shared = protocol.share(rows, party, shape, FRAC_BITS)
        total = shared if total is None else total + shared
    assert total is not None
    return SecretTensor(total, torch.float64)


def _aggregate(terms: Terms, layout: Layout, x: SecretTensor) -> SecretTensor:
    """Return all that is released, as one vector."""
    first = HEAD + len(layout.metrics)
    bound = terms.bound(layout)
    values = held(x[:, first:], -bound, bound)
    if terms.privacy is not None:
        assert isinstance(terms.rule, ClippedMean)
        total = terms.rule.clip(values).sum(dim=0)
        return _noisy(total, terms.privacy)
    examples = held(x[:, 1:2], 0, terms.max_examples)
    parts: list[Tensor] = [x[:, 0].sum().reshape(1), examples.sum().reshape(1)]
    metrics = (examples.t() @ held(x[:, HEAD:first], -terms.limit, terms.limit)).squeeze(0)
    if layout.arrays:
        row, weight = terms.rule(values, examples)
        parts += [weight.reshape(1).to(torch.float64), metrics, row]
    else:
        parts += [torch.zeros(1, dtype=torch.float64), metrics]
    result = torch.cat(parts)
    assert isinstance(result, SecretTensor)
    return result


def held(x: Tensor, low: float, high: float) -> Tensor:
    """Return x clamped, for any ring elements that a client that lies may have shared.

    For low <= 0 <= high. One end after the other: x < low is wrong for x near 2^63, where x - low wraps, and makes it
    low; what is left is so far from 2^63 that x > high is right. Both at once would add low and high to such an x.
    """
    return x.clamp(min=low).clamp(max=high)


def _noisy(total: Tensor, privacy: Privacy) -> SecretTensor:
    """Add every party's own noise, which it tells nobody."""
    session = current_session()
    for party in session.parties:
        mine = party in session.transport.hosted
        own = torch.from_numpy(privacy.noise(len(total), FRAC_BITS) * 2.0**-FRAC_BITS) if mine else None
        total = total + tacit.share(own, party, shape=total.shape, dtype=torch.float64, name="noise")
    assert isinstance(total, SecretTensor)
    return total
