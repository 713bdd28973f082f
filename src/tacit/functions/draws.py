"""Secret draws: a uniform number that nobody knows, and a place drawn by secret weights."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.functions.exponential import LOWEST, exp_within
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol

__all__ = ["drawn", "fine_weights", "uniform"]

UNIFORM_BITS = 24
"""Of a uniform number, at most. More: finer draws; but with the bits of a sum of weights they must stay below 61."""

WEIGHT_BITS = 24
"""Fractional bits of weights of at most 1. More: rarer places keep their share; fewer: finer uniform numbers."""

ROOM = 61
"""Bits of a sum of weights times a uniform number, of which differences are compared."""


def uniform(protocol: Protocol, shape: Sequence[int], bits: int) -> Number:
    """Return u, uniform in [0, 1), of so many bits: the XOR of bits that each party draws from its operating system.

    One party that draws as it should is enough for nobody to know anything of u.
    Cost: 1 round of sharing, 1 of bits as integers.   Reveals: nothing.
    """
    session, size = protocol.session, (bits, *shape)
    total = None
    for party in session.parties:
        mine = None
        if party in session.transport.hosted:
            count = math.prod(size)
            mine = (torch.frombuffer(bytearray(os.urandom(max(count, 1))), dtype=torch.uint8)[:count] & 1).view(size)
        share = protocol.share_bits(mine, party, size)
        total = share if total is None else total ^ share
    assert total is not None
    powers = (1 << torch.arange(bits)).view(-1, *[1] * len(shape))
    out = total.arithmetic().linear(lambda t: (t * powers.to(t.device)).sum(0))
    return out.declare(frac_bits=bits, positive=True)


def fine_weights(difference: Number) -> Number:
    """Return exp x with more fractional bits than a softmax has, for x <= 0, and 0 for x < -30.

    Of many places each of which is rare a softmax leaves little in 16 bits; these are off by 2^-23.
    Cost: 5 rounds.   Reveals: nothing.
    """
    protocol, bits = difference.protocol, WEIGHT_BITS
    found = exp_within(difference).settle(bits).rescaled(protocol.frac_bits)  # a selection would truncate what has more
    (below,) = protocol.less(difference, [LOWEST << difference.frac_bits])
    (chosen,) = protocol.select([(below.invert(), found)])
    return chosen.rescaled(bits)


def drawn(weights: Number, count: int, most: float) -> Number:
    """Return `count` places along the last dimension, drawn with replacement, each place as often as its weight says.

        i = #{k < n-1 : w_0 + … + w_k <= u (w_0 + … + w_(n-1))}        for a secret uniform u

    Shape: [.., n] -> [.., count].   Domain: weights >= 0 with a sum above zero and below `most`. Of other weights some
    place is drawn that there is, of zeros the last one.
    Error: probabilities by n 2^-24 for weights of 24 bits, by the rounding of the weights for others, and by 2^-24, or
    as little as sums of this size leave room for.
    Cost: 7 rounds; a comparison for each place but one, and draw.   Reveals: nothing.
    """
    protocol, shape = weights.protocol, weights.shape
    bits = min(UNIFORM_BITS, ROOM - weights.frac_bits - math.ceil(math.log2(most)))
    edges = weights.linear(lambda t: t.cumsum(-1)).rescaled(0)
    total = edges.move(lambda t: t[..., -1:], view=False)
    aim = protocol.multiply(total, uniform(protocol, (*shape[:-1], count), bits)).rescaled(0)
    reach = (*shape[:-1], count, shape[-1] - 1)

    def spread(t: Tensor) -> Tensor:
        return t[..., :-1].unsqueeze(-2).expand(reach)

    column = aim.move(lambda t: t.unsqueeze(-1).expand(reach), view=False)
    passed = edges.times_integer(1 << bits).move(spread, view=False).added(-column)
    (below,) = protocol.less(passed, [1])
    return below.arithmetic().sum([len(reach) - 1])
