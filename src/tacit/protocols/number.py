"""Secret numbers: additive shares in fixed point, and the local operations on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.content import TensorOp
from tacit.protocols.values import Value, same
from tacit.ring.shapes import broadcast

__all__ = [
    "FAR_BITS",
    "FINEST_PRODUCT",
    "PARAMETER_BITS",
    "PRECISE_BITS",
    "SLACK_BITS",
    "SUM_BITS",
    "Number",
    "factors",
]

SLACK_BITS = 12
"""Fractional bits a factor may have beyond the session's. More: a mean over a batch (a scale by 2^-7) keeps its
precision into the next product; fewer: larger products fit. Such a factor is smaller by the same 12 bits, so the range
stays."""

PARAMETER_BITS = 4
"""Fractional bits that a module's parameters and buffers have beyond the session's. More: a weight's rounding, which a
sum over many inputs adds up, is less (with 4 it is no more than that of the activations, with 8 nothing gets better any
more); fewer: larger products fit, for 4 what is below 2^26 at 16 fractional bits, before it was 2^30."""

SUM_BITS = 14
"""Bits that the ring must have for multiples and short sums of a number, as much as series leave (`harmonics.ROOM`).
More: some results are truncated before they are added up, in one round; fewer: shorter sums."""

FINEST_PRODUCT = 52
"""Fractional bits beyond which a product gets no slack, in sessions of 21 and more, and its factors are truncated, in
those of 27 and 28. More: finer factors; fewer: larger products fit, which stay below 2^10."""

FINEST_WHOLE = 20
"""Fractional bits of sessions whose products are summed as they are; in finer ones elements below 2^10 must have a sum
that fits. More: sums of squares save a round; but at 24, those beyond 2^14 would be wrong."""

SHORT = 256
"""Elements of a sum that `SUM_BITS` are enough for."""

FAR_BITS = 44
"""Fractional bits of what stands for infinity, 2^15: more would not fit."""

PRECISE_BITS = 42
"""Fractional bits of a precise storage, whatever the session's. More: smaller gradients are squared rightly; a gradient
of 1e-4 squared, times Adam's 1 - β₂, is 44 units. Fewer: larger ones fit; with 42, squares and their averages may reach
2^20, which is where the domain of the square root ends as well."""


class Number(Value):
    """Secret numbers: additive shares of round(x 2^f).

    f may exceed the session's fractional bits for a while: a product that has not been truncated yet has twice as many.
    Sums, differences, views and comparisons work on it as it is; what needs it truncated calls `settle`.
    """

    __slots__ = ()

    @property
    def frac_bits(self) -> int:
        """f, the number of fractional bits now."""
        return self.storage.frac_bits

    @property
    def settled_bits(self) -> int:
        """The fractional bits that a truncation leaves: the session's, and those that a mean has made room for."""
        return self.protocol.frac_bits + self.storage.headroom

    def settle(self, frac_bits: int | None = None) -> Number:
        """The same value with at most `frac_bits` (default: `settled_bits`) fractional bits, truncated once."""
        return self.protocol.settle(self, frac_bits)

    def rescaled(self, frac_bits: int) -> Number:
        """The same ring elements read at another scale: multiplies the value by a power of two. Local, exact."""
        out = self._like(self.content.copy())
        out.storage.far *= 2.0 ** (self.frac_bits - frac_bits)
        out.storage.frac_bits = frac_bits
        out.storage.positive = self.storage.positive
        out.descend(self, same)
        return out

    def summable(self, count: int = 1) -> Number:
        """The same value, settled if it is so fine that multiples, or sums of so many, would not fit. One round then.

        Only functions leave results that are finer than any product.
        """
        spare = SUM_BITS if count <= SHORT else 62
        finest = max(62 - spare, self.protocol.product_bits)
        if self.protocol.frac_bits > FINEST_WHOLE:
            finest = max(FINEST_PRODUCT - math.ceil(math.log2(max(count, 1))), self.protocol.frac_bits)
        return self if self.storage.precise or self.frac_bits <= finest else self.settle()

    def without_headroom(self) -> Number:
        """The same value, as an argument of a function, which may make large numbers of small ones. Local."""
        if not self.storage.headroom:
            return self
        out = self.rescaled(self.frac_bits)
        out.storage.headroom = 0
        return out

    def lifted(self, frac_bits: int) -> Number:
        """The same value with more fractional bits. Local."""
        bits = frac_bits - self.frac_bits
        if bits == 0:
            return self
        out = self.linear(lambda t: t << bits, shape=self.shape)
        out.storage.frac_bits = frac_bits
        out.sized_as(self)
        out.descend(self, lambda known: known.map(lambda t: t << bits))
        return out

    def linear(self, op: TensorOp, *, onto: bool = False, shape: torch.Size | None = None) -> Number:
        """Apply an operation that is linear over the ring (a sum, a product with public integers). Local.

        `onto` says that the operation takes every value there is of the result's shape, so that a uniform mask of the
        operand becomes one of the result. `shape` is the result's, if the caller knows it.
        """
        return self._like(self.content.linear(op, onto=onto, shape=shape))

    def sum(self, dims: Sequence[int], *, keepdim: bool = False) -> Number:
        """The sum over dimensions. Local, unless the operand is too fine: see `summable`."""
        onto = all(self.shape[d] for d in dims)  # the sum of nothing is zero
        x = self.summable(math.prod(self.shape[d] for d in dims))
        if not dims:
            return self.fork()
        out = x.linear(lambda t: t.sum(tuple(dims), keepdim=keepdim), onto=onto)
        out.storage.positive = x.storage.positive
        return out

    def __neg__(self) -> Number:
        out = self.linear(torch.neg, onto=True, shape=self.shape)
        out.descend(self, lambda known: known.map(torch.neg))
        return out

    def __add__(self, other: Number) -> Number:
        x, y = _aligned(self, other)
        return x.added(y)

    def __sub__(self, other: Number) -> Number:
        x, y = _aligned(self, other)
        out = x._like(x.content.subtract(y.content, broadcast(x.shape, y.shape)))
        out._inherit(x, y)
        return out

    def added(self, other: Number) -> Number:
        """The sum of two shares of one scale, whatever that scale is. Local."""
        out = self._like(self.content.add(other.content, broadcast(self.shape, other.shape)))
        out._inherit(self, other)
        out.storage.positive = self.storage.positive and other.storage.positive
        return out

    def _inherit(self, x: Number, y: Number) -> None:
        """What is known of the sizes of two summands, or of their difference."""
        self.storage.headroom = min(x.storage.headroom, y.storage.headroom)
        self.storage.precise = x.storage.precise or y.storage.precise
        self.storage.wide = x.storage.wide or y.storage.wide
        self.storage.far = max(x.storage.far, y.storage.far)
        self.storage.positive = False

    @staticmethod
    def end_to_end(shares: Sequence[Number]) -> Number:
        """The elements of all shares, one after the other, at the largest of their scales. Local."""
        frac_bits = max(x.frac_bits for x in shares)
        rows = [x.lifted(frac_bits) for x in shares]
        out = rows[0]._like(rows[0].content.end_to_end([x.content for x in rows[1:]]))
        out.storage.precise = all(x.storage.precise for x in shares)
        out.storage.wide = any(x.storage.wide for x in shares)
        out.storage.far = max(x.storage.far for x in shares)
        out.storage.positive = all(x.storage.positive for x in shares)
        out.storage.headroom = min(x.storage.headroom for x in shares)
        return out

    def __mul__(self, other: Number) -> Number:
        return self.protocol.multiply(*factors(self, other))

    def plus(self, c: Tensor) -> Number:
        """Add public ring elements of the same scale, with broadcasting. Local."""
        shape = broadcast(self.shape, c.shape)
        out = self._like(self.content.add_public(c, shape))
        out.storage.positive = self.storage.positive and bool((c >= 0).all())
        if shape == self.shape:
            out.descend(self, lambda known: known.plus(c))
        return out

    def times_integer(self, k: int) -> Number:
        """Multiply by a public integer. Local, exact."""
        out = self.linear(lambda t: t * k, onto=bool(k % 2), shape=self.shape)
        out.storage.far *= abs(k)
        out.storage.positive = self.storage.positive and k >= 0
        out.descend(self, lambda known: known.map(lambda t: t * k))
        return out

    def scale_for(self, source: Number) -> int:
        """The most fractional bits of a source that is written here: it is truncated to them before, if it has more."""
        if self.numel != self.storage.numel:
            return self.frac_bits
        precise = self.storage.precise
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
        whole = self.numel == self.storage.numel
        scale = source.frac_bits if whole and untruncated else self.scale_for(source)
        source = source.settle(scale).lifted(max(scale, self.frac_bits) if whole else scale)
        self.content.write(source.content, whole=whole)
        self.storage.frac_bits = source.frac_bits
        self.storage.headroom = min(source.storage.headroom, SLACK_BITS if whole else self.storage.headroom)
        self.storage.wide = source.storage.wide or (not whole and self.storage.wide)
        self.storage.far = source.storage.far if whole else max(self.storage.far, source.storage.far)
        self.storage.positive = source.storage.positive and (whole or self.storage.positive)
        self.storage.bounded = source.storage.bounded and (whole or self.storage.bounded)
        self.storage.version += 1


