"""The engine: products of what the two parties hold, by ring-LWE, with a share of the result for each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.protocols.two_party.lattice.cipher import Ciphers
from tacit.protocols.two_party.lattice.forms import Grouped, checked
from tacit.protocols.two_party.lattice.hops import Hop
from tacit.protocols.two_party.lattice.keeper import Keeper
from tacit.protocols.two_party.lattice.matrices import Operand, choose, run
from tacit.protocols.two_party.lattice.parameters import MATRIX, MATRIX_EXACT, slot_primes
from tacit.protocols.two_party.lattice.sliding import way
from tacit.protocols.two_party.lattice.slots import modular, primes_for, ring_parts
from tacit.ring.ring import RING
from tacit.ring.shapes import broadcast
from tacit.session.session import Session

__all__ = ["BitProduct", "Held", "Lattice"]

BitProduct = Callable[[Tensor | None, Tensor | None], list[Tensor]]
"""Shares modulo 2^64 of the products of a bit of party 0 and one of party 1, uint8 [n] each, for the hosted parties."""

Bilinear = Callable[[Tensor, Tensor], Tensor]


class Held(NamedTuple):
    """A value as the engine gets it."""

    parts: Sequence[Tensor]
    """Ring elements of each hosted party, in the order of the session's `party_indices`."""
    alone: int | None
    """The party whose part is all of it: the other's is zero. None: both have some."""
    cipher: dict[Any, Any]
    """Empty at first: what the engine keeps with the value as long as it lives, its ciphertexts at the other party."""


