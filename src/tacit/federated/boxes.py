"""Key agreement, and boxes: what one role encrypts for another, bound to a session and to who they are."""

from __future__ import annotations

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tacit.errors import ForgeryError

__all__ = ["agree", "derive_key", "fresh_key", "open_box", "public_key", "seal_box"]

NONCE_BYTES = 12


def derive_key(secret: bytes, purpose: str) -> bytes:
    """Return the AES key of 16 bytes for one purpose, from a secret (HKDF-SHA256)."""
    return HKDF(algorithm=SHA256(), length=16, salt=None, info=b"tacit " + purpose.encode()).derive(secret)


def fresh_key() -> bytes:
    """Return an X25519 private key."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """Return the public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, purpose: str) -> bytes:
    """Return the key of 16 bytes for one purpose that the holders of both private keys agree on."""
    try:
        secret = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise ForgeryError("a public key is a point of small order") from None
    return derive_key(secret, purpose)


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
    bound = session + struct.pack(">II", *route)
    return agree(private, public, f"shares {session.hex()} {route[0]} {route[1]}"), bound
