"""Truncation of a masked secret, z >> s: one dealing, no opening of its own, never a wrap failure.

For |z| < 2^62 and z = E + a, let E' = E + 2^62, so that z' = z + 2^62 = E' + a mod 2^64 lies in [0, 2^63). The sum
E' + a wraps around 2^64 exactly if w = msb(E') or msb(a), since otherwise z' would have its top bit set. So

    z' >> s  =  (E' >> s) + (a >> s) - w 2^(64-s) + {0, 1}         w = msb(E') + (1 - msb(E')) msb(a)

where the last term is the carry out of the s low bits, which is left out. In place of E' >> s stands
ceil(E' / 2^s) - 1, which is floor((E' - ε) / 2^s) for a small ε. Adding 1 and taking 2^(62-s) back off then gives
floor(z / 2^s) + {0, 1}, and the 1 has probability frac(z / 2^s): the rounding is unbiased, and a multiple of 2^s is
exact. So a product with a secret zero is zero, and one with a secret one is the other factor.

Shares of a >> s and of msb(a) 2^(64-s) are dealt; everything else is public. The result is itself masked, with the two
of them for terms. [EGKRS20] give truncation with a dealt wrap bit; the form here needs no comparison.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from tacit.protocols.additive.masks import Mask, Scaled
from tacit.protocols.additive.source.base import Source
from tacit.ring.ring import RING

__all__ = ["multiplier", "scaled", "truncated", "zeros_of"]


LEAST_ZEROS = 16
"""Low zeros of a multiplier that make what is dealt shorter. More: more bytes; fewer: of rates that change at each
step, one in 2^14, of which m has so many by chance, needs a recording of its own to be replayed."""


def truncated(source: Source, z: Mask, bits: int) -> Scaled:
    """The masked form of z >> bits, from the simple form of z. Producer: 8 + ceil(bits / 8) bytes an element.

    msb(a) 2^(64-bits) matters modulo 2^64 only, so its shares have no more than their top `bits` bits.
    """
    return _form(source, z, 1 << (RING.bits - bits), RING.bits - bits)


def scaled(source: Source, z: Mask, multiplier: int) -> Scaled:
    """The masked form of z k for a public 2^-62 <= k < 1: a truncation and a product with a public number in one.

    Let m = k 2^64, see `multiplier`. With E' and a unsigned, z' = z + 2^62 = E' + a - w 2^64 as in the truncation,

        z k  =  ceil(E' m / 2^64) - 1 + [floor(a m / 2^64)] + {0, 1} - [w] m - m / 4

    where half a unit is what rounding k may cost, and the rest is unbiased: off by one and a half units at most, and
    exact where z is zero, for the two fractions add up to a whole number then. With
    m = 2^(64-s) it is the truncation by s bits. Producer: 16 bytes an element, and 8 + ceil((64 - t) / 8) where m is
    a multiple of 2^t, see `zeros_of`.
    """
    return _form(source, z, multiplier, zeros_of(multiplier))


def zeros_of(multiplier: int) -> int:
    """The low zeros t of m, if it is one of few bits; see `LEAST_ZEROS`."""
    zeros = (multiplier & -multiplier).bit_length() - 1
    return zeros if zeros >= LEAST_ZEROS else 0


@lru_cache(maxsize=1024)
def multiplier(factor: float) -> int:
    """m = k 2^64, a multiple of 4, of a factor k."""
    return 4 * round((1 << RING.value_bits) * Fraction(factor))


def _form(source: Source, z: Mask, multiplier: int, zeros: int) -> Scaled:
    return Scaled(z, multiplier, zeros, source.truncation(z.secret, multiplier, zeros, z.shape))
