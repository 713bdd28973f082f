"""Oblivious transfers from a key encapsulation: two ML-KEM-768 keys a bit, one of them without anybody who can open it.

The receiver makes a pair of keys for the side that it chose, and for the other side draws an encapsulation key at
random, whose secret nobody knows. The sender encapsulates to both; the receiver opens one. To the sender both keys look
alike, as those of ML-KEM are pseudorandom; to the receiver, so is what is encapsulated to uniform coefficients. Both
are the assumption that ML-KEM stands on: module learning with errors.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from tacit.errors import ConfigError, DivergenceError

__all__ = ["ANSWER_BYTES", "KEY_BYTES", "Chooser", "answer"]

Q = 3329
"""The modulus of ML-KEM. A coefficient takes 12 bits, of which the values from Q on stand for nothing."""

COEFFICIENTS = 768
KEY_BYTES = 1184
"""An encapsulation key: the coefficients, and the 32 bytes that its matrix is made of. [FIPS203] section 7"""

ANSWER_BYTES = 1088
"""A ciphertext."""

Octets = npt.NDArray[np.uint8]


class Chooser:
    """The receiver of a transfer for each of its choices. It makes one answer of its secrets, and is used once."""

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = tuple(choices)
        self._secrets = [_generate() for _ in choices]
        own = np.frombuffer(b"".join(s.public_key().public_bytes_raw() for s in self._secrets), np.uint8)
        both = np.empty((len(self._choices), 2, KEY_BYTES), np.uint8)
        rows, side = np.arange(len(self._choices)), np.array(self._choices, np.int64)
        both[rows, side] = own.reshape(-1, KEY_BYTES)
        both[rows, 1 - side] = drawn_keys(len(self._choices))
        self.keys: Octets = both.reshape(-1)
        """What is sent: for each transfer the key of side 0 and of side 1."""

    def __repr__(self) -> str:
        return f"Chooser({len(self._choices)} transfers, <secrets hidden>)"

    def open(self, answers: bytes) -> list[bytes]:
        """The secrets of 32 bytes that were chosen."""
        pairs = np.frombuffer(answers, np.uint8).reshape(len(self._choices), 2, ANSWER_BYTES)
        return [
            _secret(place, choice, secret.decapsulate(pairs[place, choice].tobytes()))
            for place, (choice, secret) in enumerate(zip(self._choices, self._secrets, strict=True))
        ]


def answer(keys: bytes, peer: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The sender's step, from the keys that the peer sent: what to answer, and for each transfer both secrets.

    Raises:
        DivergenceError: for bytes that are no keys.
    """
    wrong = (
        f"the keys for oblivious transfers that came from {peer} are none: it runs another version of Tacit, or lies"
    )
    if (_coefficients(np.frombuffer(keys, np.uint8).reshape(-1, KEY_BYTES)) >= Q).any():
        raise DivergenceError(wrong)
    texts, secrets = [], []
    for at in range(0, len(keys), KEY_BYTES):
        try:
            secret, text = MLKEM768PublicKey.from_public_bytes(keys[at : at + KEY_BYTES]).encapsulate()
        except ValueError as error:
            raise DivergenceError(wrong) from error
        place, side = divmod(at // KEY_BYTES, 2)
        texts.append(text)
        secrets.append(_secret(place, side, secret))
    return b"".join(texts), list(zip(secrets[::2], secrets[1::2], strict=True))


def drawn_keys(count: int) -> Octets:
    """Encapsulation keys of uniform coefficients, whose secrets nobody knows: [count, 1184].

    Numbers of 12 bits are drawn, and those that are no coefficients thrown away: one in five.
    """
    wanted = count * COEFFICIENTS
    kept = np.empty(0, np.uint16)
    while kept.size < wanted:
        drawn = np.frombuffer(os.urandom(2 * ((wanted - kept.size) * 5 // 4 + 64)), np.uint16) & 0xFFF
        kept = np.concatenate([kept, drawn[drawn < Q]])
    low, high = kept[:wanted].reshape(count, -1, 2).transpose(2, 0, 1)
    packed = np.stack([low & 0xFF, low >> 8 | (high & 0xF) << 4, high >> 4], axis=-1).astype(np.uint8)
    seeds = np.frombuffer(os.urandom(32 * count), np.uint8).reshape(count, 32)
    return np.concatenate([packed.reshape(count, -1), seeds], axis=1)


def _coefficients(keys: Octets) -> npt.NDArray[np.uint16]:
    """The numbers of 12 bits that stand in keys: [count, 1184] -> [count, 768]. [FIPS203] Algorithm 6"""
    first, middle, last = (
        keys[:, : COEFFICIENTS * 3 // 2].reshape(len(keys), -1, 3).astype(np.uint16).transpose(2, 0, 1)
    )
    return np.stack([first | (middle & 0xF) << 8, middle >> 4 | last << 4], axis=-1).reshape(len(keys), -1)


def _secret(place: int, side: int, shared: bytes) -> bytes:
    return sha256(b"tacit base transfer" + bytes([place, side]) + shared).digest()


def _generate() -> MLKEM768PrivateKey:
    try:
        return MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm as missing:
        raise ConfigError(
            "two parties without a crypto-producer need ML-KEM-768, which the OpenSSL that the package cryptography "
            "was built with lacks: install a wheel of cryptography 47 or later, or compute with a crypto-producer"
        ) from missing
