"""Fallbacks: primitives made of others, for a scheme that has nothing better.

A scheme calls them by name; nothing falls back by itself, so whoever reads a scheme sees what it pays. They take
products, truncations, comparisons and bits as integers from the protocol of their operand, and promise less than what a
scheme makes for the purpose: their errors stand below.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import torch

from tacit.protocols.network import in_order
from tacit.protocols.number import Number
from tacit.protocols.series import FULL, POWER_OF_TWO_BITS, Harmonics, Polynomial, common_window
from tacit.protocols.values import Bits, Value
from tacit.ring.ring import RING

__all__ = ["all_of", "arranged", "harmonics", "hot", "one_hot", "polynomials", "powers_of_two", "scaled", "shuffled"]

HALF = 31
"""Bits of either half of a number and of a factor, so that products of halves stay below 2^62."""

FINE = 30
"""Fractional bits of powers of what is at most 1. More: finer polynomials; but products of two have twice as many."""

DEGREE = 22
"""Of the Taylor polynomials of sine and cosine of up to π: the term beyond is below 2^-38."""

KEY_BITS = 59
"""Bits of a party's part of a random key. More: fewer keys that are equal; but the differences of sums over eight
parties must stay below 2^62."""

COMPARED = 256
"""Up to so many places, a one-hot row takes a comparison for each. More: fewer rounds; fewer: fewer comparisons."""

FACTOR = 22
"""Fractional bits of 2^r, 0 <= r < 1: with those of 2^n, 24, they make the result's 46."""

EXPONENTIAL = tuple(math.log(2) ** k / math.factorial(k) for k in range(10))
"""The Taylor coefficients of 2^r; the next one is below 2^-27."""


def all_of(bits: Sequence[Bits]) -> Bits:
    """The conjunction of bits of one shape, in ceil(log2 n) rounds of pairs, one of which stand side by side."""
    while len(bits) > 1:
        half = len(bits) // 2
        both = Bits.stack(bits[:half]) & Bits.stack(bits[half : 2 * half])
        paired = [both.move(lambda t, k=k: t[k], view=False) for k in range(half)]  # type: ignore[misc]
        bits = [*paired, *bits[2 * half :]]
    return bits[0]


def one_hot(index: Number, count: int, dim: int) -> Bits:
    """Return [index = j] for j = 0 .. count - 1 along `dim`, where `index` has one element:  [i < j + 1] ^ [i < j].

    Shape: [.., 1, ..] -> [.., count, ..].   Domain: integers 0 <= index < count.
    Cost: a comparison with each place but one, from one opening.   Reveals: nothing.
    """
    below = index.protocol.less(index, range(1, count))
    if not below:
        return index.protocol.public_bits(torch.ones(index.shape, dtype=torch.uint8))
    hot = [below[0], *(b ^ a for a, b in pairwise(below)), below[-1].invert()]
    return Bits.stack(hot).move(lambda t: t.movedim(0, dim).squeeze(dim + 1), view=False)


