"""Masks: how a secret is opened without being revealed, once, and reused by every operation that follows.

A masked secret is  x = E + sum_k Q_k s_k  with E and Q_k public and s_k known to the producer alone. Opening x under a
fresh uniform mask a gives the simple form x = E + a; truncation derives from it a second form with two terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from tacit.protocols.additive import kernels
from tacit.protocols.additive.given import Given, nothing
from tacit.protocols.additive.kernels.digits import Digits
from tacit.protocols.additive.source.base import Dealt, Source
from tacit.protocols.content import Known, TensorOp
from tacit.ring.ring import RING

__all__ = ["BitMask", "Draw", "Form", "Mask", "MaskValue", "Premask", "Scaled", "Term"]


NO_SHAPE = torch.Size()


class MaskValue(Dealt):
    """A mask a, with the tables that comparisons look digits up in, dealt when first asked for.

    `holder` is the party that knows a, if one does: the owner of what it masks. The other shares of a are zero.
    Where the parties have no shares of a yet, for what it masks was masked from its beginning (see `Premask`), `deal`
    gives them some.
    """

    __slots__ = ("_parent", "_shape", "_tables", "_wide_tables", "dealt", "given", "holder")

    def __init__(self, dealt: Dealt, holder: int | None = None, given: Given | None = None) -> None:
        super().__init__(dealt.parts, dealt.plain, dealt.shares)
        self.holder = holder
        self.given = given
        """What the holder has shared, of which its share follows; among the parts stands nothing then, see `part`."""
        self.dealt = True
        self._shape = NO_SHAPE
        self._parent: tuple[MaskValue, TensorOp] | None = None
        self._tables: dict[Digits, tuple[Dealt, Dealt]] = {}
        self._wide_tables: dict[Digits, tuple[Dealt, Dealt]] = {}

    @classmethod
    def withheld(
        cls, plain: Tensor | None, shape: torch.Size, parent: tuple[MaskValue, TensorOp] | None = None
    ) -> MaskValue:
        """A mask of which the parties have no shares yet; they follow from those of `parent`, if that is no larger."""
        secret = cls(Dealt([], plain))
        secret.dealt, secret._shape, secret._parent = False, shape, parent
        return secret

    @classmethod
    def of_owner(cls, given: Given, plain: Tensor | None, shape: torch.Size) -> MaskValue:
        """The mask of what a party has shared."""
        parts = [nothing(shape, here=k != given.place) for k in range(len(given.indices))]
        return cls(Dealt(parts, plain), given.owner, given)

    def deal(self, source: Source) -> MaskValue:
        """Give the parties shares of a, if they have none yet. 8 bytes an element."""
        if not self.dealt:
            self.dealt = True
            if self._parent is not None:
                parent, op = self._parent
                self.parts = [op(part) for part in parent.deal(source).parts]
            else:
                self.parts = source.withheld(self, self._shape)
        return self

    def part(self, place: int) -> Tensor:
        """The share of a of a party hosted here."""
        if self.given is not None and self.given.place == place:
            return self.given.mask
        return self.parts[place]

    def mapped(self, op: TensorOp, shape: torch.Size, opened: Tensor | None = None) -> MaskValue:
        """The mask of op(x), for an op that is linear, and the shape of that; and op(E), of the E that is given."""
        plain = None if self.plain is None else op(self.plain)
        if self.given is not None:
            assert opened is not None
            return MaskValue.of_owner(self.given.map(op, opened), plain, shape)
        if self.dealt:
            return MaskValue(self.map(op), self.holder)
        return MaskValue.withheld(plain, shape, (self, op) if self._shape.numel() <= shape.numel() else None)

    def known_to(self, index: int) -> bool:
        """Whether a party's share of a may differ from zero."""
        return self.holder is None or self.holder == index

    def tables(self, source: Source, count: int, digits: Digits) -> tuple[Dealt, Dealt]:
        """Shares of the thermometer tables of a (int16 [16, n]) and of its sign (a plane). 32 1/8 bytes an element.

        Of fewer digits, as many rows.
        """
        found = self._tables.get(digits)
        if found is None:
            found = self._tables[digits] = source.digits(self, count, digits)
        return found

    def wide_tables(self, source: Source, count: int, digits: Digits) -> tuple[Dealt, Dealt]:
        """The same of digits of 8 bits: uint8 [n, 8, 32]. 256 1/8 bytes an element; see `Digits.wide`."""
        found = self._wide_tables.get(digits)
        if found is None:
            found = self._wide_tables[digits] = source.wide_digits(self, count, digits)
        return found


