"""Centring and scaling by the standard deviation: what all normalisation layers have in common, and its derivative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tacit.functions.linear import fractional, times_public
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.roots import rsqrt_factors
from tacit.protocols.number import Number

__all__ = ["VARIANCE_BITS", "Standardized", "standardized", "standardized_backward"]

VARIANCE_BITS = 32
"""Fractional bits of a variance. More: smaller ones, of which 1e-6 is off by 1e-4 now; fewer: larger ones, which end at
2^30, and whose root at 2^20."""

ROOM_BITS = 52
"""Fractional bits of n x, for n elements of a row that are finer than products of 16 fractional bits. More: fewer are
truncated before they are normalised, in a round of their own; fewer: larger ones fit, with x - mean below 2^10."""

COARSE_BITS, SQUARE_BITS = 16, 48
"""Fractional bits that x - mean keeps at least where it is squared, if it has them, and those that n squares may have.
More: the deviation of small rows is finer; fewer: larger rows fit, with a variance below 2^14 now."""

CENTRED_BITS = 28
"""Fractional bits of x - mean where x has more than the session's. More: small rows of means are finer; but times the
24 of the deviation the result, below √n, must fit."""

WEIGHTED_BITS, PART_BITS = 24, 18
"""Fractional bits of a weight times x - mean, and of the two factors of a weighted result, whose 36 leave it 2^20 with
room for sums, as a normalised number times a weight has. More: finer; fewer: larger ones fit."""

ROOMY_BITS = 18
"""Fractional bits of x - mean, at most, where it meets a weight. More: small rows are finer; fewer: larger products
fit, below 2^23 with the weight's 20 bits. Of an x that is no product it has the session's."""

ROOT_BITS = 40
"""Fractional bits of what the root is taken of, at most. More: smaller variances; fewer: larger ones than 2^22."""


RATIO_BITS = 5
"""Bits of q for which n q / 2^j, just below 1, is what x - mean is multiplied by. More: it is nearer to 1, and less of
x - mean is lost in its truncation, with 5 a sixteenth at most; fewer: shorter terms of masks, a bit each."""


@dataclass(slots=True, eq=False)
class Standardized:
    """A tensor over some dimensions, which the sums and the deviation keep with one element each."""

    product: Number
    """(x - mean) / √(variance + ε), not truncated."""
    deviation: Number
    """1 / (ρ √(variance + ε)) likewise."""
    weighted: Number | None
    """The first times a weight, if there was one and few elements; not truncated, nor is the first then needed."""
    total: Number
    """Σ x, untruncated."""
    squares: Number
    """Σ (ρ (x - mean))², with twice the session's fractional bits, or as many as leave it room."""
    dims: tuple[int, ...]
    size: int
    ratio: float
    """ρ, see `_nearly_inverse`."""
    _inverse: Number | None = None

    def settle(self, *beside: Number) -> None:
        """Open what is left to open of all that a gradient needs, with other numbers beside it, in one round."""
        self.product.protocol.together(self.product, self.deviation, *beside)

    @property
    def normalized(self) -> Number:
        """(x - mean) / √(variance + ε), at the session's fractional bits. At most 1 round, and only once."""
        return self.product.settle()

    @property
    def inverse(self) -> Number:
        """1 / √(variance + ε), with 24 fractional bits; likewise."""
        if self._inverse is None:
            protocol, whole = self.product.protocol, self.ratio == 1
            out = self.deviation.settle(WORKING_BITS) if whole else None
            out = protocol.scale(self.deviation, self.ratio, WORKING_BITS) if out is None else out
            assert out is not None
            out.declare(positive=True)
            self._inverse = out
        return self._inverse


