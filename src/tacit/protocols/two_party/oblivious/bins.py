"""Bins, of which a key has three, so that each of many keys can have one for itself [PSTY19]."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import ceil, comb

import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.protocols.two_party.oblivious.kernels import CHOICES, at_hand
from tacit.protocols.two_party.oblivious.tables import KEY_BYTES, keys_of

__all__ = ["Bins"]

ROOM = 1.4
"""Bins a key of a large table. Fewer: less has to be moved; more: keys find theirs. 1.27 did whenever it was tried
[PSTY19]; that these do can be shown, by a sum over all ways in which keys may have too few bins."""

SECURITY = 40
"""Keys find no bins with probability below 2^-40: that they do says no more about them."""

ATTEMPTS = 16

HALF = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Bins:
    """Three times `third` bins; a key has one in each third."""

    third: int

    @classmethod
    def of(cls, count: int) -> Bins:
        """As many as so many keys take: of a small table, what keeps four keys from having the same three."""
        few = 3 * (comb(count, 4) * 2.0 ** (SECURITY + 1)) ** (1 / 9)
        return cls(max(ceil(ROOM * count / CHOICES), ceil(few / CHOICES), 1))

    @property
    def count(self) -> int:
        """How many there are."""
        return CHOICES * self.third

    def places(self, digests: Tensor, key: bytes) -> Tensor:
        """The bins of keys with these digests, by a cipher whose key is public: int64 [n, 3]."""
        words = keys_of(digests, key)
        pieces = torch.stack([words[:, 0], words[:, 0] >> 32, words[:, 1]], dim=1) & HALF
        return (pieces * self.third >> 32) + torch.arange(CHOICES) * self.third

    def filled(self, digests: Tensor) -> tuple[bytes, Tensor]:
        """A key of the cipher, drawn here, and which of its bins each key gets for itself, uint8 [n]."""
        for _ in range(ATTEMPTS):
            key = os.urandom(KEY_BYTES)
            choice = at_hand().placed(self.places(digests, key), self.count)
            if choice is not None:
                return key, choice
        raise TacitError(f"{len(digests)} keys found no bins in {ATTEMPTS} attempts: some of them are alike")
