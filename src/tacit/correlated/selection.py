"""Bits that choose: masks of bits, and b x without interaction once both are masked.

b = c ^ β = c + (1 - 2c) β        so        b x = c [x] + (1 - 2c) (E [β] + Σ Q_k [β s_k])        x = E + Σ Q_k s_k
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.correlated.dealing import Dealing, Dealt, width
from tacit.correlated.masks import BitMask, Mask
from tacit.ring import kernels

__all__ = ["draw_bit_mask", "selected", "to_ring"]


def draw_bit_mask(dealing: Dealing, shape: torch.Size) -> tuple[Dealt, BitMask]:
    """A fresh random bit for each element: its XOR shares as a plane, and the mask without its opened part."""
    count = shape.numel()
    plane = dealing.random_bits(((count + 7) // 8,))
    beta = plane.map(lambda p: kernels.unpack_bits(p, count).view(shape))

    def make() -> list[Tensor]:
        assert beta.plain is not None
        return [beta.plain.to(torch.int64)]

    (ring,) = dealing.ring([shape], make)
    return plane, BitMask(None, beta, ring)


def selected(dealing: Dealing, bit: BitMask, x: Mask, parts: Sequence[Tensor], shape: Sequence[int]) -> list[Tensor]:
    """Shares of b x, from the masked bit, the masked x and the shares of x.

    Producer: 8 bytes an element, and for the second term of a truncation by s bits ceil(s / 8).
    """

    def make() -> list[Tensor]:
        beta = bit.beta.plain
        assert beta is not None
        return [beta * term.secret.plain for term in x.terms if term.secret.plain is not None]

    products = dealing.ring([shape] * len(x.terms), make, [width(term.zeros) for term in x.terms])
    out = []
    for k, part in enumerate(parts):
        assert bit.opened is not None
        assert x.opened is not None
        inner = x.opened * bit.ring.parts[k]
        for (factor, *_), dealt in zip(x.terms, products, strict=True):
            if factor is None:
                inner += dealt.parts[k]
            else:
                inner.addcmul_(dealt.parts[k], factor)
        ones = bit.opened.to(torch.int64).neg_()  # all bits of an element are c, by which -v = (v ^ ones) - ones
        inner.bitwise_xor_(ones).sub_(ones)
        inner += ones.bitwise_and_(part) if ones.shape == part.shape else ones & part
        out.append(inner)
    return out


def to_ring(bit: BitMask, indices: Sequence[int]) -> list[Tensor]:
    """Additive shares of b = c + (1 - 2c) [β]. Local."""
    out = []
    for k, index in enumerate(indices):
        assert bit.opened is not None
        c = bit.opened.to(torch.int64)
        part = (1 - 2 * c) * bit.ring.parts[k]
        out.append(part + c if index == 0 else part)
    return out
