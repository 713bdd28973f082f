"""A client's part: five stages, each done once per session.

::

    advertise    fresh keys, signed
    share        both secrets, shared and encrypted for each neighbour
    mask         the vector, masked
    confirm      the survivors, as the server tells them, who takes part, and what was computed on: signed
    unmask       for each neighbour, one share: of the seed if it survived, of the key if it did not; never both

If nobody vanished there is nothing to confirm: `unmask_all` follows `mask`, and reveals shares of seeds only.

Between stages a member is a record of bytes (`dump`, `Member.load`): with Flower, each stage may run in a process of
its own. Whoever reads that record can unmask the client's vector of this session, so it stays at the client.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

from tacit.federated import boxes
from tacit.federated.errors import ForgeryError, RoundError, ThresholdError
from tacit.federated.identity import Identity, Roster
from tacit.federated.masks import keys, shamir
from tacit.federated.masks.graph import neighbours
from tacit.federated.masks.packets import Advertisement, Confirmed, Revealed, pack_shares, premise, unpack_shares
from tacit.federated.masks.settings import Settings
from tacit.federated.vectors import Ring

__all__ = ["Member", "Stage", "session_name"]


def session_name(run: int, number: int, agreed: bytes) -> bytes:
    """Return what keys, boxes and signatures of one session are bound to; `agreed` is the digest of the settings."""
    return b"%d/%d/" % (run, number) + agreed


class Stage(IntEnum):
    """What a member has done in this session."""

    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    CONFIRMED = 4
    UNMASKED = 5


@dataclass
class Member:
    """A client in one session."""

    index: int
    roster: Roster = field(repr=False)
    settings: Settings
    session: bytes
    stage: Stage = Stage.ADVERTISED
    box_key: bytes = field(default_factory=boxes.fresh_key, repr=False)
    mask_key: bytes = field(default_factory=boxes.fresh_key, repr=False)
    seed: bytes = field(default_factory=lambda: os.urandom(shamir.SECRET_BYTES), repr=False)
    peers: dict[int, Advertisement] = field(default_factory=dict, repr=False)
    held: dict[int, bytes] = field(default_factory=dict, repr=False)
    """The encrypted shares of those neighbours whose masks are in this client's vector."""
    own_share: bytes = field(default=b"", repr=False)
    members: set[int] = field(default_factory=set)
    """Everyone who takes part."""
    alive: set[int] = field(default_factory=set)
    """The survivors that this client has signed for."""
    view: bytes = b""
    """The digest of the model and settings that this client's vector was computed from."""
    advertised: bytes = b""
    """What this client advertised."""

    def advertise(self, identity: Identity) -> Advertisement:
        """Return fresh public keys, signed. [BIKMMPRSS17] Fig. 4, round 0."""
        if self.roster.index(identity) != self.index:
            raise ForgeryError(f"{identity.name} cannot sign for client {self.index}")
        box, mask = boxes.public_key(self.box_key), boxes.public_key(self.mask_key)
        bare = Advertisement(self.index, box, mask, keys.commitment(self.seed, self.session), bytes(64))
        whole = Advertisement(self.index, box, mask, bare.commitment, identity.sign(bare.signed(self.session)))
        self.advertised = whole.pack()
        return whole

    def share(self, participants: Iterable[int], advertised: Iterable[Advertisement]) -> dict[int, bytes]:
        """Return both secrets, shared and encrypted, for each neighbour. Round 1."""
        self._advance(Stage.SHARED)
        self.members = members = set(participants)
        if len(members) < self._fewest or self.index not in members:
            raise ThresholdError(f"{len(members)} clients take part; this one asks for {self._fewest}")
        if not all(0 <= v < len(self.roster) for v in members):
            raise ForgeryError("the server named a participant that the roster does not have")
        expected = neighbours(members, self.settings.degree, self.session)[self.index]
        given = list(advertised)
        self.peers = {peer.index: peer for peer in given if peer.index != self.index}
        if tuple(sorted(peer.index for peer in given if peer.index != self.index)) != expected:
            raise ForgeryError("the server did not send the keys of this client's neighbours, each once")
        for peer in self.peers.values():
            self.roster.verify(peer.index, peer.signed(self.session), peer.signature)
        if len({key for peer in self.peers.values() for key in (peer.box_key, peer.mask_key)}) != 2 * len(expected):
            raise ForgeryError("two neighbours advertise the same key")
        points = [v + 1 for v in (*expected, self.index)]
        mask_shares = shamir.split(self.mask_key, points, self._needed)
        seed_shares = shamir.split(self.seed, points, self._needed)
        self.own_share = seed_shares[self.index + 1]
        return {
            v: boxes.seal_box(
                self.box_key, self.peers[v].box_key, (self.index, v), self.session,
                pack_shares(mask_shares[v + 1], seed_shares[v + 1]),
            )
            for v in expected
        }  # fmt: skip

    def mask(self, vector: Ring, incoming: Mapping[int, bytes], view: bytes, words: int = 0) -> Ring:
        """Return y_u = x_u + PRG(b_u) +- the pairwise masks of all neighbours that shared their secrets. Round 2.

        The last `words` words of the vector hold wide numbers.
        They cancel with the masks of those neighbours only who have the same view and were told the same participants.
        """
        self._advance(Stage.MASKED)
        if not set(incoming) <= set(self.peers):
            raise ForgeryError("the server passed on shares of a client that is no neighbour")
        if len(incoming) + 1 < self._needed:
            raise ThresholdError(f"{len(incoming)} neighbours shared their secrets, {self._needed - 1} are needed")
        for v, box in incoming.items():
            self._open(v, box)
        self.held, self.view = dict(incoming), view
        y, bound = vector.copy(), premise(self.members, view)
        keys.add_mask(y, keys.self_key(self.seed, self.session), 1, words)
        for v in incoming:
            key = keys.pairwise_key(self.mask_key, self.peers[v].mask_key, (self.index, v), self.session, bound)
            keys.add_mask(y, key, 1 if self.index < v else -1, words)
        return y

    def confirm(self, survivors: Iterable[int], identity: Identity) -> bytes:
        """Sign who survived, as the server tells it, if so many may be summed. Round 3."""
        self._advance(Stage.CONFIRMED)
        self.alive = set(survivors)
        around = self.alive & {*self.peers, self.index}
        if self.index not in self.alive:
            raise RoundError("this client is not among the survivors: its vector came too late")
        if not self.alive <= self.members or not around <= {*self.held, self.index}:
            raise ForgeryError("the server named a survivor whose secrets were never shared")
        if len(around) < self._needed:
            raise ThresholdError(f"{len(around)} of this client's neighbourhood survive, {self._needed} are needed")
        if len(self.alive) < self._fewest:
            raise ThresholdError(f"{len(self.alive)} clients survive; this one asks for {self._fewest}")
        return identity.sign(self._confirmed.signed(self.session, Advertisement.unpack(self.advertised)))

    def unmask(self, signatures: Mapping[int, bytes]) -> list[Revealed]:
        """Return one share for each client whose shares are here, if enough neighbours signed for the same. Round 4."""
        self._advance(Stage.UNMASKED)
        if not set(signatures) <= self.alive & set(self.peers):
            raise ForgeryError(
                "the server passed on a confirmation of a client that is no neighbour, or did not survive"
            )
        for v, signature in signatures.items():
            self._agreed(v, signature)
        if len(signatures) + 1 < self._needed:
            raise ThresholdError(f"{len(signatures)} neighbours confirm the survivors, {self._needed - 1} are needed")
        revealed = [Revealed(self.index, True, self.own_share)]
        for v, box in self.held.items():
            mask_share, seed_share = unpack_shares(self._open(v, box))
            revealed.append(Revealed(v, v in self.alive, seed_share if v in self.alive else mask_share))
        self._forget()
        return revealed

    def unmask_all(self) -> list[Revealed]:
        """Return one share of the seed of each client whose shares are here: nobody vanished, says the server.

        No signature is needed. This client confirms nothing in this session, so no list of fewer survivors gets its
        signature or its share of a key: of a key, and of a seed, there would have to be t shares, and with 2 t > h + c
        of h holders there are not so many that c colluders help a server to both. With all seeds and no key the server
        can read the sum over all who take part, which are enough, and of no fewer.
        """
        self._advance(Stage.UNMASKED, after=Stage.MASKED)
        if set(self.held) != set(self.peers):
            raise ForgeryError("the server says that all survived, and has not passed on the secrets of all")
        self.alive = set(self.members)
        revealed = [Revealed(self.index, True, self.own_share)]
        revealed += [Revealed(v, True, unpack_shares(self._open(v, box))[1]) for v, box in self.held.items()]
        self._forget()
        return revealed

    def _agreed(self, v: int, signature: bytes) -> None:
        """Raise `ForgeryError` unless a neighbour confirms what this client confirms."""
        try:
            self.roster.verify(v, self._confirmed.signed(self.session, self.peers[v]), signature)
        except ForgeryError:
            raise ForgeryError(
                f"{self.roster.names[v]} does not confirm what this client was told: the server sent it another model, "
                "other settings, participants or survivors, or its confirmation is forged or of another session"
            ) from None

    @property
    def _confirmed(self) -> Confirmed:
        return Confirmed(frozenset(self.members), frozenset(self.alive), self.view)

    @property
    def _fewest(self) -> int:
        return self.settings.fewest(len(self.roster))

    @property
    def _needed(self) -> int:
        return self.settings.needed(len(self.peers) + 1, len(self.roster))

    def _open(self, sender: int, box: bytes) -> bytes:
        return boxes.open_box(self.box_key, self.peers[sender].box_key, (sender, self.index), self.session, box)

    def _forget(self) -> None:
        self.held, self.own_share = {}, b""
        self.box_key = self.mask_key = self.seed = b""

    def expect(self, stage: Stage, after: Stage | None = None) -> None:
        """Raise `RoundError` unless this stage comes next: after the one before it, or after another."""
        if self.stage != (stage - 1 if after is None else after):
            name, done = stage.name.lower(), self.stage.name.lower()
            raise RoundError(f"asked to have {name} when this session's last stage is: {done}; each stage comes once")

    def _advance(self, stage: Stage, after: Stage | None = None) -> None:
        self.expect(stage, after)
        self.stage = stage

    def dump(self) -> bytes:
        """Return the member between two stages. It holds secrets."""
        record = {
            "index": self.index,
            "stage": int(self.stage),
            "session": self.session.hex(),
            "box_key": self.box_key.hex(),
            "mask_key": self.mask_key.hex(),
            "seed": self.seed.hex(),
            "own_share": self.own_share.hex(),
            "members": sorted(self.members),
            "alive": sorted(self.alive),
            "view": self.view.hex(),
            "advertised": self.advertised.hex(),
            "peers": [peer.pack().hex() for peer in self.peers.values()],
            "held": {v: box.hex() for v, box in self.held.items()},
        }
        return json.dumps(record).encode()

    @classmethod
    def load(cls, data: bytes, roster: Roster, settings: Settings) -> Self:
        """Read what `dump` wrote."""
        record = json.loads(data)
        peers = [Advertisement.unpack(bytes.fromhex(peer)) for peer in record["peers"]]
        return cls(
            record["index"],
            roster,
            settings,
            bytes.fromhex(record["session"]),
            Stage(record["stage"]),
            bytes.fromhex(record["box_key"]),
            bytes.fromhex(record["mask_key"]),
            bytes.fromhex(record["seed"]),
            {peer.index: peer for peer in peers},
            {int(v): bytes.fromhex(box) for v, box in record["held"].items()},
            bytes.fromhex(record["own_share"]),
            set(record["members"]),
            set(record["alive"]),
            bytes.fromhex(record["view"]),
            bytes.fromhex(record["advertised"]),
        )
