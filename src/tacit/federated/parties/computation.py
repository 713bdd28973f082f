"""What the computing parties compute, in a session of theirs, from the shares of updates that nobody sees.

Every role runs `compute`, also those that hold no shares. What comes out is a share at each party, for Flower's
server alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import tacit
from tacit.api import active_protocol, current_session, release
from tacit.federated.errors import ForgeryError, ThresholdError, UpdateError
from tacit.federated.parties.rules import ClippedMean
from tacit.federated.parties.shares import open_share
from tacit.federated.parties.submission import session_name
from tacit.federated.parties.terms import FRAC_BITS, HEAD, ROOM, Terms
from tacit.federated.parties.work import Work
from tacit.federated.privacy.noise import Privacy
from tacit.federated.update import Layout
from tacit.federated.vectors import Ring
from tacit.products import FEDERATION
from tacit.session.session import Session
from tacit.tensor import SecretTensor

__all__ = ["Outcome", "compute", "held", "open_boxes"]


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


def compute(terms: Terms, work: Work, opened: Mapping[str, Mapping[int, Ring]], fewest: int) -> Outcome:
    """Aggregate at least `fewest` clients; `opened` are the shares of clients at the parties of this process.

    Reveals: to all roles, whose boxes did not open; to the server, the aggregate and what `Terms` says.
    """
    session = current_session()
    session.transcript.record(f"tacit.federated.round({work.run}/{work.number})", _digest(terms, work))
    bad = _unopened(session, work, opened)
    kept = work.without(bad)
    if len(kept.clients) < fewest:
        raise ThresholdError(f"{len(kept.clients)} clients sent shares that open, {fewest} are needed")
    if terms.privacy is None and len(kept.clients) * terms.max_examples * terms.limit >= ROOM:
        raise UpdateError(
            f"{len(kept.clients)} clients with {terms.max_examples} examples and coordinates up to {terms.limit:g} do "
            "not fit fixed point: lower max_examples or limit"
        )
    result = _aggregate(terms, work.layout, _rows(kept, opened))
    shares = release(result, FEDERATION.one, name=f"aggregate of round {work.number}")
    return Outcome({party: t.numpy().view(np.uint64) for party, t in shares.items()}, tuple(sorted(bad)))


def _digest(terms: Terms, work: Work) -> bytes:
    return hashlib.sha256(f"{terms!r} {json.dumps(work.literal())}".encode()).digest()


def _unopened(session: Session, work: Work, opened: Mapping[str, Mapping[int, Ring]]) -> set[int]:
    """Return the clients whose boxes did not open at some party; every party tells all others."""
    bad: set[int] = set()
    for party in session.parties:
        own = opened.get(party)
        marks = None if own is None else bytes(client not in own for client in work.clients)
        said = session.announce(party, marks)
        if len(said) != len(work.clients):
            raise ForgeryError(f"{party} does not say of each client whether its box has opened")
        bad |= {c for c, mark in zip(work.clients, said, strict=True) if mark}
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
