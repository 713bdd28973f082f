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

import torch
from torch import Tensor

from tacit.correlated.dealing import RING_BYTES, Dealing, width
from tacit.correlated.masks import Mask, Term
from tacit.ring import kernels

SMALLEST_DROP = 14
"""A public factor times 2^-s must be at most 2^-14, so that the error of a 64-bit number as a float, 2^10, stays below
a sixteenth of a unit."""

__all__ = ["SMALLEST_DROP", "scaled", "truncated"]


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
    """The masked form of z k for a public 0 < k <= 2^-14: a truncation and a product with a public number in one.

    With E' and a unsigned, z' = z + 2^62 = E' + a - w 2^64 as in the truncation above, so

        z k  =  round(E' k) + [round(a k)] - [w] round(2^64 k) - round(2^62 k)        off by at most two units

    in floating point, for a 64-bit number loses only its low bits there. A conversion, an addition and a product, each
    rounded as IEEE says, are the same at all parties. Producer: 16 bytes an element.
    """
    a = z.secret
    turn = round(2.0**64 * factor)

    def make() -> list[Tensor]:
        assert a.plain is not None
        return [_times(a.plain, factor), (a.plain < 0).to(torch.int64) * turn]

    product, wrap = dealing.ring([z.shape] * 2, make)
    if z.opened is None:
        return Mask(None, [Term(None, product), Term(None, wrap)])
    shifted_up = z.opened + (1 << 62)  # E'
    public = _times(shifted_up, factor)
    public -= round(2.0**62 * factor)
    public -= (shifted_up < 0) * turn
    return Mask(public, [Term(None, product), Term(_factor(shifted_up), wrap)])


def _factor(shifted_up: Tensor) -> Tensor:
    """msb(E') - 1, by which the dealt part of the wrap enters."""
    return (shifted_up >> 63).bitwise_not_()


def _times(v: Tensor, factor: float) -> Tensor:
    """round(v factor), with v unsigned."""
    unsigned = v.to(torch.float64)
    unsigned = torch.where(v < 0, unsigned + 2.0**64, unsigned)
    return (unsigned * factor).round_().to(torch.int64)
