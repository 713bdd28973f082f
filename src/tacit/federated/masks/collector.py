"""The server's part: it passes on what clients send each other, adds up, and unmasks the sum.

A client whose message is refused counts as one that vanished. What is raised ends the round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tacit.federated.boxes import public_key
from tacit.federated.errors import FederatedError, ForgeryError, RoundError, ThresholdError, UpdateError
from tacit.federated.identity import Roster
from tacit.federated.masks import keys, shamir, wide
from tacit.federated.masks.encoding import Encoding
from tacit.federated.masks.graph import neighbours
from tacit.federated.masks.packets import Advertisement, Confirmed, Revealed, premise, signed_view
from tacit.federated.masks.settings import Settings
from tacit.federated.vectors import Ring

__all__ = ["Collector"]


@dataclass
class Collector:
    """The server in one session. Its methods follow the stages; each message is handed in as it comes."""

    roster: Roster
    settings: Settings
    session: bytes
    view: bytes = b""
    """The digest of the model and settings that the vectors were computed from: known with them."""
    advertised: dict[int, Advertisement] = field(default_factory=dict)
    boxes: dict[int, dict[int, bytes]] = field(default_factory=dict)
    survivors: set[int] = field(default_factory=set)
    words: int = 0
    """Of a vector, how many at its end hold wide numbers: known with the vectors."""
    revealed: dict[int, list[Revealed]] = field(default_factory=dict)
    confirmed: dict[int, bytes] = field(default_factory=dict)
    wrong: set[tuple[int, int]] = field(default_factory=set)
    """Pairs (v, u): the share of u's secret that v revealed is not of the polynomial that u's other shares are of."""
    _graph: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False)
    _sum: Ring | None = field(default=None, repr=False)

    # round 0

    def accept_advertisement(self, packet: bytes) -> int:
        """Take a client's keys; return its index."""
        advertisement = Advertisement.unpack(packet)
        self.roster.verify(advertisement.index, advertisement.signed(self.session), advertisement.signature)
        if advertisement.index in self.advertised:
            raise RoundError(f"{self._name(advertisement.index)} advertised keys twice")
        self.advertised[advertisement.index] = advertisement
        return advertisement.index

    def close_advertisements(self) -> None:
        """Fix the participants and the graph."""
        self._enough(len(self.advertised), "advertised keys")
        self._graph = neighbours(self.advertised, self.settings.degree, self.session)

    @property
    def participants(self) -> list[int]:
        """Everyone who advertised keys."""
        return sorted(self.advertised)

    def advertisements_for(self, client: int) -> list[Advertisement]:
        """Return the keys of a client's neighbours."""
        return [self.advertised[v] for v in self._graph[client]]

    # round 1

    def accept_shares(self, client: int, boxes: Mapping[int, bytes]) -> None:
        """Take a client's encrypted shares for its neighbours."""
        if client in self.boxes:
            raise RoundError(f"{self._name(client)} sent its shares twice")
        if set(boxes) != set(self._graph[client]):
            raise ForgeryError(f"{self._name(client)} did not send shares for each of its neighbours")
        self.boxes[client] = dict(boxes)

    def boxes_for(self, client: int) -> dict[int, bytes]:
        """Return the encrypted shares that neighbours sent to a client."""
        return {v: self.boxes[v][client] for v in self._graph[client] if v in self.boxes}

    def close_shares(self) -> None:
        """Refuse to go on with too few."""
        self._enough(len(self.boxes), "shared their secrets")

    # round 2

    def check_view(self, client: int, view: bytes, signature: bytes) -> None:
        """Raise `ForgeryError` unless a client signed for what it says to have computed from."""
        self.roster.verify(client, signed_view(view, self.session), signature)

    def accept_vector(self, client: int, vector: Ring, count: int, encoding: Encoding) -> None:
        """Add a client's masked vector to the sum. It was computed from the view of all, else masks do not cancel."""
        if client in self.survivors or client not in self.boxes:
            raise RoundError(f"{self._name(client)} sent its vector twice, or without sharing its secrets first")
        if vector.shape != (count,) or vector.dtype != encoding.dtype:
            raise UpdateError(
                f"{self._name(client)} sent {vector.dtype} {list(vector.shape)} where {encoding.dtype} [{count}] is due"
            )
        if self._sum is None:
            self._sum = vector.copy()
        else:
            wide.add(self._sum, vector, self.words)
        self.survivors.add(client)

    def close_vectors(self) -> None:
        """Refuse to go on with too few."""
        self._enough(len(self.survivors), "sent an update")

    @property
    def complete(self) -> bool:
        """Whether all who take part have sent a vector: then nobody's key is needed, and no confirmation either."""
        return self.survivors == set(self.advertised)

    # round 3

    def accept_confirmation(self, client: int, signature: bytes) -> None:
        """Take a client's signature over the survivors."""
        if client in self.confirmed:
            raise RoundError(f"{self._name(client)} confirmed twice")
        agreed = Confirmed(frozenset(self.advertised), frozenset(self.survivors), self.view)
        self.roster.verify(client, agreed.signed(self.session, self.advertised[client]), signature)
        self.confirmed[client] = signature

    def confirmations_for(self, client: int) -> dict[int, bytes]:
        """Return the signatures of a client's neighbours."""
        return {v: self.confirmed[v] for v in self._graph[client] if v in self.confirmed}

    def close_confirmations(self) -> None:
        """Refuse to go on with too few."""
        self._enough(len(self.confirmed), "confirmed the survivors")

    # round 4

    def accept_revealed(self, client: int, packets: Iterable[bytes]) -> None:
        """Take the shares that a client reveals."""
        if client in self.revealed:
            raise RoundError(f"{self._name(client)} revealed shares twice")
        shares = [Revealed.unpack(packet) for packet in packets]
        around = {client, *self._graph[client]}
        if any(s.index not in around or s.survived != (s.index in self.survivors) for s in shares):
            raise ForgeryError(f"{self._name(client)} revealed a share that was not asked for")
        self.revealed[client] = shares

    def sum(self, encoding: Encoding) -> Ring:
        """Return the sum of the survivors' vectors: take off their self-masks, and the masks of who vanished."""
        self._enough(len(self.revealed), "helped to unmask")
        assert self._sum is not None
        total = self._sum.copy()
        held: dict[int, dict[int, bytes]] = {}
        for client, shares in self.revealed.items():
            for share in shares:
                held.setdefault(share.index, {})[client + 1] = share.share
        for u in sorted(self.survivors):
            keys.add_mask(total, keys.self_key(self._seed(u, held), self.session), -1, self.words)
        bound = premise(self.advertised, self.view)
        for u in sorted(set(self.boxes) - self.survivors):
            beside = [v for v in self._graph[u] if v in self.survivors]
            if not beside:
                continue
            private = self._mask_key(u, held)
            for v in beside:
                key = keys.pairwise_key(private, self.advertised[v].mask_key, (u, v), self.session, bound)
                keys.add_mask(total, key, -1 if v < u else 1, self.words)
        return total

    def _seed(self, u: int, held: Mapping[int, dict[int, bytes]]) -> bytes:
        committed = self.advertised[u].commitment
        return self._secret(u, held, lambda seed: keys.commitment(seed, self.session) == committed, "self-mask")

    def _mask_key(self, u: int, held: Mapping[int, dict[int, bytes]]) -> bytes:
        public = self.advertised[u].mask_key
        return self._secret(u, held, lambda key: public_key(key) == public, "mask key")

    def _secret(
        self, u: int, held: Mapping[int, dict[int, bytes]], is_right: Callable[[bytes], bool], what: str
    ) -> bytes:
        """Return a secret of u, which u has bound itself to; wrong shares of it are found and left out.

        With t of n shares needed and m revealed, (m - t) / 2 may be wrong. Clients that were wrong once are not asked
        again while others are enough.
        """
        needed = self.settings.needed(len(self._graph[u]) + 1, len(self.roster))
        shares = held.get(u, {})
        doubtful = {v + 1 for v, _ in self.wrong}
        trusted = {x: share for x, share in shares.items() if x not in doubtful}
        chosen = trusted if len(trusted) >= needed else shares
        try:
            secret = shamir.combine(chosen, needed)
            if is_right(secret):
                return secret
        except ForgeryError:
            pass  # not of one polynomial: some share is wrong
        except FederatedError as error:
            raise type(error)(f"the masks of {self._name(u)} cannot be removed: {error}") from None
        try:
            secret, wrong = shamir.correct(shares, needed)
        except ForgeryError as error:
            raise ForgeryError(f"the {what} of {self._name(u)} cannot be found: {error}") from None
        if not is_right(secret):
            raise ForgeryError(f"{self._name(u)} shared another {what} than it committed itself to")
        self.wrong |= {(x - 1, u) for x in wrong}
        return secret

    def _name(self, client: int) -> str:
        return self.roster.names[client]

    def _enough(self, clients: int, what: str) -> None:
        fewest, all_, some, why = self.settings.fewest(len(self.roster)), len(self.roster), len(self.advertised), ""
        needed = fewest if self.settings.degree is not None else max(fewest, self.settings.needed(some, all_))
        if needed > fewest:  # with a degree each neighbourhood has a threshold of its own
            why = f": of {some} that take part, threshold={self.settings.threshold:.3g} lets {some - needed} vanish"
        if clients < needed:
            raise ThresholdError(f"{clients} of {all_} clients {what}, {needed} are needed{why}")
