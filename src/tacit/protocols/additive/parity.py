"""The lowest bits of matrix products, 64 to a word, of integers that are open.

(E + a)(F + b)  =  E F + E b + a F + a b        modulo 2, where only the lowest bits of all four count.

What would take a product of ring elements, and as many dealt, takes a word in the place of 64 and a dealt bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from tacit.protocols.additive import kernels
from tacit.protocols.additive.masks import Mask
from tacit.protocols.additive.source.base import Dealt, Source

__all__ = ["Packed", "matmul", "packed"]

WORD = 64


class Packed(NamedTuple):
    """The lowest bits of a masked matrix [rows, inner], each [words, rows]."""

    rows: int
    opened: Tensor | None
    parts: list[Tensor | None]
    """The hosted parties' shares of the mask, None for zero."""
    plain: Tensor | None
    """The mask, where it is known."""

    @classmethod
    def of(cls, source: Source, mask: Mask, indices: Sequence[int]) -> Packed:
        """Those of an opened matrix."""
        mask.deal(source)
        secret = mask.secret
        places = enumerate(indices[: len(secret.parts)])
        parts = [packed(secret.part(k)) if secret.known_to(index) else None for k, index in places]
        return cls(
            mask.shape[0],
            None if mask.opened is None else packed(mask.opened),
            parts,
            None if secret.plain is None else packed(secret.plain),
        )


def matmul(source: Source, x: Packed, y: Mask, indices: Sequence[int]) -> list[Tensor]:
    """XOR shares of the lowest bits of x y, [rows, columns]. Producer: 1 bit an element."""
    right = Packed.of(source, y.map(lambda t: t.t()), indices)
    shape = torch.Size((x.rows, y.shape[1]))
    product = None
    if x.plain is not None and right.plain is not None:
        product = kernels.on(x.plain).parities(x.plain, right.plain)
    dealt = source.parities(Dealt([], product), shape)
    out = []
    for k, index in enumerate(indices):
        plane = kernels.on(dealt[k]).unpack_bits(dealt[k], shape.numel()).view(shape)
        assert x.opened is not None
        assert right.opened is not None
        b, a = right.parts[k], x.parts[k]
        if index == 0:
            b = right.opened if b is None else b ^ right.opened
        for left, factor in ((x.opened, b), (a, right.opened)):
            if left is not None and factor is not None:
                plane = plane ^ kernels.on(left).parities(left, factor)
        out.append(plane)
    return out


def packed(t: Tensor) -> Tensor:
    """The lowest bits of each row: [rows, inner] -> int64 [words, rows]."""
    bits = pad((t & 1).to(torch.uint8), (0, -t.shape[1] % WORD)).contiguous()
    plane = kernels.on(bits).pack_bits(bits)
    return plane.view(torch.int64).view(len(t), -1).t().contiguous()
