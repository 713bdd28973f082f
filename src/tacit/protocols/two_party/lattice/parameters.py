"""The parameter sets of ring-LWE, with estimates of their security, and what the noise of a sum of products may be.

    c0 + c1 s = Δ m + noise  mod q         s ternary, noise e centred binomial (σ = 3.24), Δ = q / t

A product with a plaintext w multiplies the noise by w: over T coefficients of w that differ from zero, its σ is 3.24 √T
times that of w. It must stay below Δ / 2, and what is left is how exact a result is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tacit.errors import ConfigError
from tacit.ring.ring import RING

__all__ = ["DEGREE", "MATRIX", "MATRIX_EXACT", "PRIMES", "SLOTS", "SLOT_PRIMES", "Parameters", "check", "slot_primes"]

DEGREE = 8192
"""Coefficients of a polynomial, N. Fewer hold no modulus that a product of 64-bit numbers fits into; 16,384 would make
the smallest ciphertext twice as long."""

PRIMES = (0x7FFFFFFEC001, 0x7FFFFFFC8001, 0x7FFFFFFB4001, 0x7FFFFFF00001)
"""The largest primes of 47 bits that are 1 modulo 2N. Of 47 bits, sums of a whole transform stay below the 52 that the
processor multiplies; and so near to 2^47 that one uniform draw in 2^27 has to be repeated."""

SLOT_PRIMES = (0xFFFFFFFC001, 0xFFFFFF6C001, 0xFFFFFEBC001)
"""The largest of 44 bits: three hold x0 y1 + x1 y0 of any ring elements, 2^127 in magnitude, four times over. Longer
ones: less room for noise."""

SIGMA = math.sqrt(10.5)
"""Of the noise: the difference of two sums of 21 bits. [ACC18] has 3.19."""

DEVIATIONS = 12
"""How many σ of noise a result is safe against: beyond it lies less than 2^-100."""

LIMITS = {
    4096: {128: 109, 192: 75, 256: 58},
    8192: {128: 218, 192: 152, 256: 118},
    16384: {128: 438, 192: 305, 256: 237},
}
"""The most bits of q by degree and security level, for ternary secrets and σ >= 3.19, against classical attacks
[ACC18] Table 1. A set that leaves this table is refused."""

LEVEL = 128
"""Bits of security that every set must have."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """A parameter set: q is the product of the first primes, t the modulus of plaintexts, answers are modulo 2^bits."""

    name: str
    primes: int
    answer_bits: int
    exact: bool
    """Whether an evaluator answers again what the two ends might round apart."""
    degree: int = DEGREE
    sigma: float = SIGMA

    @property
    def modulus(self) -> int:
        """q."""
        return math.prod(PRIMES[: self.primes])

    @property
    def modulus_bits(self) -> int:
        """Bits of q."""
        return self.modulus.bit_length()

    @property
    def security(self) -> int:
        """The level of the table that the set keeps; 0 if it keeps none."""
        levels = LIMITS.get(self.degree, {})
        return max((level for level, most in levels.items() if self.modulus_bits <= most), default=0)

    @property
    def finishing(self) -> int:
        """Primes of the modulus in which an owner multiplies an answer with its secret: it must not wrap."""
        bits = self.answer_bits + self.degree.bit_length()
        return next(count for count in range(1, 5) if math.prod(PRIMES[:count]).bit_length() > bits)

    @property
    def upload_bytes(self) -> int:
        """Of a ciphertext on its way; its other half is a seed."""
        return 6 * self.primes * self.degree

    @property
    def answer_bytes(self) -> int:
        """Of an answer on its way; its other half is drawn at both ends."""
        return self.degree * self.answer_bits // 8

    def noise(self, terms: float, plain_bits: float) -> float:
        """σ of the noise in answers, in units of 2^-64 of one: of the products, and of rounding times the secret."""
        products = (
            self.sigma * math.sqrt(max(terms, 1)) * 2.0 ** (plain_bits - 1)
        )  # of factors at the ends of their range
        rounding = math.sqrt(self.degree / 18)
        zero = self.sigma * math.sqrt(self.degree * 4 / 3 + 1)  # of the encryption of zero
        return math.hypot(products, zero) / float(self.modulus) * 2.0**64 + rounding * 2.0 ** (64 - self.answer_bits)

    def margin(self, terms: float, plain_bits: float, t: int) -> int:
        """How near to a half, in units of 2^-64, an evaluator's part of a result may not be rounded: see `answer`."""
        plain = float(t) if t else 2.0**RING.bits
        return math.ceil(DEVIATIONS * self.noise(terms, plain_bits) * plain) + 16


MATRIX = Parameters("matrix", 3, 68, exact=False)
"""For products of fixed-point numbers: exact up to some units of 2^-64, by 8.5 bytes a coefficient."""

MATRIX_EXACT = Parameters("matrix, exact", 4, 112, exact=True)
"""For integers. 96 bits would leave rounding unsure once in 2^24 coefficients."""

SLOTS = Parameters("slots", 3, 96, exact=True)
"""For elementwise products, exact, modulo a prime of 44 bits in each of up to three ciphertexts."""


def check(parameters: Parameters) -> None:
    """Raise if a set is not as secure as all of them must be."""
    if parameters.security < LEVEL or parameters.sigma < 3.19:
        raise ConfigError(
            f"the parameter set {parameters.name!r} has {parameters.modulus_bits} bits of modulus at degree "
            f"{parameters.degree}, which is beyond the table of {LEVEL}-bit security"
        )


for _parameters in (MATRIX, MATRIX_EXACT, SLOTS):
    check(_parameters)


def slot_primes(bound: int) -> tuple[int, ...]:
    """The slot primes whose product is more than four times a bound on magnitudes."""
    for count in range(1, len(SLOT_PRIMES) + 1):
        if math.prod(SLOT_PRIMES[:count]) > 4 * bound + 8:
            return SLOT_PRIMES[:count]
    raise ValueError(f"no slots hold sums of {bound.bit_length()} bits: split the terms, or the factors")
