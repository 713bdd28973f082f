"""Square roots and their reciprocals."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from tacit.functions.linear import argument
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.step import Octaves
from tacit.protocols.number import Number
from tacit.protocols.scale import PRECISE_BITS, SLACK_BITS
from tacit.protocols.series import Harmonics

__all__ = ["RootFactors", "rsqrt", "rsqrt_factors", "sqrt"]

INVERSE_ROOT = Harmonics(
    2,
    sine=(
        -5.693380171564, -5.301855144171, -1.163929881076, 0.9533296137238, 0.6439448199186,
        0.08932352082837, -0.02666897759621, -0.00737352058951, -0.0002392838016023,
    ),
    cosine=(
        5.217030688724, -1.175216612682, -3.020827290035, -1.290518318084, 0.05499834345385,
        0.1837404616306, 0.03965402462749, -0.0005592198031287, -0.0005187098145116,
    ),
    constant=5.572890737109,
    rounding=2.0**-24,
)  # fmt: skip
"""Closest to 1/√z on [1/4, 1) in relative error, 8.9e-9 (Lawson, with coefficients held small, for they multiply the
rounding). z is open already, so it needs no round, where Newton's steps from a shorter series need three."""

ROOT = Harmonics(
    2,
    sine=(
        0.1134842175915, 0.2506884216238, 0.06501303264327, -0.02112819763231, -0.01104540033006,
        -0.0005751626124322, 0.0001378927197411,
    ),
    cosine=(
        -0.522325837677, -0.04835376455493, 0.09307399761744, 0.03523192992116, -0.001356564534006,
        -0.001917965401048, -0.0001161297369212,
    ),
    constant=0.5843152444648,
    rounding=2.0**-25,
)  # fmt: skip
"""Closest to √z on [1/4, 1) in the same way: 2.1e-8."""

AT_ZERO = INVERSE_ROOT.constant + math.fsum(INVERSE_ROOT.cosine)
"""What the series makes of zero."""

FINE_BITS = 28
"""Fractional bits of the root of a secret with more than 16: from 28 on a quotient by it keeps small ones apart."""


def rsqrt(x: Number, least: float = 0.0) -> Number:
    """Return 1/√x = s / √z, with a series for 1/√z, after scaling x to z = x s² in [1/4, 1).

    A caller who knows a bound, x >= least, saves comparisons.

    Shape: any.   Domain: 2^-f <= x < 2^(62 - f), where f, at most 42, is the number of fractional bits that x has.
    Error: <= 2^-23 y + 2^-23.   Below the domain the result is 2^(f/2).
    Cost: 8 rounds.   Reveals: nothing.   Ref: [CS10].
    """
    x = argument(x)
    protocol = x.protocol
    octaves = Octaves(x, least=least)
    low, high = octaves.exponents[0], octaves.exponents[-1]
    square = octaves.scale()
    zero = 2.0 ** ((2 - low) // 2) / AT_ZERO
    scale = octaves.function(lambda e: 2.0 ** (-e // 2), max(high, 0) // 2, zero)
    protocol.together(square, scale)
    z = octaves.scaled(square)
    y = protocol.harmonics(z, INVERSE_ROOT).settle(WORKING_BITS)
    out = protocol.multiply(y, scale).settle(WORKING_BITS)
    out.declare(positive=True)
    return out


class RootFactors(NamedTuple):
    """1/√x = y s, each of them open or about to be."""

    wave: Number
    """k y in k (1, 2], for a public k, not truncated."""
    scale: Number
    """s, a power of two, which is masked."""


def rsqrt_factors(x: Number, k: float = 1.0, least: float = 0.0) -> RootFactors:
    """Return k y and s of k/√x = k y s, for few elements, which may meet other factors one by one.

    A caller who knows a bound, x >= least, saves comparisons.

    Shape: any.   Domain, and below it: as for `rsqrt`.   Error: <= 2^-23 k y, relative.
    Cost: 5 rounds; the producer deals 8 bytes more for each of up to 31 octaves.   Reveals: nothing.   Ref: [CS10].
    """
    octaves = Octaves(x, least=least)
    low, high = octaves.exponents[0], octaves.exponents[-1]
    z = octaves.selected()
    scale = octaves.function(lambda e: 2.0 ** (-e // 2), max(high, 0) // 2, 2.0 ** ((2 - low) // 2) / AT_ZERO)
    x.protocol.together(z, scale)
    return RootFactors(x.protocol.harmonics(z, _inverse_root(k)), scale)


@cache
def _inverse_root(k: float) -> Harmonics:
    """k/√z."""
    if k == 1:
        return INVERSE_ROOT
    sine, cosine = (tuple(k * c for c in row) for row in (INVERSE_ROOT.sine, INVERSE_ROOT.cosine))
    return replace(INVERSE_ROOT, sine=sine, cosine=cosine, constant=k * INVERSE_ROOT.constant)


def sqrt(x: Number) -> Number:
    """Return √x = √z / s, with z and s as in `rsqrt`, and a series for √z.

    Shape: any.   Domain: 2^-f <= x < 2^(62 - f), with f as in `rsqrt`; and √x = 0 for x <= 0.
    Error: <= 2^-22 y + 2^-23.   Cost: 8 rounds.   Reveals: nothing.   Ref: [CS10].
    """
    x = argument(x)
    protocol = x.protocol
    octaves = Octaves(x)
    fine = min(FINE_BITS, protocol.frac_bits + SLACK_BITS)  # more would be truncated by the next public factor
    square = octaves.scale()
    unscale = octaves.function(lambda e: 2.0 ** (e // 2), max(-octaves.exponents[0] // 2, 0))
    protocol.together(square, unscale)
    y = protocol.harmonics(octaves.scaled(square), ROOT).settle(WORKING_BITS)
    root = protocol.multiply(y, unscale).settle(fine if x.frac_bits > 16 else WORKING_BITS)
    root.declare(positive=True, wide=x.frac_bits < PRECISE_BITS)  # else it is below 2^10
    return root
