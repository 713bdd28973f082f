"""Truncation of a masked secret, z >> s: one dealing, no opening of its own, never a wrap failure.

For |z| < 2^62 and z = E + a, let E' = E + 2^62, so that z' = z + 2^62 = E' + a mod 2^64 lies in [0, 2^63). The sum
E' + a wraps around 2^64 exactly if w = msb(E') or msb(a), since otherwise z' would have its top bit set. So

    z' >> s  =  (E' >> s) + (a >> s) - w 2^(64-s) + {0, 1}         w = msb(E') + (1 - msb(E')) msb(a)

where the last term is the carry out of the s low bits, which is left out. Adding 1 and taking 2^(62-s) back off gives
floor(z / 2^s) + {0, 1}, and the 1 has probability frac(z / 2^s): the rounding is unbiased.

Shares of a >> s and of msb(a) 2^(64-s) are dealt; everything else is public. The result is itself masked, with the two
of them for terms. [EGKRS20] give truncation with a dealt wrap bit; the form here needs no comparison.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from tacit.correlated.dealing import RING_BYTES, Dealing, width
from tacit.correlated.masks import Mask, Term
from tacit.ring import kernels

__all__ = ["scaled", "truncated"]


def truncated(dealing: Dealing, z: Mask, bits: int) -> Mask:
    """The masked form of z >> bits, from the simple form of z. Producer: 8 + ceil(bits / 8) bytes an element.

    msb(a) 2^(64-bits) matters modulo 2^64 only, so its shares have no more than their top `bits` bits.
    """
    a = z.secret

    def make() -> list[Tensor]:
        assert a.plain is not None
        return [kernels.logical_shift(a.plain, bits), (a.plain < 0).to(torch.int64) << (64 - bits)]

    shifted, wrap = dealing.ring([z.shape] * 2, make, [RING_BYTES, width(64 - bits)])
    if z.opened is None:
        return Mask(None, [Term(None, shifted), Term(None, wrap, 64 - bits)])
    shifted_up = z.opened + (1 << 62)  # E'
    factor = _factor(shifted_up)
    public = shifted_up.bitwise_right_shift_(bits)  # with signs moving in, which is (E' >> s) - msb(E') 2^(64-s)
    public += 1 - (1 << (62 - bits))
    return Mask(public, [Term(None, shifted), Term(factor, wrap, 64 - bits)])


def scaled(dealing: Dealing, z: Mask, factor: float) -> Mask:
    """The masked form of z k for a public 2^-62 <= k < 1: a truncation and a product with a public number in one.

    Let m = k 2^64, a multiple of 4. With E' and a unsigned, z' = z + 2^62 = E' + a - w 2^64 as in the truncation above,

        z k  =  floor(E' m / 2^64) + [floor(a m / 2^64)] + {0, 1} - [w] m - m / 4

    where half a unit is what rounding k may cost, and the rest is unbiased: off by one and a half units at most.
    Producer: 16 bytes an element.
    """
    a = z.secret
    m = _signed(4 * round(2**62 * Fraction(factor)))

    def make() -> list[Tensor]:
        assert a.plain is not None
        return [_high_product(a.plain, m), (a.plain < 0).to(torch.int64) * m]

    product, wrap = dealing.ring([z.shape] * 2, make)
    if z.opened is None:
        return Mask(None, [Term(None, product), Term(None, wrap)])
    shifted_up = z.opened + (1 << 62)  # E'
    public = _high_product(shifted_up, m)
    public += 1 - ((m % (1 << 64)) >> 2)
    public -= (shifted_up < 0) * m
    return Mask(public, [Term(None, product), Term(_factor(shifted_up), wrap)])


def _factor(shifted_up: Tensor) -> Tensor:
    """msb(E') - 1, by which the dealt part of the wrap enters."""
    return (shifted_up >> 63).bitwise_not_()


def _high_product(v: Tensor, m: int) -> Tensor:
    """floor(v m / 2^64), both unsigned: the upper half of a product of 128 bits, by halves of 32."""
    mask = (1 << 32) - 1
    m_low, m_high = m & mask, (m >> 32) & mask
    low, high = v & mask, kernels.logical_shift(v, 32)
    middle = high * m_low + kernels.logical_shift(low * m_low, 32)
    other = low * m_high + (middle & mask)
    return high * m_high + kernels.logical_shift(middle, 32) + kernels.logical_shift(other, 32)


def _signed(v: int) -> int:
    """What int64 holds for v modulo 2^64."""
    return (v + (1 << 63)) % (1 << 64) - (1 << 63)
