"""The primitives that every protocol offers, with their declared costs. Everything above is built from these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.protocols.binned import Binned
from tacit.protocols.in_step import in_step
from tacit.protocols.number import Number
from tacit.protocols.replays import Replays
from tacit.protocols.scale import FINEST_PRODUCT, PARAMETER_BITS, SLACK_BITS
from tacit.protocols.series import FULL, Exponents, Harmonics, Polynomial
from tacit.protocols.values import Bits, Value
from tacit.ring import kernels
from tacit.session.roles import Scheme
from tacit.session.session import Session

__all__ = ["DeclaredCost", "Prices", "Protocol", "in_octaves"]


INTERACTIVE = {
    *("share", "share_bits", "reveal", "refresh", "together", "multiply", "bilinear", "scale", "settle", "settle_all"),
    *("harmonics", "polynomials", "powers_of_two", "chosen_powers_of_two", "less", "select", "conjunction", "all_of"),
    *("to_arithmetic", "hot", "parity_of_product", "sums_below", "rows_below", "shuffled", "arranged", "in_order"),
    "deal_premask",
}
"""The primitives in which parties draw from key streams that they share, or send; and what contents ask of a scheme."""


@dataclass(frozen=True, slots=True)
class DeclaredCost:
    """What one primitive costs for each element; the conformance suite runs it and compares with the meter."""

    rounds: int
    online_bits: Callable[[int], float]
    """Bits that one party sends to all its peers together, as a function of the number of parties; on average over the
    parties where they do not send the same."""
    helper_bits: Mapping[str, float] = field(default_factory=dict)
    """Bits that each helper sends to all parties together, by the helper's name."""
    note: str = ""


class Prices(NamedTuple):
    """What functions choose by that can be computed in more rounds or with more bytes; data of a scheme."""

    compared: int
    """Bytes of one comparison of what is prepared, of all roles together, with two parties."""
    again: int
    """Bytes of comparing the same with another threshold, likewise."""
    chosen: int
    """Bytes of a number chosen by a bit, likewise."""
    few: int
    """Up to so many elements are sorted by comparing all pairs. More: fewer rounds; fewer: fewer bytes."""
    again_factor: int
    """Bytes of a number that meets a second factor before the first product is truncated, likewise."""
    carried: bool = True
    """Whether each comparison of a sort pays for what goes beside its keys."""
    round: int = 0
    """Bytes that a round is worth, as the config has it. More: larger groups in a maximum, more elements that are
    compared in a round less, more bytes."""
    beside: int = 0
    """Up to so many elements of parameters are opened beside their change, all together, where small products take
    masks of several terms. More: a round less for larger models, as long as their products are small enough."""


