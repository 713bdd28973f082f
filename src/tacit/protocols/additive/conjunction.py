"""Whether several masked bits are all set, looked up in a table, in no round of its own. With b_i = c_i ^ β_i,

    b_1 ∧ … ∧ b_k  =  [c = ¬β]        c and β read as numbers of k bits

The producer deals XOR shares of a row of 2^k bits with a single one at place ¬β, whose public place c the parties
look up: the one-time truth tables of [IKMOP13]. For two bits a product costs one dealt bit in the place of four.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.additive.masks import BitMask
from tacit.protocols.additive.source.base import Source
from tacit.ring import kernels

__all__ = ["MOST", "all_of", "both", "number"]

MOST = 10
"""Bits that one table takes. More: fewer rounds for a conjunction of many; each doubles the producer's bytes, 128 for a
conjunction of ten."""


def both(source: Source, left: BitMask, right: BitMask, shape: torch.Size, indices: Sequence[int]) -> list[Tensor]:
    """Shares of (c + β)(d + δ) = cd + c [δ] + d [β] + [βδ] over GF(2), with broadcasting. Producer: 1 bit."""
    dealt = source.conjunction(left.beta, right.beta, shape)
    parts = []
    for k, index in enumerate(indices):
        c, d = left.opened, right.opened
        assert c is not None
        assert d is not None
        product = kernels.on(dealt[k]).unpack_bits(dealt[k], shape.numel()).view(shape)
        part = (c & right.beta.parts[k]) ^ (d & left.beta.parts[k]) ^ product
        parts.append(part ^ (c & d) if index == 0 else part)
    return parts


def all_of(source: Source, bits: Sequence[BitMask], shape: torch.Size) -> list[Tensor]:
    """Shares of the conjunction of three bits or more, of one shape. Producer: 2^k bits an element."""
    dealt = source.truth_table([b.beta for b in bits], shape)
    opened = [b.opened for b in bits if b.opened is not None]
    if not opened:
        return []
    place = number(opened)
    byte, bit = (place >> 3).view(-1, 1), (place & 7).to(torch.uint8)
    return [(table.gather(1, byte).view(-1) >> bit & 1).view(shape) for table in dealt]


def number(bits: Sequence[Tensor]) -> Tensor:
    """Σ 2^i b_i, flat, of up to `MOST` bits: from the last one on, twice what there is and the next."""
    last, *before = (b.reshape(-1) for b in reversed(bits))
    number = last.to(torch.int16)
    for b in before:
        number = torch.add(b, number, alpha=2)
    return number.to(torch.int64)