class Draw:
    """One uniform draw for premasks: it may mask one opening in its life."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        self.spent = False


class Premask:
    """A mask that is in the shares of x from their beginning: they add up to x - a, and only the producer knows a.

    A product leaves its result so, see `product`. Linear operations keep it so, and do the same to a. To open x, the
    parties send their shares as they are; should x itself be needed, they add shares of a, which are dealt then.

    a is a linear image of uniform draws. If that is `onto`, so that all values of a are equally likely, and none of the
    draws has masked an opening before, then opening x - a shows a uniform number, independent of all that was opened.
    Each draw is spent by one opening: two values with the same a, say x and x + y, would show y between them. Where a
    is not fresh in this sense, the parties take another draw t off their shares before they open: a + t is (`renewed`).
    """

    __slots__ = ("draws", "onto", "secret")

    def __init__(self, secret: MaskValue, draws: frozenset[Draw], onto: bool = True) -> None:
        self.secret = secret
        self.draws = draws
        self.onto = onto

    @property
    def fresh(self) -> bool:
        """Whether x may be opened under a."""
        return self.onto and not any(draw.spent for draw in self.draws)

    def spend(self) -> None:
        """Say that x is opened under a."""
        for draw in self.draws:
            draw.spent = True

    def map(self, op: TensorOp, shape: torch.Size, *, onto: bool) -> Premask:
        """The premask of op(x), for an op that is linear; `onto` if op takes every value of the result's shape."""
        return Premask(self.secret.mapped(op, shape), self.draws, self.onto and onto)

    def renewed(self, t: Dealt, shape: torch.Size) -> Premask:
        """The premask a + t of shares that t, drawn for this and nothing else, was taken off."""
        mine = self.secret.plain
        plain = None if mine is None or t.plain is None else mine + t.plain
        return Premask(MaskValue.withheld(plain, shape), frozenset((Draw(),)))

    def plus(self, other: Premask, shape: torch.Size) -> Premask:
        """The premask of the sum of two values."""
        mine, its = self.secret.plain, other.secret.plain
        plain = None if mine is None or its is None else mine + its
        apart = self.draws.isdisjoint(other.draws)
        return Premask(MaskValue.withheld(plain, shape), self.draws | other.draws, apart and (self.onto or other.onto))

    @staticmethod
    def end_to_end(premasks: Sequence[Premask | None], shapes: Sequence[torch.Size]) -> Premask:
        """The premask of several values, one after the other, some of which have none."""
        found = [p for p in premasks if p is not None]
        plain = None
        if found[0].secret.plain is not None:
            zero = torch.zeros((), dtype=RING.dtype)
            rows = [zero.expand(n) if p is None else p.secret.plain for p, n in zip(premasks, shapes, strict=True)]
            plain = torch.cat([row.reshape(-1) for row in rows if row is not None])
        count = torch.Size((sum(shape.numel() for shape in shapes),))
        draws = frozenset[Draw]().union(*(p.draws for p in found))
        apart = len(found) == len(premasks) and len(draws) == sum(len(p.draws) for p in found)
        return Premask(MaskValue.withheld(plain, count), draws, apart and all(p.onto for p in found))

    def __repr__(self) -> str:
        return "Premask(<hidden>)"


class Term(NamedTuple):
    """One Q_k s_k of a masked secret; `factor` None stands for 1 (and at the producer, who does not need it)."""

    factor: Tensor | None
    secret: Dealt
    zeros: int = 0
    """Low bits of s_k that are zero, always."""