class Protocol(ABC):
    """Secret sharing among the parties of a session, in Z_2^64 for numbers and Z_2 for bits.

    Shapes, scales and the order of calls are public and the same at every role. Unless its docstring says otherwise a
    primitive reveals nothing.
    """

    scheme: ClassVar[Scheme]
    """Its name, the roles it needs, and what it promises against them."""
    costs: ClassVar[Mapping[str, DeclaredCost]]
    """The cost of each primitive when nothing about its operands is known yet."""
    prices: Prices

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name in INTERACTIVE & cls.__dict__.keys():
            setattr(cls, name, in_step(cls.__dict__[name]))

    def __init__(self, session: Session) -> None:
        self.session = session
        self.frac_bits = session.config.frac_bits
        self.prices = type(self).prices._replace(round=session.config.round_bytes)

    @property
    def product_bits(self) -> int:
        """Fractional bits that a product may have before it is truncated; it stays below 2^62 of its units."""
        f = self.frac_bits
        return 2 * f + max(0, min(SLACK_BITS, FINEST_PRODUCT - 2 * f))

    @property
    def factor_bits(self) -> int:
        """Fractional bits that a factor may have, beside one of the session's."""
        return self.product_bits - self.frac_bits

    @property
    def parameter_bits(self) -> int:
        """Fractional bits of a module's parameters and buffers: two of them still make a product, untruncated."""
        return self.frac_bits + min(PARAMETER_BITS, (self.product_bits - 2 * self.frac_bits) // 2)

    def replays(self) -> Replays | None:
        """How a step of this session is recorded to be replayed; None if it cannot be."""
        return None

    def indexed(self, tensors: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Pair the tensors of a share with the indices of the parties they belong to (-1 at a helper)."""
        return zip(self.session.party_indices or (-1,), tensors, strict=True)

    # --- in and out ------------------------------------------------------------------------------------------------

    @abstractmethod
    def share(self, value: Tensor | None, owner: str, shape: Sequence[int], frac_bits: int) -> Number:
        """Share ring elements that `owner` knows; `value` is None at every other role.

        Of the roles, the owner alone may send: what it says binds it. So all that is shared in a row is one round.
        """

    @abstractmethod
    def share_bits(self, value: Tensor | None, owner: str, shape: Sequence[int]) -> Bits:
        """Share bits (bytes of value 0 or 1) that `owner` knows; as `share`."""

    @abstractmethod
    def public(self, ring: Tensor, frac_bits: int) -> Number:
        """A trivial sharing of public ring elements. Local."""

    @abstractmethod
    def public_bits(self, bits: Tensor) -> Bits:
        """A trivial sharing of public bits. Local."""

    @abstractmethod
    def reveal(self, x: Value, receivers: Sequence[str]) -> Tensor | None:
        """Open x towards the receivers, after re-randomising its shares; None at everybody else. Reveals x, to them.

        Call it through `tacit.reveal` only, which asks the ledger first.
        """

    @abstractmethod
    def refresh(self, x: Value) -> list[Tensor]:
        """Fresh shares of x of the hosted parties, which say nothing beyond their sum. May take a message.

        To be kept; or handed out, through `tacit.api.release` only, which asks the ledger first.
        """

    @abstractmethod
    def adopt(
        self,
        shares: Sequence[Tensor],
        shape: Sequence[int],
        frac_bits: int,
        *,
        headroom: int = 0,
        precise: bool = False,
        lasting: bool = False,
        name: str = "a value",
    ) -> Number:
        """A number whose shares come from outside: what a client cut, or an earlier run kept. Local, no bytes.

        The counterpart of `refresh`: `shares` are those of the hosted parties in their order, none at a role that hosts
        none. They are kept, not copied, so what is written to the number is written to them. `headroom`, `precise` and
        `lasting` are what `Scale` and `Storage` say of them.

        Raises:
            DataError: naming `name`, if there is not one tensor of this shape, of ring elements, for each party.
        """

    @abstractmethod
    def adopt_bits(
        self, shares: Sequence[Tensor], shape: Sequence[int], *, lasting: bool = False, name: str = "a value"
    ) -> Bits:
        """`adopt` of bits, in bytes of value 0 or 1."""

    def check_adopted(self, shares: Sequence[Tensor], shape: Sequence[int], dtype: torch.dtype, name: str) -> None:
        """Raise `DataError` unless there is a share of this shape and type for each hosted party."""
        self.session.check_open()
        count = len(self.session.party_indices)
        if len(shares) != count:
            raise DataError(f"{name} has {len(shares)} shares here, for {count} parties of this process")
        if any(t.shape != torch.Size(shape) or t.dtype != dtype for t in shares):
            raise DataError(f"the share of {name} does not have the shape {tuple(shape)} and dtype that it should have")
        if dtype == torch.uint8 and any(t.numel() and t.max() > 1 for t in shares):
            raise DataError(f"the share of {name} holds other bytes than 0 and 1, which are what bits are kept in")

    @abstractmethod
    def follow(self, out: Value, op: Callable[..., Tensor], operands: Sequence[Value]) -> None:
        """Note of out = op(operands), linear in all of them jointly, what is known of it by what is known of these."""

    # --- numbers ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def together(self, *values: Value) -> None:
        """Prepare values for what will be done with them, in one round: a hint that saves others, and no more.

        A scheme that opens its operands under masks opens those that are not open yet; others do nothing.
        """

    def beside(self, *values: Value) -> AbstractContextManager[None]:
        """While this lasts, the next round that opens anything opens these as well. A hint, as `together`."""
        return nullcontext()

    def note_sum(self, out: Number, x: Number, y: Number, sign: int) -> None:  # noqa: B027 - of most schemes, nothing
        """Note of out = x ± y what a scheme knows of it by what it knows of these. Local, as what follows."""

    def note_open(self, out: Number, x: Number, y: Number) -> None:  # noqa: B027
        """Note of out = x - y that it is open if both are, where a pass over its elements is worth that."""

    def note_joined(self, out: Number, rows: Sequence[Number]) -> None:  # noqa: B027
        """Likewise of numbers end to end."""

    def note_written(self, out: Number, source: Number) -> None:  # noqa: B027
        """Likewise of a number that has been overwritten, all of it."""

    @abstractmethod
    def multiply(self, x: Number, y: Number) -> Number:
        """x * y elementwise, with broadcasting. The scales add up; nothing is truncated."""

    @abstractmethod
    def bilinear(self, x: Number, y: Number, op: Callable[[Tensor, Tensor], Tensor]) -> Number:
        """op(x, y) for an operation that is linear in each operand (a matrix product, a convolution)."""

    def truncate(self, x: Number, bits: int) -> Number:
        """floor(x / 2^bits) or that plus one (unbiased), for |x| < 2^62; the scale drops by `bits`."""
        return self.settle(x, x.frac_bits - bits)

    @abstractmethod
    def scale(self, x: Number, factor: float, frac_bits: int | None = None) -> Number | None:
        """x times a public factor, truncated to `frac_bits` (the session's) in the same round; off by two units.

        None if the factor is too large for the fractional bits that x has to lose, and nothing has happened.
        """

    @abstractmethod
    def settle(self, x: Number, frac_bits: int | None = None) -> Number:
        """Truncate x to at most `frac_bits` fractional bits, once; see `Number.settle`."""

    @abstractmethod
    def settle_all(self, shares: Sequence[Number], frac_bits: int | None = None) -> list[Number]:
        """Settle independent shares in one round."""

    @abstractmethod
    def harmonics(self, x: Number, series: Harmonics) -> Number:
        """Evaluate a trigonometric polynomial of x, from one opening of x; not truncated."""

    @abstractmethod
    def polynomials(self, x: Number, polynomials: Sequence[Polynomial]) -> list[Number]:
        """Evaluate polynomials of x, of one window, from one opening of x; not truncated. Outside of it, wrong.

        Later ones of the same window and of no higher degree cost nothing.
        """

    @abstractmethod
    def powers_of_two(self, y: Number, window: Exponents = FULL) -> Number:
        """2^y for a window of y, counted in its steps, from one opening of y; not truncated. Outside of it, wrong."""

    # --- bits ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def less(
        self, x: Number, thresholds: Sequence[int], *beside: Callable[[], Value], near: int = 0, most: int | None = None
    ) -> list[Bits]:
        """[x < t] for public ring elements t at the scale of x, all from one opening of x. |x - t| < 2^63.

        It may also be said of t <= x < t + near, and where |x - t| < 2^most is public this helps a scheme as well: the
        less of x is in question, the fewer bytes. With `near` there has to be as much room at the other
        end, x - t >= near - 2^most, or near - 2^63; below it x may count as not less.

        The rounds are the scheme's, and may be fewer for few elements: functions say what many take. `beside` are
        asked, once x is open, for what may be masked in the rounds that the comparison then takes.
        """

    @abstractmethod
    def select(self, pairs: Sequence[tuple[Bits, Number]]) -> list[Number]:
        """b x for each pair (b, x) of one shape, in one round; a truncation that x still needs is done on the way.

        What is precise is not truncated.
        """

    def chosen_powers_of_two(self, b: Bits, y: Number) -> Number:
        """b 2^y for bits and exponents of one shape, and -59 <= y < 1 wherever a bit is set; zero where it is not.

        A power of two and a selection, which truncates it; a scheme may need less for few elements, and truncate not.
        Error: <= 2^-20 + 2^-20 2^y, and a unit of the session's where it is truncated.
        """
        up = FULL.highest - 1
        found = self.powers_of_two(y.plus(torch.tensor(up << y.frac_bits)))
        (out,) = self.select([(b, found.rescaled(found.frac_bits + up))])
        return out

    def positive_part(self, x: Number) -> tuple[Number, Bits]:
        """max(x, 0) and [x > 0]: a comparison, and a selection that truncates what x still needs. Exact.

        A product that is positive, but by less than a quarter of the unit that it is truncated to, may count as zero.
        """
        finer = x.frac_bits - x.settled_bits - 2
        positive = self.less(x, [1], near=1 << finer if finer > 0 else 0)[0].invert()
        (part,) = self.select([(positive, x)])
        return part, positive

    @abstractmethod
    def conjunction(self, x: Bits, y: Bits) -> Bits:
        """x and y."""

    @abstractmethod
    def all_of(self, bits: Sequence[Bits]) -> Bits:
        """The conjunction of bits of one shape, in one round for up to ten of them."""

    @abstractmethod
    def to_arithmetic(self, b: Bits) -> Number:
        """The bits as integers."""

    @abstractmethod
    def hot(self, x: Number, count: int) -> Number:
        """[x = j] for j = 0 .. count - 1 along a new last dimension, for integers 0 <= x < count, as integers.

        Of others it may be any row of at most a single one.
        """

    def odd(self, b: Bits) -> Number:
        """For each bit an integer that is odd where it is set. Only `parity` may be asked of what is made of these.

        Where bits are shared by XOR and numbers by addition the shares of one are shares of the other: no bytes then.
        """
        return self.to_arithmetic(b)

    def parity(self, x: Number) -> Bits:
        """[x is odd], for what is 0 or 1, or would be with bits in the place of the integers that `odd` gives."""
        return self.less(x, [1])[0].invert()

    def parity_of_product(self, x: Number, odd: Number) -> Bits:
        """The `parity` of a product of matrices, of which the second is made of `odd` ones.

        So a matrix product with bits has a result in bits, at the cost of the product or less.
        """
        return self.parity(self.bilinear(x, odd, kernels.matmul))

    # --- bins that one party knows ---------------------------------------------------------------------------------

    def sums_below(self, tables: Sequence[Binned], w: Number) -> list[Number]:
        """C w for each table's C: the sums of the rows of w, [rows, m], that are in each bin or below it: [edges, m].

        Error: none.   Cost: a product with what one party knows; of each C once, 8 bytes an element.
        """
        matrices = [self._below(table) for table in tables]
        self.together(w, *matrices)
        return [self.bilinear(matrix, w, kernels.matmul) for matrix in matrices]

    def rows_below(self, table: Binned, odd: Number) -> Bits:
        """The `parity` of Cᵀ s, for s [edges, m] made of `odd` ones: where rows go that a one-hot edge parts.

        `sums_below` has been asked of the table before.
        """
        return self.parity_of_product(self._below(table).move(lambda t: t.t(), view=True), odd)

    def _below(self, table: Binned) -> Number:
        """C as a secret of its owner."""
        if table.scheme is None:
            c = None if table.codes is None else table.indicators(0, table.rows).t().contiguous()
            table.scheme = self.share(c, self.session.parties[table.owner], (table.edges, table.rows), 0)
        found: Number = table.scheme
        return found

    # --- rows --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def shuffled(self, values: Sequence[Value]) -> list[Value]:
        """The rows of all values in one uniformly random order, which nobody knows. They have one number of rows."""

    @abstractmethod
    def arranged(self, places: Number, values: Sequence[Value]) -> list[Value]:
        """Row i of each value at row places[i], for a secret permutation of 0 .. n - 1, as integers.

        Where it is none the result means nothing, and what the numbers are may become known: whoever calls this makes
        sure that it is one, whatever the secrets are.
        """

    @abstractmethod
    def in_order(self, key: Number, *beside: Number) -> list[Number]:
        """Integer keys in ascending order, and rows of integers that go with them. Equal keys may change places.

        Shape: [n, *k], each k by itself, and [n, *k, ..].   Domain: differences of keys below 2^62.   Error: none.
        """


def in_octaves(y: Number, window: Exponents) -> Number:
    """An exponent that is counted in a window's steps, counted in octaves, with two fractional bits more. Local."""
    return y if window.quarters == 4 else y.times_integer(window.quarters).rescaled(y.frac_bits + 2)
