"""What clients and server send each other, as bytes of fixed layout."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from tacit.federated.errors import ForgeryError
from tacit.federated.masks.shamir import SHARE_BYTES

__all__ = ["Advertisement", "Confirmed", "Revealed", "pack_shares", "premise", "signed_view", "unpack_shares"]

_ADVERTISEMENT = struct.Struct(">I32s32s32s64s")
_REVEALED = struct.Struct(f">IB{SHARE_BYTES}s")


@dataclass(frozen=True)
class Advertisement:
    """A client's fresh keys for one session, signed with its identity."""

    index: int
    box_key: bytes
    """For the encryption of shares, [BIKMMPRSS17] c^PK."""
    mask_key: bytes
    """For pairwise masks, s^PK."""
    commitment: bytes
    """Binds the client to its self-mask seed, so that a wrong share of it is noticed."""
    signature: bytes

    def pack(self) -> bytes:
        """Return the advertisement as bytes."""
        return _ADVERTISEMENT.pack(self.index, self.box_key, self.mask_key, self.commitment, self.signature)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read an advertisement."""
        try:
            return cls(*_ADVERTISEMENT.unpack(data))
        except struct.error:
            raise ForgeryError("an advertisement of keys is damaged") from None

    def signed(self, session: bytes) -> bytes:
        """Return what the signature is over."""
        keys = self.box_key + self.mask_key + self.commitment
        return b"tacit secure aggregation" + struct.pack(">I", len(session)) + session + keys


@dataclass(frozen=True)
class Revealed:
    """A share of the self-mask seed of a client that survived, or of the mask key of one that did not."""

    index: int
    survived: bool
    share: bytes

    def pack(self) -> bytes:
        """Return the share as bytes."""
        return _REVEALED.pack(self.index, self.survived, self.share)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read a share."""
        try:
            index, survived, share = _REVEALED.unpack(data)
        except struct.error:
            raise ForgeryError("a revealed share is damaged") from None
        return cls(index, bool(survived), share)


def signed_view(view: bytes, session: bytes) -> bytes:
    """Return what a client signs beside its masked vector: the model and settings that the vector was computed from."""
    return b"tacit view" + struct.pack(">I", len(session)) + session + view


def premise(participants: Iterable[int], view: bytes) -> bytes:
    """Return what pairwise masks hold for: who takes part, and what they compute on."""
    return hashlib.sha256(b"tacit premise" + view + _packed(participants)).digest()


def _packed(clients: Iterable[int]) -> bytes:
    ordered = sorted(clients)
    return struct.pack(f">I{len(ordered)}I", len(ordered), *ordered)


@dataclass(frozen=True)
class Confirmed:
    """What all clients of a session must agree on before anything is unmasked.

    Beside the survivors, as in [BIKMMPRSS17] Fig. 4, round 3: who takes part, and the view.
    """

    participants: frozenset[int]
    survivors: frozenset[int]
    view: bytes

    def signed(self, session: bytes, signer: Advertisement) -> bytes:
        """Return what a client signs to confirm this, as the holder of the keys that it advertised in this session.

        The keys are fresh, so a signature of an earlier session of the same name confirms nothing.
        """
        lists = [_packed(self.participants), _packed(self.survivors)]
        parts = [session, self.view, hashlib.sha256(signer.pack()).digest(), *lists]
        return b"tacit confirmation" + b"".join(struct.pack(">I", len(part)) + part for part in parts)


def pack_shares(mask_key: bytes, seed: bytes) -> bytes:
    """Return the two shares that one client holds for another."""
    return mask_key + seed


def unpack_shares(data: bytes) -> tuple[bytes, bytes]:
    """Return the share of the mask key, and that of the self-mask seed."""
    if len(data) != 2 * SHARE_BYTES:
        raise ForgeryError("a pair of shares is damaged")
    return data[:SHARE_BYTES], data[SHARE_BYTES:]
