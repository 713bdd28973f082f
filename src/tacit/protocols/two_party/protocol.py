"""Two parties who compute on their own shares, with oblivious transfers and lattices in the place of a producer.

Each primitive is a few hops between them; what makes it private is in the file of the primitive.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import ConfigError
from tacit.protocols import fallbacks, leaving, network
from tacit.protocols.content import TensorOp
from tacit.protocols.number import SETTLED, Number
from tacit.protocols.protocol import Protocol, in_octaves
from tacit.protocols.remembered import Owned, Remembered, Storage
from tacit.protocols.scale import Scale
from tacit.protocols.series import FULL, POWER_OF_TWO_BITS, Exponents, Harmonics, Polynomial
from tacit.protocols.two_party import bits as planes
from tacit.protocols.two_party import (
    comparison,
    harmonics,
    kernels,
    ole,
    powers,
    product,
    selection,
    sorting,
    truncation,
)
from tacit.protocols.two_party.content import Halves, halves_of
from tacit.protocols.two_party.cost import COSTS, PRICES
from tacit.protocols.two_party.factors import Factors
from tacit.protocols.two_party.harmonics import Precision
from tacit.protocols.two_party.lattice import Held, Lattice
from tacit.protocols.two_party.polynomials import Expansion
from tacit.protocols.two_party.scheme import SCHEME
from tacit.protocols.two_party.transfers import Transfers
from tacit.protocols.values import Bits, Value
from tacit.ring.prg import Stream, derive_key
from tacit.ring.ring import RING
from tacit.ring.shapes import broadcast
from tacit.session.session import Session

__all__ = ["TwoParty"]

LESS: Remembered[Bits] = Remembered("compared, by threshold")
ARITHMETIC: Remembered[Number] = Remembered("bits as integers")

MANY = 1 << 11
"""Products from which on ciphertexts multiply them. Fewer: less is sent, 152 bytes in the place of 600 an element;
more: a ciphertext is fuller, and two hops are saved."""

FEW = 1 << 9
"""Terms of a series, of all elements, up to which transfers multiply them. More: two hops less for more of them; fewer:
less is sent, half a megabyte of ciphertexts in the place of a kilobyte a term."""

HIDDEN_BITS = 16
"""Fractional bits that a product of matrices has at least beyond those it is revealed with, where it may be off by some
units. Less: smaller ciphertexts for more of them; but these units depend on the noise of a key, and a truncation by so
many bits shows one of them with probability 2^-16. What may be revealed without one is exact."""


Local = Callable[[Tensor], Tensor]


class TwoParty(Protocol):
    """Semi-honest security between two parties, without anybody else; see `scheme` and docs/protocols.md."""

    scheme: ClassVar = SCHEME
    costs: ClassVar = COSTS
    prices = PRICES

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._transfers = Transfers(session)
        session.ahead = self._transfers.work_ahead
        self._lattice = Lattice(session, self._bit_product)
        self._here = session.party_indices
        self._coins = Stream(derive_key(os.urandom(32), "rounding of what one party knows"))

    @property
    def transfers(self) -> Transfers:
        """The session's, for what is built of them beside the primitives."""
        return self._transfers

    def _bit_product(self, a: Tensor | None, b: Tensor | None) -> list[Tensor]:
        count = next(t.numel() for t in (a, b) if t is not None)
        return ole.bit_products(self.session, self._transfers, [ole.BitProduct(a, b, count)])[0]

    # --- in and out ------------------------------------------------------------------------------------------------

    @override
    def share(self, value: Tensor | None, owner: str, shape: Sequence[int], frac_bits: int) -> Number:
        """The owner's part is the value, the other's is zero. Nothing is sent, and nobody draws anything."""
        parts, index = self._given(value, owner, shape, RING.dtype)
        out = self._number(parts, Scale(frac_bits), index)
        out.facts.owned = Owned(index, value if index in self._here else None)
        return out

    @override
    def share_bits(self, value: Tensor | None, owner: str, shape: Sequence[int]) -> Bits:
        parts, index = self._given(value, owner, shape, torch.uint8)
        return self._bits(parts, index)

    def _given(
        self, value: Tensor | None, owner: str, shape: Sequence[int], dtype: torch.dtype
    ) -> tuple[list[Tensor], int]:
        self.session.check_open()
        if owner not in self.session.parties:
            raise ConfigError(f"{owner!r} cannot own data: the computing parties are {', '.join(self.session.parties)}")
        index = self.session.parties.index(owner)
        parts = []
        for i in self._here:
            if i == index and not self.session.preparing:
                assert value is not None
                parts.append(value.clone())
            else:
                parts.append(torch.zeros(tuple(shape), dtype=dtype))
        return parts, index

    @override
    def public(self, ring: Tensor, frac_bits: int) -> Number:
        return self._number(
            [ring.clone() if i == 0 else torch.zeros_like(ring) for i in self._here], Scale(frac_bits), 0
        )

    @override
    def public_bits(self, bits: Tensor) -> Bits:
        return self._bits([bits.clone() if i == 0 else torch.zeros_like(bits) for i in self._here], 0)

    @override
    def reveal(self, x: Value, receivers: Sequence[str]) -> Tensor | None:
        """Each party adds a fresh sharing of zero before its part leaves."""
        return leaving.revealed(self.session, halves_of(x).parts_here, x.shape, receivers, binary=isinstance(x, Bits))

    @override
    def refresh(self, x: Value) -> list[Tensor]:
        """Each party adds a fresh sharing of zero."""
        return leaving.refreshed(self.session, halves_of(x).parts_here, binary=isinstance(x, Bits))

    @override
    def adopt(
        self,
        shares: Sequence[Tensor],
        shape: Sequence[int],
        frac_bits: int,
        *,
        headroom: int = 0,
        precise: bool = False,
        lasting: bool = False,
        name: str = "a value",
    ) -> Number:
        self.check_adopted(shares, shape, RING.dtype, name)
        out = self._number(list(shares), Scale(frac_bits, headroom, precise))
        out.storage.lasting = lasting
        return out

    @override
    def adopt_bits(
        self, shares: Sequence[Tensor], shape: Sequence[int], *, lasting: bool = False, name: str = "a value"
    ) -> Bits:
        self.check_adopted(shares, shape, torch.uint8, name)
        out = self._bits(list(shares))
        out.storage.lasting = lasting
        return out

    @override
    def follow(self, out: Value, op: Callable[..., Tensor], operands: Sequence[Value]) -> None:
        """What is known is in the halves themselves: whether one of them is zero."""

    # --- numbers ---------------------------------------------------------------------------------------------------

    @override
    def together(self, *values: Value) -> None:
        pass

    @override
    def multiply(self, x: Number, y: Number) -> Number:
        shape = broadcast(x.shape, y.shape)
        scale = x.scale.times(y.scale, square=x is y)
        left, right = halves_of(x), halves_of(y)
        parts = [a * b for a, b in zip(left.parts_here, right.parts_here, strict=True)]
        if left.alone is not None and left.alone == right.alone:
            return self._number(parts, scale, left.alone)
        pairs = [a for a in (0, 1) if left.alone in (None, a) and right.alone in (None, 1 - a)]  # a's x, the other's y
        twice = x is y and len(pairs) == 2
        if shape.numel() >= MANY:
            sums = self._lattice.cross(_held(left), _held(right))
        else:
            flat = [[t.expand(shape).reshape(-1) for t in half.parts_here] for half in (left, right)]
            crosses = [self._cross(flat[0], flat[1], a, shape.numel()) for a in (pairs[:1] if twice else pairs)]
            rows = product.crossed(self.session, self._transfers, crosses)
            sums = [sum(row[1:], row[0]).view(shape) * (2 if twice else 1) for row in zip(*rows, strict=True)]
        for part, s in zip(parts, sums, strict=True):
            part.add_(s)
        return self._number(parts, scale)

    def _cross(self, x: Sequence[Tensor], y: Sequence[Tensor], a: int, count: int) -> product.Cross:
        """x of party a times y of the other, whose sender is party 1 for one of the two, so that both send as much."""
        ours, theirs = dict(zip(self._here, x, strict=True)).get(a), dict(zip(self._here, y, strict=True)).get(1 - a)
        return product.Cross(1 - a, count, ours, theirs)

    @override
    def bilinear(self, x: Number, y: Number, op: Callable[[Tensor, Tensor], Tensor]) -> Number:
        """Products with 32 fractional bits and more are off by a few units; what has none is exact."""
        scale = x.scale.times(y.scale)
        left, right = halves_of(x), halves_of(y)
        parts = [op(a, b) for a, b in zip(left.parts_here, right.parts_here, strict=True)]
        if left.alone is not None and left.alone == right.alone:
            return self._number(parts, scale, left.alone)
        exact = scale.frac_bits < self.frac_bits + scale.headroom + HIDDEN_BITS
        crosses = self._lattice.bilinear(_held(left), _held(right), op, exact=exact)
        for part, cross in zip(parts, crosses, strict=True):
            part.add_(cross)
        return self._number(parts, scale)

    @override
    def settle(self, x: Number, frac_bits: int | None = None) -> Number:
        return self.settle_all([x], frac_bits)[0]

    @override
    def settle_all(self, shares: Sequence[Number], frac_bits: int | None = None) -> list[Number]:
        targets = [x.settled_bits if frac_bits is None else frac_bits for x in shares]
        roots = [(*_root(x), t) for x, t in zip(shares, targets, strict=True)]
        missing: list[tuple[Number, int]] = []
        for root, _, target in roots:
            if root.frac_bits > target and SETTLED.of(root, target) is None:
                before = root.settled_before(target)
                if before is not root:
                    SETTLED.keep(root, before, target)
                    continue
                half = halves_of(root)
                if half.alone is not None:
                    parts = self._rounded(half, 1 << RING.bits - (root.frac_bits - target))
                    SETTLED.keep(root, self._number(parts, root.scale.truncated(target), half.alone), target)
                elif not any(root is other and target == t for other, t in missing):
                    missing.append((root, target))
        divisions = [truncation.by_bits(halves_of(x).parts_here, x.frac_bits - t) for x, t in missing]
        found = truncation.divided(self.session, self._transfers, divisions) if divisions else []
        for (x, t), parts in zip(missing, found, strict=True):
            SETTLED.keep(x, self._number(parts, x.scale.truncated(t)), t)
        out = []
        for x, (root, moves, target) in zip(shares, roots, strict=True):
            settled = x if x.frac_bits <= target else SETTLED.of(x, target)
            if settled is None:
                settled = SETTLED.of(root, target)
                assert settled is not None
                for move in moves:
                    settled = settled.move(move, view=False)
                SETTLED.keep(x, settled, target)
            out.append(settled)
        return out

    @override
    def scale(self, x: Number, factor: float, frac_bits: int | None = None) -> Number | None:
        target = x.settled_bits if frac_bits is None else frac_bits
        drop = x.scale.ratio(factor, target)
        if drop is None:
            return None
        half, m = halves_of(x), truncation.factor(drop)
        scale = x.scale.scaled(abs(factor), target)
        if half.alone is not None:
            parts = self._rounded(half, m)
        else:
            (parts,) = truncation.divided(self.session, self._transfers, [truncation.Division(half.parts_here, m)])
        out = self._number(parts, scale, half.alone)
        return out if factor > 0 else -out

    def _rounded(self, half: Halves, m: int) -> list[Tensor]:
        """x m / 2^64 where one party is alone with x."""
        rows = zip(self._here, half.parts_here, strict=True)
        return [truncation.rounded(t, m, self._coins) if i == half.alone else torch.zeros_like(t) for i, t in rows]

    @override
    def harmonics(self, x: Number, series: Harmonics) -> Number:
        precision = Precision(series)
        given = x.frac_bits, series, precision
        sums = self._summed(
            x, precision, *(partial(f, *given) for f in (harmonics.left, harmonics.right, harmonics.alone))
        )
        up = series.frac_bits - precision.frac_bits
        out = self._number([s << up for s in sums], Scale(series.frac_bits), halves_of(x).alone)
        return out.plus(torch.tensor(round(series.constant * 2**series.frac_bits))) if series.constant else out

    @override
    def polynomials(self, x: Number, polynomials: Sequence[Polynomial]) -> list[Number]:
        expansion = Expansion(polynomials, x.frac_bits)
        if not expansion.fine:
            return fallbacks.polynomials(x, polynomials)
        sums = self._summed(x, expansion, expansion.left_factors, expansion.right_factors, expansion.alone)
        rows = zip(*(s.unbind() for s in sums), strict=True)
        alone = halves_of(x).alone
        return [
            self._number([s << bits - expansion.frac_bits for s in row], Scale(bits), alone)
            for row, bits in zip(rows, expansion.scales, strict=True)
        ]

    def _summed(self, x: Number, factors: Factors, left: Local, right: Local, alone: Local) -> list[Tensor]:
        """Σ left(x₀) right(x₁) over the first dimension, or alone(x) of what one party knows: [n] or more of them."""
        half = halves_of(x)
        parts = dict(zip(self._here, (t.reshape(-1) for t in half.parts_here), strict=True))
        if half.alone is not None:
            sums = [alone(t) * (i == half.alone) for i, t in parts.items()]
        else:
            zero, one = (of(parts[i]) if i in parts else None for i, of in enumerate((left, right)))
            sums = self._inner(zero, one, factors)
        return [s.view((*s.shape[:-1], *x.shape)) for s in sums]

    def _inner(self, left: Tensor | None, right: Tensor | None, factors: Factors) -> list[Tensor]:
        """Σ left right over the first dimension: of few numbers on transfers, in one hop, else on ciphertexts."""
        terms, *shape = next(t.shape for t in (left, right) if t is not None)
        count = math.prod(shape)
        if terms * count > FEW:
            bits = factors.left_bits, factors.right_bits
            return self._lattice.inner(left, right, shape, terms, *bits, factors.bound)
        a, v = (None if t is None else t.reshape(-1) for t in (left, right))
        cross = product.Cross(1, terms * count, a, v, factors.left_bits)
        (products,) = product.crossed(self.session, self._transfers, [cross])
        return [p.view(terms, *shape).sum(0) for p in products]

    @override
    def powers_of_two(self, y: Number, window: Exponents = FULL) -> Number:
        y = in_octaves(y, window)
        parts = [t.reshape(-1) for t in halves_of(y).parts_here]
        found = powers.powers_of_two(self.session, self._transfers, parts, y.frac_bits)
        return self._number([t.view(y.shape) for t in found], Scale(POWER_OF_TWO_BITS))

    # --- bits ------------------------------------------------------------------------------------------------------

    @override
    def less(
        self, x: Number, thresholds: Sequence[int], *beside: Callable[[], Value], near: int = 0, most: int | None = None
    ) -> list[Bits]:
        missing = [t for t in dict.fromkeys(thresholds) if LESS.of(x, t) is None]
        if missing:
            for t, bit in zip(missing, self._less(x, missing), strict=True):
                LESS.keep(x, bit, t)
        found = [LESS.of(x, t) for t in thresholds]
        return [bit for bit in found if bit is not None]

    def _less(self, x: Number, thresholds: Sequence[int]) -> list[Bits]:
        origin = x.origin()
        if origin is not None and origin.move is not None and isinstance(origin.parent, Number):
            return [b.move(origin.move, view=False) for b in self.less(origin.parent, thresholds)]
        half = halves_of(x)
        if half.alone is not None:
            rows = [
                [
                    (t < k).to(torch.uint8) if i == half.alone else torch.zeros_like(t, dtype=torch.uint8)
                    for k in thresholds
                ]
                for i, t in zip(self._here, half.parts_here, strict=True)
            ]
            return [self._bits([row[k] for row in rows], half.alone) for k in range(len(thresholds))]
        flat = [t.reshape(-1) for t in half.parts_here]
        found = comparison.less(self.session, self._transfers, flat, thresholds)
        return [self._bits([t[k].view(x.shape) for t in found]) for k in range(len(thresholds))]

    @override
    def select(self, pairs: Sequence[tuple[Bits, Number]]) -> list[Number]:
        numbers = [x for _, x in pairs]
        settled = iter(self.settle_all([x for x in numbers if not x.scale.precise]))
        numbers = [x if x.scale.precise else next(settled) for x in numbers]
        choices = []
        for (b, _), x in zip(pairs, numbers, strict=True):
            bits, half = halves_of(b), halves_of(x)
            choices.append(selection.Choice(bits.parts_here, bits.alone, half.parts_here, half.alone))
        found = selection.selected(self.session, self._transfers, choices)
        out = []
        for x, choice, parts in zip(numbers, choices, found, strict=True):
            alone = choice.bits_of if choice.bits_of == choice.numbers_of else None
            out.append(self._number(parts, x.scale.chosen(), alone))
        return out

    @override
    def conjunction(self, x: Bits, y: Bits) -> Bits:
        shape = broadcast(x.shape, y.shape)
        left, right = halves_of(x), halves_of(y)
        if left.alone is not None and left.alone == right.alone:
            return self._bits([a & b for a, b in zip(left.parts_here, right.parts_here, strict=True)], left.alone)
        packed = [
            [kernels.on(t).pack_bits(t.expand(shape).contiguous()) for t in half.parts_here] for half in (left, right)
        ]
        found = planes.both(self.session, self._transfers, packed[0], [p.unsqueeze(0) for p in packed[1]])
        count = shape.numel()
        return self._bits([kernels.on(z).unpack_bits(z.view(-1), count).view(shape) for z in found])

    @override
    def all_of(self, bits: Sequence[Bits]) -> Bits:
        return fallbacks.all_of(bits)

    @override
    def to_arithmetic(self, b: Bits) -> Number:
        return ARITHMETIC.once(b, lambda: self._to_arithmetic(b))

    def _to_arithmetic(self, b: Bits) -> Number:
        half = halves_of(b)
        if half.alone is not None:
            return self._number([t.to(RING.dtype) for t in half.parts_here], Scale(positive=True), half.alone)
        return self._number(selection.to_ring(self.session, self._transfers, half.parts_here), Scale(positive=True))

    @override
    def hot(self, x: Number, count: int) -> Number:
        return fallbacks.hot(x, count)

    @override
    def odd(self, b: Bits) -> Number:
        """The bytes of shares, read as ring elements, add up to b modulo 2. Local."""
        half = halves_of(b)
        return self._number([t.to(RING.dtype) for t in half.parts_here], Scale(), half.alone)

    @override
    def parity(self, x: Number) -> Bits:
        """The lowest bits of shares add up to that of x modulo 2. Local."""
        half = halves_of(x)
        return self._bits([(t & 1).to(torch.uint8) for t in half.parts_here], half.alone)

    # --- rows --------------------------------------------------------------------------------------------------------

    @override
    def shuffled(self, values: Sequence[Value]) -> list[Value]:
        """By two networks of switches; from a store of transfers, which has none, by sorting random keys."""
        if self._transfers.on_disk:
            return fallbacks.shuffled(values)
        rows = sorting.shuffled(self.session, self._transfers, self._words(values))
        return self._like(values, rows)

    @override
    def arranged(self, places: Number, values: Sequence[Value]) -> list[Value]:
        """Shuffle rows with their places, and open these: a uniform order, whatever the rows were."""
        if self._transfers.on_disk:
            return fallbacks.arranged(places, values)
        rows = sorting.arranged(self.session, self._transfers, self._words([places, *values]))
        return self._like(values, rows)

    @override
    def in_order(self, key: Number, *beside: Number) -> list[Number]:
        """By the order of an only owner, or by comparing shuffled rows in the open; from a store by a network."""
        if self._transfers.on_disk or not key.numel:
            return network.in_order(key, *beside)
        count, columns, dims = key.shape[0], math.prod(key.shape[1:]), len(key.shape)
        rows: sorting.Rows = {}
        widths = [math.prod(x.shape[dims:]) for x in (key, *beside)]
        for place, i in enumerate(self._here):
            parts = [halves_of(x).parts_here[place] for x in (key, *beside)]
            flat = [t.reshape(count, columns, w).transpose(0, 1) for t, w in zip(parts, widths, strict=True)]
            rows[i] = torch.cat(flat, 2).view(count * columns, -1)
        alone = halves_of(key).alone
        if alone is None:
            found = sorting.sorted_by(self.session, self._transfers, rows, columns)
        else:
            found = sorting.sorted_by_owner(self.session, self._transfers, alone, rows, columns)
        cut = [found[i].view(columns, count, -1).transpose(0, 1).split(widths, 2) for i in self._here]
        return [self._number([row[k].reshape(x.shape) for row in cut], x.scale) for k, x in enumerate((key, *beside))]

    def _words(self, values: Sequence[Value]) -> sorting.Rows:
        """Rows of all values side by side; a bit is the lowest of a word, as `odd` has it."""
        flat = [[t.reshape(len(t), -1).to(RING.dtype) for t in halves_of(x).parts_here] for x in values]
        return {i: torch.cat(row, 1) for i, row in zip(self._here, zip(*flat, strict=True), strict=True)}

    def _like(self, values: Sequence[Value], rows: sorting.Rows) -> list[Value]:
        """Values of the same kinds and scales of rows side by side."""
        out: list[Value] = []
        first = 0
        for x in values:
            last = first + math.prod(x.shape[1:])
            parts = [rows[i][:, first:last].reshape(x.shape) for i in self._here]
            if isinstance(x, Bits):
                out.append(self._bits([(t & 1).to(torch.uint8) for t in parts]))
            else:
                out.append(self._number(parts, x.scale))
            first = last
        return out

    # --- construction ----------------------------------------------------------------------------------------------

    def _number(self, parts: list[Tensor], scale: Scale, alone: int | None = None) -> Number:
        return Number(self, Halves(parts, self._here, alone), Storage(parts[0].numel(), scale))

    def _bits(self, parts: list[Tensor], alone: int | None = None) -> Bits:
        return Bits(self, Halves(parts, self._here, alone), Storage(parts[0].numel()))


def _held(half: Halves) -> Held:
    return Held(half.parts_here, half.alone, half.kept)


def _root(x: Number) -> tuple[Number, list[TensorOp]]:
    """What x was moved from, as long as that is no larger, and the moves that make x of it."""
    moves: list[TensorOp] = []
    while (origin := x.origin()) is not None and origin.move is not None and isinstance(origin.parent, Number):
        moves.insert(0, origin.move)
        x = origin.parent
    return x, moves
