"""Secret numbers: additive shares in fixed point, and the local operations on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.content import TensorOp
from tacit.protocols.remembered import Remembered
from tacit.protocols.scale import (
    FAR_BITS,
    FINEST_PRODUCT,
    FINEST_WHOLE,
    PRECISE_BITS,
    SHORT,
    SLACK_BITS,
    SUM_BITS,
    Scale,
)
from tacit.protocols.values import Multiple, Value, same
from tacit.ring.ring import RING
from tacit.ring.shapes import broadcast

__all__ = ["SETTLED", "Number", "factors"]


SETTLED: Remembered[Number] = Remembered("truncated, by fractional bits")


class Number(Value):
    """Secret numbers: additive shares of round(x 2^f).

    f may exceed the session's fractional bits for a while: a product that has not been truncated yet has twice as many.
    Sums, differences, views and comparisons work on it as it is; what needs it truncated calls `settle`.
    """

    __slots__ = ()

    @property
    def frac_bits(self) -> int:
        """f, the number of fractional bits now."""
        return self.storage.scale.frac_bits

    @property
    def settled_bits(self) -> int:
        """The fractional bits that a truncation leaves: the session's, and those that a mean has made room for."""
        return self.protocol.frac_bits + self.scale.headroom

    def settle(self, frac_bits: int | None = None) -> Number:
        """The same value with at most `frac_bits` (default: `settled_bits`) fractional bits, truncated once."""
        return self.protocol.settle(self, frac_bits)

    def settled_before(self, frac_bits: int) -> Number:
        """The same value as it was truncated to so many fractional bits, or as what it was moved from was; if neither
        was, as it is. Local.

        Truncated once more, on its own, it could be a unit more or less; so may a part that is truncated before the
        whole.
        """
        if self.frac_bits <= frac_bits:
            return self
        found, lineage = SETTLED.of(self, frac_bits), self.facts.lineage
        if found is not None:
            return found
        if lineage is None or lineage.move is None or lineage.parent.facts is not lineage.facts:
            return self
        assert isinstance(lineage.parent, Number)
        whole = lineage.parent.settled_before(frac_bits)
        if whole is lineage.parent:
            return self
        return whole.move(lineage.move, view=False).declare(**self.scale.truncated(frac_bits)._asdict())

    def rescaled(self, frac_bits: int) -> Number:
        """The same ring elements read at another scale: multiplies the value by a power of two. Local, exact."""
        out = self._of(self.content.copy(), self.scale.reread(frac_bits))
        out.descend(self, same)
        return out

    def summable(self, count: int = 1) -> Number:
        """The same value, settled if it is so fine that multiples, or sums of so many, would not fit. One round then.

        Only functions leave results that are finer than any product.
        """
        spare = SUM_BITS if count <= SHORT else RING.value_bits
        finest = max(RING.value_bits - spare, self.protocol.product_bits)
        if self.protocol.frac_bits > FINEST_WHOLE:
            finest = max(FINEST_PRODUCT - math.ceil(math.log2(max(count, 1))), self.protocol.frac_bits)
        return self if self.scale.precise or self.frac_bits <= finest else self.settle()

    def without_headroom(self) -> Number:
        """The same value, as an argument of a function, which may make large numbers of small ones. Local."""
        if not self.scale.headroom:
            return self
        return self.rescaled(self.frac_bits).declare(headroom=0)

    def lifted(self, frac_bits: int) -> Number:
        """The same value with more fractional bits. Local."""
        bits = frac_bits - self.frac_bits
        if bits == 0:
            return self
        out = self._of(self.content.linear(lambda t: t << bits, shape=self.shape), self.scale.lifted(frac_bits))
        out.descend(self, Multiple(1 << bits))
        return out

    def linear(self, op: TensorOp, *, onto: bool = False, shape: torch.Size | None = None) -> Number:
        """Apply an operation that is linear over the ring (a sum, a product with public integers). Local.

        `onto` says that the operation takes every value there is of the result's shape, so that a uniform mask of the
        operand becomes one of the result. `shape` is the result's, if the caller knows it.
        """
        return self._of(self.content.linear(op, onto=onto, shape=shape), self.scale.linear())

    def sum(self, dims: Sequence[int], *, keepdim: bool = False) -> Number:
        """The sum over dimensions. Local, unless the operand is too fine: see `summable`."""
        onto = all(self.shape[d] for d in dims)  # the sum of nothing is zero
        x = self.summable(math.prod(self.shape[d] for d in dims))
        if not dims:
            return self.fork()
        total = x.content.linear(lambda t: t.sum(tuple(dims), keepdim=keepdim), onto=onto)
        return self._of(total, x.scale.summed())

    def __neg__(self) -> Number:
        out = self.linear(torch.neg, onto=True, shape=self.shape)
        out.descend(self, Multiple(-1))
        return out

    def __add__(self, other: Number) -> Number:
        x, y = _aligned(self, other)
        return x.added(y)

    def __sub__(self, other: Number) -> Number:
        x, y = _aligned(self, other)
        difference = x.content.subtract(y.content, broadcast(x.shape, y.shape))
        out = self._of(difference, x.scale.plus(y.scale, minus=True))
        self.protocol.note_sum(out, x, y, -1)
        return out

    def added(self, other: Number) -> Number:
        """The sum of two shares of one scale, whatever that scale is. Local."""
        total = self.content.add(other.content, broadcast(self.shape, other.shape))
        out = self._of(total, self.scale.plus(other.scale))
        self.protocol.note_sum(out, self, other, 1)
        return out

    @staticmethod
    def end_to_end(shares: Sequence[Number]) -> Number:
        """The elements of all shares, one after the other, at the largest of their scales. Local."""
        frac_bits = max(x.frac_bits for x in shares)
        rows = [x.lifted(frac_bits) for x in shares]
        joined = rows[0].content.end_to_end([x.content for x in rows[1:]])
        out = rows[0]._of(joined, Scale.end_to_end([x.scale for x in rows], frac_bits))
        out.protocol.note_joined(out, rows)
        return out

    def __mul__(self, other: Number) -> Number:
        return self.protocol.multiply(*factors(self, other))

    def plus(self, c: Tensor) -> Number:
        """Add public ring elements of the same scale, with broadcasting. Local."""
        shape = broadcast(self.shape, c.shape)
        up = self.scale.positive and bool((c >= 0).all())
        out = self._of(self.content.add_public(c, shape), self.scale.shifted(up=up))
        if shape == self.shape:
            out.descend(self, lambda known: known.plus(c))
        return out

    def times_integer(self, k: int) -> Number:
        """Multiply by a public integer. Local, exact."""
        product = self.content.linear(lambda t: t * k, onto=bool(k % 2), shape=self.shape)
        out = self._of(product, self.scale.times_integer(k))
        out.descend(self, Multiple(k))
        return out

    def scale_for(self, source: Number) -> int:
        """The most fractional bits of a source that is written here: it is truncated to them before, if it has more."""
        if not self.whole:
            return self.frac_bits
        precise = self.scale.precise
        finest = max(PRECISE_BITS, self.protocol.frac_bits) if precise else self.protocol.factor_bits
        if not precise and self.frac_bits > finest:  # an untruncated product may take the place of another
            finest += self.protocol.frac_bits
        if source.frac_bits <= max(self.frac_bits, finest):
            return source.frac_bits
        fresh = self.facts.public is not None  # numbers that it starts from have no scale to keep to
        return finest if precise or fresh else max(self.frac_bits, self.protocol.frac_bits)

    def write(self, source: Number, *, untruncated: bool = False) -> None:
        """Overwrite the content in place; every view sees it.

        If all of it is written the scale may become finer, with `untruncated` as fine as the source's.
        """
        whole = self.whole
        scale = source.frac_bits if whole and untruncated else self.scale_for(source)
        source = source.settle(scale).lifted(max(scale, self.frac_bits) if whole else scale)
        self.content.write(source.content, whole=whole)
        self.storage.scale = self.scale.overwritten(source.scale, whole=whole)
        self.storage.version += 1
        if whole:
            self.protocol.note_written(self, source)