class Lattice:
    """Products by ring-LWE between the two parties of a session. Nothing is sent before the first of them."""

    def __init__(self, session: Session, bit_product: BitProduct) -> None:
        self._session = session
        self._bit_product = bit_product
        self._ciphers = Ciphers(session)
        self._keeper = Keeper()

    def bilinear(self, x: Held, y: Held, op: Bilinear, *, exact: bool) -> list[Tensor]:
        """Shares of op(x0, y1) + op(x1, y0), one for each hosted party; without `exact`, off by some units of 2^-64.

        Shape: any that `op` takes.   Domain: all ring elements.   Error: exact, or σ <= 2 units.
        Cost: 2 rounds, or 1 for ciphertexts that are there; see `packing`.   Reveals: nothing.   Ref: [HLHD22].
        """
        shapes = tuple(_shape(x)), tuple(_shape(y))
        shape = checked(op, *shapes)
        sides = [side for side in (0, 1) if x.alone in (None, side) and y.alone in (None, 1 - side)]
        if not sides or not math.prod((*shapes[0], *shapes[1], *shape)):
            return [torch.zeros(shape, dtype=RING.dtype) for _ in self._session.party_indices]
        if self._session.preparing:  # there are no values, and nothing of it can be made ahead
            return [torch.zeros(shape, dtype=RING.dtype) for _ in self._session.party_indices]
        for held in (x, y):
            held.cipher["uses"] = held.cipher.get("uses", 0) + 1
        parameters = MATRIX_EXACT if exact else MATRIX
        form, size = way(op, *shapes, parameters)
        _, rows, _, columns = form.sizes
        groups = Grouped(size, rows, columns)
        tags = [(*tag, size) for tag in form.tags]
        left = self._operands(x, [groups.left(form.left(part)) for part in x.parts], tags[0])
        right = self._operands(y, [groups.right(form.right(part)) for part in y.parts], tags[1])
        pairs = list(zip(left, right, strict=True))
        jobs = [[choose(*pair, form.spread, side, parameters) for pair in pairs] for side in sides]
        run(self._ciphers, self._keeper, (Hop(self._session), Hop(self._session)), [job for row in jobs for job in row])
        shares = []
        for index in self._session.party_indices:
            some = [groups.apart([job.share(self._ciphers, index) for job in row]) for row in jobs]
            folded = [form.fold(one) for one in some]
            shares.append(folded[0] if len(folded) == 1 else folded[0] + folded[1])
        return shares

    def inner(
        self,
        left: Tensor | None,
        right: Tensor | None,
        shape: Sequence[int],
        terms: int,
        left_bits: int,
        right_bits: int,
        bound: int | None = None,
    ) -> list[Tensor]:
        """Shares of Σ_k left[k] right[k], for each hosted party: left [terms, *shape] of party 0, right of party 1.

        Shape: any, and as many terms.   Domain: signed integers of so many bits, of which no sum is beyond the bound.
        Error: exact.
        Cost: 2 rounds and the one of `bit_product`; for each prime of 44 bits, 18 bytes a term and 12 an element,
        of as many elements and terms as fill ciphertexts.
        Reveals: nothing.
        """
        for side, bits in (("left", left_bits), ("right", right_bits)):
            if not 2 <= bits <= RING.bits:
                raise ValueError(f"integers on the {side} have 2 to {RING.bits} bits, not {bits}")
        if terms < 1:
            raise ValueError("an inner product has one term or more")
        primes = primes_for(terms, left_bits, right_bits) if bound is None else slot_primes(bound)
        count = math.prod(shape)
        given = [left, right]
        for index in self._session.party_indices:
            one = given[index]
            if one is None or tuple(one.shape) != (terms, *shape):
                raise ValueError(f"party {index} is hosted here and gives {terms} terms of shape {tuple(shape)}")
        rows = tuple(
            row.reshape(terms, -1).contiguous() if row is not None and self._ciphers.hosts(index) else None
            for index, row in enumerate(given)
        )
        if not count:
            return [torch.zeros(*shape, dtype=RING.dtype) for _ in self._session.party_indices]
        if self._session.preparing:
            shares = [torch.zeros(len(primes), count, dtype=RING.dtype) for _ in self._session.party_indices]
        else:
            shares = modular(self._session, self._ciphers, (rows[0], rows[1]), count, terms, primes)
        return [share.view(*shape) for share in self._in_ring(shares, count, primes)]

    def cross(self, x: Held, y: Held) -> list[Tensor]:
        """Shares of x0 y1 + x1 y0, elementwise with broadcasting, for each hosted party.

        Shape: any two that broadcast.   Domain: all ring elements.   Error: exact.
        Cost: 2 rounds and the one of `bit_product`, 144 bytes an element; 90 of squares, or if a factor has one owner.
        Reveals: nothing.
        """
        shape = broadcast(_shape(x), _shape(y))
        pairs = [side for side in (0, 1) if x.alone in (None, side) and y.alone in (None, 1 - side)]
        if not pairs:
            return [torch.zeros(shape, dtype=RING.dtype) for _ in self._session.party_indices]
        square = x.cipher is y.cipher and len(pairs) == 2  # the same value: x0 x1 twice
        pairs = pairs[:1] if square else pairs
        given: list[Tensor | None] = [None, None]
        for k, index in enumerate(self._session.party_indices):
            # x of party `side` meets y of the other
            factors = [x.parts[k] if index == side else y.parts[k] for side in pairs]
            given[index] = torch.stack([factor.expand(shape) for factor in factors])
        shares = self.inner(given[0], given[1], shape, len(pairs), RING.bits, RING.bits)
        return [share.mul_(2) for share in shares] if square else shares

    def _in_ring(self, shares: Sequence[Tensor], count: int, primes: Sequence[int]) -> list[Tensor]:
        """Shares modulo 2^64 from those modulo each prime, the first `count` of [primes, n]."""
        bits: list[Tensor | None] = [None, None]
        parts = []
        for index, some in zip(self._session.party_indices, shares, strict=True):
            part, bits[index] = ring_parts(index, some, count, primes)
            parts.append(part)
        modulus = RING.signed(math.prod(primes))
        both = self._bit_product(bits[0], bits[1])
        return [part.add_(one, alpha=modulus) for part, one in zip(parts, both, strict=True)]

    def _operands(self, held: Held, matrices: Sequence[Sequence[Tensor]], tag: tuple[Any, ...]) -> list[Operand]:
        """A value as matrices, from those of each hosted party: one, or some of a batch or of the groups."""
        out = []
        for k, matrix in enumerate(matrices[0]):
            parts: list[Tensor | None] = [None, None]
            for index, row in zip(self._session.party_indices, matrices, strict=True):
                parts[index] = row[k]
            rows, columns, _ = matrix.shape
            out.append(Operand((parts[0], parts[1]), (rows, columns), held.alone, held.cipher, (*tag, k)))
        return out


def _shape(held: Held) -> torch.Size:
    return held.parts[0].shape
