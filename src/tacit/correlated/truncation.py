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

from tacit.correlated.dealing import Dealing
from tacit.correlated.masks import Mask, Term
from tacit.ring import kernels

__all__ = ["truncated"]


def truncated(dealing: Dealing, z: Mask, bits: int) -> Mask:
    """The masked form of z >> bits, from the simple form of z. Producer: 16 bytes an element."""
    a = z.secret

    def make() -> list[Tensor]:
        assert a.plain is not None
        return [kernels.logical_shift(a.plain, bits), (a.plain < 0).to(torch.int64) << (64 - bits)]

    shape = (a.parts[0] if a.parts else a.plain).shape  # type: ignore[union-attr]
    shifted, wrap = dealing.ring([shape, shape], make)
    if z.opened is None:
        return Mask(None, [Term(None, shifted), Term(None, wrap)])
    shifted_up = z.opened + (1 << 62)  # E'
    negative = (shifted_up < 0).to(torch.int64)  # msb(E')
    public = kernels.logical_shift(shifted_up, bits)
    public += 1 - (1 << (62 - bits))
    public -= negative << (64 - bits)
    return Mask(public, [Term(None, shifted), Term(negative - 1, wrap)])
