"""Primes, and the plaintext moduli made of them."""

from __future__ import annotations

from functools import lru_cache


def is_prime(value: int) -> bool:
    """Return whether `value` < 3.3e24 is prime: Miller-Rabin with the first 13 primes as bases, exact in this range."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
    if value < 2 or any(value % p == 0 for p in bases):
        return value in bases
    odd, twos = value - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        x = pow(base, odd, value)
        if x in (1, value - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % value
            if x == value - 1:
                break
        else:
            return False
    return True


@lru_cache
def next_prime(value: int) -> int:
    """Return the smallest prime >= `value`."""
    while not is_prime(value):
        value += 1
    return value


def plain_modulus(reach: int, prime: bool) -> int:
    """Return a modulus that tells all outputs in [-reach, reach] apart (prime where masks need a field).

    A power of two, or the prime after one: the exact reach is a fact about the secret weights, its number of bits is
    not much of one.
    """
    t = 1 << max((2 * reach + 1).bit_length(), 5)
    return next_prime(t) if prime else t
