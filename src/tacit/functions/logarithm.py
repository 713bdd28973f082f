"""The natural logarithm."""

from __future__ import annotations

import math

import torch

from tacit.functions.linear import argument
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.step import Steps
from tacit.protocols.arithmetic import Arithmetic

__all__ = ["log"]

LOW, HIGH = -14, 16

COEFFICIENTS = (
    -0.287681888954, 1.33333151083, -0.888981616961, 0.790439146392,
    -0.782863264225, 0.827590131217, -1.11451605004, 1.34197121058,
)  # fmt: skip
"""log z on [1/2, 1) in powers of z - 3/4, closest in absolute error: 1.9e-7 (Remez)."""


def log(x: Arithmetic) -> Arithmetic:
    """Return log x = log z + e log 2, after scaling x to z = x 2^-e in [1/2, 1), by a polynomial of degree 7 in z.

    Shape: any.   Domain: 2^-14 <= x < 2^16.   Error: <= 2^-20.
    Below the domain, zero included, the result is finite, about log 2^-14 or less.
    Cost: 11 rounds.   Reveals: nothing.   Ref: [CS10].
    """
    x = argument(x)
    exponents = range(LOW + 1, HIGH + 1)  # x in [2^(e-1), 2^e)
    steps = Steps(x, [int(2.0 ** (x.frac_bits + e)) for e in exponents[:-1]])
    protocol = x.protocol
    z = protocol.multiply(x, steps.function([2.0**-e for e in exponents], frac_bits=HIGH)).settle(WORKING_BITS)
    w = [z.plus(torch.tensor(-3 << (WORKING_BITS - 2)))]  # powers of z - 3/4
    w.append(protocol.multiply(w[0], w[0]).settle(WORKING_BITS))
    w += _settled(protocol.multiply(w[1], w[0]), protocol.multiply(w[1], w[1]))
    w += _settled(*(protocol.multiply(w[2], w[k]) for k in (1, 2, 3)))
    total = w[0].times_integer(round(COEFFICIENTS[1] * 2**WORKING_BITS))
    for c, power in zip(COEFFICIENTS[2:], w[1:], strict=True):
        total = total + power.times_integer(round(c * 2**WORKING_BITS))
    total = total.rescaled(2 * WORKING_BITS).plus(torch.tensor(round(COEFFICIENTS[0] * 4**WORKING_BITS)))
    return total.settle(WORKING_BITS) + steps.function([e * math.log(2) for e in exponents], frac_bits=WORKING_BITS)


def _settled(*products: Arithmetic) -> list[Arithmetic]:
    """Truncate independent products in one round."""
    products[0].protocol.mask(*products)
    return [p.settle(WORKING_BITS) for p in products]