def standardized(
    x: Number, dims: Sequence[int], eps: float, *, centre: bool = True, weight: Number | None = None
) -> Standardized:
    """Return (x - mean) / √(variance + eps) over `dims`, from c = ρ (n x - Σ x) / n, which costs no mean its precision.

    The variance is kept with twice the fractional bits: with 2^k the next power of two, σ = n / 2^k and q = Σ c² / 2^k,
    it is  1 / (ρ √(variance + eps)) = √σ / √(q + σ ρ² eps) = y s  with a power of two s, which meets c first: (c s) y.
    Without `centre`, x stands for c and its mean square for the variance, as in RMS norm. Of few elements a weight w,
    which broadcasts, meets c while the variance is compared, ((w c) s) y, so it costs no round of its own.
    Shape: any.   Domain: variance < 2^20, Σ c² < 2^30 and n |x| < 2^30 at 16 fractional bits; with more, also
    variance < 2^14 and n |x| < 2^20. |w result| < 2^20 and |w (x - mean)| < 2^23.
    Error: <= 2^-14 / √variance + 2^-15 |result|; constant rows give 0.
    Cost: 8 rounds, with 24 bytes an element and party; where those bytes are worth the round, 9, with 16; and some
    600 a row.
    Reveals: nothing.
    """
    protocol = x.protocol
    bits = protocol.frac_bits
    count = math.prod(x.shape[d] for d in dims)
    up = math.ceil(math.log2(max(count, 1)))
    room = ROOM_BITS - up
    factor = _nearly_inverse(count) if centre else 1.0
    near = factor * count if centre else 1.0
    if x.frac_bits > max(min(2 * bits, 2 * COARSE_BITS), room):
        x = x.settle(max(bits, min(x.settled_bits, room)))
    x = fractional(x)
    total = _sum(x, dims)
    few = x.numel * protocol.prices.again_factor <= protocol.prices.round
    weight = weight if few else None
    beside = [] if weight is None else [weight]
    most = max(COARSE_BITS, (SQUARE_BITS - up) // 2)
    if centre:
        raised = x.lifted(max(x.frac_bits, bits + 1, min(2 * bits, max(2 * COARSE_BITS, room))))
        spread = raised.linear(lambda t: t * count - t.sum(tuple(dims), keepdim=True))
        protocol.together(spread, *beside)
        scaled = protocol.scale(spread, factor, min(spread.settled_bits, max(bits, CENTRED_BITS)))
        assert scaled is not None
        centred = scaled
        coarse = centred if centred.frac_bits <= most else protocol.scale(spread, factor, most)
        assert coarse is not None
    else:
        protocol.together(x, *beside)
        centred = x.settle(max(bits, CENTRED_BITS))
        coarse = centred.settle(most)
    roomy = coarse.settle(max(bits, ROOMY_BITS))
    weighted = [protocol.multiply(roomy, w.settle(protocol.parameter_bits)) for w in beside]
    squares = _sum(protocol.multiply(coarse, coarse), dims)
    fine, ratio = squares.frac_bits + up, count / 2**up
    shift = ratio * near**2 * eps
    mean_square = squares.rescaled(fine).plus(torch.tensor(round(shift * 2.0**fine)))
    protocol.together(mean_square, *weighted)
    mean_square = mean_square.settle(min(2 * bits, ROOT_BITS))
    least = shift if shift * 2.0**mean_square.frac_bits > 2**7 else 0.0
    y, scale = rsqrt_factors(mean_square, math.sqrt(ratio), least * (1 - 2.0**-5))  # it is off by three units
    if few:  # x meets both factors one by one, opened once more
        spread = protocol.multiply(centred, scale)
        weighted = [protocol.multiply(w.settle(WEIGHTED_BITS), scale) for w in weighted]
        protocol.together(y, spread, *weighted)
        weighted = [protocol.multiply(w.settle(PART_BITS), y.settle(PART_BITS)) for w in weighted]
        y, spread = y.settle(WORKING_BITS), spread.settle(WORKING_BITS)
        product, deviation = protocol.multiply(spread, y), protocol.multiply(y, scale)
        if not weighted:
            protocol.together(product, deviation)
    else:
        deviation = protocol.multiply(y.settle(WORKING_BITS), scale)
        product = protocol.multiply(centred, deviation.settle(WORKING_BITS))
    return Standardized(product, deviation, weighted[0] if weighted else None, total, squares, tuple(dims), count, near)


def _nearly_inverse(count: int) -> float:
    """ρ / n, for 16/17 < ρ <= 1, of so few bits that what a truncation by it leaves has a short second term.

    1/n itself has none that are zero, unless n is a power of two; then ρ is 1.
    """
    whole = 1 << max(count - 1, 0).bit_length() + RATIO_BITS - 1
    return (whole // max(count, 1)) / whole


def standardized_backward(
    grad: Number, of: Standardized, scale: Number | None = None, *, centre: bool = True
) -> tuple[Number, Number, Number]:
    """Return s (g - mean g - x̂ mean(g x̂)), Σ g and Σ g x̂, where x̂ is normalised and s the scale it came with.

    A caller may have another scale, with 24 fractional bits. Without `centre`, mean g is left out.

    Domain: |g| < 2^20, |Σ g x̂| < 2^22 at 16 fractional bits and < 2^14 at 28, and |result| < 2^14.
    Error: <= 2^-16 (1 + s) + 2^-16 |result|.   Cost: 4 rounds.
    """
    protocol = grad.protocol
    of.settle(grad)
    g = grad.settle(WORKING_BITS)
    g = g.lifted(max(g.frac_bits, protocol.frac_bits))
    total = _sum(g, of.dims)
    normalized = of.normalized.settle(max(of.normalized.frac_bits - 8, 20))
    aligned = _sum(protocol.multiply(g, normalized), of.dims)
    share = torch.tensor(1 / of.size)
    mean, slope = (times_public(v.settle(WORKING_BITS), share) for v in (total, aligned))
    protocol.together(mean, slope)
    mean, slope = mean.settle(WORKING_BITS), slope.settle(WORKING_BITS)
    drift = protocol.multiply(normalized, slope)
    fine = max(drift.frac_bits, g.frac_bits, mean.frac_bits if centre else 0)  # where bits are few, g comes with more
    drift = drift.lifted(fine)
    if centre:
        drift = mean.lifted(fine).move(lambda t: t.expand(g.shape), view=False).added(drift)
    rest = g.lifted(fine).added(-drift)
    return protocol.multiply(rest.settle(WORKING_BITS), of.inverse if scale is None else scale), total, aligned


def _sum(x: Number, dims: Sequence[int]) -> Number:
    return x.sum(dims, keepdim=True)
