"""Masks, that two clients or one alone can make, and what binds a client to its own."""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tacit.federated.boxes import agree, derive_key
from tacit.federated.masks import wide
from tacit.federated.vectors import Ring

__all__ = ["add_mask", "commitment", "pairwise_key", "self_key"]

PIECE = 1 << 15
"""Elements of a mask that are made and added at a time. Up to about 256 KiB they stay in the processor's cache, and no
memory is asked for: masks of ten million elements take an eighth of the time that they take in one piece. Fewer would
cost calls of the cipher."""


def commitment(seed: bytes, session: bytes) -> bytes:
    """Return what binds a client to its self-mask seed without telling it: the seed has 256 random bits."""
    return hashlib.sha256(b"tacit self-mask" + session + seed).digest()


def self_key(seed: bytes, session: bytes) -> bytes:
    """Return the key of PRG(b_u)."""
    return derive_key(seed, f"self-mask {session.hex()}")


def pairwise_key(private: bytes, public: bytes, pair: tuple[int, int], session: bytes, premise: bytes) -> bytes:
    """Return the key of PRG(s_uv), the same at both ends if these have the same premise.

    Else the masks of u and v do not cancel, and no sum that holds one of both vectors can be read, whoever adds it up.
    """
    low, high = sorted(pair)
    return agree(private, public, f"pairwise mask {session.hex()} {low} {high} {premise.hex()}")


def add_mask(y: Ring, key: bytes, sign: int = 1, words: int = 0) -> None:
    """Add to y, or take off, uniform ring elements: AES-CTR under a key that is used for this vector only.

    The last `words` words of y hold wide numbers, which are masked as such.
    """
    whole, y = y, y[: len(y) - words]
    stream, zeros = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor(), bytes(PIECE * y.itemsize)
    block = bytearray(len(zeros) + 15)  # the cipher asks for room for one block more
    for at in range(0, len(y), PIECE):
        part = y[at : at + PIECE]
        stream.update_into(memoryview(zeros)[: part.nbytes], block)
        mask: Ring = np.frombuffer(block, y.dtype, len(part))
        if sign > 0:
            part += mask
        else:
            part -= mask
    if words:
        wide_mask: Ring = np.frombuffer(stream.update(bytes(words * y.itemsize)), y.dtype)
        wide.add_wide(whole[len(y) :], wide_mask, sign)
