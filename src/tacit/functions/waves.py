"""Sine and cosine, exact in argument and amplitude: they need no series and no bounded interval."""

from __future__ import annotations

import math

from tacit.protocols.number import Number
from tacit.protocols.series import ROOM, Harmonics

__all__ = ["cosine", "sine"]

TURN_BITS = 24
"""Bits of 1/2π. More: the angle is more precise (its error is |x| 2^-26 turns); but with those of x they must fit."""

ROUNDING = 2.0**-22
"""For which a sine and a cosine are dealt in 16 bytes, with room for multiples of the result."""


def sine(x: Number) -> Number:
    """Return sin x.

    Shape: any.   Domain: |x| < 2^(36 - f).   Error: <= 2^-21 + 2^-24 |x|.
    Cost: 1 round, and none if x is open; the result is not truncated.   Reveals: nothing.   Ref: [KS23].
    """
    return _wave(x, Harmonics(1, sine=(1.0,), rounding=ROUNDING, room=ROOM))


def cosine(x: Number) -> Number:
    """Return cos x; see `sine`."""
    return _wave(x, Harmonics(1, cosine=(1.0,), rounding=ROUNDING, room=ROOM))


def _wave(x: Number, series: Harmonics) -> Number:
    x = x.settle()
    turns = x.times_integer(round(2**TURN_BITS / (2 * math.pi))).rescaled(x.frac_bits + TURN_BITS)
    return x.protocol.harmonics(turns, series)
