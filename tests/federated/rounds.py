"""One session of secure aggregation, with clients that vanish at chosen stages; every message goes through bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from tacit.federated.identity import enroll
from tacit.federated.masks.collector import Collector
from tacit.federated.masks.encoding import Encoding
from tacit.federated.masks.member import Member
from tacit.federated.masks.settings import Settings

SESSION = b"a session"
VIEW = b"a model and settings"


@dataclass
class Round:
    """The outcome, and everything that the server saw."""

    collector: Collector
    members: dict[int, Member]
    total: np.ndarray
    encoding: Encoding
    vectors: dict[int, np.ndarray] = field(default_factory=dict)


def run(
    inputs: Mapping[int, np.ndarray],
    settings: Settings,
    vanish: Mapping[int, Collection[int]] | None = None,
    session: bytes = SESSION,
    words: int = 0,
) -> Round:
    """Aggregate integer vectors; `vanish[s]` are the clients that send nothing from stage s (0 to 4) on.

    The last `words` words of each hold wide numbers.
    """
    gone = {stage: set(clients) for stage, clients in (vanish or {}).items()}
    roster, identities = enroll(f"client-{i:04d}" for i in range(len(inputs)))
    encoding, collector = settings.encoding(len(roster)), Collector(roster, settings, session, VIEW)
    members = {i: Member(i, roster, settings, session) for i in inputs}
    absent = gone.get(0, set())
    for i in inputs.keys() - absent:
        collector.accept_advertisement(members[i].advertise(identities[roster.names[i]]).pack())
    collector.close_advertisements()
    absent = absent | gone.get(1, set())
    for i in inputs.keys() - absent:
        collector.accept_shares(i, members[i].share(collector.participants, collector.advertisements_for(i)))
    collector.close_shares()
    absent, collector.words = absent | gone.get(2, set()), words
    count = len(next(iter(inputs.values())))
    vectors = {}
    for i in inputs.keys() - absent:
        members[i] = Member.load(members[i].dump(), roster, settings)
        vectors[i] = members[i].mask(encoding.ring(inputs[i]), collector.boxes_for(i), VIEW, words)
        collector.accept_vector(i, vectors[i], count, encoding)
    collector.close_vectors()
    absent = absent | gone.get(3, set())
    for i in inputs.keys() - absent:
        signature = members[i].confirm(collector.survivors, identities[roster.names[i]])
        collector.accept_confirmation(i, signature)
    collector.close_confirmations()
    absent = absent | gone.get(4, set())
    for i in inputs.keys() - absent:
        members[i] = Member.load(members[i].dump(), roster, settings)
        collector.accept_revealed(i, [r.pack() for r in members[i].unmask(collector.confirmations_for(i))])
    return Round(collector, members, encoding.signed(collector.sum(encoding)), encoding, vectors)
