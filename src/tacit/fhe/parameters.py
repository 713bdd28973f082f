"""Encryption parameters: which ring, which modulus, and why they are safe.

A parameter set is chosen, never typed: `choose` takes the smallest that holds a family of linear forms with 40 bits of
flooding. All are within the 128-bit (classical) row for ternary secrets of the HomomorphicEncryption.org standard
[ACC18] Table 1: log2 q <= 109 for n = 4096, 218 for n = 8192. SEAL checks this again and refuses anything weaker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tacit.errors import MessageError, ParameterError
from tacit.fhe import noise, wire
from tacit.fhe.layout import Layout, SpreadLayout, layouts, spread_layouts
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

SPREAD_RING = (8192, (47, 47, 47), 47)
"""The ring in which a server spreads inputs, which takes key switches: 188 of the 218 bits. A larger special prime
would add up to 5 bits less noise, which nobody misses; this one has the size that the native kernels know."""

MOST_SECONDS, MOST_ANSWER_BYTES = 8.0, 1 << 27
"""What the rows of one query may ask of a server, by estimate: an eighth of the patience below, and half of the longest
body that a client takes. A row that asks for more goes alone."""

USUAL_PATIENCE, MOST_PATIENCE = 60.0, 600.0
"""Seconds that a client waits: at least, and whatever a model's file says."""

KEY_DIGITS = 3
"""Digits of a key switch: SEAL's are the data primes."""


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
        ring = (self.degree, self.data_bits, self.special_bits)
        if ring not in ((SPREAD_RING,) if isinstance(self.layout, SpreadLayout) else RINGS):
            raise MessageError(f"these encryption parameters are not among the checked ones: ring degree {self.degree}")
        whole = all(type(value) is int for value in (self.plain_modulus, self.trim_bits, self.flood_bits, *self.moduli))
        if not (
            whole
            and 2 <= self.plain_modulus <= 1 << 32
            and 0 <= self.trim_bits < self.data_bits[0]
            and 0 <= self.flood_bits < 188
            and self.layout.degree == self.degree
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
    def elements(self) -> tuple[int, ...]:
        """The automorphisms X -> X^a that the server applies, for which a client sends keys."""
        pieces = self.layout.pieces if isinstance(self.layout, SpreadLayout) else 1
        return tuple(self.degree // (1 << level) + 1 for level in range(pieces.bit_length() - 1))

    @property
    def key_bytes(self) -> int:
        """Bytes that a client sends once: its public key, and with each automorphism a key to switch with."""
        switch = KEY_DIGITS * ((self.modulus_bits + self.special_bits) * self.degree // 8 + 64)
        return self.upload_bytes + len(self.elements) * switch

    @property
    def spread_noise(self) -> float:
        """The largest noise of an input that was spread, or zero."""
        if not isinstance(self.layout, SpreadLayout):
            return 0.0
        return noise.spread_noise(self.degree, self.data_bits, self.special_bits, self.layout.pieces)

    @property
    def answer_bytes(self) -> int:
        """Bytes of one answer ciphertext less its few c0 coefficients: c1 under the first prime, low bits dropped."""
        return (self.data_bits[0] - self.trim_bits) * self.degree // 8

    @property
    def seconds(self) -> float:
        """What a server needs for the rows of one ciphertext (or of several, where one row needs them), by estimate."""
        layout = self.layout
        product = PRODUCT_SECONDS + COEFFICIENT_SECONDS * self.degree * len(self.data_bits)
        spreading = layout.groups * self.degree * SWITCH_SECONDS if isinstance(layout, SpreadLayout) else 0.0
        return layout.products * (layout.groups + 1) * product + spreading

    @property
    def most_rows(self) -> int:
        """The most rows of a query that is not in bulk: those of one ciphertext, or so many that neither it nor its
        answer is long and the answer comes soon. Public, so that a client cuts its rows where a service would."""
        layout = self.layout
        packs = min(
            wire.MESSAGE_BYTES // (layout.uploads * self.upload_bytes),
            MOST_ANSWER_BYTES // (layout.products * max(self.answer_bytes, 1)),
            int(MOST_SECONDS / self.seconds),
        )
        return max(packs, 1) * layout.samples

    @property
    def patience(self) -> float:
        """Seconds that a client waits for an answer if nobody says how many: for a slower and a busy service, too."""
        return min(max(USUAL_PATIENCE, USUAL_PATIENCE / MOST_SECONDS * self.seconds), MOST_PATIENCE)


def choose(program: Program) -> Parameters:
    """Return the parameters that move the fewest bytes for a query; where forms are drawn anew, time counts as well."""
    candidates = list(_candidates(program))
    if not candidates:
        raise ParameterError(
            f"no 128-bit parameters hold this model with {noise.TARGET_STATISTICAL_BITS} bits of noise flooding "
            f"({program.length} encoded inputs, {program.outputs} outputs): lower n_bits, or make the model smaller"
        )
    return min(candidates, key=lambda p: _bytes_per_row(program, p))


ROWS_PER_KEY = 10
"""Rows that pay for a key. With more, small forests would have clients send megabytes of keys for kilobytes saved."""

BYTES_PER_SECOND = 5e6
"""What a second is worth where forms are drawn anew for each row, and so time and bytes are traded: 40 Mbit/s."""

PRODUCT_SECONDS, COEFFICIENT_SECONDS, SWITCH_SECONDS = 2e-4, 1.8e-8, 4e-7
"""Of a product; of that, for each coefficient under each data prime; of a key switch for each coefficient of the ring.
Measured on one thread. They choose between layouts, so a factor of two either way matters little."""


def _bytes_per_row(program: Program, p: Parameters) -> float:
    one_row = p.layout.uploads * p.upload_bytes + p.layout.products * p.answer_bytes
    if not program.fresh:
        return one_row - p.layout.samples / p.degree  # of two equal ones, that which holds more rows
    if isinstance(p.layout, SpreadLayout):
        one_row += p.key_bytes // ROWS_PER_KEY
    return one_row + BYTES_PER_SECOND * p.seconds


def _candidates(program: Program) -> Iterator[Parameters]:
    for moduli in program.moduli():
        for ring in RINGS:
            n, length, outputs = ring[0], program.length, -(-program.outputs // len(moduli))
            yield from _fitting(program, moduli, ring, layouts(n, length, outputs, fresh=program.fresh))
    for moduli in program.spread_moduli():
        outputs = -(-program.outputs // len(moduli))
        spread = spread_layouts(SPREAD_RING[0], program.length, outputs)
        yield from _fitting(program, moduli, SPREAD_RING, spread)


def _fitting(
    program: Program, moduli: tuple[int, ...], ring: tuple[int, tuple[int, ...], int], tried: Iterable[Layout]
) -> Iterator[Parameters]:
    """Yield parameters for those layouts that leave room for the flood."""
    (degree, data_bits, special_bits), t = ring, math.prod(moduli)
    primes = tuple((1 << bits) - (1 << (bits - 8)) for bits in data_bits)  # a lower bound on the real primes
    for layout in tried if t < 1 << 32 else ():
        bounds = program.bounds(layout, moduli)
        spread = 0.0
        if isinstance(layout, SpreadLayout):
            spread = bounds.product_l1 * noise.spread_noise(degree, data_bits, special_bits, layout.pieces)
        flooding: NoisePlan | None = noise.plan(
            degree, primes, t, layout.outputs * layout.samples, bounds.row_l1, bounds.product_l2, spread
        )
        if flooding is not None:
            yield Parameters(
                degree, data_bits, special_bits, t, layout, flooding.flood_bits, flooding.trim_bits, moduli
            )  # fmt: skip
