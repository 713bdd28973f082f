"""Shamir's secret sharing of 32-byte secrets over a prime field.

A polynomial of degree t - 1 with uniform coefficients and the secret as its constant term; a share is its value at a
client's point. Any t shares give the secret, t - 1 are independent of it, and t + 2 e give it although e of them are
wrong. Ref: [Sha79], [Gao03].
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from tacit.federated.errors import ForgeryError, ThresholdError

__all__ = ["PRIME", "SECRET_BYTES", "SHARE_BYTES", "combine", "correct", "split"]

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
    return _bytes(secret)


def correct(shares: Mapping[int, bytes], threshold: int) -> tuple[bytes, set[int]]:
    """Return the secret although some shares are wrong, and the points of those: at most (n - threshold) / 2 of n.

    The partial extended Euclidean algorithm on prod (X - x_i) and the polynomial through all points. Ref: [Gao03].
    """
    points, n = sorted(shares), len(shares)
    values = [int.from_bytes(shares[x], "big") % PRIME for x in points]
    through, vanishing = _interpolate(points, values)
    r0, r1, v0, v1 = vanishing, through, [0], [1]
    while 2 * (len(r1) - 1) >= n + threshold:
        quotient, remainder = _divide(r0, r1)
        r0, r1, v0, v1 = r1, remainder, v1, _minus(v0, _times(quotient, v1))
    polynomial, rest = _divide(r1, v1)
    wrong = {x for x, y in zip(points, values, strict=True) if _evaluate(polynomial, x) != y}
    if any(rest) or len(polynomial) > threshold or 2 * len(wrong) > n - threshold:
        raise ForgeryError(f"more than {max(n - threshold, 0) // 2} of {n} shares are wrong")
    return _bytes(polynomial[0]), wrong


def _bytes(secret: int) -> bytes:
    if secret >> (8 * SECRET_BYTES):
        raise ForgeryError("the shares do not belong to one secret")
    return secret.to_bytes(SECRET_BYTES, "big")


# Polynomials are lists of coefficients, the constant one first, none at the end zero (but [0]).


def _trimmed(f: list[int]) -> list[int]:
    while len(f) > 1 and not f[-1]:
        f.pop()
    return f


def _minus(f: list[int], g: list[int]) -> list[int]:
    size = max(len(f), len(g))
    padded = zip(f + [0] * (size - len(f)), g + [0] * (size - len(g)), strict=True)
    return _trimmed([(a - b) % PRIME for a, b in padded])


def _times(f: list[int], g: list[int]) -> list[int]:
    product = [0] * (len(f) + len(g) - 1)
    for i, a in enumerate(f):
        for j, b in enumerate(g):
            product[i + j] += a * b
    return _trimmed([c % PRIME for c in product])


def _divide(f: list[int], g: list[int]) -> tuple[list[int], list[int]]:
    """Return quotient and remainder."""
    remainder, quotient, inverse = list(f), [0] * max(len(f) - len(g) + 1, 1), pow(g[-1], -1, PRIME)
    for at in reversed(range(len(f) - len(g) + 1)):
        factor = quotient[at] = remainder[at + len(g) - 1] * inverse % PRIME
        for j, b in enumerate(g):
            remainder[at + j] = (remainder[at + j] - factor * b) % PRIME
    return _trimmed(quotient), _trimmed(remainder)


def _interpolate(points: Sequence[int], values: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the polynomial through all points (Newton), and that which vanishes at all of them."""
    through, vanishing = [0], [1]
    for x, y in zip(points, values, strict=True):
        factor = (y - _evaluate(through, x)) * pow(_evaluate(vanishing, x), -1, PRIME) % PRIME
        through = _minus(through, [-factor * c % PRIME for c in vanishing])
        vanishing = _times(vanishing, [-x % PRIME, 1])
    return through, vanishing


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