class Mask(Known):
    """x = E + sum of terms. `opened` is E, and None where no computing party is hosted."""

    __slots__ = ("opened", "terms")

    def __init__(self, opened: Tensor | None, terms: Sequence[Term]) -> None:
        self.opened = opened
        self.terms = terms

    @classmethod
    def simple(cls, opened: Tensor | None, secret: MaskValue) -> Mask:
        """x = E + a."""
        return cls(opened, (Term(None, secret),))

    @classmethod
    def combined(cls, op: Callable[..., Tensor], masks: Sequence[Mask]) -> Mask:
        """The simple form of op(x, y, …), linear in all jointly, from those of x, y, …"""
        opened, secrets = [m.opened for m in masks if m.opened is not None], [m.secret for m in masks]
        plain = [s.plain for s in secrets if s.plain is not None]
        holders = {s.holder for s in secrets}
        parts = [op(*(s.part(k) for s in secrets)) for k in range(len(secrets[0].parts))]
        holder = holders.pop() if len(holders) == 1 else None
        secret = MaskValue(Dealt(parts, op(*plain) if plain else None), holder)
        return cls.simple(op(*opened) if opened else None, secret)

    def less(self, other: Mask, shape: torch.Size) -> Mask:
        """The simple form of x - y, (E - F) + (a - b), from those of x and y: nothing new is opened.

        Shares of a - b are dealt if somebody asks for them.
        """
        a, b = self.secret.plain, other.secret.plain
        plain = None if a is None or b is None else a - b
        e, f = self.opened, other.opened
        return Mask.simple(None if e is None or f is None else e - f, MaskValue.withheld(plain, shape))

    @property
    def secret(self) -> MaskValue:
        """The mask a of the simple form."""
        secret = self.terms[0].secret
        assert isinstance(secret, MaskValue)
        return secret

    def known(self, place: int, *, short: bool) -> Tensor | None:
        """x itself, of the simple form, if it is at hand at a party hosted here; as it is kept, if `short`."""
        given = self.secret.given
        if given is None or given.place != place or given.opened is not self.opened:
            return None
        return given.kept if short else given.value

    @property
    def whole(self) -> Mask:
        """This form for operations that do more than move elements; see `Given.whole`."""
        secret = self.terms[0].secret
        if not isinstance(secret, MaskValue) or secret.given is None:
            return self
        return Mask.simple(self.opened, MaskValue.of_owner(secret.given.whole, secret.plain, self.shape))

    @property
    def shape(self) -> torch.Size:
        """The shape of x."""
        known = self.opened if self.opened is not None else self.terms[0].secret.plain
        assert known is not None
        return known.shape

    def deal(self, source: Source) -> None:
        """Give the parties shares of the mask of the simple form, if they have none yet."""
        for term in self.terms:
            if isinstance(term.secret, MaskValue):
                term.secret.deal(source)

    def sums(self) -> list[Tensor]:
        """The hosted parties' shares of Σ Q_k s_k, by which x is more than E."""
        out = []
        for k in range(len(self.terms[0].secret.parts)):
            total: Tensor | None = None
            for factor, secret, _ in self.terms:
                own = secret.part(k) if isinstance(secret, MaskValue) else secret.parts[k]
                part = own if factor is None else factor * own
                total = part if total is None else total + part
            assert total is not None
            out.append(total)
        return out

    @override
    def map(self, op: TensorOp) -> Mask:
        """The masked form of op(x), for a linear op, such as a view, an index, an expansion."""
        opened = _apply(op, self.opened)
        return Mask(opened, [_map_term(term, op, self.opened, opened) for term in self.terms])

    def written(self) -> Mask:
        """This form, whose E and Q are written out already; see `Scaled`."""
        return self

    @override
    def plus(self, public: Tensor) -> Mask:
        """The masked form of x + c; the masks, and with them their tables, stay."""
        return Mask(None if self.opened is None else self.opened + public, self.terms)

    def __repr__(self) -> str:
        return "Mask(<hidden>)"


