"""Sums and products with public numbers, in the cheapest way that keeps their precision."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from tacit.protocols.followed import Followed
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol
from tacit.protocols.scale import PRECISE_BITS
from tacit.ring.fixed_point import VALUE_BITS, encode, encode_public
from tacit.ring.shapes import broadcast

__all__ = [
    "FAR",
    "add_public",
    "apply_public",
    "argument",
    "finest_sum",
    "fractional",
    "largest",
    "masking",
    "times_public",
    "unreachable",
]

FAR = 2.0**15
"""What stands for public numbers that fixed point cannot hold, infinities, `torch.finfo(…).min`, -1e30: they tell
softmax and max what to leave out. Larger: further from any score; but it must fit at 44 fractional bits, the finest a
sum has."""


def fractional(x: Number) -> Number:
    """x with at least the session's fractional bits: integers have none. Local."""
    return x.lifted(max(x.frac_bits, x.protocol.frac_bits))


FINEST_BITS = 42
"""Fractional bits of an argument that is scaled into one octave: times a scale of 20 more, it must fit below 2^62."""

PRECISE_PRODUCT_BITS = 58
"""Fractional bits of a precise secret times a public factor. More: smaller rounding; fewer: larger numbers than 2^4."""


def argument(x: Number) -> Number:
    """x as a function's argument, with neither too few fractional bits nor too many. One round, if it has too many."""
    return fractional(x).settle(FINEST_BITS)


def finest_sum(x: Number, y: Number) -> Number:
    """x + y at the finer of both scales, up to that of a precise storage, which `x + y` would truncate. Local."""
    frac_bits = min(max(x.frac_bits, y.frac_bits), max(PRECISE_BITS, x.protocol.frac_bits))
    precise = x.scale.precise or y.scale.precise
    x, y = (v.settle(frac_bits).lifted(frac_bits) for v in (x, y))
    out = x.added(y)
    out.declare(precise=precise)  # a truncation forgets it
    return out


def add_public(x: Number, c: Tensor) -> Number:
    """x + c. Local, but for a truncation where c would not fit at the scale of x.

    Error: that of rounding c to the scale of x, 2^-(f+1).
    Numbers so low that fixed point does not hold them mask out, whatever x is there, see `masking`. No sum masks
    anything in, so plus infinity is an error, as NaN is.
    """
    if not c.dtype.is_floating_point:
        return x.plus(encode(c, x.frac_bits, name="a public summand"))
    x = fractional(x).summable()
    size = float(c.abs().max()) if c.numel() else 0.0
    if size * 2.0**x.frac_bits < 2.0**VALUE_BITS:
        return x.plus(encode(c, x.frac_bits, name="a public summand"))
    x = x.settle(min(x.frac_bits, x.settled_bits))
    beyond = c <= -largest(x.protocol)
    if not bool(beyond.any()):
        return x.plus(encode(c, x.frac_bits, name="a public summand"))
    shape = broadcast(x.shape, c.shape)
    keep = (~beyond).to(torch.int64)

    def op(t: Tensor) -> Tensor:
        return (t * keep.to(t.device)).expand(shape).contiguous()

    out = x.linear(op)
    if shape == x.shape:
        out.descend(x, lambda known: known.map(op))
    out = out.plus(encode(torch.where(beyond, -FAR, c), x.frac_bits, name="a public summand"))
    out.declare(far=max(x.scale.far, FAR))
    return out


def largest(protocol: Protocol) -> float:
    """The magnitude from which on fixed point holds no number."""
    return 2.0 ** (VALUE_BITS - protocol.frac_bits)


def masking(c: Tensor, protocol: Protocol) -> Tensor:
    """c, with -2^15 in the place of minus infinity and numbers as low, by which attention masks scores out.

    exp of the difference to the largest score is zero for either. 2^15 stands for plus infinity likewise: what a
    minimum leaves out. What holds either has a storage with `far` set.
    """
    beyond = unreachable(c, protocol)
    return c if beyond is None else torch.where(beyond, c.sign() * FAR, c)


def unreachable(c: Tensor, protocol: Protocol) -> Tensor | None:
    """Where numbers are that fixed point does not hold; None if it holds all. NaN remains an error."""
    if not c.dtype.is_floating_point or not c.numel():
        return None
    edge = largest(protocol)
    low, high = c.aminmax()
    if -edge < float(low) and float(high) < edge:
        return None
    beyond = c.abs() >= edge
    return beyond if bool(beyond.any()) else None


