"""Cryptographic randomness, straight from the operating system.

Nothing here can be seeded. NumPy's and Python's generators are never used for anything that hides a value.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
Word = npt.NDArray[np.uint64]

CBD_PAIRS = 21
"""Pairs of bits in one error term. SEAL's own error distribution: standard deviation sqrt(21/2) = 3.24, the 3.2 of the
HomomorphicEncryption.org standard; the error is never larger than 21, which makes the bounds of `noise.py` rigorous."""


def words(count: int) -> Word:
    """Return `count` uniform 64-bit words."""
    return np.frombuffer(os.urandom(8 * count), dtype="<u8").astype(np.uint64)


def below(bound: int, count: int) -> Int:
    """Return `count` integers uniform in [0, bound), without modulo bias, for 1 <= bound <= 2^62."""
    if not 1 <= bound <= 1 << 62:
        raise ValueError(f"bound must be in [1, 2^62], not {bound}")
    mask = np.uint64((1 << (bound - 1).bit_length()) - 1)
    out = words(count) & mask
    while (bad := np.flatnonzero(out >= bound)).size:  # each word is kept with probability over one half
        out[bad] = words(bad.size) & mask
    return out.astype(np.int64)


def nonzero_below(bound: int, count: int) -> Int:
    """Return `count` integers uniform in [1, bound)."""
    return 1 + below(bound - 1, count)


def permutation(size: int) -> npt.NDArray[np.intp]:
    """Return a uniform permutation of range(size): the order of `size` distinct random 64-bit keys."""
    keys = words(size)
    while np.unique(keys).size < size:  # a tie (probability < size^2 / 2^65) would favour one of the two orders
        keys = words(size)
    return np.argsort(keys)


def ternary(count: int) -> Int:
    """Return `count` integers uniform in {-1, 0, 1}: bytes modulo 3, drawn again where they are 255."""
    out = np.frombuffer(os.urandom(count), dtype=np.uint8).copy()
    while (bad := np.flatnonzero(out == 255)).size:
        out[bad] = np.frombuffer(os.urandom(bad.size), dtype=np.uint8)
    trits: Int = (out % 3).astype(np.int64) - 1
    return trits


def _ones(bits: Word) -> Int:
    """Return how many of the low 32 bits are set, by adding neighbours in fields of 2, 4, 8 bits."""
    pairs = bits - ((bits >> np.uint64(1)) & np.uint64(0x55555555))
    nibbles = (pairs & np.uint64(0x33333333)) + ((pairs >> np.uint64(2)) & np.uint64(0x33333333))
    octets = (nibbles + (nibbles >> np.uint64(4))) & np.uint64(0x0F0F0F0F)
    ones: Int = (((octets * np.uint64(0x01010101)) >> np.uint64(24)) & np.uint64(0xFF)).astype(np.int64)
    return ones


def centered_binomial(count: int) -> Int:
    """Return `count` small errors: the number of ones among 21 fair bits, less that among 21 others."""
    fair, mask = words(count), np.uint64((1 << CBD_PAIRS) - 1)
    return _ones(fair & mask) - _ones((fair >> np.uint64(32)) & mask)


def symmetric_residues(bits: int, count: int, primes: tuple[int, ...]) -> Word:
    """Return `count` integers uniform in [-2^bits, 2^bits), as residues: one row for each prime, each below 2^48.

    Built from 16-bit digits by Horner's rule, v <- v 2^16 + digit (mod q), so that no product leaves 64 bits.
    """
    if any(q >= 1 << 48 for q in primes):
        raise ValueError("residues are computed for primes below 2^48")
    digits = -(-(bits + 1) // 16)
    raw = np.frombuffer(os.urandom(2 * digits * count), dtype="<u2").reshape(digits, count).astype(np.uint64)
    raw[0] &= np.uint64((1 << (bits + 1 - 16 * (digits - 1))) - 1)
    out = np.empty((len(primes), count), dtype=np.uint64)
    for row, q in enumerate(primes):
        value = np.zeros(count, dtype=np.uint64)
        for digit in raw:
            value = ((value << np.uint64(16)) + digit) % np.uint64(q)
        out[row] = (value + np.uint64(q - (1 << bits) % q)) % np.uint64(q)
    return out
