"""Polynomials of a secret, in one round whatever their degree."""

from __future__ import annotations

from collections.abc import Sequence

from tacit.functions.linear import fractional
from tacit.protocols.number import Number
from tacit.protocols.series import Polynomial

__all__ = ["derivative", "polynomial"]


def polynomial(x: Number, coefficients: Sequence[float], window: int) -> Number:
    """Return Σ_k c_k x^k for a window W, a power of two, that x surely lies in.

    Outside of the window the result is wrong: within a distance d of it with probability d / 2W, and then by a lot.

    Shape: any.   Domain: -W <= x < W.
    Error: <= 2^(d - 29) max(1, max |p|) + 2^-32 Σ_k |c_k| (2 W)^k for degree d <= 9; twenty bits less than max |p|.
    Cost: 1 round, of 8 bytes an element and party, and none if x is open; 16 d bytes an element from the producer, once
    for all polynomials of x; the result is not truncated.   Reveals: nothing.   Ref: [LYKGKM19] for a mask's powers.
    """
    scaled = tuple(float(c) * float(window) ** k for k, c in enumerate(coefficients))  # exact: W is a power of two
    (out,) = x.protocol.polynomials(fractional(x), [Polynomial(window, scaled)])
    return out


def derivative(coefficients: Sequence[float]) -> list[float]:
    """The coefficients of p'."""
    return [k * c for k, c in enumerate(coefficients)][1:] or [0.0]
