"""What a client sends to the computing parties: boxes, and what is public of them.

The client signs the digests of all its boxes, so that every party knows, of boxes that it never sees, that they are of
one update in one session.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from tacit.federated.errors import ForgeryError
from tacit.federated.identity import Identity, Roster
from tacit.federated.update import Layout

__all__ = ["Boxes", "Submission", "session_name"]

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
            client = int(literal["client"])
            if not 0 <= client < 1 << 32:
                raise ValueError
            return cls(client, Layout.unpack(literal["layout"]), view, agreed, digests, signature)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ForgeryError("a client's signed submission is damaged") from None


def session_name(run: int, number: int) -> bytes:
    """Return what boxes and signatures are bound to, beside the client."""
    return b"tacit parties %d/%d" % (run, number)
