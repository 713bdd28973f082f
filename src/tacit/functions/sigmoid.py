"""The logistic function and its relatives: a Fourier series inside an interval, the limits outside of it.

One opening of x serves the series and both comparisons that tell where x is; one more round selects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from tacit.functions.linear import fractional
from tacit.protocols.number import Number
from tacit.protocols.scale import FINEST_PRODUCT
from tacit.protocols.series import ROOM, Harmonics
from tacit.protocols.values import Bits, Value

__all__ = ["bounds", "erf", "one_round_sigmoid", "selected_half", "sigmoid", "softplus", "tanh", "tanh_times"]

SIGMOID_BOUND = 10
SIGMOID = Harmonics(
    1024,
    turns=27,
    odd=True,
    sine=(
        0.608790339822, 0.145437439953, 0.0493959006029, 0.017337747379, 0.00613180338499, 0.00216063711058,
        0.000758472635727, 0.00028136613326, 9.66304151197e-05,
    ),
    rounding=2.0**-16,
)  # fmt: skip
"""Closest to sigmoid - 1/2 on [-10, 10] among series of the first 9 odd multiples (Lawson): error 4.3e-5, and beyond 10
the limit is off by 4.5e-5. Odd multiples repeat at 1024 / 27 / 4 = 9.5 what was before, backwards; as the function is
nearly constant there, that is smooth, and the coefficients fall fast and need few bits. All multiples of a period of 32
would need 12 terms with coefficients of up to 2 for the same error. 8 terms are off by 8e-5, 10 terms by 3e-5."""

ONE_ROUND_SIGMOID = Harmonics(
    32,
    sine=(0.489636897853, 0.177996988829, -0.0633571748845, 0.15257222631, -0.057578805365, 0.0419326618918),
    constant=0.5,
    rounding=2.0**-16,
    room=ROOM,
)
"""Closest to sigmoid on [-10, 10] in the same way, with 6 terms: error 4.3e-3. More terms: closer there, but from 8 on
the series, which nothing holds between 10 and 22, leaves [0, 1] far behind. This one stays in [-0.005, 1.005]."""

SERIES_BITS = 30
"""Fractional bits of a series that is multiplied before it is selected. More: smaller roundings, which at 30 are lost
beside the series' own error; fewer: larger factors."""

PRODUCT_BITS = 58
"""Fractional bits of that product: two of them and the factor, |2 y s + y| < 4, stay below 2^62: a truncation asks."""

NEAR = 2.0**-3
"""How far within its interval a series may be given up already. More: fewer digits of a product are compared, eight do
with this; fewer: what the limit is off by is less."""

SOFTPLUS_BOUND = 11
SOFTPLUS_EVEN = Harmonics(
    2048,
    turns=51,
    odd=True,
    cosine=(
        -3.90945554682, -0.321990241782, -0.0690157142654, -0.0183205316805, -0.00533134103312, -0.00162866391654,
        -0.000517811187521, -0.000166346557576, -6.3031018059e-05,
    ),
    constant=5.01965711051,
    rounding=2.0**-17,
)  # fmt: skip
"""Closest to log(2 cosh(x/2)) on [-11, 11] in the same way: error 2.1e-5, and beyond 11 max(x, 0) is off by 1.7e-5. Odd
multiples mirror it in a point at 2048 / 51 / 4 = 10.04, to either side of which it is nearly a line."""

ERF_BOUND, ERF_NEAR = 3.125, 2.0**-10
ERF = Harmonics(
    64,
    turns=5,
    odd=True,
    sine=(1.19880550126, 0.246793445939, 0.0564812601916, 0.00950323079717, 0.00107591369467, 7.86888998664e-05),
    rounding=2.0**-17,
)
"""Closest to erf on [-3.125, 3.125] in the same way: error 4.0e-6, and beyond the limit is off by 9.9e-6."""


def sigmoid(x: Number, threshold: float = math.inf) -> Number:
    """Return 1 / (1 + exp(-x)), and 1 for x > threshold: the derivative of `softplus`.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-14 + 2^-f.
    Cost: 4 rounds, 8 + 8.5 + 8.25 bytes an element and party; 3 fewer rounds' openings where x is open already.
    Reveals: nothing.   Ref: [ZZL23] for the use of a Fourier series.
    """
    x = x.settle(FINEST_PRODUCT)
    return selected_half(x, SIGMOID, *bounds(x, SIGMOID_BOUND, threshold))


def selected_half(x: Number, odd: Harmonics, low: Bits, high: Bits) -> Number:
    """1/2 and an odd series of x where x is not `low` but `high`, zero where it is both, and 1 where it is none."""
    series = x.protocol.harmonics(x, odd)
    inside = low ^ high  # [x < -B] implies [x < B]
    above = high.invert()
    x.protocol.together(inside, above, series)
    (selected,) = x.protocol.select([(inside, series)])
    halves = inside.arithmetic() + above.arithmetic().times_integer(2)
    return selected + halves.rescaled(1)


