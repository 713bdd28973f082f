"""Key agreement, masks, and the encryption of shares between two clients."""

from __future__ import annotations

import hashlib
import os

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tacit.federated.errors import ForgeryError
from tacit.federated.secagg.encoding import Encoding, Ring
from tacit.ring.prg import Stream, derive_key

__all__ = [
    "commitment",
    "fresh_key",
    "mask",
    "open_box",
    "pairwise",
    "public_key",
    "seal_box",
    "self_mask",
]

NONCE_BYTES = 12


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


def self_mask(seed: bytes, session: bytes, count: int, encoding: Encoding) -> Ring:
    """Return PRG(b_u)."""
    return mask(derive_key(seed, f"self-mask {session.hex()}"), count, encoding)


def pairwise(
    private: bytes, public: bytes, pair: tuple[int, int], session: bytes, count: int, encoding: Encoding
) -> Ring:
    """Return PRG(s_uv), the same at both ends."""
    low, high = sorted(pair)
    return mask(_agree(private, public, f"pairwise mask {session.hex()} {low} {high}"), count, encoding)


def mask(key: bytes, count: int, encoding: Encoding) -> Ring:
    """Return uniform ring elements: AES-CTR under a key that is used for this vector only."""
    stream: Ring = Stream(key).bytes(count * encoding.dtype.itemsize).numpy().view(encoding.dtype)
    return stream


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
