"""Clipping with all bits."""

from __future__ import annotations

import math

import torch

from tacit.protocols.number import Number

__all__ = ["clip"]

EDGE_BITS = 61
"""Bits of the bound in the ring. More: finer numbers; fewer: room for what is compared with it."""


def clip(x: Number, bound: float) -> Number:
    """Return x where |x| <= bound, else bound with the sign of x, at the scale of x, and precise: not truncated.

    Shape: any.   Domain: |x| < 2^(62 - f).   Error: none, but for a truncation to 52 fractional bits.
    Cost: 4 rounds.   Reveals: nothing.
    """
    x = x.settle(EDGE_BITS - math.frexp(bound)[1] + 1)  # finer ones, in sessions of 25 bits and more, end before
    edge = round(bound * 2**x.frac_bits)
    x = x.fork()
    x.declare(precise=True)
    low, high = x.protocol.less(x, [-edge, edge + 1])  # [x < -edge] implies [x < edge + 1]
    inside = low ^ high
    x.protocol.together(low, high, inside)
    (out,) = x.protocol.select([(inside, x)])
    ends = low.arithmetic().added(high.arithmetic()).times_integer(-edge).plus(torch.tensor(edge))
    ends.declare(frac_bits=x.frac_bits)
    return out.added(ends)
