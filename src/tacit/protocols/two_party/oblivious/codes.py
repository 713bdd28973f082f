"""The codes that long vectors are made by, and what attacks on them would cost.

A vector of n words is A s + e: A is public, each of its rows the sum of ten of the k words of s, and e has one word
that is not zero in each of t blocks. That this looks uniform is the assumption of learning parity with noise, of
regular noise, over GF(2^64). As A has entries of 0 and 1 alone, a linear map to bits takes noise away from half of the
blocks, so whoever attacks sees t / 2 [LWYY22]; `strength` counts with that. It estimates three kinds of attack:
guesses of positions without noise, sums of words in which A cancels, and equations of the second and higher degrees
that regular noise fulfils, after guesses in each block [BO23]. A better attack is a reason to change this table, and
nothing else.

As rows have ten terms, the first two need not take on all k words of s. Some s words are chosen that hold as many rows
whole: a random choice does with s / k = (k / n)^(1/9), and one that drops, again and again, the word of the fewest rows
left with 0.86 of it. `strength` counts with the fewest words for which such a choice is likely to exist at all, about
0.8 of it, and takes that to be found for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import comb, log2
from typing import NamedTuple

from tacit.protocols.two_party.oblivious.kernels.reference import TERMS

__all__ = ["BETWEEN", "CODES", "LAST", "Code", "densest", "strength"]

OMEGA = 2.8
"""The exponent of elimination, as estimates have it. [LWYY22]"""

WORD = 64
"""Bits of a word."""


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


BETWEEN = Code(seeds=7680, trees=2304, levels=5)
"""What `LAST` takes, from 9,984 words that transfers make, 248 bytes each."""

LAST = Code(seeds=1 << 16, trees=5120, levels=8)
"""1.3 million words, of which the next ones take 70,656."""

CODES = (BETWEEN, LAST)


def strength(code: Code) -> float:
    """The binary logarithm of the operations that the best of these attacks takes."""
    words = densest(code)
    return min(_guessing(code, words), _cancelling(code, words), *_algebraic(code))


def densest(code: Code) -> int:
    """The fewest words of s that are likely to hold as many rows of A whole, however long one searches for them.

    Of C(k, s) choices each holds Bin(n, (s/k)^TERMS) rows: below this s, fewer than one of all holds s of them.
    """
    few, many = 1, code.seeds
    while many - few > 1:
        words = (few + many) // 2
        part, rows = words / code.seeds, words / code.size
        choices = code.seeds * _divergence(part, 0.5)
        likely = code.seeds - choices >= code.size * _divergence(rows, part**TERMS) or rows < part**TERMS
        few, many = (few, words) if likely else (words, many)
    return many


def _divergence(p: float, q: float) -> float:
    """Bits: Bin(n, q) is n p with probability 2^(-n D(p || q))."""
    return p * log2(p / q) + (1 - p) * log2((1 - p) / (1 - q))


def _guessing(code: Code, words: int) -> float:
    """So many positions without noise, and as many sparse equations, which two products with their matrix for each
    unknown solve."""
    return _of_no_noise(code, words) + log2(2 * TERMS * words**2)


def _cancelling(code: Code, words: int) -> float:
    """Sums of some s / 2 positions out of s in which A cancels.

    Each is zero where none of them has noise, more often than the 2^-64 of a uniform word by 2^-g: it shows after
    2^(2 g - 64) of them, and 2^g at least, each counted as one operation.
    """
    bits = _of_no_noise(code, words)
    return max(bits, 2 * bits - WORD)


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
