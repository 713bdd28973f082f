"""A maximum whose choice is kept: who won each match says where the maximum was, for indices and for gradients."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from tacit.correlated.masks import BitMask
from tacit.protocols.share import Arithmetic, Binary

__all__ = ["Tournament"]


class Tournament:
    """The largest of x along its first dimension, by rounds of matches between neighbours.

    d = right - left, and left + [d > 0] d goes on; at a tie it is the earlier one. Exact.
    Shape: [n, ..] -> [..].   Domain: all of it.   Reveals: nothing.
    Cost: 4 rounds for each of ceil(log2 n) levels; 12.4 bytes for each of n - 1 matches and party.
    """

    def __init__(self, x: Arithmetic) -> None:
        self._like = x
        self._matches: list[Binary] = []
        while (players := x.shape[0]) > 1:
            half = players // 2
            left, right, rest = (_slice(x, *s) for s in ((0, 2 * half, 2), (1, 2 * half, 2), (2 * half, players, 1)))
            d = right - left
            right_wins = d.protocol.less(d, [1])[0].invert()
            (step,) = d.protocol.select([(right_wins, d)])
            x = (left + step).joined(rest)
            self._matches.append(right_wins)
        self.values = x.move(lambda t: t[0], view=False)

    @cached_property
    def winner(self) -> Binary:
        """[element i is the first largest], of the shape of x: the matches that i, or whoever beat it, has won.

        Cost: the bits of matches are open already; ceil(log2 levels) - 1 rounds of one bit for two elements.
        """
        if not self._matches:
            return self._like.protocol.public_bits(torch.ones(self._like.shape, dtype=torch.uint8))
        places = torch.arange(self._like.shape[0])
        won = []
        for right_wins in self._matches:
            half = right_wins.shape[0]
            resting = places >= 2 * half
            left = (places % 2 == 0) | resting
            places = torch.where(resting, half, places // 2)
            won.append(_spread(right_wins, places, left))
        while len(won) > 1:
            pairs = [won[k] & won[k + 1] for k in range(0, len(won) - 1, 2)]
            won = pairs + won[2 * len(pairs) :]
        return won[0]


def _spread(bit: Binary, places: Tensor, flipped: Tensor) -> Binary:
    """bit[places] ^ flipped, where one place beyond the end holds zeros. What is open stays open."""
    flips = flipped.to(torch.uint8).view(-1, *[1] * (len(bit.shape) - 1))

    def op(t: Tensor) -> Tensor:
        padded: Tensor = pad(t, [0, 0] * (t.dim() - 1) + [0, 1])
        return padded[places.to(t.device)]

    def masked(mask: BitMask) -> BitMask:
        moved = mask.map(op)
        return BitMask(None if moved.opened is None else moved.opened ^ flips, moved.beta, moved.ring)

    out = bit._like([op(t) ^ flips if i == 0 else op(t) for i, t in bit.protocol.indexed(bit.tensors)])
    out._descend(bit, masked, None)
    return out


def _slice(x: Arithmetic, start: int, stop: int, step: int) -> Arithmetic:
    return x.move(lambda t: t[start:stop:step], view=False)
