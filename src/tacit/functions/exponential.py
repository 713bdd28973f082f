"""The exponential function, of base e and others."""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from tacit.protocols.number import Number
from tacit.protocols.series import COARSE, FULL
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS

__all__ = ["COARSE_BITS", "FINEST_COARSE", "exp", "exp2", "exp_chosen", "exp_down", "exp_nonpositive", "exp_within"]

LOWEST = -30
"""Below, exp x is less than 2^-43 and counts as zero; the window of `powers_of_two` ends at -44 log 2 = -30.5."""

LOG2E = math.log2(math.e)

COARSE_BITS, COARSE_LOWEST = 16, -15.5
"""Fractional bits of sessions that read exponentials of what is not positive from a coarse table, in a fifth of the
bytes, and below what they count as zero: 2^-22.4. More: larger errors beside a unit, of which they are 1/4 at 16."""

NEAR = 2
"""How far above an exponent may count as below: to 2^-19.5, of coarse ones. More: fewer digits are compared."""

WINDOW = FULL.highest

RATE_BITS, LEAST_RATE_BITS = 30, 24
"""Bits of log2(e), and of other rates. More: the exponent is more precise (its error is |x| 2^-31); but with those of x
they must leave room for 6 more below 62, and so are fewer, down to 24, for an x that has not been truncated."""

COARSE_RATE_BITS = 18
"""The same of what is not positive, in coarse sessions: |x| exp x is 1/e at most, so the result is off by 2^-20. More:
it is finer; fewer: a product of finer factors, which may have 36 bits now, need not be truncated first."""

FINEST_COARSE = VALUE_BITS - 6 - 2 - COARSE_RATE_BITS
"""Fractional bits up to which it need not be."""


def exp_within(x: Number) -> Number:
    """Return exp x = 2^(x log2 e), where the caller knows that -30 <= x <= 11.

    Shape: any.   Domain: -30 <= x <= 11.   Error: <= 2^-20 + 2^-21 y.
    Cost: 1 round, of 8 bytes an element and party, and none if x is open; the result is not truncated.
    Reveals: nothing.   Ref: [IKMOP13] for tables that are looked up by a masked index.
    """
    return x.protocol.powers_of_two(_exponent(x, LOG2E))


def _exponent(x: Number, rate: float, spare: int = 0, least: int = LEAST_RATE_BITS) -> Number:
    """x times a rate of so many bits at least, modulo 64, with room for so many fractional bits more."""
    if rate == round(rate):
        return x.times_integer(round(rate))
    most = VALUE_BITS - 6 - spare - least
    x = x.settle(min(most, x.protocol.frac_bits + 16)) if x.frac_bits > most else x
    bits = min(RATE_BITS, VALUE_BITS - 6 - spare - x.frac_bits)
    return x.times_integer(round(rate * 2.0**bits)).rescaled(x.frac_bits + bits)


def exp(x: Number) -> Number:
    """Return exp x, and 0 for x < -30; beyond (62 - f) log 2, less up to a quarter, it stays as it is there.

    Shape: any.   Domain: -2^(61 - f) < x <= (62 - f) * 0.69 - 0.25.   Error: <= 2^(1 - f) + 2^-20 y.
    Cost: 4 rounds.   Reveals: nothing.
    """
    return exp2(x, LOG2E)


def exp2(x: Number, rate: float = 1.0) -> Number:
    """Return 2^(rate x), for a public rate above zero, which is log2 of a base; and 0 below 2^-43.

    Of exponents beyond 16, 32, … so much is taken off before the table is looked up; from one opening of x come all
    tables, and the comparisons that tell which of them counts.

    Shape: any.   Domain: |x| < 2^(61 - f) and a result below 2^(62 - f) 5/6.
    Error: <= 2^(1 - f) + (2^-20 + |x| 2^-31) y; (2^-20 + |x| 2^-25) y for an x that is a product.
    Cost: 4 rounds.   Reveals: nothing.
    """
    protocol = x.protocol
    top = VALUE_BITS - protocol.frac_bits
    offsets = [0, *range(WINDOW, top - WINDOW, WINDOW), top - WINDOW]
    last = math.floor(4 * top / LOG2E) / 4 * LOG2E  # less than all, by more than what rounding adds
    ends = [LOWEST * LOG2E, *(k + WINDOW - 0.13 for k in offsets[:-1]), last]
    exponent = _exponent(x, rate)
    powers = []
    for k in offsets:
        found = protocol.powers_of_two(_lowered(exponent, k))
        powers.append(found.rescaled(found.frac_bits - k))
    edge = 2.0 ** (VALUE_BITS - x.frac_bits)
    bits = protocol.less(x, [round(min(max(e / rate, -edge), edge) * 2.0**x.frac_bits) for e in ends])
    inside = [a ^ b for a, b in pairwise(bits)]  # [x < t] implies [x < u] for t < u
    above = bits[-1].invert()
    protocol.together(*inside, above, *powers)
    first, *rest = protocol.select(list(zip(inside, powers, strict=True)))
    out = first
    for part in rest:
        out = out + part
    most = round(2.0 ** (last + out.frac_bits))
    out = out + above.arithmetic().times_integer(most).rescaled(out.frac_bits)
    out.declare(positive=True)
    return out


def _lowered(y: Number, k: int) -> Number:
    """y - k."""
    return y if not k else y.plus(torch.tensor(-k << y.frac_bits))


def exp_down(x: Number) -> Number:
    """Return exp x, where the caller knows that -40.8 <= x <= 0: the window of `powers_of_two`, read lower.

    Shape: any.   Domain: -40.8 <= x <= 0.   Error: <= 2^-36 + 2^-21 y.
    Cost: 1 round, of 8 bytes an element and party, and none if x is open; the result is not truncated.
    Reveals: nothing.
    """
    found = x.protocol.powers_of_two(_lowered(_exponent(x, LOG2E), 1 - WINDOW))
    return found.rescaled(found.frac_bits + WINDOW - 1)


def exp_chosen(bit: Bits, x: Number) -> Number:
    """Return exp x where a bit is set, for -40.8 <= x <= 0 there, and 0 where it is not, whatever x is.

    Shape: any, one for both.   Domain: -40.8 <= x <= 0 where the bit is set.   Error: <= 2^-19 + 2^-24; of many 2^-f.
    Cost: 1 round for up to 2,500 elements, none if x and the bit are open, and not truncated; else 2.
    Reveals: nothing.
    """
    return x.protocol.chosen_powers_of_two(bit, _exponent(x, LOG2E))


def exp_nonpositive(x: Number, most: int | None = None) -> Number:
    """Return exp x, and 0 for x < -30, where the caller knows that x <= 0: fewer comparisons, and one table.

    For f <= 16 the table is a coarse one, and 0 returned for x < -15.5. Up to 2 more it may be 0, too. `most` is
    that of `less`, where it is public.

    Shape: any.   Domain: -2^(61 - f) < x <= 0.   Error: <= 2^(1 - f).
    Cost: 4 rounds.   Reveals: nothing.
    """
    coarse = x.protocol.frac_bits <= COARSE_BITS
    window, spare, least = (COARSE, 2, COARSE_RATE_BITS) if coarse else (FULL, 0, LEAST_RATE_BITS)
    found = x.protocol.powers_of_two(_exponent(x, window.of_base(math.e), spare, least), window)
    lowest = round((COARSE_LOWEST if coarse else LOWEST) * 2.0**x.frac_bits)
    (below,) = x.protocol.less(x, [lowest], near=NEAR << x.frac_bits, most=most)
    (out,) = x.protocol.select([(below.invert(), found)])
    return out