def hot(x: Number, count: int) -> Number:
    """One-hot rows of integers 0 <= x < count: of many places, from those of two digits of base b = ceil(√count),

        [x = b h + l]  =  [h = floor(x / b)] ∧ [l = x - b floor(x / b)]

    Cost: a comparison with each place but one and the round of bits as integers; of more than 256 places, twice as many
    rounds and one for the conjunctions, and some 2 √count comparisons.   Reveals: nothing.
    """
    column = x.move(lambda t: t.unsqueeze(-1), view=False)
    last = len(x.shape)
    if count <= COMPARED:
        return one_hot(column, count, last).arithmetic()
    base = math.isqrt(count - 1) + 1
    highs = -(-count // base)
    below = Bits.stack([b.invert() for b in x.protocol.less(x, range(base, base * highs, base))])
    digit = below.arithmetic().sum([0])
    low = (column - digit.times_integer(base).move(lambda t: t.unsqueeze(-1), view=False)).rescaled(0)
    high_column = digit.move(lambda t: t.unsqueeze(-1), view=False).rescaled(0)
    high, low_bits = one_hot(high_column, highs, last), one_hot(low, base, last)
    both = high.move(lambda t: t.unsqueeze(-1), view=False) & low_bits.move(lambda t: t.unsqueeze(-2), view=False)
    return both.move(lambda t: t.flatten(-2)[..., :count], view=False).arithmetic()


def scaled(x: Number, factor: float, frac_bits: int) -> Number | None:
    """x times a public factor, with so many fractional bits; None where `Protocol.scale` gives none.

    With k = |factor| 2^(frac_bits - f) = m 2^-62, and both in halves, x = x₁ 2^31 + x₀ and m = m₁ 2^31 + m₀,

        x k  =  x₁ m₁ + (x₁ m₀ + x₀ m₁) / 2^31 + x₀ m₀ / 2^62

    where the last term is below a half, x₁ is a truncation, and x₀ = x - x₁ 2^31 is local.
    Domain: |x| < 2^62 in the ring.   Error: below 3 units.   Cost: two truncations, one after the other.
    """
    drop = x.scale.ratio(factor, frac_bits)
    if drop is None:
        return None
    protocol = x.protocol
    m = round(2 ** (2 * HALF) * Fraction(drop))
    upper = (m + (1 << HALF - 1)) >> HALF
    lower = m - (upper << HALF)
    whole = x.rescaled(HALF)
    high = whole.settle(0)
    low = whole.rescaled(0) - high.times_integer(1 << HALF)
    parts = [high.times_integer(lower).rescaled(HALF), low.times_integer(upper).rescaled(HALF)]
    first, second = protocol.settle_all(parts, 0)
    out = (high.times_integer(upper) + first + second).rescaled(frac_bits)
    out.declare(**x.scale.scaled(abs(factor), frac_bits)._asdict())
    return out if factor > 0 else -out


def polynomials(x: Number, many: Sequence[Polynomial]) -> list[Number]:
    """Polynomials of one window, from powers of x / window in a tree of products.

    Domain: -window <= x < window.   Error: <= d² 2^-30 Σ |c_k|.   Cost: 2 ceil(log2 d) rounds, one less for the first.
    """
    window = common_window(many)
    degree = max(max(len(p.coefficients) for p in many) - 1, 1)
    bits = [p.frac_bits for p in many]
    t = x.rescaled(x.frac_bits + window.bit_length() - 1)
    t = t.settle(FINE).lifted(FINE)
    powers = [t]
    while len(powers) < degree:
        products = [p.protocol.multiply(p, powers[-1]) for p in powers[: degree - len(powers)]]
        powers += t.protocol.settle_all(products, FINE)
    return [_weighted(powers, p, b) for p, b in zip(many, bits, strict=True)]


def _weighted(powers: Sequence[Number], p: Polynomial, frac_bits: int) -> Number:
    """Σ c_k t^k at the polynomial's scale. Local."""
    fine = [round(c * 2.0 ** (frac_bits - FINE)) for c in p.coefficients]
    total = powers[0].times_integer(fine[1] if len(fine) > 1 else 0)
    for power, c in zip(powers[1:], fine[2:], strict=False):
        total = total.added(power.times_integer(c))
    constant = torch.tensor(round(p.coefficients[0] * 2.0**frac_bits))
    return total.rescaled(frac_bits).plus(constant).declare(positive=False)


def harmonics(x: Number, series: Harmonics) -> Number:
    """A Fourier series, by sine and cosine of every multiple of the angle.

    For a period of P ring elements, y = m x - P floor(m x / P), or P less, has the angle of m x, and is in [-P, P).
    Half of it, in turns of 2π, is in [-π, π); sine and cosine of that give those of the whole by

        sin 2a = 2 sin a cos a        cos 2a = 1 - 2 sin² a

    Domain: |turns m x| < 2^62 in the ring for each multiple m.
    Error: <= 2^-17 Σ (|sine[k]| + |cosine[k]|).   Cost: a truncation, polynomials of degree 22 and two rounds.
    """
    protocol = x.protocol
    period = series.period_bits(x.frac_bits)
    multiples = series.multiples
    stacked = x.times_integer(series.turns)
    rows = stacked.combined(lambda t: torch.stack([t * m for m in multiples])).rescaled(period)
    turns = rows if period >= RING.value_bits else rows - rows.settle(0).lifted(period)
    sine, cosine = polynomials(turns, [_taylor(1), _taylor(0)])
    s, c = protocol.settle_all([sine, cosine], FINE)
    double, square = protocol.settle_all([protocol.multiply(s, c), protocol.multiply(s, s)], FINE)
    total = None
    scale = series.frac_bits
    for k, (p, q) in enumerate(series.amplitudes):
        term = _row(double, k).times_integer(round(2 * p * 2.0 ** (scale - FINE)))
        term = term.added(_row(square, k).times_integer(-round(2 * q * 2.0 ** (scale - FINE))))
        total = term if total is None else total.added(term)
    constant = series.constant + sum(q for _, q in series.amplitudes)
    offset = torch.tensor(round(constant * 2.0**scale))
    if total is None:
        return protocol.public(torch.zeros(tuple(x.shape), dtype=RING.dtype), scale).plus(offset)
    return total.rescaled(scale).plus(offset).declare(positive=False)


def _row(x: Number, k: int) -> Number:
    return x.move(lambda t: t[k], view=False)


def _taylor(first: int) -> Polynomial:
    """Sine (1) or cosine (0) of π t for -1 <= t < 1."""
    coefficients = [0.0] * (DEGREE + 1)
    for k in range(first, DEGREE + 1, 2):
        coefficients[k] = (-1) ** (k // 2) * math.pi**k / math.factorial(k)
    return Polynomial(1, tuple(coefficients))


def powers_of_two(y: Number) -> Number:
    """2^y for -44 <= y < 16 as 2^n 2^r with n = floor(y): n from 59 comparisons, 2^r from a polynomial.

    Error: <= 2^-20 + 2^-20 2^y.   Cost: a comparison with 59 thresholds, a polynomial of degree 9, a product.
    """
    protocol = y.protocol
    octaves = range(FULL.lowest + 1, FULL.highest)
    below = protocol.less(y, [k << y.frac_bits for k in octaves])
    reached = Bits.stack([b.invert() for b in below]).arithmetic()
    rest = y - reached.sum([0]).plus(torch.tensor(FULL.lowest)).lifted(y.frac_bits)
    fine = POWER_OF_TWO_BITS - FACTOR
    sizes = [0 if k < -fine else 1 << k + fine for k in (FULL.lowest, *octaves)]
    steps = torch.tensor([b - a for a, b in pairwise(sizes)]).view(-1, *[1] * len(y.shape))
    whole = reached.linear(lambda t: (t * steps.to(t.device)).sum(0)).plus(torch.tensor(sizes[0])).rescaled(fine)
    (part,) = polynomials(rest, [Polynomial(1, EXPONENTIAL)])
    return protocol.multiply(whole, part.settle(FACTOR)).declare(headroom=0, positive=False)


def shuffled(values: Sequence[Value]) -> list[Value]:
    """Rows in the order of random keys, which are sums of a secret one of each party.

    The order is uniform up to n² 2^-60: that is how likely two keys are equal.
    Cost: that of sorting n rows by `network.in_order`, once for all values.
    """
    protocol = values[0].protocol
    session, count = protocol.session, values[0].shape[0]
    keys = None
    for party in session.parties:
        mine = None
        if party in session.transport.hosted:
            words = torch.frombuffer(bytearray(os.urandom(8 * max(count, 1))), dtype=torch.int64)[:count]
            mine = words >> RING.bits - KEY_BITS
        drawn = protocol.share(mine, party, (count,), 0)
        drawn.facts.owned = None
        keys = drawn if keys is None else keys + drawn
    assert keys is not None
    return arranged(keys, values)


def arranged(places: Number, values: Sequence[Value]) -> list[Value]:
    """Rows sorted by their places.   Cost: that of sorting n rows by `network.in_order`, once for all values."""
    numbers = [v.arithmetic() if isinstance(v, Bits) else v for v in values]
    _, *rows = in_order(places, *(x.rescaled(0) for x in numbers if isinstance(x, Number)))
    out: list[Value] = []
    for value, x in zip(values, rows, strict=True):
        if isinstance(value, Number):
            x = x.rescaled(value.frac_bits)
            x.storage.scale = value.scale
            out.append(x)
        else:
            out.append(value.protocol.less(x, [1])[0].invert())
    return out