def one_round_sigmoid(x: Number) -> Number:
    """Return a Fourier series of 6 terms for 1 / (1 + exp(-x)), without comparisons.

    Beyond 10 it falls again, to 0.5 at 16, and repeats with period 32; it never leaves [-0.005, 1.005].

    Shape: any.   Domain: |x| <= 10.   Error: <= 0.00426.
    Cost: 1 round, of 8 bytes an element and party, and none if x is open; 80 bytes an element from the producer; the
    result is not truncated.   Reveals: nothing.   Ref: [ZZL23].
    """
    return x.protocol.harmonics(x.settle(FINEST_PRODUCT), ONE_ROUND_SIGMOID)


def tanh(x: Number) -> Number:
    """Return tanh x = 2 sigmoid(2 x) - 1.

    Shape: any.   Domain: |x| < 2^(60 - f).   Error: <= 2^-13 + 2^(1 - f).   Cost: 4 rounds.
    Reveals: nothing.
    """
    x = fractional(x)
    half = sigmoid(x.rescaled(x.frac_bits - 1))
    return half.times_integer(2).plus(torch.tensor(-1 << half.frac_bits))


class TanhTimes(NamedTuple):
    """y tanh x, and what tanh x itself is made of, for whoever needs it later: no more rounds then."""

    product: Number
    inside: Bits
    above: Bits
    series: Number

    def tanh(self) -> Number:
        """tanh x. Local, for everything is masked."""
        (selected,) = self.series.protocol.select([(self.inside, self.series)])
        halves = self.inside.arithmetic() + self.above.arithmetic().times_integer(2)
        half = selected + halves.rescaled(1)
        return half.times_integer(2).plus(torch.tensor(-1 << half.frac_bits))


def tanh_times(x: Number, y: Number) -> TanhTimes:
    """Return y tanh x = [|x| < B] (2 y s + y) + 2 [x >= B] y - y, with the series s of sigmoid(2 x) - 1/2.

    While the comparisons take their two rounds, the first masks s and the second y s.

    Shape: the same for both.   Domain: |x| < 2^(60 - f), |y| <= 2.   Error: |y| times that of tanh, and 2^-f.
    Cost: 4 rounds, 24 + 8.75 bytes an element and party, 8 fewer if y is open.   Reveals: nothing.
    """
    x, y = fractional(x).settle(FINEST_PRODUCT), y.settle()
    x = x.rescaled(x.frac_bits - 1)
    protocol = x.protocol
    protocol.together(x, y)
    series = protocol.harmonics(x, SIGMOID)
    fine = min(SERIES_BITS, PRODUCT_BITS - y.frac_bits)
    products: list[Number] = []

    def product() -> Number:
        half = protocol.multiply(series.settle(fine), y)
        products.append(half.times_integer(2).added(y.lifted(half.frac_bits)))
        return products[0]

    low, high = bounds(x, SIGMOID_BOUND, math.inf, lambda: series, product)
    inside, above = low ^ high, high.invert()
    one, two = protocol.select([(inside, products[0] if products else product()), (above, y)])
    return TanhTimes(one + two.times_integer(2) - y, inside, above, series)


def erf(x: Number) -> Number:
    """Return the error function, 2/√π ∫ exp(-t²) dt from 0 to x.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-16 + 2^-f.   Cost: 4 rounds.   Reveals: nothing.
    Ref: [ZZL23].
    """
    x = x.settle(FINEST_PRODUCT)
    low, high = bounds(x, ERF_BOUND, near=ERF_NEAR)
    series = x.protocol.harmonics(x, ERF)
    inside, above = low ^ high, high.invert()
    x.protocol.together(inside, above, low, series)
    (selected,) = x.protocol.select([(inside, series)])
    return selected + above.arithmetic() - low.arithmetic()


def softplus(x: Number, threshold: float = math.inf) -> Number:
    """Return log(1 + exp(x)) = x/2 + log(2 cosh(x/2)), whose second term is even; and x for x > threshold.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-15 + 2^-f.   Cost: 4 rounds.   Reveals: nothing.
    """
    x = x.settle(FINEST_PRODUCT)
    low, high = bounds(x, SOFTPLUS_BOUND, threshold)
    even = x.protocol.harmonics(x, SOFTPLUS_EVEN)
    series = even.added(x.rescaled(x.frac_bits + 1).lifted(even.frac_bits))
    inside, above = low ^ high, high.invert()
    middle, upper = x.protocol.select([(inside, series), (above, x)])
    return middle + upper


def bounds(
    x: Number,
    bound: float,
    threshold: float = math.inf,
    *beside: Callable[[], Value],
    near: float = NEAR,
) -> tuple[Bits, Bits]:
    """[x < -bound] and [x < bound]; or [x <= threshold] in the place of both where that is less.

    What is inside, but by less than `near`, may count as outside.
    """
    edge, blurred = math.floor(bound * 2**x.frac_bits), math.floor(near * 2**x.frac_bits)
    if threshold < bound:
        upper = math.floor(threshold * 2**x.frac_bits) + 1
        low, high = x.protocol.less(x, [min(-edge, upper), upper], *beside)
    else:
        low, high = x.protocol.less(x, [-edge, edge - blurred], *beside, near=blurred)
    return low, high
