"""Key agreement, masks, and the encryption of shares between two clients."""

from __future__ import annotations

import hashlib
import os

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tacit.federated.errors import ForgeryError
from tacit.federated.secagg.encoding import Ring
from tacit.ring.prg import Stream, derive_key

__all__ = [
    "add_mask",
    "commitment",
    "fresh_key",
    "open_box",
    "pairwise_key",
    "public_key",
    "seal_box",
    "self_key",
]

NONCE_BYTES = 12

PIECE = 1 << 15
"""Elements of a mask that are made and added at a time. Up to about 256 KiB they stay in the processor's cache, and no
memory is asked for: masks of ten million elements take an eighth of the time that they take in one piece. Fewer would
cost calls of the cipher."""


def fresh_key() -> bytes:
    """Return an X25519 private key."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """Return the public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _agree(private: bytes, public: bytes, purpose: str) -> bytes:
    try:
        secret = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise ForgeryError("a public key is a point of small order") from None
    return derive_key(secret, purpose)


def commitment(seed: bytes, session: bytes) -> bytes:
    """Return what binds a client to its self-mask seed without telling it: the seed has 256 random bits."""
    return hashlib.sha256(b"tacit self-mask" + session + seed).digest()


def self_key(seed: bytes, session: bytes) -> bytes:
    """Return the key of PRG(b_u)."""
    return derive_key(seed, f"self-mask {session.hex()}")


def pairwise_key(private: bytes, public: bytes, pair: tuple[int, int], session: bytes) -> bytes:
    """Return the key of PRG(s_uv), the same at both ends."""
    low, high = sorted(pair)
    return _agree(private, public, f"pairwise mask {session.hex()} {low} {high}")


def add_mask(y: Ring, key: bytes, sign: int = 1) -> None:
    """Add to y, or take off, uniform ring elements: AES-CTR under a key that is used for this vector only."""
    stream = Stream(key)
    for at in range(0, len(y), PIECE):
        part = y[at : at + PIECE]
        mask: Ring = stream.bytes(part.nbytes).numpy().view(y.dtype)
        if sign > 0:
            part += mask
        else:
            part -= mask


def seal_box(private: bytes, public: bytes, route: tuple[int, int], session: bytes, plaintext: bytes) -> bytes:
    """Encrypt from client route[0] to client route[1] (AES-GCM under their agreed key, bound to route and session)."""
    key, bound = _box(private, public, route, session)
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, bound)


def open_box(private: bytes, public: bytes, route: tuple[int, int], session: bytes, box: bytes) -> bytes:
    """Decrypt what `seal_box` made, or raise `ForgeryError`."""
    key, bound = _box(private, public, route, session)
    try:
        return AESGCM(key).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError):
        raise ForgeryError(f"the shares from client {route[0]} to client {route[1]} are forged or damaged") from None


def _box(private: bytes, public: bytes, route: tuple[int, int], session: bytes) -> tuple[bytes, bytes]:
    bound = session + np.array(route, dtype=">u4").tobytes()
    return _agree(private, public, f"shares {session.hex()} {route[0]} {route[1]}"), bound
