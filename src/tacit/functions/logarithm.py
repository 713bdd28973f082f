"""The natural logarithm."""

from __future__ import annotations

import math

from tacit.functions.linear import argument
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.step import Octaves
from tacit.protocols.number import Number
from tacit.protocols.series import ROOM, Harmonics

__all__ = ["log"]

SERIES = Harmonics(
    2,
    sine=(
        2.961848491059, 2.922257428768, 0.5861944534302, -0.5306457792961, -0.3155582245745,
        -0.02913700758109, 0.01596576007718, 0.003248786587326, 4.315344420122e-05,
    ),
    cosine=(
        -3.396526432685, 0.5265056655964, 1.601616902747, 0.6260814702466, -0.06313246973589,
        -0.09473015414503, -0.0159800222686, 0.001021901752324, 0.0002526517856794,
    ),
    constant=-2.932648249662,
    rounding=2.0**-25,
    room=ROOM,
)  # fmt: skip
"""Closest to log z on [1/4, 1) in absolute error, 4.0e-9 (Lawson, with coefficients held small, for they multiply the
rounding). z is open already, so it needs no round, where a polynomial needs four."""

AT_ZERO = SERIES.constant + math.fsum(SERIES.cosine)
"""What the series makes of zero."""


def log(x: Number, least: float = 0.0, most: float = math.inf, zero: float | None = None) -> Number:
    """Return log x = log z + e log 2, after scaling x to z = x 2^-e in [1/4, 1), with a series for log z.

    A caller who knows bounds, least <= x <= most, saves comparisons.

    Shape: any.   Domain: 2^-f <= x < 2^(62 - f), where f, at most 42, is the number of fractional bits that x has.
    Error: <= 2^-21.   Below the domain it is `zero`, or log(2^-f) - log 2.
    Cost: 7 rounds.   Reveals: nothing.   Ref: [CS10].
    """
    x = argument(x)
    protocol = x.protocol
    octaves = Octaves(x, least=least, most=most)
    scale = octaves.scale()
    series = protocol.harmonics(octaves.scaled(scale), SERIES)
    zero = -(x.frac_bits + 1) * math.log(2) if zero is None else zero
    whole = octaves.function(lambda e: e * math.log(2), series.frac_bits, zero - AT_ZERO)
    return series.added(whole).settle(WORKING_BITS)