def factors(x: Number, y: Number) -> tuple[Number, Number]:
    """Two factors, truncated (in one round) where their product would have too many fractional bits.

    A parameter stays as it is. A gradient beside a parameter keeps its bits: it is smaller by its headroom. Two
    gradients, multiplied for a norm, are truncated to the session's: small numbers twice would leave no range. The
    product of two precise ones is as fine as they are, for |x y| < 2^20; that of a precise and another one has up to 52
    fractional bits and must stay below 2^10. What is wide is truncated to the session's as well, and in
    sessions of more than 26 all to 26.
    """
    protocol = x.protocol
    if x.scale.precise or y.scale.precise:
        return _precise_factors(x, y)
    if protocol.frac_bits > FINEST_PRODUCT // 2:
        return _coarser(x, y)
    if x.scale.bounded != y.scale.bounded:
        return _beside_bounded(x, y)
    if x.scale.wide or y.scale.wide:
        x, y = _narrowed(x, y)
    if x.scale.headroom and y.scale.headroom:
        if x.frac_bits + y.frac_bits <= 2 * protocol.frac_bits:
            return x, y
        settled = protocol.settle_all([x, y], protocol.frac_bits)
        return settled[0], settled[1]
    spare = min(max(x.scale.headroom, y.scale.headroom), protocol.parameter_bits - protocol.frac_bits)
    most = protocol.product_bits + spare
    if x.frac_bits + y.frac_bits <= most:
        return x, y
    left, right = _room_beside(x, y, most), _room_beside(y, x, most)
    protocol.together(*(v for v, bits in ((x, left), (y, right)) if v.frac_bits > bits))
    return x.settle(left), y.settle(right)


