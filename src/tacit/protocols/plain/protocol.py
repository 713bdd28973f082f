"""The primitives on plain integers: what every other scheme has to agree with, up to its stated error.

Nothing is hidden and nothing is sent, so a session of it lives in one process. It stands in where a program is checked
for what secrets cannot do, and its results are those that tests hold other schemes against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import add, xor
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import ConfigError
from tacit.protocols import network
from tacit.protocols.number import SETTLED, Number
from tacit.protocols.plain import evaluate
from tacit.protocols.plain.content import Integers
from tacit.protocols.plain.scheme import SCHEME
from tacit.protocols.protocol import DeclaredCost, Prices, Protocol, in_octaves
from tacit.protocols.remembered import Owned, Storage
from tacit.protocols.scale import Scale
from tacit.protocols.series import FULL, POWER_OF_TWO_BITS, Exponents, Harmonics, Polynomial, common_window
from tacit.protocols.values import Bits, Value
from tacit.session.session import Session

__all__ = ["Plain"]

PRIMITIVES = (
    "multiply",
    "truncate",
    "multiply and truncate",
    "scale",
    "harmonics",
    "polynomials",
    "less",
    "select",
    "relu",
    "conjunction",
    "all_of",
    "to_arithmetic",
    "hot",
)


class Plain(Protocol):
    """No security at all. Truncations round to the nearest; everything else is exact, or rounded once."""

    scheme = SCHEME
    costs: ClassVar[Mapping[str, DeclaredCost]] = {name: DeclaredCost(0, lambda n: 0.0) for name in PRIMITIVES}
    prices = Prices(compared=50, again=22, chosen=26, few=48, again_factor=26, beside=4096)
    """Those of the additive scheme: a program that is checked shall go its way."""

    def __init__(self, session: Session) -> None:
        if not set(session.parties) <= set(session.transport.hosted):
            raise ConfigError("the protocol 'plain' hides nothing and runs in one process only, with all its parties")
        super().__init__(session)

    # --- in and out ------------------------------------------------------------------------------------------------

    @override
    def share(self, value: Tensor | None, owner: str, shape: Sequence[int], frac_bits: int) -> Number:
        out = self._number(self._given(value, owner), Scale(frac_bits))
        out.facts.owned = Owned(self.session.parties.index(owner), value)
        return out

    @override
    def share_bits(self, value: Tensor | None, owner: str, shape: Sequence[int]) -> Bits:
        return self._bits(self._given(value, owner))

    def _given(self, value: Tensor | None, owner: str) -> Tensor:
        self.session.check_open()
        if owner not in self.session.parties:
            raise ConfigError(f"{owner!r} cannot own data: the computing parties are {', '.join(self.session.parties)}")
        assert value is not None
        return value.clone()

    @override
    def public(self, ring: Tensor, frac_bits: int) -> Number:
        return self._number(ring.clone(), Scale(frac_bits))

    @override
    def public_bits(self, bits: Tensor) -> Bits:
        return self._bits(bits.clone())

    @override
    def reveal(self, x: Value, receivers: Sequence[str]) -> Tensor | None:
        self.session.check_open()
        return x.content.assembled() if receivers else None

    @override
    def refresh(self, x: Value) -> list[Tensor]:
        """Nothing is fresh about them: all of x, and zeros."""
        self.session.check_open()
        return [t.clone() for t in x.content.parts()]

    @override
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
        """The sum of the parts, in memory of its own."""
        self.check_adopted(shares, shape, torch.int64, name)
        out = self._number(reduce(add, shares[1:], shares[0].clone()), Scale(frac_bits, headroom, precise))
        out.storage.lasting = lasting
        return out

    @override
    def adopt_bits(
        self, shares: Sequence[Tensor], shape: Sequence[int], *, lasting: bool = False, name: str = "a value"
    ) -> Bits:
        self.check_adopted(shares, shape, torch.uint8, name)
        out = self._bits(reduce(xor, shares[1:], shares[0].clone()))
        out.storage.lasting = lasting
        return out

    @override
    def follow(self, out: Value, op: Callable[..., Tensor], operands: Sequence[Value]) -> None:
        """Everything is known."""

    # --- numbers ---------------------------------------------------------------------------------------------------

    @override
    def together(self, *values: Value) -> None:
        pass

    @override
    def multiply(self, x: Number, y: Number) -> Number:
        return self._number(_ring(x) * _ring(y), x.scale.times(y.scale, square=x is y))

    @override
    def bilinear(self, x: Number, y: Number, op: Callable[[Tensor, Tensor], Tensor]) -> Number:
        return self._number(op(_ring(x), _ring(y)), x.scale.times(y.scale))

    @override
    def scale(self, x: Number, factor: float, frac_bits: int | None = None) -> Number | None:
        target = x.settled_bits if frac_bits is None else frac_bits
        drop = x.scale.ratio(factor, target)
        if drop is None:
            return None
        out = self._number(evaluate.scaled(_ring(x), drop), x.scale.scaled(abs(factor), target))
        return out if factor > 0 else -out

    @override
    def settle(self, x: Number, frac_bits: int | None = None) -> Number:
        target = x.settled_bits if frac_bits is None else frac_bits
        if x.frac_bits <= target:
            return x

        def made() -> Number:
            before = x.settled_before(target)
            if before is not x:
                return before
            return self._number(evaluate.truncated(_ring(x), x.frac_bits - target), x.scale.truncated(target))

        return SETTLED.once(x, made, target)

    @override
    def settle_all(self, shares: Sequence[Number], frac_bits: int | None = None) -> list[Number]:
        return [self.settle(x, frac_bits) for x in shares]

    @override
    def harmonics(self, x: Number, series: Harmonics) -> Number:
        return self._number(evaluate.harmonics(_ring(x), x.frac_bits, series), Scale(series.frac_bits))

    @override
    def polynomials(self, x: Number, polynomials: Sequence[Polynomial]) -> list[Number]:
        common_window(polynomials)
        return [self._number(evaluate.polynomial(_ring(x), x.frac_bits, p), Scale(p.frac_bits)) for p in polynomials]

    @override
    def powers_of_two(self, y: Number, window: Exponents = FULL) -> Number:
        y = in_octaves(y, window)
        return self._number(evaluate.power_of_two(_ring(y), y.frac_bits), Scale(POWER_OF_TWO_BITS))

    # --- bits ------------------------------------------------------------------------------------------------------

    @override
    def less(
        self, x: Number, thresholds: Sequence[int], *beside: Callable[[], Value], near: int = 0, most: int | None = None
    ) -> list[Bits]:
        return [self._bits((_ring(x) < t).to(torch.uint8)) for t in thresholds]

    @override
    def select(self, pairs: Sequence[tuple[Bits, Number]]) -> list[Number]:
        out = []
        for b, x in pairs:
            y = x if x.scale.precise else self.settle(x)
            out.append(self._number(_ring(y) * _ring(b), y.scale.chosen()))
        return out

    @override
    def conjunction(self, x: Bits, y: Bits) -> Bits:
        return self._bits(_ring(x) & _ring(y))

    @override
    def all_of(self, bits: Sequence[Bits]) -> Bits:
        return reduce(self.conjunction, bits)

    @override
    def to_arithmetic(self, b: Bits) -> Number:
        return self._number(_ring(b).to(torch.int64), Scale(positive=True))

    @override
    def hot(self, x: Number, count: int) -> Number:
        rows = (_ring(x).unsqueeze(-1) == torch.arange(count)).to(torch.int64)
        return self._number(rows, Scale(positive=True))

    @override
    def parity(self, x: Number) -> Bits:
        return self._bits((_ring(x) & 1).to(torch.uint8))

    # --- rows --------------------------------------------------------------------------------------------------------

    @override
    def shuffled(self, values: Sequence[Value]) -> list[Value]:
        """In an order from the operating system: PyTorch's generator is for what is public."""
        generator = torch.Generator()
        generator.seed()
        order = torch.randperm(values[0].shape[0], generator=generator)
        return [self._rows(x, order) for x in values]

    @override
    def arranged(self, places: Number, values: Sequence[Value]) -> list[Value]:
        order = _ring(places).argsort()
        return [self._rows(x, order) for x in values]

    @override
    def in_order(self, key: Number, *beside: Number) -> list[Number]:
        return network.in_order(key, *beside)

    def _rows(self, x: Value, order: Tensor) -> Value:
        rows = _ring(x)[order]
        return self._bits(rows) if isinstance(x, Bits) else self._number(rows, x.scale)

    # --- construction ----------------------------------------------------------------------------------------------

    def _number(self, ring: Tensor, scale: Scale) -> Number:
        return Number(self, Integers(ring, len(self.session.parties)), Storage(ring.numel(), scale))

    def _bits(self, bits: Tensor) -> Bits:
        return Bits(self, Integers(bits, len(self.session.parties)), Storage(bits.numel()))


def _ring(x: Value) -> Tensor:
    """The ring elements, or the bits, of a value of this scheme."""
    content = x.content
    assert isinstance(content, Integers)
    return content.tensor
