"""The codes that long vectors are made by, and what attacks on them would cost.

A vector of n words is A s + e: A is public, each of its rows the sum of ten of the k words of s, and e has one word
that is not zero in each of t blocks. That this looks uniform is the assumption of learning parity with noise, of
regular noise, over GF(2^64). As A has entries of 0 and 1 alone, a linear map to bits takes noise away from half of the
blocks, so whoever attacks sees t / 2 [LWYY22]; `strength` counts with that. It estimates two kinds of attack: guesses
of k positions without noise, and equations of the second and higher degrees that regular noise fulfils, after guesses
in each block [BO23]. A better attack is a reason to change this table, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import comb, log2
from typing import NamedTuple

__all__ = ["BETWEEN", "CODES", "LAST", "Code", "strength"]

OMEGA = 2.8
"""The exponent of elimination, as estimates have it. [LWYY22]"""


class Code(NamedTuple):
    """n words from k + t."""

    seeds: int
    """k. More: harder to attack, and more has to be made before; fewer: they stay in a core's cache."""
    trees: int
    """t, the blocks of noise. More: harder to attack; fewer: fewer transfers, `levels` for each."""
    levels: int
    """A block has 2^levels words."""

    @property
    def needs(self) -> int:
        """The words that it takes."""
        return self.seeds + self.trees

    @property
    def size(self) -> int:
        """n, the words that it makes."""
        return self.trees << self.levels


BETWEEN = Code(seeds=5120, trees=2176, levels=5)
"""What `LAST` takes, from 7,296 words that transfers make, 248 bytes each."""

LAST = Code(seeds=1 << 16, trees=2560, levels=9)
"""1.3 million words, of which the next ones take 68,096."""

CODES = (BETWEEN, LAST)


def strength(code: Code) -> float:
    """The binary logarithm of the operations that the best of these attacks takes."""
    return min(_guessing(code), *_algebraic(code))


def _guessing(code: Code) -> float:
    """k positions without noise, and k equations in s."""
    return _of_no_noise(code, code.seeds) + OMEGA * log2(code.seeds)


def _of_no_noise(code: Code, positions: float) -> float:
    """Bits that it takes to guess so many positions, spread over the blocks, where half of these have noise."""
    return -code.trees * log2(1 - positions / code.size / 2)


def _algebraic(code: Code, degrees: range = range(2, 6)) -> Iterator[float]:
    """Two words of a block multiply to zero. Once so many positions are guessed that equations of degree d determine
    all monomials of that degree, these are unknowns of linear equations."""
    for d in degrees:
        few, many = -1, code.seeds
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if _determined(code, middle, d) else (middle, many)
        unknowns = comb(code.seeds - many + d - 1, d)
        yield _of_no_noise(code, many) + OMEGA * log2(max(unknowns, 1))


def _determined(code: Code, guessed: int, degree: int) -> bool:
    """Whether the coefficient of z^d in (1 + b z)^t (1 - z)^(n - k) is not positive, b words of a block left. [BO23]"""
    left, equations = Fraction(code.size - guessed, code.trees), code.size - code.seeds
    terms = (
        comb(code.trees, i) * left**i * (-1) ** (degree - i) * comb(equations, degree - i) for i in range(degree + 1)
    )
    return bool(sum(terms) <= 0)
