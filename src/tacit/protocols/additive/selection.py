"""Bits that choose: masks of bits, and b x without interaction once both are masked.

b = c ^ β = c + (1 - 2c) β        so        b x = c [x] + (1 - 2c) (E [β] + Σ Q_k [β s_k])        x = E + Σ Q_k s_k
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.additive import kernels
from tacit.protocols.additive.masks import BitMask, Form, Scaled
from tacit.protocols.additive.source.base import Dealt, Rows, Source
from tacit.ring.ring import RING

__all__ = ["draw_bit_mask", "selected", "to_ring"]


def draw_bit_mask(source: Source, shape: torch.Size, holder: int | None = None) -> tuple[Dealt, BitMask]:
    """A fresh random bit for each element: its XOR shares as a plane, and the mask without its opened part.

    The holder, if there is one, is a party that knows it.
    """
    count = shape.numel()
    size = ((count + 7) // 8,)
    plane = source.random_bits(size) if holder is None else source.private_bits(size, holder)
    beta = plane.map(lambda p: kernels.on(p).unpack_bits(p, count).view(shape))
    return plane, BitMask(None, beta)


def selected(
    source: Source, bit: BitMask, x: Form, parts: Sequence[Tensor], shape: torch.Size
) -> tuple[list[Tensor], Rows]:
    """Shares of b x, from the masked bit, the masked x and the shares of x; and those of β s_k, for each term of x.

    Producer: 8 bytes an element, and for the second term of a truncation by s bits ceil(s / 8).
    """
    z = x.z if isinstance(x, Scaled) else x
    scaled = (x.multiplier, x.zeros) if isinstance(x, Scaled) else None
    rings = bit.ring(source).parts
    rows = source.selection(z.secret, bit.beta, shape, scaled)
    multiplier = x.multiplier if isinstance(x, Scaled) else 0
    out = []
    for part, ring, (high, *wrap) in zip(parts, rings, rows, strict=True):
        assert bit.opened is not None
        assert z.opened is not None
        c = bit.opened.expand(shape)
        out.append(kernels.on(z.opened).selected(z.opened, c, part, ring.expand(shape), high, multiplier, *wrap))
    return out, rows


def to_ring(source: Source, bit: BitMask, indices: Sequence[int]) -> list[Tensor]:
    """Additive shares of b = c + (1 - 2c) [β]. Local.

    In three passes: with m = -c, all bits of which are alike, (1 - 2c) β = (β ^ m) - m, and c more is - 2m.
    """
    ring = bit.ring(source)
    out = []
    for part, index in zip(ring.parts, indices, strict=True):
        assert bit.opened is not None
        m = bit.opened.view(torch.int8).neg().to(RING.dtype)
        out.append((part ^ m).sub_(m, alpha=2 if index == 0 else 1))
    return out
