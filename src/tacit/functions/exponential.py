"""The exponential function."""

from __future__ import annotations

import math

from tacit.protocols.arithmetic import Arithmetic

__all__ = ["exp", "exp_nonpositive", "exp_within"]

LOWEST = -30
"""Below, exp x is less than 2^-43 and counts as zero; the window of `powers_of_two` ends at -44 log 2 = -30.5."""

HIGHEST = 11
"""Above, a power stays at exp 11: the window ends at 16 log 2 = 11.09."""

LOG2E_BITS = 24
"""Bits of log2(e). More: the exponent is more precise (its error is |x| 2^-25); but with those of x they must leave
room for 6 more below 62."""


def exp_within(x: Arithmetic) -> Arithmetic:
    """Return exp x = 2^(x log2 e), where the caller knows that -30 <= x <= 11.

    Shape: any.   Domain: -30 <= x <= 11.   Error: <= 2^-20 + 2^-21 y.
    Cost: 1 round, of 8 bytes an element and party, and none if x is open; the result is not truncated.
    Reveals: nothing.   Ref: [IKMOP13] for tables that are looked up by a masked index.
    """
    most = 62 - 6 - LOG2E_BITS
    x = x.settle(min(most, x.protocol.frac_bits + 16)) if x.frac_bits > most else x
    y = x.times_integer(round(math.log2(math.e) * 2**LOG2E_BITS)).rescaled(x.frac_bits + LOG2E_BITS)
    return x.protocol.powers_of_two(y)


def exp(x: Arithmetic) -> Arithmetic:
    """Return exp x, and 0 for x < -30; beyond 11 it stays at exp 11, and so does its derivative.

    Shape: any.   Domain: -2^(61 - f) < x <= 11.   Error: <= 2^(1 - f) + 2^-21 y.
    Cost: 4 rounds.   Reveals: nothing.
    """
    power = exp_within(x)
    below, within = x.protocol.less(x, [LOWEST << x.frac_bits, HIGHEST << x.frac_bits])
    inside, above = below ^ within, within.invert()  # [x < -30] implies [x < 11]
    x.protocol.mask(inside, above, power)
    (out,) = x.protocol.select([(inside, power)])
    most = round(math.exp(HIGHEST) * 2**out.frac_bits)
    return out + above.arithmetic().times_integer(most).rescaled(out.frac_bits)


def exp_nonpositive(x: Arithmetic) -> Arithmetic:
    """Return exp x, and 0 for x < -30, where the caller knows that x <= 0: one comparison less.

    Shape: any.   Domain: -2^(61 - f) < x <= 0.   Error: <= 2^(1 - f).
    Cost: 4 rounds.   Reveals: nothing.
    """
    power = exp_within(x)
    (below,) = x.protocol.less(x, [LOWEST << x.frac_bits])
    (out,) = x.protocol.select([(below.invert(), power)])
    return out
