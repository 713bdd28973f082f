"""Means, deviations and correlations of columns of any size, each brought to one scale before anything is squared."""

from __future__ import annotations

from typing import NamedTuple

import torch

from tacit.functions.linear import fractional
from tacit.functions.maximum import Maximum
from tacit.functions.roots import rsqrt
from tacit.functions.step import Octaves
from tacit.protocols.number import Number
from tacit.protocols.values import Bits

__all__ = ["Moments", "moments"]

MOST = 2.0**30
"""Numbers stay below it. More: more comparisons of each column's largest; and deviations must fit at 24 bits."""

CONSTANT_BITS = 3
"""A column whose numbers are within 2^3 units of its mean is a constant: the mean is rounded."""

FINE = 24
"""Fractional bits of what is at most 1."""

VARIANCE_BITS = 42
"""Fractional bits of variances of columns whose largest number is between 1/4 and 1: down to 1 / 16 n."""

SMALL = 16
"""Scales up to 2^16 have as many fractional bits, for 24 of a root, and their product stays below 2^62; larger ones
have none."""

ROOM = 60
"""Bits of sums of n products, each of two numbers below 1."""


class Moments(NamedTuple):
    """Of the columns of a table."""

    mean: Number
    deviation: Number
    """As of a sample: Σ (x - mean)² / (n - 1), and its root. Of a constant, 0."""
    correlation: Number
    """[k, k]; 0 with a constant, on the diagonal too."""
    varies: Bits
    """Whether a column is no constant."""


def moments(x: Number) -> Moments:
    """Return means, deviations and correlations of the columns of x.

    Let c = x - mean, and 2^e above the largest |c| of a column, by a factor of 4 at most. With z = c 2^-e, |z| <= 1,

        v = Σ z_i z_j / (n - 1)        deviation = 2^e √v_jj        correlation = v_ij / √(v_ii v_jj)

    Shape: [n, k], n >= 2.   Domain: |x| < 2^30.   Error: means 2^-16, deviations 2^-15 and 2^-18 relative, correlations
    2^-13, for columns whose largest number is less than 2^6 deviations from the mean.
    Cost: a maximum of n, a matrix product and 30 rounds; about 40 bytes a number.   Reveals: nothing.
    """
    protocol = x.protocol
    count = x.shape[0]
    x = fractional(x).settle(protocol.frac_bits)
    mean = _divided(x.sum([0]), count)
    spread = mean.move(lambda t: t.expand(x.shape), view=False)
    centred = x - spread.settle(x.frac_bits)
    ends = Maximum(centred.linear(lambda t: torch.cat([t, -t]))).values
    octaves = Octaves(ends.declare(positive=True), least=2.0**-x.frac_bits, most=MOST)
    down = octaves.scale()
    (constant,) = protocol.less(ends, [1 << CONSTANT_BITS])
    varies = constant.invert()
    bits = min(FINE, (ROOM - (count - 1).bit_length()) // 2)
    wide = down.move(lambda t: t.expand(x.shape), view=False)
    z = protocol.multiply(centred, wide).settle(bits)
    square = protocol.bilinear(z.move(lambda t: t.t(), view=False), z, torch.matmul)
    v = _divided(square, count - 1).settle(VARIANCE_BITS).declare(positive=False)
    own = v.move(lambda t: t.diagonal(), view=False).declare(positive=True)
    inverse = rsqrt(own)
    (inverse,) = protocol.select([(varies, inverse.settle(FINE).rescaled(0))])
    inverse = inverse.rescaled(FINE)
    root = protocol.multiply(own.settle(ROOM - 2 * FINE + 22), inverse).settle(FINE)
    small = octaves.function(lambda e: 2.0**e if e <= SMALL else 0.0, SMALL)
    large = octaves.function(lambda e: 2.0**e if e > SMALL else 0.0, 0)
    deviation = protocol.multiply(root, small).settle(FINE).added(protocol.multiply(root, large))
    rows = inverse.move(lambda t: t[:, None].expand(v.shape), view=False)
    half = protocol.multiply(v.settle(ROOM - FINE - 2), rows).settle(FINE + 6)
    correlation = protocol.multiply(half, rows.move(lambda t: t.t(), view=False)).settle(FINE)
    return Moments(mean, deviation, correlation.declare(positive=False), varies)


def _divided(x: Number, count: int) -> Number:
    """x / n with as many fractional bits."""
    if count == 1:
        return x
    found = x.protocol.scale(x, 1 / count, x.frac_bits)
    assert found is not None
    return found
