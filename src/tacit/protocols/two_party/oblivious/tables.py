"""Tables in which every key finds its value, and nothing shows which keys there are; and keys, from digests."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from tacit.protocols.two_party.oblivious.kernels import DENSE, at_hand

__all__ = ["KEY_BYTES", "Shape", "keys_of"]

KEY_BYTES = 32
"""Of what makes keys of digests."""

ROOM, MORE = 1.23, 0.1
"""Cells a key of a large table, and those of a key beyond what [GL22] gives it. Fewer: less is sent; more: peeling
leaves nothing. Without them it left more than elimination takes of 7 of 600 tables of 20,000 keys; with 0.08, of none.
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """How cells lie: segments of `length`, of which a key has a place in three neighbouring ones, and 64 at the end."""

    length: int
    starts: int

    @classmethod
    def of(cls, count: int) -> Shape:
        """The shape for so many keys, [GL22] section 4 with more room."""
        log = math.log(max(count, 2))
        length = 1 << min(max(int(log / math.log(3.33) + 2.25), 2), 18)
        room = max(ROOM, 0.875 + MORE + 0.25 * math.log(1e6) / log)
        return cls(length, max(math.ceil(count * room / length) - 2, 1))

    @property
    def cells(self) -> int:
        """How many there are."""
        return (self.starts + 2) * self.length + DENSE

    def encode(self, keys: Tensor, values: Tensor, out: Tensor) -> bool:
        """Fill a table [cells, width] so that each key [n, 4] finds its value [n, width]; see `Reference.encode`."""
        return at_hand().encode(keys, values, self.length, self.starts, out)

    def decode(self, keys: Tensor, cells: Tensor) -> Tensor:
        """What each key finds: [n, width]."""
        return at_hand().decode(keys, self.length, self.starts, cells)


def keys_of(digests: Tensor, key: bytes) -> Tensor:
    """Four words for each digest of two, int64 [n, 2] -> [n, 4], by a cipher whose key of 32 bytes is public."""
    data = digests.contiguous().numpy().tobytes()
    halves = []
    for at in (0, 16):
        cipher = Cipher(algorithms.AES(key[at : at + 16]), modes.ECB()).encryptor()  # noqa: S305 - as a random function
        halves.append(torch.frombuffer(bytearray(cipher.update(data)) or bytearray(16), dtype=torch.int64))
    return torch.cat([half.view(-1, 2)[: len(digests)] for half in halves], dim=1)