def _room_beside(x: Number, other: Number, most: int) -> int:
    """The fractional bits that a factor keeps: a parameter its own, and what is no product what it leaves of them."""
    coarse = x.protocol.parameter_bits
    if x.frac_bits <= coarse:
        return x.frac_bits
    if other.frac_bits <= coarse and x.frac_bits <= x.protocol.factor_bits:
        return most - other.frac_bits
    return x.settled_bits


def _coarser(x: Number, y: Number) -> tuple[Number, Number]:
    """Two factors of a session so fine that they are truncated for their product to have room. No round of its own."""
    most = FINEST_PRODUCT // 2
    left, right = (FINEST_PRODUCT - min(v.frac_bits, most) for v in (y, x))
    x.protocol.together(*(v for v, bits in ((x, left), (y, right)) if v.frac_bits > bits))
    return x.settle(left), y.settle(right)


def _beside_bounded(x: Number, y: Number) -> tuple[Number, Number]:
    """Two factors of which one is bounded by 1: it keeps up to 12 bits more than the session's, the other the rest."""
    protocol = x.protocol
    bounded, other = (x, y) if x.scale.bounded else (y, x)
    bits = min(bounded.frac_bits, protocol.factor_bits)
    room = protocol.product_bits - bits
    room = min(room, protocol.frac_bits) if other.scale.wide else room
    protocol.together(*(v for v, most in ((bounded, bits), (other, room)) if v.frac_bits > most))
    bounded, other = bounded.settle(bits), other.settle(room)
    return (bounded, other) if x.scale.bounded else (other, bounded)


def _narrowed(x: Number, y: Number) -> tuple[Number, Number]:
    """Those of two factors truncated to the session's fractional bits that are wide, in one round."""
    bits = x.protocol.frac_bits
    x.protocol.together(*(v for v in (x, y) if v.scale.wide and v.frac_bits > bits))
    left = x.settle(bits) if x.scale.wide else x
    return left, left if x is y else y.settle(bits) if y.scale.wide else y


def _precise_factors(x: Number, y: Number) -> tuple[Number, Number]:
    """Two factors of a fine product, truncated in one round: each with half the bits of a precise storage, or 24 for a
    precise one beside 28 for another."""
    protocol = x.protocol
    fine = [PRECISE_BITS // 2] * 2
    if x.scale.precise != y.scale.precise:
        fine = [min(protocol.frac_bits, 16) + (8 if v.scale.precise else SLACK_BITS) for v in (x, y)]
    protocol.together(*(v for v, bits in zip((x, y), fine, strict=True) if v.frac_bits > bits))
    left = x.settle(fine[0])
    return left, left if x is y else y.settle(fine[1])


def _aligned(x: Number, y: Number) -> tuple[Number, Number]:
    """Both at the larger of the two scales, after truncating what is too fine for both to fit, in one round."""
    limit = max(x.protocol.product_bits - 4, 2 * x.protocol.frac_bits, PRECISE_BITS)
    if x.scale.far or y.scale.far:
        limit = min(limit, FAR_BITS)
    if x.frac_bits > limit and y.frac_bits > limit:
        x.protocol.together(x, y)
    x, y = (v if v.frac_bits <= limit else v.settle() for v in (x, y))
    frac_bits = max(x.frac_bits, y.frac_bits)
    return x.lifted(frac_bits), y.lifted(frac_bits)
