"""Which digits of a number a comparison has to look at, and what the levels of its tree then open and multiply."""

from __future__ import annotations

import math
from typing import NamedTuple

from tacit.protocols.additive.kernels.radix4 import Radix4
from tacit.ring.ring import RING

__all__ = ["ALL", "PAIR", "Digits"]

INPUTS = {top: len(Radix4(equal=not top).inputs) for top in (False, True)}
MONOMIALS = {top: Radix4(equal=not top).monomials for top in (False, True)}
"""What a node opens, and the products of mask bits that it takes, below the top of the tree and there."""

PAIR = 2
"""Nodes that are not combined by a node, but by one product, l1 + q1 l0: it opens two bits."""

WIDE = {4: (8, 8), 3: (8, 6), 2: (6, 6)}
"""By nodes, the digits that are compared at once, and their bits. More digits of fewer bits: shorter tables, and twice
the products for each; the fewest bytes of one threshold: 256 + 48, 64 + 48 and 48 + 16."""

NODE_BITS = 16
"""Of four digits of 4 bits; the top one has one less, for the ring's sign stands there."""


class Digits(NamedTuple):
    """The digits of so many nodes, the top ones."""

    nodes: int
    shift: int
    """Bits by which x is moved up before, for |x| < 2^(63 - shift)."""

    @classmethod
    def telling(cls, most: int, near: int) -> Digits:
        """Enough of them for near - 2^most <= x < 2^most, where 0 <= x < near may count as negative.

        E_top + a_top is x less up to two units of what is left out, 2^(most + 1 - 16 nodes), and x itself if that is no
        more than 1. Two units are at most `near`, so it does not go around at the lower end.
        """
        unknown = max(near.bit_length() - 2, 0)
        nodes = math.ceil((most + 1 - unknown) / NODE_BITS)
        return cls(min(max(nodes, PAIR), ALL.nodes), RING.sign_bit - most)

    @property
    def wide(self) -> tuple[int, int]:
        """The digits of one level for all of them, as `WIDE` has them: tables of so many, and the bytes of a table."""
        count, bits = WIDE[self.nodes]
        return count, (1 << bits) // 8

    @property
    def wide_products(self) -> int:
        """The ring elements that the products of a word's mask bits fill; see `wide.cpp`."""
        return 6 if self.wide[0] == RING.bytes else 2

    @property
    def levels(self) -> list[tuple[int, int, int]]:
        """The nodes of each level of the tree, and what each of them opens and multiplies."""
        top = (1, PAIR, 1) if self.nodes == PAIR else (1, INPUTS[True], MONOMIALS[True])
        return [(self.nodes, INPUTS[False], MONOMIALS[False]), top]


ALL = Digits(4, 0)
