"""The pseudo-random generator behind every share: AES-128 in counter mode, straight into ring elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Lock

import torch
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tacit.ring import kernels
from tacit.ring.ring import RING

__all__ = ["Stream", "derive_key"]

SMALL_BYTES = 1 << 13
"""Requests up to this size are slices of a block; larger ones are generated in place, with no copy."""


def derive_key(secret: bytes, purpose: str) -> bytes:
    """Return the AES key of 16 bytes for one purpose, from the secret two roles agreed on (HKDF-SHA256)."""
    return HKDF(algorithm=SHA256(), length=16, salt=None, info=b"tacit " + purpose.encode()).derive(secret)


class Stream:
    """The key stream of one AES key, read once from beginning to end.

    Two roles that hold the same key and make the same requests in the same order get the same values. A key lives for
    one run, so no part of a stream is ever used twice.
    """

    __slots__ = ("_one_at_a_time", "_source")

    def __init__(self, key: bytes) -> None:
        self._source = kernels.at("cpu").key_stream(key)
        self._one_at_a_time = Lock()
        """Two threads never get the same bytes; which of them gets which is for their callers to order."""

    def __repr__(self) -> str:
        return "Stream(<key hidden>)"

    def __reduce__(self) -> str:
        raise TypeError("a key stream cannot be copied or pickled: its values must never be used twice")

    def bytes(self, count: int) -> torch.Tensor:
        """The next `count` bytes, as a fresh uint8 tensor that starts at a multiple of 8 in memory."""
        if count > SMALL_BYTES:
            return self._source.next(count)
        with self._one_at_a_time:
            return self._source.few(count)

    def ring(self, shape: Sequence[int]) -> torch.Tensor:
        """The next ring elements, uniform over all of the ring."""
        return self.bytes(RING.bytes * math.prod(shape)).view(RING.dtype).view(tuple(shape))

    def bits(self, count: int) -> torch.Tensor:
        """The next bits, one to a byte: those of so many bytes as they take, the first one lowest."""
        plane = self.bytes((count + 7) // 8)
        return kernels.on(plane).unpack_bits(plane, count)

    def add_to(self, out: torch.Tensor) -> None:
        """Add the next ring elements, those of `ring(out.shape)`, to a contiguous tensor, in one pass."""
        if out.nbytes > SMALL_BYTES:
            self._source.add_to(out)
        else:
            out += self.ring(out.shape)

    def subtract_from(self, out: torch.Tensor) -> None:
        """Subtract the next ring elements, those of `ring(out.shape)`, from a contiguous tensor, in one pass."""
        if out.nbytes > SMALL_BYTES:
            self._source.subtract_from(out)
        else:
            out -= self.ring(out.shape)

    def subtract_words_from(self, rows: Sequence[torch.Tensor]) -> None:
        """Subtract the next bytes, one request for all the rows, as integers of each row's type."""
        sizes = [row.nbytes for row in rows]
        if sum(sizes) > SMALL_BYTES:
            for row in rows:
                self._source.subtract_from(row)
        else:
            for row, piece in zip(rows, self.bytes(sum(sizes)).split_with_sizes(sizes), strict=True):
                row -= piece.view(row.dtype).view(row.shape)

    def xor_into(self, out: torch.Tensor) -> None:
        """XOR the next bytes, those of `bytes(out.numel())`, into a contiguous uint8 tensor, in one pass."""
        if out.nbytes > SMALL_BYTES:
            self._source.xor_into(out)
        else:
            out ^= self.bytes(out.numel()).view(out.shape)