def factors(x: Number, y: Number) -> tuple[Number, Number]:
    """Two factors, truncated (in one round) where their product would have too many fractional bits.

    A parameter stays as it is. A gradient beside a parameter keeps its bits: it is smaller by its headroom. Two
    gradients, multiplied for a norm, are truncated to the session's: small numbers twice would leave no range. The
    product of two precise ones is as fine as they are, for |x y| < 2^20; that of a precise and another one has up to 52
    fractional bits and must stay below 2^10. What is wide is truncated to the session's as well, and in
    sessions of more than 26 all to 26.
    """
    protocol = x.protocol
    if x.storage.precise or y.storage.precise:
        return _precise_factors(x, y)
    if protocol.frac_bits > FINEST_PRODUCT // 2:
        return _coarser(x, y)
    if x.storage.bounded != y.storage.bounded:
        return _beside_bounded(x, y)
    if x.storage.wide or y.storage.wide:
        x, y = _narrowed(x, y)
    if x.storage.headroom and y.storage.headroom:
        if x.frac_bits + y.frac_bits <= 2 * protocol.frac_bits:
            return x, y
        settled = protocol.settle_all([x, y], protocol.frac_bits)
        return settled[0], settled[1]
    spare = min(max(x.storage.headroom, y.storage.headroom), protocol.parameter_bits - protocol.frac_bits)
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
    bounded, other = (x, y) if x.storage.bounded else (y, x)
    bits = min(bounded.frac_bits, protocol.factor_bits)
    room = protocol.product_bits - bits
    room = min(room, protocol.frac_bits) if other.storage.wide else room
    protocol.together(*(v for v, most in ((bounded, bits), (other, room)) if v.frac_bits > most))
    bounded, other = bounded.settle(bits), other.settle(room)
    return (bounded, other) if x.storage.bounded else (other, bounded)


