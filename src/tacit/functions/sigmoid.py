"""The logistic function and its relatives: a Fourier series inside an interval, the limits outside of it.

One opening of x serves the series and both comparisons that tell where x is; one more round selects.
"""

from __future__ import annotations

import math

import torch

from tacit.functions.linear import fractional
from tacit.protocols.base import Harmonics
from tacit.protocols.share import Arithmetic, Binary

__all__ = ["erf", "one_round_sigmoid", "sigmoid", "softplus", "tanh"]

PERIOD = 32

SIGMOID_BOUND = 10
SIGMOID = Harmonics(
    PERIOD,
    sine=(
        -0.325603747824, 1.64029461272, -1.88696170195, 2.01717107055, -1.69401866269, 1.29071863527,
        -0.828496022863, 0.470976789246, -0.220766867076, 0.0867068248117, -0.0245481398654, 0.00473921655124,
    ),
    constant=0.5,
)  # fmt: skip
"""Closest to sigmoid on [-10, 10] among odd series of period 32 with 12 terms (Lawson): error 5.1e-5, and beyond 10 the
limit is off by 4.5e-5. The period leaves the series free on (10, 16), which is why it converges fast; 10 terms and a
bound of 9 would be off by 1.3e-4 and cost the producer 32 bytes less of 200."""

ONE_ROUND_SIGMOID = Harmonics(
    PERIOD,
    sine=(0.489636897853, 0.177996988829, -0.0633571748845, 0.15257222631, -0.057578805365, 0.0419326618918),
    constant=0.5,
)
"""Closest to sigmoid on [-10, 10] in the same way, with 6 terms: error 4.3e-3. More terms: closer there, but from 8 on
the series, which nothing holds between 10 and 22, leaves [0, 1] far behind. This one stays in [-0.005, 1.005]."""

SOFTPLUS_BOUND = 11
SOFTPLUS_EVEN = Harmonics(
    PERIOD,
    cosine=(
        -2.35548068114, -0.627549087643, 0.318485632791, -0.421379944608, 0.271113338155, -0.206445734836,
        0.118336162873, -0.0689541147378, 0.0314510054622, -0.0135601676983, 0.00401677309274, -0.00101031744193,
    ),
    constant=3.64414728587,
)  # fmt: skip
"""Closest to log(2 cosh(x/2)) on [-11, 11] in the same way: error 2.3e-5, and beyond 11 max(x, 0) is off by 1.7e-5."""

ERF_BOUND = 3
ERF = Harmonics(
    8,
    sine=(
        1.16428646539, -0.1119434084, 0.216464653564, -0.0861290982179, 0.0633038581038, -0.0353201541648,
        0.0200272632123, -0.0103740738418, 0.00488224614481, -0.00200181548651, 0.000666804073358, -0.000152232573194,
    ),
)  # fmt: skip
"""Closest to erf on [-3, 3] in the same way, of period 8: error 1.5e-5, and beyond 3 the limit is off by 2.2e-5."""


def sigmoid(x: Arithmetic, threshold: float = math.inf) -> Arithmetic:
    """Return 1 / (1 + exp(-x)), and 1 for x > threshold: the derivative of `softplus`.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-14 + 2^-f.
    Cost: 4 rounds, 8 + 8.5 + 8.25 bytes an element and party; 3 fewer rounds' openings where x is open already.
    Reveals: nothing.   Ref: [ZZL23] for the use of a Fourier series.
    """
    low, high = _bounds(x, SIGMOID_BOUND, threshold)
    (series,) = x.protocol.harmonics(x, [SIGMOID])
    inside = low ^ high  # [x < -B] implies [x < B]
    above = high.invert()
    x.protocol.mask(inside, above, series)
    (selected,) = x.protocol.select([(inside, series)])
    return selected + above.arithmetic()


def one_round_sigmoid(x: Arithmetic) -> Arithmetic:
    """Return a Fourier series of 6 terms for 1 / (1 + exp(-x)), without comparisons.

    Beyond 10 it falls again, to 0.5 at 16, and repeats with period 32; it never leaves [-0.005, 1.005].

    Shape: any.   Domain: |x| <= 10.   Error: <= 0.00426.
    Cost: 1 round, of 8 bytes an element and party, and none if x is open; 96 bytes an element from the producer; the
    result is not truncated.   Reveals: nothing.   Ref: [ZZL23].
    """
    return x.protocol.harmonics(x, [ONE_ROUND_SIGMOID])[0]


def tanh(x: Arithmetic) -> Arithmetic:
    """Return tanh x = 2 sigmoid(2 x) - 1.

    Shape: any.   Domain: |x| < 2^(60 - f).   Error: <= 2^-13 + 2^(1 - f).   Cost: 4 rounds.
    Reveals: nothing.
    """
    x = fractional(x)
    half = sigmoid(x.rescaled(x.frac_bits - 1))
    return half.times_integer(2).plus(torch.tensor(-1 << half.frac_bits))


def erf(x: Arithmetic) -> Arithmetic:
    """Return the error function, 2/√π ∫ exp(-t²) dt from 0 to x.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-15 + 2^-f.   Cost: 4 rounds.   Reveals: nothing.
    Ref: [ZZL23].
    """
    low, high = _bounds(x, ERF_BOUND)
    (series,) = x.protocol.harmonics(x, [ERF])
    inside, above = low ^ high, high.invert()
    x.protocol.mask(inside, above, low, series)
    (selected,) = x.protocol.select([(inside, series)])
    return selected + above.arithmetic() - low.arithmetic()


def softplus(x: Arithmetic, threshold: float = math.inf) -> Arithmetic:
    """Return log(1 + exp(x)) = x/2 + log(2 cosh(x/2)), whose second term is even; and x for x > threshold.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-15 + 2^-f.   Cost: 4 rounds.   Reveals: nothing.
    """
    low, high = _bounds(x, SOFTPLUS_BOUND, threshold)
    (even,) = x.protocol.harmonics(x, [SOFTPLUS_EVEN])
    series = even.added(x.rescaled(x.frac_bits + 1).lifted(even.frac_bits))
    inside, above = low ^ high, high.invert()
    middle, upper = x.protocol.select([(inside, series), (above, x)])
    return middle + upper


def _bounds(x: Arithmetic, bound: int, threshold: float = math.inf) -> tuple[Binary, Binary]:
    """[x < -bound] and [x < bound]; or [x <= threshold] in the place of both where that is less."""
    edge = bound << x.frac_bits
    upper = edge if threshold >= bound else math.floor(threshold * 2**x.frac_bits) + 1
    low, high = x.protocol.less(x, [min(-edge, upper), upper])
    return low, high
