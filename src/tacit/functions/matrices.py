"""Inverses of matrices by products alone: neither pivots nor the number of steps can depend on secrets."""

from __future__ import annotations

import torch

from tacit.protocols.number import Number
from tacit.ring import kernels

__all__ = ["SMALLEST", "newton_schulz", "scales"]

MATRIX_BITS = 30
"""Fractional bits of the matrix, whose norm is at most 1. More: with those of its inverse they must stay below 60."""

INVERSE_BITS = {2.0**8: (26, 26), 2.0**20: (18, 22)}
"""By the largest norm of an inverse: the fractional bits of what becomes it, and of the residual. More: less rounding,
but their product must fit. With 22, what belongs to the largest eigenvalues is off by the condition number times 2^-22,
and a refinement has to follow."""

SMALLEST = 2.0**-20
"""The smallest eigenvalue that the steps may start with: smaller ones are lost in roundings of 2^-26."""

LAST_BITS = 26
"""The residual ends below 2^-26. More: a further step for each doubling, and roundings are as large as that."""


def scales(smallest: float) -> list[float]:
    """The factors c of the steps for a spectrum in [a, 1], each of which centres it around 1.

    c = 2 / (1 + a) brings [a, 1] to 1 ± (1 - a) / (1 + a), and the step squares the deviation: a small a becomes 4 a,
    where without a factor it would become 2 a.
    """
    found = []
    while 1 - smallest > 2.0**-LAST_BITS:
        found.append(2 / (1 + smallest))
        smallest = 1 - ((1 - smallest) / (1 + smallest)) ** 2
    return found


def newton_schulz(b: Number, x: Number, smallest: float, largest: float = 2.0**8) -> Number:
    """Return B^-1 by the steps X <- c X (2 - c B X), which make each eigenvalue t of BX to c t (2 - c t), and t to 1.

    Shape: [.., n, n].   Domain: eigenvalues of BX between `smallest` and 1; norms of B at most 1, of B^-1 below
    `largest`.
    Error: about 2^-26 of B^-1 times its norm; for the larger range, see `INVERSE_BITS`.
    Cost: 4 rounds a step, and as many steps as `scales` has factors: 14 from 2^-18 on.   Reveals: nothing.
    """
    bits, residual_bits = INVERSE_BITS[largest]
    two = torch.eye(b.shape[-1], dtype=torch.int64) << (residual_bits + 1)
    b, x = b.settle(MATRIX_BITS), x.settle(bits)
    for c in scales(smallest):
        residual = (-_product(b, x, c, residual_bits)).plus(two)
        x = _product(x, residual, c, bits)
    return x


def _product(x: Number, y: Number, c: float, frac_bits: int) -> Number:
    """c x y for matrices."""
    product = x.protocol.bilinear(x, y, kernels.matmul)
    scaled = x.protocol.scale(product, c, frac_bits)
    assert scaled is not None
    return scaled
