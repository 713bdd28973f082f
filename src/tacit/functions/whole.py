"""Whole numbers of a secret: floors, quotients without a rest, remainders, and the bits of integers. All exact.

A truncation is off by one unit at most; a comparison of what is left says whether it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tacit.functions.labels import by_owner
from tacit.functions.reciprocal import quotient
from tacit.protocols.number import Number
from tacit.ring.fixed_point import VALUE_BITS

__all__ = [
    "SMALL",
    "bits_of",
    "floor",
    "floor_quotient",
    "floor_quotient_public",
    "nearest",
    "rounded",
    "toward_zero",
    "wrap",
]


SMALL = {torch.uint8: (8, False), torch.int8: (8, True), torch.int16: (16, True), torch.int32: (32, True)}
"""The bits of integers smaller than int64, and whether they have a sign. Their sums and products wrap."""


def _floors(x: Number, shifts: Sequence[int]) -> Number:
    """[floor(X / 2^k) for each k >= 0] of ring elements X, as integers, along a new first dimension. 5 rounds."""
    x.protocol.together(x)
    near = [x.protocol.settle(x, x.frac_bits - k).rescaled(0) if k else x.rescaled(0) for k in shifts]
    rest = [(x.rescaled(0) - t.times_integer(1 << k)) if k else None for k, t in zip(shifts, near, strict=True)]
    t = _stacked(near)
    if all(r is None for r in rest):
        return t
    zero = x.protocol.public(torch.zeros(tuple(x.shape), dtype=torch.int64), 0)
    below = x.protocol.less(_stacked([zero if r is None else r for r in rest]), [0])[0]
    return (t - below.arithmetic()).declare(rounded=None)


def _stacked(shares: Sequence[Number]) -> Number:
    return shares[0].combined(lambda *column: torch.stack(column), *shares[1:])


def _picked(x: Number, k: int) -> Number:
    return x.move(lambda t: t[k], view=False)


def floor(x: Number, shift: int | None = None) -> Number:
    """Return the largest integer that is at most x, or at most X / 2^shift for the ring element X of x.

    Shape: any.   Domain: |x| < 2^(62 - f).   Error: none.
    Cost: 5 rounds, none for what one party owns.   Reveals: nothing.
    """
    shift = x.frac_bits if shift is None else shift
    if not shift:
        return x.rescaled(0)
    owned = by_owner(x, lambda t: t >> shift, x.shape)
    return _picked(_floors(x, [shift]), 0) if owned is None else owned


def toward_zero(x: Number) -> Number:
    """Return x without its fraction, as an integer: floor of X + [x < 0] (2^f - 1).

    Shape: any.   Domain: |x| < 2^(62 - f).   Error: none.
    Cost: 9 rounds, none for what one party owns.   Reveals: nothing.
    """
    if not x.frac_bits:
        return x
    unit = 1 << x.frac_bits
    owned = by_owner(x, lambda t: torch.div(t, unit, rounding_mode="trunc"), x.shape)
    if owned is not None:
        return owned
    (negative,) = x.protocol.less(x, [0])
    return floor(x.rescaled(0) + negative.arithmetic().times_integer(unit - 1), x.frac_bits)


def nearest(x: Number) -> Number:
    """Return the nearest integer, the even one of two: t = floor(x + 1/2), less 1 where x + 1/2 is t and t is odd.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: none.
    Cost: 9 rounds.   Reveals: nothing.
    """
    f = x.frac_bits
    if not f:
        return x
    y = x.rescaled(0).plus(torch.tensor(1 << (f - 1)))
    both = _floors(y, [f, f + 1])
    t, half = _picked(both, 0), _picked(both, 1)
    odd = t - half.times_integer(2)
    rest = y - t.times_integer(1 << f)  # of [0, 2^f)
    (tie,) = rest.protocol.less(rest, [1])
    (step,) = x.protocol.select([(tie, odd)])
    return t - step


def rounded(x: Number, frac_bits: int) -> Number:
    """Return x with at most so many fractional bits, as the nearest number that has them, the larger one of two.

    A truncation t of the ring element X by s bits is off by less than 2^s, and d = X - 2^s t tells on which side:

        round(X / 2^s) = t + [d >= 2^(s-1)] - [d < -2^(s-1)]

    Where a scheme's truncation rounds up or down by a coin, a party may know the coin: here it is the low bits of an
    opening. From t it would learn on which side of them x lies, and by a new coin each time x is computed again, x to
    a fraction of a unit. What is returned here is the same for every t, so it is a function of x alone. All that is
    opened on the way is masked by fresh uniform numbers, independent of x; so what whoever sees all this learns of x,
    if the result is revealed to it, is the result.

    Shape: any.   Domain: |x| < 2^(62 - f).   Error: <= half a unit.
    Cost: 5 rounds, 4 if x is open, none for what one party owns.   Reveals: nothing.
    """
    s = x.frac_bits - frac_bits
    if s <= 0:
        return x
    scale = x.scale.truncated(frac_bits)
    owned = by_owner(x, lambda t: (t >> s) + (t >> (s - 1) & 1), x.shape, frac_bits)
    if owned is not None:
        owned.declare(**scale._asdict())
        return owned
    protocol, half = x.protocol, 1 << (s - 1)
    t = protocol.settle(x, frac_bits)
    rest = x.rescaled(0) - t.rescaled(0).times_integer(1 << s)
    low, high = _masked(protocol.less(rest, [-half, half]))
    step = high.invert().arithmetic() - low.arithmetic()
    out: Number = (t.rescaled(0) + step).rescaled(frac_bits)
    out.declare(**scale._asdict())
    return out


def floor_quotient_public(x: Number, divisor: int) -> tuple[Number, Number]:
    """Return floor(X / d) for a public integer d that is not 0, and the rest X - d floor(X / d), as integers.

    Shape: any.   Domain: |X| < 2^62 and |X / d| < 2^50.   Error: none.
    Cost: 5 rounds.   Reveals: nothing.
    """
    x = x.rescaled(0)
    if divisor < 0:
        q, rest = floor_quotient_public(-x, -divisor)
        return q, -rest
    if divisor & (divisor - 1) == 0:
        q = floor(x, divisor.bit_length() - 1)
        return q, x - q.times_integer(divisor)
    t = x.protocol.scale(x, 1 / divisor, 0)
    if t is None:
        t = x.protocol.public(torch.zeros(tuple(x.shape), dtype=torch.int64), 0)  # |X| < 2^62 is less than d
    rest = x - t.rescaled(0).times_integer(divisor)
    steps = range(-NEAR + 1, NEAR + 1)
    below = x.protocol.less(rest, [k * divisor for k in steps])
    change = _sum([b.invert().arithmetic() for b in _masked(below)]).plus(torch.tensor(-NEAR))
    return t.rescaled(0) + change, rest - change.times_integer(divisor)


NEAR = 3
"""By how many units less than this a product with an inverse may miss a quotient: two, and one for its floor."""


def _masked(bits: Sequence[object]) -> list:  # type: ignore[type-arg]
    """Bits opened in one round."""
    found = list(bits)
    found[0].protocol.together(*found)  # type: ignore[attr-defined]
    return found


def _sum(shares: Sequence[Number]) -> Number:
    total = shares[0]
    for x in shares[1:]:
        total = total + x
    return total


def floor_quotient(x: Number, y: Number) -> tuple[Number, Number]:
    """Return floor(x / y) as an integer and the rest x - y floor(x / y), of two secrets of one scale.

    The quotient is found to one unit and corrected by comparisons of what is left.
    Shape: equal.   Domain: that of `quotient`, |x / y| < 2^17; nothing tells that y is 0.   Error: none.
    Cost: about 30 rounds.   Reveals: nothing.
    """
    protocol = x.protocol
    (negative,) = protocol.less(y, [0])
    twice = protocol.select([(negative, x), (negative, y)])
    a, b = x - twice[0].times_integer(2), y - twice[1].times_integer(2)  # b = |y|, and a as x / y says
    fine = protocol.frac_bits
    ratio = quotient(a.lifted(max(a.frac_bits, fine)), b.lifted(max(b.frac_bits, fine)))
    t = floor(ratio.settle(fine))
    rest = a - _times(t, b)
    low, high = protocol.less(rest, [0])[0], protocol.less(rest - b, [0])[0]
    protocol.together(low, high)
    change = low.arithmetic() + high.arithmetic()  # 2 below 0, 1 within, 0 beyond
    steps = change.times_integer(-1).plus(torch.tensor(1))
    rest = rest - _times(steps, b)
    (back,) = protocol.select([(negative, rest)])
    return t + steps, rest - back.times_integer(2)


def _times(whole: Number, x: Number) -> Number:
    return x.protocol.multiply(whole, x)


def wrap(x: Number, bits: int, *, signed: bool) -> Number:
    """Return an integer modulo 2^bits, as PyTorch's smaller integers hold it.

    Shape: any.   Domain: |x| < 2^61.   Error: none.
    Cost: 5 rounds, none for what one party owns.   Reveals: nothing.
    """
    half = 1 << (bits - 1) if signed else 0
    moved = x.plus(torch.tensor(half)) if half else x
    return x - floor(moved, bits).times_integer(1 << bits)


def bits_of(x: Number, places: Sequence[int]) -> Number:
    """Return bits of an integer in two's complement, along a new first dimension; place 62 is the sign.

    Shape: [..] -> [k, ..].   Domain: |x| < 2^62.   Error: none.
    Cost: 5 rounds; about 60 bytes a place.   Reveals: nothing.
    """
    needed = sorted({k for place in places for k in (place, place + 1) if k <= VALUE_BITS})
    floors = _floors(x, needed)
    at = {k: n for n, k in enumerate(needed)}

    def one(place: int) -> Number:
        low = _picked(floors, at[place])
        return -low if place == VALUE_BITS else low - _picked(floors, at[place + 1]).times_integer(2)

    return _stacked([one(place) for place in places])
