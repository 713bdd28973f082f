"""GELU and SiLU: x for large x, zero for very negative x, and a series between.

x times a gate that is odd around 1/2 is x/2 and an even function, which one series gives from the opening of x that the
comparisons take as well: the gate itself is never computed, and no product either.
"""

from __future__ import annotations

from tacit.functions.linear import fractional
from tacit.functions.sigmoid import bounds, selected_half
from tacit.protocols.number import Number
from tacit.protocols.scale import FINEST_PRODUCT
from tacit.protocols.series import Harmonics

__all__ = ["gelu", "gelu_slope", "silu", "tanh_gelu", "tanh_gelu_slope"]

GELU_BOUND = 5
GELU = Harmonics(
    1024,
    turns=53,
    odd=True,
    cosine=(
        -2.05313790314, -0.26377859209, -0.07607202722, -0.01850976982, -0.00318959029, -0.00037209396, -0.00002819617,
    ),
    constant=2.41508994636,
    rounding=2.0**-18,
)  # fmt: skip
"""Closest to x erf(x/√2) / 2 on [-5, 5] among series of the first 7 odd multiples (linear programming): error 1.8e-6,
and beyond 5 max(x, 0) is off by 1.5e-6. Odd multiples mirror it in a point at 1024 / 53 / 4 = 4.83, to either side of
which it is nearly a line, so that few terms do. 6 terms are off by 1.4e-5; an eighth, for ten bytes, is lost beside the
roundings."""

TANH_GELU = Harmonics(
    1024,
    turns=54,
    odd=True,
    cosine=(
        -2.01831870675, -0.25920494996, -0.07292186869, -0.01679629526, -0.00274036996, -0.00034642931, -0.00003665957,
    ),
    constant=2.37036749165,
    rounding=2.0**-18,
)  # fmt: skip
"""Closest to x tanh(√(2/π) (x + 0.044715 x³)) / 2 in the same way: 2.2e-6, and beyond 5 off by 2.3e-7."""

GELU_SLOPE = Harmonics(
    1024,
    turns=49,
    odd=True,
    sine=(
        0.66349119067, 0.25622935178, 0.13408549668, 0.05391359127, 0.01513179963, 0.00291256928, 0.00038376875,
        0.00003477379, 0.00000207803,
    ),
    rounding=2.0**-18,
)  # fmt: skip
"""Closest to the derivative of the first, erf(x/√2) / 2 + x φ(x): 1.4e-7, and beyond 5 the limit is off by 7.2e-6."""

TANH_GELU_SLOPE = Harmonics(
    1024,
    turns=51,
    odd=True,
    sine=(
        0.66553828087, 0.2571570568, 0.129113307, 0.04746428686, 0.01182846156, 0.00215191186, 0.00033118926,
        0.00003579929, -0.00000202392, -0.000002099,
    ),
    rounding=2.0**-18,
)  # fmt: skip
"""Closest to that of the second: 7.3e-7, and beyond 5 off by 1.6e-6."""

SILU_BOUND = 14
SILU = Harmonics(
    4096,
    turns=81,
    odd=True,
    cosine=(
        -5.24687680746, -0.64952240368, -0.2356280759, -0.10289137594, -0.04665272912, -0.02133210291,
        -0.00976379522, -0.0044739452, -0.00204978535, -0.00093634831, -0.00043404391, -0.00019093266,
        -0.00009844968, -0.00004558321,
    ),
    constant=6.32092234702,
    rounding=2.0**-18,
)  # fmt: skip
"""Closest to x tanh(x/2) / 2 on [-14, 14] in the same way: 2.6e-5, and beyond 14 max(x, 0) is off by 1.2e-5."""


def gelu(x: Number) -> Number:
    """Return x Φ(x) = x (1 + erf(x/√2)) / 2.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-17 + 2^-f.
    Cost: 4 rounds, of an x that is a product, too; 8 + 8.5 + 8.25 bytes an element and party.   Reveals: nothing.
    """
    return _gated(x, GELU, GELU_BOUND)


def tanh_gelu(x: Number) -> Number:
    """Return x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, which stands for `gelu` in many models.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-17 + 2^-f.   Cost: 4 rounds.   Reveals: nothing.
    """
    return _gated(x, TANH_GELU, GELU_BOUND)


def silu(x: Number) -> Number:
    """Return x sigmoid(x).

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-15 + 2^-f.   Cost: 4 rounds.   Reveals: nothing.
    """
    return _gated(x, SILU, SILU_BOUND)


def gelu_slope(x: Number) -> Number:
    """Return the derivative of `gelu`, Φ(x) + x φ(x).

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-16 + 2^-f.
    Cost: 4 rounds, and 1 after `gelu`.   Reveals: nothing.
    """
    return _slope(x, GELU_SLOPE)


def tanh_gelu_slope(x: Number) -> Number:
    """Return the derivative of `tanh_gelu`.

    Shape: any.   Domain: |x| < 2^(61 - f).   Error: <= 2^-17 + 2^-f.
    Cost: 4 rounds, and 1 after `tanh_gelu`.   Reveals: nothing.
    """
    return _slope(x, TANH_GELU_SLOPE)


def _gated(x: Number, even: Harmonics, bound: int) -> Number:
    """[|x| < B] (x/2 + an even series) + [x >= B] x."""
    x = fractional(x).settle(FINEST_PRODUCT)
    low, high = bounds(x, bound)
    wave = x.protocol.harmonics(x, even)
    middle = wave.added(x.rescaled(x.frac_bits + 1).lifted(wave.frac_bits))
    inside, above = low ^ high, high.invert()  # [x < -B] implies [x < B]
    x.protocol.together(inside, above, middle)
    first, second = x.protocol.select([(inside, middle), (above, x)])
    return first + second


def _slope(x: Number, odd: Harmonics) -> Number:
    x = fractional(x).settle(FINEST_PRODUCT)
    return selected_half(x, odd, *bounds(x, GELU_BOUND))