def _narrowed(x: Number, y: Number) -> tuple[Number, Number]:
    """Those of two factors truncated to the session's fractional bits that are wide, in one round."""
    bits = x.protocol.frac_bits
    x.protocol.together(*(v for v in (x, y) if v.storage.wide and v.frac_bits > bits))
    left = x.settle(bits) if x.storage.wide else x
    return left, left if x is y else y.settle(bits) if y.storage.wide else y


def _precise_factors(x: Number, y: Number) -> tuple[Number, Number]:
    """Two factors of a fine product, truncated in one round: each with half the bits of a precise storage, or 24 for a
    precise one beside 28 for another."""
    protocol = x.protocol
    fine = [PRECISE_BITS // 2] * 2
    if x.storage.precise != y.storage.precise:
        fine = [min(protocol.frac_bits, 16) + (8 if v.storage.precise else SLACK_BITS) for v in (x, y)]
    protocol.together(*(v for v, bits in zip((x, y), fine, strict=True) if v.frac_bits > bits))
    left = x.settle(fine[0])
    return left, left if x is y else y.settle(fine[1])


def _aligned(x: Number, y: Number) -> tuple[Number, Number]:
    """Both at the larger of the two scales, after truncating a scale too large to be shared."""
    limit = max(x.protocol.product_bits - 4, 2 * x.protocol.frac_bits, PRECISE_BITS)
    if x.storage.far or y.storage.far:
        limit = min(limit, FAR_BITS)
    x, y = (v if v.frac_bits <= limit else v.settle() for v in (x, y))
    frac_bits = max(x.frac_bits, y.frac_bits)
    return x.lifted(frac_bits), y.lifted(frac_bits)
