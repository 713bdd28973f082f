"""What a client sends to the computing parties: its vector in additive shares mod 2^64, each sealed for its party.

All shares but the first are seeds of 32 bytes. A box is a fresh X25519 key and an AES-GCM ciphertext, bound to the
session, the client and the party. Whoever passes the boxes on learns their sizes. The client signs the digests of all
its boxes, so that every party knows, of boxes that it never sees, that they are of one update in one session.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tacit.federated.boxes import fresh_key, open_box, public_key, seal_box
from tacit.federated.errors import ForgeryError
from tacit.federated.identity import Identity, Roster
from tacit.federated.update import Layout
from tacit.ring.prg import Stream, derive_key

__all__ = ["Boxes", "Submission", "open_share", "seal_shares", "session_name"]

KEY_BYTES = 32
SEED_BYTES = 32

Ring = npt.NDArray[np.uint64]

Boxes = dict[int, list[bytes]]
"""Each client's boxes, one for each party."""


@dataclass(frozen=True)
class Submission:
    """What is public of a client's update: who sent it, of what layout, computed on what, and digests of its boxes.

    `view` is the digest of the model and settings that came to the client, `agreed` that of the terms and the roster.
    """

    client: int
    layout: Layout
    view: bytes
    agreed: bytes
    digests: tuple[bytes, ...]
    signature: bytes

    @classmethod
    def of(
        cls,
        identity: Identity,
        client: int,
        layout: Layout,
        session: bytes,
        boxes: Sequence[bytes],
        view: bytes,
        agreed: bytes,
    ) -> Self:
        """Sign the boxes of one update."""
        bare = cls(client, layout, view, agreed, tuple(hashlib.sha256(box).digest() for box in boxes), b"")
        return replace(bare, signature=identity.sign(bare._signed(session)))

    def verify(self, roster: Roster, session: bytes, parties: int) -> None:
        """Raise `ForgeryError` unless this client signed for this session, with a box for each party."""
        if len(self.digests) != parties:
            raise ForgeryError(f"client {self.client} did not send a share for each party")
        roster.verify(self.client, self._signed(session), self.signature)

    def fits(self, party: int, box: bytes) -> bool:
        """Whether this is the box for a party that the client signed for."""
        return hashlib.sha256(box).digest() == self.digests[party]

    def _signed(self, session: bytes) -> bytes:
        own = [session, struct.pack(">I", self.client), self.layout.pack().encode(), self.view, self.agreed]
        parts = [*own, *self.digests]
        return b"tacit shares" + b"".join(struct.pack(">Q", len(part)) + part for part in parts)

    def literal(self) -> dict[str, Any]:
        """Return the submission as JSON can hold it."""
        return {
            "client": self.client,
            "layout": self.layout.pack(),
            "view": self.view.hex(),
            "agreed": self.agreed.hex(),
            "digests": [digest.hex() for digest in self.digests],
            "signature": self.signature.hex(),
        }

    @classmethod
    def parse(cls, literal: Any) -> Self:
        """Read what `literal` returned."""
        try:
            digests = tuple(bytes.fromhex(digest) for digest in literal["digests"])
            signature = bytes.fromhex(literal["signature"])
            view, agreed = bytes.fromhex(literal["view"]), bytes.fromhex(literal["agreed"])
            return cls(int(literal["client"]), Layout.unpack(literal["layout"]), view, agreed, digests, signature)
        except (KeyError, TypeError, ValueError):
            raise ForgeryError("a client's signed submission is damaged") from None


def session_name(run: int, number: int) -> bytes:
    """Return what boxes and signatures are bound to, beside the client."""
    return b"tacit parties %d/%d" % (run, number)


def seal_shares(vector: Ring, public_keys: Sequence[bytes], client: int, session: bytes) -> list[bytes]:
    """Split a vector into additive shares, and seal one for each party."""
    seeds = [os.urandom(SEED_BYTES) for _ in public_keys[1:]]
    first = vector.copy()
    for seed in seeds:
        first -= _expand(seed, vector.size)
    boxes = []
    for party, content in enumerate([first.tobytes(), *seeds]):
        ephemeral = fresh_key()
        box = seal_box(ephemeral, public_keys[party], (client, party), session, content)
        boxes.append(public_key(ephemeral) + box)
    return boxes


def open_share(private_key: bytes, party: int, client: int, session: bytes, box: bytes, count: int) -> Ring:
    """Open a client's box at its party: that party's share of the client's vector."""
    public, sealed = box[:KEY_BYTES], box[KEY_BYTES:]
    if len(public) != KEY_BYTES:
        raise ForgeryError(f"the box of client {client} is damaged")
    content = open_box(private_key, public, (client, party), session, sealed)
    if len(content) != (SEED_BYTES if party else 8 * count):
        raise ForgeryError(f"the share of client {client} has the wrong length")
    return _expand(content, count) if party else np.frombuffer(content, dtype=np.uint64)


def _expand(seed: bytes, count: int) -> Ring:
    stream: Ring = Stream(derive_key(seed, "share of an update")).bytes(8 * count).numpy().view(np.uint64)
    return stream
