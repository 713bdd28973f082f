"""One node of the comparison tree: four digits are compared at once, on planes, of which the last axis has the bytes.

Digit i of the two numbers gives a bit l_i (less) and a bit q_i (equal); 3 is the most significant digit. The node is

    L = l3 + q3 (l2 + q2 (l1 + q1 l0))        Q = q3 q2 q1 q0        (over GF(2), + is XOR)

Each input bit but l3 is opened under a mask bit, v = V + m, so a product of inputs is a sum over the subsets S of its
factors of (product of V outside of S) times (product of m inside of S): the parties hold shares of the *monomials* of
mask bits, dealt by the crypto-producer, and fold in one public V after the other.
"""

from __future__ import annotations

from itertools import combinations
from types import EllipsisType

import torch
from torch import Tensor

__all__ = ["Radix4"]

_CONSTANT = 0

BLOCK = 4096
"""Bytes of a plane that a node works on at a time. More: fewer calls; fewer: the some 90 planes of a block stay
in the cache of a core. At a million elements, blocks of 4096 take a fifth of the time of no blocks."""


class Radix4:
    """The index tables of a node, with or without the output Q (the top of the tree needs only L)."""

    def __init__(self, *, equal: bool) -> None:
        self.equal = equal
        self.inputs = ("l2", "l1", "l0", "q3", "q2", "q1") + (("q0",) if equal else ())
        products = [("q3", "l2"), ("q3", "q2", "l1"), ("q3", "q2", "q1", "l0")]
        products += [("q3", "q2", "q1", "q0")] if equal else []
        subsets = {frozenset(s) for p in products for k in range(2, len(p) + 1) for s in combinations(p, k)}
        self._monomials = sorted(subsets, key=lambda s: (len(s), sorted(s)))
        self.monomials = len(self._monomials)
        rows = {frozenset(): _CONSTANT, **{frozenset({v}): 1 + i for i, v in enumerate(self.inputs)}}
        rows.update({s: 1 + len(self.inputs) + i for i, s in enumerate(self._monomials)})
        self._products = [torch.tensor(self._vector(p, rows)) for p in products]

    @staticmethod
    def _vector(variables: tuple[str, ...], rows: dict[frozenset[str], int]) -> list[int]:
        """Rows of the monomials of a product, indexed by subset; the last variable is the top bit of the index."""
        return [
            rows[frozenset(v for i, v in enumerate(variables) if index >> i & 1)]
            for index in range(1 << len(variables))
        ]

    def gather(self, less: Tensor, equal: Tensor) -> Tensor:
        """Stack the inputs that are opened: from [4 digits, nodes, bytes] each to [inputs, nodes, bytes]."""
        rows = [less[2], less[1], less[0], equal[3], equal[2], equal[1]]
        return torch.stack([*rows, equal[0]] if self.equal else rows)

    def expand(self, masks: Tensor, out: Tensor | None = None) -> Tensor:
        """The producer's step: monomials of the mask bits, [inputs, nodes, bytes] -> [monomials, nodes, bytes]."""
        row = dict(zip(self.inputs, masks, strict=True))
        if out is None:
            out = torch.empty((self.monomials, *masks.shape[1:]), dtype=torch.uint8, device=masks.device)
        for subset, place in zip(self._monomials, out, strict=True):
            first, second, *rest = sorted(subset)
            torch.bitwise_and(row[first], row[second], out=place)
            for v in rest:
                place &= row[v]
        return out

    def evaluate(
        self, opened: Tensor, masks: Tensor, monomials: Tensor, less3: Tensor, *, leader: bool
    ) -> tuple[Tensor, Tensor | None]:
        """A party's step: its shares of (L, Q), from the opened bits and its shares of masks and monomials."""
        less = torch.empty_like(less3, memory_format=torch.contiguous_format)
        equal = torch.empty_like(less) if self.equal else None
        for at in range(0, opened.shape[-1], BLOCK):
            block = ..., slice(at, at + BLOCK)
            self._evaluate(opened[block], masks[block], monomials[block], leader, less, equal, block)
        less ^= less3
        return less, equal

    def _evaluate(
        self,
        opened: Tensor,
        masks: Tensor,
        monomials: Tensor,
        leader: bool,
        less: Tensor,
        equal: Tensor | None,
        block: tuple[EllipsisType, slice],
    ) -> None:
        v = dict(zip(self.inputs, opened, strict=True))
        one = torch.full_like(masks[:1], 255 if leader else 0)
        base = torch.cat([one, masks, monomials])
        p1, p2, p3, *p4 = (base.index_select(0, rows.to(base.device)) for rows in self._products)
        inner = _fold(v["q1"], _fold(v["l0"], p3))
        inner ^= _fold(v["l1"], p2)
        inner = _fold(v["q2"], inner)
        inner ^= _fold(v["l2"], p1)
        less[block] = _fold(v["q3"], inner)[0]
        if equal is not None:
            (rest,) = p4
            for name in ("q0", "q1", "q2", "q3"):
                rest = _fold(v[name], rest)
            equal[block] = rest[0]


def _fold(v: Tensor, m: Tensor) -> Tensor:
    """Replace the top variable, V + m, by its opened value: [2^k, ...] -> [2^(k-1), ...]."""
    half = len(m) // 2
    return (v & m[:half]).bitwise_xor_(m[half:])
