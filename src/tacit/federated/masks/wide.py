"""Numbers of 128 bits among a vector's words: weights, metrics and counters, which are few and may be large.

They stand at the end of the vector, each as four words of 32 bits or two of 64, the lowest first, and are added with
carries: a sum is a sum modulo 2^128, and a mask of 128 uniform bits hides what it is added to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tacit.federated.vectors import Floats, Ring

__all__ = ["LARGEST", "Wide", "add", "add_wide", "quotients", "size"]

BYTES = 16
LARGEST = 2.0**64
"""The largest metric, and the largest change of a counter. Larger: fewer fractional bits; these are 58 for ten clients
and 52 for a thousand, of which an average over clients that each weigh 2^-12 still has 40."""


@dataclass(frozen=True)
class Wide:
    """How weights, metrics and counters of at most `clients` clients are held."""

    clients: int

    @property
    def frac_bits(self) -> int:
        """Fractional bits: n LARGEST 2^f < 2^127."""
        return 8 * BYTES - 2 - math.ceil(math.log2(self.clients * LARGEST))

    def encode(self, x: Floats, dtype: npt.DTypeLike) -> Ring:
        """Return round(x 2^f), for |x| <= LARGEST, as words."""
        whole = [round(math.ldexp(value, self.frac_bits)) for value in x.tolist()]
        data = b"".join(value.to_bytes(BYTES, "little", signed=True) for value in whole)
        words: Ring = np.frombuffer(data, dtype)
        return words

    def decode(self, words: Ring) -> list[int]:
        """Return x 2^f, exactly."""
        data = words.tobytes()
        return [
            int.from_bytes(data[at : at + BYTES], "little", signed=True) for at in range(0, len(data), BYTES)
        ]  # fmt: skip


def size(count: int, bits: int) -> int:
    """Return how many words of so many bits so many numbers take."""
    return count * BYTES * 8 // bits


def add(y: Ring, x: Ring, words: int, sign: int = 1) -> None:
    """Add x to y, or take it off, where the last `words` words of both hold wide numbers."""
    narrow = len(y) - words
    if sign > 0:
        y[:narrow] += x[:narrow]
    else:
        y[:narrow] -= x[:narrow]
    if words:
        add_wide(y[narrow:], x[narrow:], sign)


def add_wide(y: Ring, x: Ring, sign: int) -> None:
    """Add wide numbers, with carries, or take them off."""
    (a, b), (c, d) = (v.view(np.uint64).reshape(-1, 2).T for v in (y, x))
    if sign > 0:
        a += c
        b += d + (a < c)
    else:
        b -= d + (a < c)
        a -= c


def quotients(values: Iterable[int], weight: int) -> Floats:
    """Return v / w of whole numbers, each rounded once."""
    return np.array([value / weight for value in values], dtype=np.float64)