def times_public(x: Number, v: Tensor, number: float | None = None) -> Number:
    """x v. What this adds to the scale is truncated by whoever needs that; only an x that is a product itself is
    truncated here, in one round, in which a single number multiplies it as well.

    A power of two only changes the scale, a whole number only the ring elements; other factors are rounded to 16
    significant bits of their largest element.

    `number` is a single v as it was found, for it may be one that a recording follows.

    Domain: |x v| < 2^30 at 16 fractional bits, 2^26 where x is a parameter; where x is kept precise, |x| < 2^20 for a
    single number, |x v| < 2^4 for others.
    """
    x = x.summable()
    precise = x.scale.precise
    wide = x.scale.wide and not precise and x.frac_bits > x.protocol.frac_bits
    followed = number if isinstance(number, Followed) and not x.scale.far else None
    if followed is not None:
        followed.goes(lambda v: _way(v, octave=precise or wide))
    if v.numel() and v.dtype.is_floating_point:
        first = float(v.reshape(-1)[0])
        if first <= -largest(x.protocol) and bool(((v <= -largest(x.protocol)) & v.isfinite()).all()):
            return _times_far(x, v)
        if first != 0 and math.isfinite(first) and (v.numel() == 1 or bool((v == first).all())):
            scaled = None if precise and abs(first) < 1 else _times_power_of_two(x, first)
            factor = first if followed is None else followed
            if scaled is None and precise:
                scaled = _times_precise(x, factor)
            elif scaled is None and wide:
                scaled = _times_wide(x, factor)
            elif scaled is None and x.frac_bits > x.protocol.factor_bits:
                scaled = x.protocol.scale(x, factor)
            if scaled is not None:
                shape = broadcast(x.shape, v.shape)
                return scaled if shape == x.shape else scaled.move(lambda t: t.expand(shape).contiguous(), view=False)
    ring, frac_bits = encode_public(v, name="a public factor")
    if followed is not None and frac_bits:
        ring = followed.element(ring, partial(_encoded, frac_bits=frac_bits))
    if frac_bits and not precise and (wide or x.frac_bits > x.protocol.factor_bits):
        x = x.settle()
    if frac_bits and precise:
        x = x.settle(PRECISE_PRODUCT_BITS - frac_bits)
    shape = broadcast(x.shape, ring.shape)
    if ring.numel() == 1 and not frac_bits and shape == x.shape:
        out = x.times_integer(int(ring))  # of which is known what is known of x
    else:
        out = apply_public(x, ring, torch.mul, shape)
    positive = x.scale.positive and bool((v >= 0).all())
    out.declare(frac_bits=x.frac_bits + frac_bits, positive=positive)
    return out


def _way(v: float, *, octave: bool) -> tuple[object, ...]:
    """What `times_public` decides by of a single number, which it multiplies by then, whatever that is."""
    mantissa, exponent = math.frexp(abs(v))
    return v > 0, mantissa == 0.5, math.isfinite(v), v.is_integer(), octave and exponent


def _encoded(v: float, frac_bits: int) -> int | None:
    """A factor as a ring element, if it has these fractional bits of its own."""
    ring, bits = encode_public(torch.tensor(v, dtype=torch.float64), name="a public factor")
    return int(ring) if bits == frac_bits else None


def _times_wide(x: Number, factor: float) -> Number | None:
    """x times a number, with as many fractional bits, less those that a number above 1 takes. One round."""
    exponent = max(0, math.frexp(abs(factor))[1])
    out = x.protocol.scale(x, factor, max(x.frac_bits - exponent, x.protocol.frac_bits))
    if out is not None:
        out.declare(wide=True)
    return out


def _times_far(x: Number, v: Tensor) -> Number:
    """x v for a secret x of zeros and ones, and a v that masks out where x is one, see `masking`."""
    out = times_public(x.settle() if x.frac_bits > x.protocol.frac_bits else x, masking(v, x.protocol))
    out.declare(far=FAR)
    return out


def _times_precise(x: Number, factor: float) -> Number | None:
    """x times a number, as fine as a precise storage, or as what fits whenever x does. One round."""
    finest = max(PRECISE_BITS, x.protocol.frac_bits)
    exponent = max(0, math.frexp(abs(factor))[1])  # |factor| < 2^exponent
    x = x.lifted(max(x.frac_bits, finest))
    out = x.protocol.scale(x, factor, x.frac_bits - exponent)
    if out is not None:
        out.declare(precise=True)
    return out


def apply_public(x: Number, ring: Tensor, op: object, shape: torch.Size | None = None) -> Number:
    """op(x, ring) for a bilinear op and public ring elements, at the scale of x; `shape` as in `linear`. Local."""
    return x.linear(lambda t: op(t, ring.to(t.device)), shape=shape)  # type: ignore[operator]


def _times_power_of_two(x: Number, factor: float) -> Number | None:
    mantissa, exponent = math.frexp(abs(factor))
    if mantissa != 0.5:
        return None
    exponent -= 1
    limit = x.protocol.product_bits
    if exponent >= 0:
        if exponent > 40:
            return None
        return x.times_integer((1 << exponent) * (1 if factor > 0 else -1))
    if x.frac_bits - exponent > limit:
        x = x.settle()
    if x.frac_bits - exponent > limit:
        return None
    out = x.rescaled(x.frac_bits - exponent)
    return out if factor > 0 else -out
