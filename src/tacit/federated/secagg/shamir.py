"""Shamir's secret sharing of 32-byte secrets over a prime field.

A polynomial of degree t - 1 with uniform coefficients and the secret as its constant term; a share is its value at a
client's point. Any t shares give the secret, t - 1 are independent of it. Ref: [Sha79].
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from tacit.federated.errors import ForgeryError, ThresholdError

__all__ = ["PRIME", "SECRET_BYTES", "SHARE_BYTES", "combine", "split"]

PRIME = 2**256 + 297
"""The smallest prime above 2^256: every string of 32 bytes is a field element."""

SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, points: Iterable[int], threshold: int) -> dict[int, bytes]:
    """Return a share for each point: f(point), with f(0) = secret and f of degree threshold - 1."""
    places = list(points)
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
    if len(set(places)) != len(places) or not all(0 < x < PRIME for x in places):
        raise ValueError("points must be distinct, positive and below the prime")
    if not 1 <= threshold <= len(places):
        raise ThresholdError(f"a threshold of {threshold} cannot be met by {len(places)} shares")
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {x: _evaluate(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in places}


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret from at least `threshold` shares; the first ones in order of points are used."""
    if len(shares) < threshold:
        raise ThresholdError(f"{len(shares)} shares came, {threshold} are needed")
    points = tuple(sorted(shares)[:threshold])
    values = [int.from_bytes(shares[x], "big") for x in points]
    if any(len(shares[x]) != SHARE_BYTES or value >= PRIME for x, value in zip(points, values, strict=True)):
        raise ForgeryError("a share is not an element of the field")
    secret = sum(w * y for w, y in zip(_weights_at_zero(points), values, strict=True)) % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise ForgeryError("the shares do not belong to one secret")
    return secret.to_bytes(SECRET_BYTES, "big")


def _evaluate(coefficients: Sequence[int], x: int) -> int:
    y = 0
    for coefficient in reversed(coefficients):
        y = (y * x + coefficient) % PRIME
    return y


@lru_cache(maxsize=1024)
def _weights_at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange: w_i = prod over j != i of x_j / (x_j - x_i). Most secrets of a round come from the same survivors."""
    weights = []
    for i, x in enumerate(points):
        above, below = 1, 1
        for j, z in enumerate(points):
            if i != j:
                above, below = above * z % PRIME, below * (z - x) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
