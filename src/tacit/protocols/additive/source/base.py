"""What the parties ask for in the additive scheme: shares of values that depend on masks, and on no secret.

Each correlation is a method with its statement; [v] are additive shares of v in the ring, and [v]₂ shares by XOR. The
parties' side of it, what they compute with the shares, is in the file beside this folder that asks. `Produced` gets
them from a crypto-producer, who knows all masks, at once or ahead of time; a source that makes them among the parties
needs no role that knows a mask: `Dealt.plain` is for that role, and nobody but a source reads it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.protocols.additive.kernels.digits import Digits
from tacit.protocols.additive.kernels.octaves import Octaves
from tacit.protocols.additive.kernels.waves import Waves
from tacit.ring.prg import Stream

__all__ = ["Bilinear", "Dealt", "Product", "Redrawn", "Rows", "Source", "Turn"]

Shape = Sequence[int]
Bilinear = Callable[[Tensor, Tensor], Tensor]
Rows = list[list[Tensor]]
"""For each hosted party, its shares of several values."""


class Dealt:
    """Shares of a value: one part for each party hosted here, and the value where a producer is hosted who knows it."""

    __slots__ = ("parts", "plain", "shares")

    def __init__(self, parts: list[Tensor], plain: Tensor | None, shares: list[Tensor] | None = None) -> None:
        self.parts = parts
        self.plain = plain
        self.shares = shares
        """Every party's share, at a producer who was asked to keep them apart; empty elsewhere; None if nobody was."""

    def map(self, op: Callable[[Tensor], Tensor]) -> Dealt:
        """Apply a linear operation to the value."""
        plain = None if self.plain is None else op(self.plain)
        return Dealt([op(part) for part in self.parts], plain, _each(op, self.shares))

    def __repr__(self) -> str:
        return f"Dealt(<{len(self.parts)} parts hidden>)"


def _each(op: Callable[[Tensor], Tensor], shares: list[Tensor] | None) -> list[Tensor] | None:
    return None if shares is None else [op(share) for share in shares]


