"""Encryption parameters: which ring, which modulus, and why they are safe.

A parameter set is chosen, never typed: `choose` takes the smallest that holds a family of linear forms with 40 bits of
flooding. All are within the 128-bit (classical) row for ternary secrets of the HomomorphicEncryption.org standard
[ACC18] Table 1: log2 q <= 109 for n = 4096, 218 for n = 8192. SEAL checks this again and refuses anything weaker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tacit.errors import MessageError, ParameterError
from tacit.fhe import noise
from tacit.fhe.layout import Layout, layouts
from tacit.fhe.noise import NoisePlan

if TYPE_CHECKING:
    from tacit.fhe.program import Program

SECURITY_BITS = 128
SECURITY_SOURCE = "HomomorphicEncryption.org security standard (2018), Table 1, ternary secret, classical attacks"

RINGS: tuple[tuple[int, tuple[int, ...], int], ...] = (
    (4096, (46, 47), 16),
    (8192, (47, 47, 47), 17),
    (8192, (47, 47, 47, 47), 17),
)
"""Degree, bits of the data primes, bits of SEAL's key-switching prime. No key is ever switched here, but SEAL takes
the last prime out of the ciphertext modulus all the same; it is the smallest that is 1 mod 2n, so that 93 of the 109
bits are left for the message, its noise and the flood. Larger data primes would not fit; SEAL's own default (36, 36 |
37) leaves 72 bits, in which a 27-bit plaintext and 40 bits of flooding do not fit. The first prime is what an answer
is sent under."""


@dataclass(frozen=True)
class Parameters:
    """Everything public that client and server must agree on to speak about ciphertexts."""

    degree: int
    data_bits: tuple[int, ...]
    special_bits: int
    plain_modulus: int
    layout: Layout
    flood_bits: int
    trim_bits: int
    moduli: tuple[int, ...]
    """The factors of the plaintext modulus: a coefficient holds a form modulo each of them."""

    def __post_init__(self) -> None:
        if (self.degree, self.data_bits, self.special_bits) not in RINGS:
            raise MessageError(f"these encryption parameters are not among the checked ones: ring degree {self.degree}")
        if (
            not 2 <= self.plain_modulus <= 1 << 32
            or self.trim_bits not in range(48)
            or self.flood_bits not in range(188)
        ):
            raise MessageError("these encryption parameters are out of range")
        if not self.moduli or min(self.moduli) < 2 or math.prod(self.moduli) != self.plain_modulus:
            raise MessageError("these encryption parameters are out of range")

    @property
    def modulus_bits(self) -> int:
        """Bits of the ciphertext modulus."""
        return sum(self.data_bits)

    @property
    def upload_bytes(self) -> int:
        """Bytes of one seeded ciphertext: the polynomial c0, tightly packed, and the seed of c1."""
        return self.modulus_bits * self.degree // 8 + 64

    @property
    def answer_bytes(self) -> int:
        """Bytes of one answer ciphertext less its few c0 coefficients: c1 under the first prime, low bits dropped."""
        return (self.data_bits[0] - self.trim_bits) * self.degree // 8


def choose(program: Program) -> Parameters:
    """Return the parameters that move the fewest bytes for a query."""
    candidates = list(_candidates(program))
    if not candidates:
        raise ParameterError(
            f"no 128-bit parameters hold this model with {noise.TARGET_STATISTICAL_BITS} bits of noise flooding "
            f"({program.length} encoded inputs, {program.outputs} outputs): lower n_bits, or make the model smaller"
        )
    return min(candidates, key=_bytes_per_row)


def _bytes_per_row(p: Parameters) -> float:
    one_row = p.layout.groups * p.upload_bytes + p.layout.products * p.answer_bytes
    return one_row - p.layout.samples / p.degree  # of two equal ones, that which holds more rows


def _candidates(program: Program) -> Iterator[Parameters]:
    for moduli in program.moduli():
        t, outputs = math.prod(moduli), -(-program.outputs // len(moduli))
        for degree, data_bits, special_bits in RINGS if t < 1 << 32 else ():
            primes = tuple((1 << bits) - (1 << (bits - 8)) for bits in data_bits)  # a lower bound on the real primes
            for layout in layouts(degree, program.length, outputs, fresh=program.fresh):
                bounds = program.bounds(layout, moduli)
                coefficients = layout.outputs * layout.samples
                flooding: NoisePlan | None = noise.plan(
                    degree, primes, t, coefficients, bounds.row_l1, bounds.product_l2
                )
                if flooding is not None:
                    yield Parameters(
                        degree, data_bits, special_bits, t, layout, flooding.flood_bits, flooding.trim_bits, moduli
                    )
