"""Encryption parameters: which ring, which modulus, and why they are safe.

A parameter set is chosen, never typed: `choose` takes the smallest that holds a family of linear forms with 40 bits of
flooding. All are within the 128-bit (classical) row for ternary secrets of the HomomorphicEncryption.org standard
[ACC18] Table 1: log2 q <= 109 for n = 4096, 218 for n = 8192. SEAL checks this again and refuses anything weaker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from tacit.errors import MessageError, ParameterError
from tacit.fhe import noise
from tacit.fhe.layout import Layout, layouts
from tacit.fhe.noise import FormBounds, NoisePlan

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

    def __post_init__(self) -> None:
        if (self.degree, self.data_bits, self.special_bits) not in RINGS:
            raise MessageError(f"these encryption parameters are not among the checked ones: ring degree {self.degree}")
        if (
            not 2 <= self.plain_modulus <= 1 << 32
            or self.trim_bits not in range(48)
            or self.flood_bits not in range(188)
        ):
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


def plain_modulus(bounds: FormBounds, prime: bool) -> int:
    """Return a modulus that tells all outputs in [-bound, bound] apart (prime where masks need a field).

    A power of two, or the prime after one: the exact bound is a fact about the secret weights, its number of bits is
    not much of one.
    """
    t = 1 << max((2 * bounds.output + 1).bit_length(), 5)
    return next_prime(t) if prime else t


def choose(
    length: int, outputs: int, bounds_of: Callable[[Layout, int], FormBounds], *, prime: bool, fresh: bool
) -> Parameters:
    """Return the parameters that move the fewest bytes for a query.

    `bounds_of(layout, t)` bounds the forms when they are laid out so, with t the modulus (0 when only `output` is
    asked); `prime` asks for a prime plaintext modulus; `fresh` says that forms are drawn anew for each row of data,
    so that no two rows may share a ciphertext.
    """
    candidates = list(_candidates(length, outputs, bounds_of, prime=prime, fresh=fresh))
    if not candidates:
        raise ParameterError(
            f"no 128-bit parameters hold this model with {noise.TARGET_STATISTICAL_BITS} bits of noise flooding "
            f"({length} encoded inputs, {outputs} outputs): lower n_bits, or make the model smaller"
        )
    return min(candidates, key=_bytes_per_row)


def _bytes_per_row(p: Parameters) -> float:
    one_row = p.layout.groups * p.upload_bytes + p.layout.products * p.answer_bytes
    return one_row - p.layout.samples / p.degree  # of two equal ones, that which holds more rows


def _candidates(
    length: int, outputs: int, bounds_of: Callable[[Layout, int], FormBounds], *, prime: bool, fresh: bool
) -> Iterator[Parameters]:
    for degree, data_bits, special_bits in RINGS:
        primes = tuple((1 << bits) - (1 << (bits - 8)) for bits in data_bits)  # a lower bound on the real primes
        for layout in layouts(degree, length, outputs, fresh=fresh):
            t = plain_modulus(bounds_of(layout, 0), prime)
            bounds = bounds_of(layout, t)
            coefficients = layout.outputs * layout.samples
            flooding: NoisePlan | None = noise.plan(degree, primes, t, coefficients, bounds.row_l1, bounds.product_l2)
            if flooding is not None and t < 1 << 32:
                yield Parameters(degree, data_bits, special_bits, t, layout, flooding.flood_bits, flooding.trim_bits)