class Redrawn:
    """A uniform matrix of so many columns that its holder and the producer draw as often as they need it.

    Others know its columns only. Its key is used for nothing else.
    """

    ELEMENTS = 1 << 16
    """Drawn at a time: 512 KiB. More: fewer calls of the cipher; fewer: they stay in a cache until they are used."""

    def __init__(self, key: bytes | None, columns: int, *, plain: bool) -> None:
        self._key, self._columns = key, columns
        self.plain = plain
        """Whether a producer is hosted here."""

    @property
    def known(self) -> bool:
        """Whether the holder or a producer is hosted here."""
        return self._key is not None

    def chunks(self, rows: int) -> Iterator[tuple[int, Tensor]]:
        """The first so many rows, a few at a time, each with where they begin. The same at every call."""
        assert self._key is not None
        stream = Stream(self._key)
        step = max(1, self.ELEMENTS // self._columns)
        for start in range(0, rows, step):
            yield start, stream.ring((min(step, rows - start), self._columns))

    def __repr__(self) -> str:
        return "Redrawn(<key hidden>)"


Product = tuple[list[Tensor], Dealt]
"""Shares of something less m, and m, of which nobody has shares."""


class Turn(NamedTuple):
    """What one party needs to permute rows that are shared, and what the others do; see `shuffle.py`."""

    order: Tensor | None
    """π: which row comes to each place. At the party whose turn it is."""
    change: list[Tensor]
    """Δ, for each value. There, too."""
    masks: dict[int, list[Tensor]]
    """a_j for each value, of the other hosted parties by their indices."""
    fresh: dict[int, list[Tensor]]
    """b_j likewise."""


class Source(ABC):
    """Where correlations come from. Every role calls the same methods in the same order with the same shapes."""

    # --- masks -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def random_ring(self, shape: Shape) -> Dealt:
        """[a] for a uniform a that no party knows."""

    @abstractmethod
    def private_ring(self, shape: Shape, holder: int) -> Dealt:
        """[a] for a uniform a that one party knows, by its index; the other parties' shares are zero."""

    @abstractmethod
    def taken_off(self, x: Tensor | None, shape: Shape, holder: int) -> tuple[Tensor | None, Tensor | None]:
        """x - a for a uniform a as in `private_ring`, at the party that knows x and a, and a at the producer.

        In one pass, for which a takes no memory at the party.
        """

    @abstractmethod
    def parted_ring(self, shape: Shape) -> Dealt:
        """[a] likewise, of which the producer keeps every party's share."""

    @abstractmethod
    def redrawn(self, holder: int, columns: int) -> Redrawn:
        """A uniform matrix that one party knows, of as many rows as are asked for, and which takes no memory."""

    @abstractmethod
    def random_bits(self, shape: Shape) -> Dealt:
        """[b]₂ for uniform bytes of bits that no party knows."""

    @abstractmethod
    def private_bits(self, shape: Shape, holder: int) -> Dealt:
        """[b]₂ for uniform bytes of bits that one party knows, by its index; the other parties' shares are zero."""

    @abstractmethod
    def pair_keys(self) -> dict[tuple[int, int], bytes]:
        """A key that parties i and j have, and no other party, for each (i, j) of which i is hosted here."""

    @abstractmethod
    def withheld(self, a: Dealt, shape: Shape) -> list[Tensor]:
        """[a] for a mask that has been withheld until now; see `product`."""

    @abstractmethod
    def lowest_bits(self, a: Dealt, shape: Shape) -> list[Tensor]:
        """[a mod 2]₂ for a mask that has been withheld, as a plane."""

    @abstractmethod
    def parities(self, ab: Dealt, shape: Shape) -> list[Tensor]:
        """[ab mod 2]₂ for a matrix product of masks, as a plane. `ab` has its lowest bits."""

    # --- products --------------------------------------------------------------------------------------------------

    @abstractmethod
    def product(self, a: Dealt, b: Dealt, shape: Shape) -> Product:
        """[ab - m] elementwise with broadcasting, for a uniform m that is withheld: no party has even a share of it.

        The shares are in memory of their own, to which the parties add their other terms; see `product.py`.
        """

    @abstractmethod
    def bilinear_product(
        self, parts: Sequence[Tensor | None], a: Dealt, b: Dealt, op: Bilinear, shape: Shape | None
    ) -> Product:
        """[op(a, b) - m], added in place to the parties' other terms, of which None is zero.

        The shape is that of op(a, b), and None where no party is hosted.
        """

    @abstractmethod
    def masked_sum(self, parts: Sequence[Tensor | None], value: Tensor | None, shape: Shape) -> Product:
        """[v - m] for a v of masks that the producer has computed, added in place to the parties' other terms."""

    @abstractmethod
    def terms(self, factors: Sequence[tuple[Dealt, Dealt]], zeros: Sequence[int], shape: Shape) -> list[Dealt]:
        """[s t] for each pair (s, t), elementwise with broadcasting to one shape; so many low bits of s t are zero."""

    # --- truncation and selection ----------------------------------------------------------------------------------

    @abstractmethod
    def truncation(self, a: Dealt, multiplier: int, zeros: int, shape: Shape) -> Rows:
        """[floor(a m / 2^64)] and [msb(a) m], for a read as unsigned and a multiplier m, a multiple of 2^zeros.

        The second is in the integers that `kernels.wrap_words` reads: it counts modulo 2^64 only.
        """

    @abstractmethod
    def selection(self, a: Dealt, beta: Dealt, shape: torch.Size, scaled: tuple[int, int] | None = None) -> Rows:
        """[β a] for a masked bit's β; or, of what a truncation (m, zeros) left, β times both of its values."""

    @abstractmethod
    def arithmetic_bits(self, beta: Dealt, shape: Shape) -> list[Tensor]:
        """[β] in the ring, for bits of which the parties have [β]₂."""

    # --- comparison ------------------------------------------------------------------------------------------------

    @abstractmethod
    def digits(self, a: Dealt, count: int, digits: Digits) -> tuple[Dealt, Dealt]:
        """[j < d_i(a)]₂ and [j = d_i(a)]₂ for each digit d_i of a mod 2^63 and each j, and [msb(a)]₂ as a plane.

        The tables are int16 [digits, count], the digits as `kernels.thermometer` has them. Of `Digits` only, and of a
        moved up as they say.
        """

    @abstractmethod
    def monomials(self, plane: int, digits: Digits) -> list[tuple[Dealt, Dealt]]:
        """[m]₂ for uniform masks of the bits that each level of a comparison's tree opens, and [∏_{i in S} m_i]₂.

        For the sets S that `Radix4` names; elements are packed into planes of so many bytes.
        """

    @abstractmethod
    def wide_digits(self, a: Dealt, count: int, digits: Digits) -> tuple[Dealt, Dealt]:
        """As `digits`, of up to 8 bits each: uint8 [count, *digits.wide], as `kernels.wide_tables` has them."""

    @abstractmethod
    def wide_monomials(self, count: int, digits: Digits) -> tuple[Dealt, Dealt]:
        """[m]₂ for uniform int16 masks of words, and the products of their bits, as `kernels.wide_expand` has them."""

    # --- series ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def wave(self, a: Dealt, plan: Waves, shape: Shape) -> list[Tensor]:
        """[p cos θa - q sin θa] and [p sin θa + q cos θa] for each term of a series, in the words of its plan."""

    @abstractmethod
    def powers(self, a: Dealt, frac_bits: int, window: int, degree: int, shape: Shape) -> list[Tensor]:
        """[(β / W)^j] for j = 1 … degree and both β of a: a first dimension of two, a second of the powers.

        See `powers.py`.
        """

    @abstractmethod
    def octaves(self, a: Dealt, frac_bits: int, table: Octaves, shape: Shape) -> list[Tensor]:
        """[2^(a_low + D (1 + (j + a_high) mod N) - O)] for each j along a first dimension; see `exponential.py`."""

    @abstractmethod
    def chosen_octaves(self, a: Dealt, beta: Dealt, frac_bits: int, shape: Shape) -> list[Tensor]:
        """[β T_j] and [(1 - β) T_j] for each j, in one dimension, for the T_j that are chosen; see `exponential.py`."""

    @abstractmethod
    def places(self, a: Dealt, bits: int, count: int) -> list[Tensor]:
        """[a mod 2^bits = j] for each j, [count, 2^bits], of a mask of so many elements; see `one_hot.py`."""

    # --- bits ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def conjunction(self, beta: Dealt, delta: Dealt, shape: torch.Size) -> list[Tensor]:
        """[β ∧ δ]₂ with broadcasting, as a plane."""

    @abstractmethod
    def truth_table(self, betas: Sequence[Dealt], shape: torch.Size) -> list[Tensor]:
        """[e_¬β]₂: a row of 2^k bits an element with a single one, at the place that the k bits ¬β read as a number."""

    # --- orders ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def turn(self, holder: int, shapes: Sequence[torch.Size], kinds: Sequence[torch.dtype]) -> Turn:
        """A uniform order of rows that one party knows, and what moves values of these shapes into it.

        The first dimension is the rows', of one number; kinds are those of ring elements and of bits.
        """