class Scaled:
    """The masked form of z k, k = m 2^-64, which a truncation of z = E + a leaves: see `truncation`.

    Its E and its two terms follow from those of z, and from m. What is done with them most often, `parts` and a
    selection, takes one pass over those of z, so they are written out only when somebody asks for them.
    """

    __slots__ = ("_written", "dealt", "multiplier", "z", "zeros")

    def __init__(self, z: Mask, multiplier: int, zeros: int, dealt: Sequence[Sequence[Tensor]]) -> None:
        self.z = z
        self.multiplier = multiplier
        self.zeros = zeros
        """Low bits of the second term that are zero, always."""
        self.dealt = dealt
        """For each hosted party, its shares of the two terms: the second in integers as short as its zeros allow."""
        self._written: Mask | None = None

    def parts(self, indices: Sequence[int]) -> list[Tensor]:
        """The additive shares of z k that this form gives to the hosted parties."""
        opened = self.z.opened
        if opened is None:
            return []
        rows, on = zip(indices, self.dealt, strict=True), kernels.on(opened)
        return [on.scaled_share(opened, self.multiplier, *row, leader=index == 0) for index, row in rows]

    def map(self, op: TensorOp) -> Scaled:
        """The masked form of op(z k), for an op that only moves elements."""
        return Scaled(self.z.map(op), self.multiplier, self.zeros, [[op(t) for t in row] for row in self.dealt])

    def written(self) -> Mask:
        """The same form with E and its terms written out."""
        if self._written is None:
            opened, plain, m = self.z.opened, self.z.secret.plain, self.multiplier
            terms: list[Tensor | None] = [None, None]
            if plain is not None:
                high, wrap = torch.empty((2, *plain.shape), dtype=RING.dtype, device=plain.device)
                kernels.on(plain).scaled_parts(plain, m, high, wrap)
                terms = [high, wrap]
            first = Dealt([high for high, _ in self.dealt], terms[0])
            second = Dealt([kernels.on(wrap).wrap_words(wrap) for _, wrap in self.dealt], terms[1])
            public = factor = None
            if opened is not None:
                on = kernels.on(opened)
                public, factor = on.scaled_public(opened, m), on.wrap_factor(opened)
            self._written = Mask(public, [Term(None, first), Term(factor, second, self.zeros)])
        return self._written

    def __repr__(self) -> str:
        return "Scaled(<hidden>)"


Form = Mask | Scaled
"""A masked form of a secret."""


class BitMask(Known):
    """A shared bit b = c ^ β with c public and β known to the producer; c and β are bytes of value 0 or 1."""

    __slots__ = ("_parent", "_ring", "beta", "opened")

    def __init__(
        self,
        opened: Tensor | None,
        beta: Dealt,
        ring: Dealt | None = None,
        parent: tuple[BitMask, TensorOp] | None = None,
    ) -> None:
        self.opened = opened
        self.beta = beta
        self._ring = ring
        self._parent = parent

    def ring(self, source: Source) -> Dealt:
        """Additive shares of β, by which selections become local. 8 bytes an element, when first asked for."""
        if self._ring is None:
            if self._parent is not None:
                parent, op = self._parent
                self._ring = parent.ring(source).map(op)
            else:
                self._ring = Dealt(source.arithmetic_bits(self.beta, self._shape), None)
        return self._ring

    @property
    def _shape(self) -> torch.Size:
        known = self.opened if self.beta.plain is None else self.beta.plain
        assert known is not None
        return known.shape

    @override
    def map(self, op: TensorOp) -> BitMask:
        """The masked form of op(b), for an op that only moves elements."""
        opened, beta = _apply(op, self.opened), self.beta.map(op)
        if self._ring is not None:
            return BitMask(opened, beta, self._ring.map(op))
        out = BitMask(opened, beta)
        if self._shape.numel() <= out._shape.numel():
            out._parent = self, op
        return out

    @override
    def plus(self, public: Tensor) -> BitMask:
        """The masked form of b ^ public bits."""
        opened = None if self.opened is None else self.opened ^ public
        return BitMask(opened, self.beta, self._ring, (self, lambda t: t))

    def __repr__(self) -> str:
        return "BitMask(<hidden>)"


def _apply(op: TensorOp, tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else op(tensor)


def _map_term(term: Term, op: TensorOp, before: Tensor | None, opened: Tensor | None) -> Term:
    """The term of op(x), given E and op(E)."""
    factor, secret, zeros = term
    if not isinstance(secret, MaskValue):
        return Term(_apply(op, factor), secret.map(op), zeros)
    like = opened
    if like is None:  # at the producer, so the mask is here
        assert secret.plain is not None
        like = op(secret.plain)
    given = secret.given
    if given is not None and given.opened is not before:  # x has become x + c, and E with it, but not what is given
        opened = op(given.opened)
    return Term(_apply(op, factor), secret.mapped(op, like.shape, opened), zeros)
