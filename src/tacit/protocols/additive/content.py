"""Shares: what the parties hosted here hold of a secret, and what is known of the masks it was opened under.

Numbers are additive shares modulo 2^64, bits are XOR shares. The crypto-producer runs the same program on one meta
tensor. Shares may be short of a premask (see `masks.Premask`) from their beginning; whoever needs true shares asks for
them with a verb, `parts` or `deal_premask`, at every role at the same point of the program, since that sends bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add, sub, xor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakSet

import torch
from torch import Tensor
from typing_extensions import override

from tacit.protocols.additive.given import Given
from tacit.protocols.additive.masks import BitMask, Form, Mask, Premask
from tacit.protocols.additive.parts import OpenedParts
from tacit.protocols.additive.source.base import Source
from tacit.protocols.content import Content, TensorOp, extent
from tacit.protocols.remembered import Facts

if TYPE_CHECKING:
    from tacit.protocols.additive.protocol import Additive

META = torch.device("meta")

__all__ = [
    "Opened",
    "Shares",
    "Unsettled",
    "bit_mask",
    "is_given",
    "masked_form",
    "open_mask",
    "opened",
    "simple_mask",
]


class Shares(Content):
    """A tensor for each party hosted here, or a single meta tensor at the producer."""

    __slots__ = ("__weakref__", "_given", "_held", "_missing", "_views", "_whole", "base", "home", "seen")

    def __init__(self, home: Additive, held: list[Tensor], base: Shares | None = None) -> None:
        self.home = home
        self._held = held
        self.base = base
        """What this is a view of; None for all of a storage. Several secrets may lie in one buffer, at each party in
        another place, so places count from the base."""
        self._missing: Premask | None = None
        """At a base: the mask that is in the shares, `_whole`, of all its views, until somebody needs true shares."""
        self._whole: list[Tensor] = []
        self.seen: tuple[Premask, Premask] | None = None
        """The base's premask, and what this view has of it."""
        self._given: Given | None = None
        """At a base: what its shares follow from, until they are written out; see `given`."""
        self._views: WeakSet[Shares] | None = None
        if base is not None and base._views is not None:
            base._views.add(self)

    @classmethod
    def following(cls, home: Additive, given: Given) -> Shares:
        """Shares that follow from what an owner has given; what lies in E stands in for where they lie."""
        out = cls(home, [given.opened for _ in given.indices])
        out._given, out._views = given, WeakSet()
        return out

    @property
    def held(self) -> list[Tensor]:
        """What the parties hold: shares, or shares that are short of a premask."""
        root = self if self.base is None else self.base
        if root._given is not None:
            root._write_out(root._given)
        return self._held

    def _write_out(self, given: Given) -> None:
        """Give a base and all views of it the memory that they have in common."""
        with torch.inference_mode(False):  # shares outlive such a mode, and are written to
            own = given.shares()
            for view in self._views or ():
                pairs = zip(view._held, self._held, own, strict=True)
                view._held = [
                    t.as_strided(v.shape, v.stride(), v.storage_offset() - e.storage_offset() + t.storage_offset())
                    for v, e, t in pairs
                ]
            self._held, self._given, self._views = own, None, None

    @classmethod
    def premasked(cls, home: Additive, held: list[Tensor], premask: Premask) -> Shares:
        """Shares that are short of a mask."""
        out = cls(home, held)
        out._miss(premask, out)
        return out

    def _miss(self, premask: Premask, view: Shares) -> None:
        """Say of a base that its shares, seen by a view as a whole, are short of a mask.

        The premask becomes an object of this writing's own, with the same draws: by it views of the storage know
        whether they were made since. Another storage may have the same mask, and older views of this one lie elsewhere.
        """
        premask = Premask(premask.secret, premask.draws, premask.onto)
        self._missing, self._whole = premask, view.held
        view.seen = premask, premask

    @property
    def root(self) -> Shares:
        """All of the storage."""
        return self if self.base is None else self.base

    # --- premasks --------------------------------------------------------------------------------------------------

    def deal_premask(self) -> None:
        """Make true shares of premasked ones, for all views of the storage. The producer deals 8 bytes an element."""
        root = self.root
        if root._missing is not None:
            self.home.deal_premask(root._whole, root._missing)
            root._missing, root._whole = None, []

    def keep_premask(self) -> Premask | None:
        """The mask that is in the shares, if this view still knows it; otherwise it is dealt away, and they have none.

        The latter is so where the storage was written to after this view of it was made.
        """
        missing = self.root._missing
        if missing is None:
            return None
        if self.seen is not None and self.seen[0] is missing:
            return self.seen[1]
        self.deal_premask()
        return None

    def true_shares(self) -> list[Tensor]:
        """Shares that add up to the secret, one for each party hosted here. Bytes as `deal_premask`."""
        self.deal_premask()
        return self.held

    # --- as PyTorch sees it ----------------------------------------------------------------------------------------

    @property
    @override
    def like(self) -> Tensor:
        return self._held[0]

    @property
    @override
    def offset(self) -> int:
        if self.base is None:
            return 0
        return int(self._held[0].storage_offset() - self.base._held[0].storage_offset())

    @override
    def pack(self) -> None:
        self.held[:] = [t.contiguous() for t in self.held]

    # --- operations ------------------------------------------------------------------------------------------------

    @override
    def move(self, op: TensorOp, *, view: bool) -> Shares:
        given = self.root._given
        if given is not None:
            copied = None if view else given.moved(self._held[0], op)
            if copied is not None:
                return Shares(self.home, copied)
        premask = self.keep_premask()
        moved = [op(t) for t in self._held] if view else worked_out(op, self.held)
        if premask is None:
            return Shares(self.home, moved, self.root if view else None)
        premask_of_moved = premask.map(op, moved[0].shape, onto=False)  # elements may be repeated
        if not view:
            return Shares.premasked(self.home, unaliased(moved, self.held), premask_of_moved)
        out = Shares(self.home, moved, self.root)
        whole = self.root._missing
        assert whole is not None
        out.seen = whole, premask_of_moved
        return out

    @override
    def strided(self, op: Callable[[Tensor, int], Tensor], reads: Callable[[int], Any]) -> Shares:
        reads(extent(self.root._held[0]))
        if self.root._given is None:
            self.deal_premask()
        pairs = zip(self._held, self.root._held, strict=True)
        return Shares(self.home, [op(t, int(whole.storage_offset())) for t, whole in pairs], self.root)

    @override
    def linear(self, op: TensorOp, *, onto: bool = False, shape: torch.Size | None = None) -> Shares:
        """`onto` makes a uniform mask of the operand one of the result; see `masks.Premask`."""
        premask = self.keep_premask()
        out = worked_out(op, self.held) if shape is None else pointwise(op, shape, self.held)
        if premask is None:
            return Shares(self.home, out)
        if out[0].numel() > self.held[0].numel():
            return Shares(self.home, pointwise(op, out[0].shape, self.true_shares()))
        return Shares.premasked(self.home, unaliased(out, self.held), premask.map(op, out[0].shape, onto=onto))

    @override
    def combined(self, op: Callable[..., Tensor], *others: Shares) -> Shares:
        columns = [x.true_shares() for x in (self, *others)]
        return Shares(self.home, worked_out(op, *columns))

    @override
    def end_to_end(self, others: Sequence[Shares]) -> Shares:
        rows = [self, *others]
        premasks = [x.keep_premask() for x in rows]
        count = torch.Size((sum(x.held[0].numel() for x in rows),))
        joined = pointwise(_end_to_end, count, *(x.held for x in rows))
        if not any(premasks):
            return Shares(self.home, joined)
        return Shares.premasked(self.home, joined, Premask.end_to_end(premasks, [x.shape for x in rows]))

    @override
    def copy(self) -> Shares:
        premask = self.keep_premask()
        copied = [t.clone() for t in self.held]
        return Shares(self.home, copied) if premask is None else Shares.premasked(self.home, copied, premask)

    @override
    def add(self, other: Shares, shape: torch.Size) -> Shares:
        both = (self, other)
        for x in both:
            if x.shape.numel() != shape.numel() or x.keep_premask() is None:
                x.deal_premask()
        premasks = [
            p if x.shape == shape else p.map(lambda t: t.reshape(shape), shape, onto=True)
            for x in both
            if (p := x.keep_premask()) is not None
        ]
        total = pointwise(add, shape, self.held, other.held)
        if not premasks:
            return Shares(self.home, total)
        premask = premasks[0] if len(premasks) == 1 else premasks[0].plus(premasks[1], shape)
        return Shares.premasked(self.home, total, premask)

    @override
    def subtract(self, other: Shares, shape: torch.Size) -> Shares:
        if self.keep_premask() is not None or other.keep_premask() is not None:
            return self.add(other.linear(torch.neg, onto=True, shape=other.shape), shape)
        return Shares(self.home, pointwise(sub, shape, self.held, other.held))

    @override
    def add_public(self, c: Tensor, shape: torch.Size) -> Shares:
        if shape != self.shape:
            self.deal_premask()
        premask = self.keep_premask()
        total = [t + c if i == 0 else t.expand(shape).clone() for i, t in self.home.indexed(self.held)]
        return Shares(self.home, total) if premask is None else Shares.premasked(self.home, total, premask)

    @override
    def xor(self, other: Shares, shape: torch.Size) -> Shares:
        return Shares(self.home, pointwise(xor, shape, self.held, other.held))

    @override
    def xor_public(self, bits: Tensor) -> Shares:
        return Shares(self.home, [t ^ bits if i == 0 else t.clone() for i, t in self.home.indexed(self.held)])

    @override
    def write(self, source: Shares, *, whole: bool) -> None:
        """The producer deals a premask away where only a part is overwritten, here or at the source."""
        premask = source.keep_premask() if whole else None
        written = source.held if premask is not None else source.true_shares()
        if whole:
            self.root._missing, self.root._whole = None, []
        for mine, theirs in zip(self.true_shares(), written, strict=True):
            mine.copy_(theirs)
        if premask is not None:
            self.root._miss(premask, self)

    # --- where it leaves the scheme --------------------------------------------------------------------------------

    @override
    def parts(self) -> list[Tensor]:
        return self.true_shares()

    def read(self) -> list[Tensor]:
        """True shares for whoever reads them once, and keeps and changes none."""
        given = self.root._given
        out = None if given is None else given.moved(self._held[0], torch.clone)
        return self.true_shares() if out is None else out

    @override
    def assembled(self) -> Tensor:
        """The shares together, with what has been left out of them: a mask that only the producer knows."""
        total = self.held[0].clone()
        bits = total.dtype == torch.uint8
        for other in self.held[1:]:
            total = total ^ other if bits else total + other
        root = self.root
        if root._missing is None:
            return total
        if self.seen is not None and self.seen[0] is root._missing:
            return total + _plain(self.seen[1])
        return total + _lying_there(_plain(root._missing), root._whole[0], self.held[0])


class Unsettled(NamedTuple):
    """What a truncated number was before: the mask it was opened under, and the bits that were taken off."""

    mask: Mask
    bits: int


class Spreading(Protocol):
    """What makes a masked form of several terms, see `spread`."""

    def extent(self) -> Any:
        """How many terms there will be; None if it is not known yet."""

    def spread(self, source: Source) -> Any:
        """The form."""


class Opened:
    """What is open of one version of a content. Every role knows the same at the same time."""

    __slots__ = ("dealt", "form", "given", "mask", "parts", "sum", "unsettled")

    def __init__(self) -> None:
        self.mask: Mask | BitMask | None = None
        """Its simple mask."""
        self.form: Form | None = None
        """A masked form with more than one term, left by a truncation."""
        self.dealt = 0
        """Bytes that products have had dealt because it is not open."""
        self.sum: Spreading | None = None
        """How it is masked in several terms, by what it was made of."""
        self.unsettled: Unsettled | None = None
        self.parts: OpenedParts | None = None
        """Of lasting data: what has been opened of it, element by element."""
        self.given = False
        """Whether it came in masked: what an owner has shared, or what was made of such by moving and joining."""

    def take(self, mask: Mask | BitMask) -> None:
        """Keep a simple mask, and no longer what it was made of."""
        self.mask, self.sum = mask, None


def opened(facts: Facts) -> Opened:
    """What is open of a content, to be added to."""
    if facts.scheme is None:
        facts.scheme = Opened()
    found: Opened = facts.scheme
    return found


def open_mask(facts: Facts) -> Mask | BitMask | None:
    """The simple mask of a content, if it is open: its own or, by its lineage, its parent's."""
    known: Opened | None = facts.scheme
    if known is not None and known.mask is not None:
        return known.mask
    lineage = facts.lineage
    if lineage is None:
        return None
    parent = open_mask(lineage.facts)
    if parent is None:
        return None
    if lineage.move is None and type(parent) is Mask:
        parent = parent.whole
    mask = lineage.step(parent)
    assert isinstance(mask, Mask | BitMask)
    opened(facts).take(mask)
    return mask


def is_given(facts: Facts) -> bool:
    """Whether numbers are what owners have shared, moved or joined."""
    known: Opened | None = facts.scheme
    if known is not None and known.given:
        return True
    lineage = facts.lineage
    return lineage is not None and lineage.move is not None and is_given(lineage.facts)


def simple_mask(facts: Facts) -> Mask | None:
    """The mask of numbers, if they are open: their own or, by their lineage, their parent's."""
    mask = open_mask(facts)
    assert mask is None or isinstance(mask, Mask)
    return mask


def bit_mask(facts: Facts) -> BitMask | None:
    """The mask of bits, if they are open."""
    mask = open_mask(facts)
    assert mask is None or isinstance(mask, BitMask)
    return mask


def masked_form(facts: Facts) -> Form | None:
    """A masked form of numbers, if there is one: their simple mask, or what a truncation left."""
    simple = simple_mask(facts)
    if simple is not None:
        return simple
    known: Opened | None = facts.scheme
    if known is not None and known.form is not None:
        return known.form
    lineage = facts.lineage
    if lineage is None or lineage.move is None:
        return None
    parent = masked_form(lineage.facts)
    if parent is None:
        return None
    form = parent.map(lineage.move)
    opened(facts).form = form
    return form


STAND_IN = 1 << 12
"""Elements of operands that the producer works shapes out on in memory. PyTorch has functions for meta tensors that are
written in Python, and take 20 to 200 µs. More: larger shapes are found so; fewer: less is computed in vain."""


def worked_out(op: Callable[..., Tensor], *columns: Sequence[Tensor]) -> list[Tensor]:
    """op on what each hosted party holds of some secrets.

    The producer holds meta tensors. Of few elements their result is that of tensors in memory with the same strides,
    which no party reads, but where it is a view: that has to be one of what is held.
    """
    if columns[0][0].is_meta and sum(t.numel() for (t,) in columns) <= STAND_IN:
        stand_ins = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype) for (t,) in columns]
        found = op(*stand_ins)
        memory = found.untyped_storage().data_ptr()
        if all(t.untyped_storage().data_ptr() != memory for t in stand_ins):
            return [torch.empty_strided(found.shape, found.stride(), dtype=found.dtype, device=META)]
    return [op(*row) for row in zip(*columns, strict=True)]


def pointwise(op: Callable[..., Tensor], shape: torch.Size, *columns: Sequence[Tensor]) -> list[Tensor]:
    """`worked_out` of what is done element by element, whose result has this shape.

    Where no strides have to be found, which decide about views and must be the same at every role, the producer does
    without.
    """
    like = columns[0][0]
    if like.is_meta and all(t.is_contiguous() for (t,) in columns):
        return [torch.empty(shape, dtype=like.dtype, device=META)]
    return worked_out(op, *columns)


def unaliased(results: list[Tensor], operands: list[Tensor]) -> list[Tensor]:
    """Results in memory of their own: a mask is taken out of shares in place, and out of these only."""
    return [
        r.clone(memory_format=torch.contiguous_format)
        if r.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
        else r
        for r, x in zip(results, operands, strict=True)
    ]


def _end_to_end(*tensors: Tensor) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def _plain(premask: Premask) -> Tensor:
    plain = premask.secret.plain
    assert plain is not None
    return plain


def _lying_there(mask: Tensor, whole: Tensor, view: Tensor) -> Tensor:
    """The elements of a mask of the whole that lie where those of a view do."""
    memory = torch.zeros(whole.untyped_storage().nbytes() // 8, dtype=torch.int64)
    memory.as_strided(whole.shape, whole.stride(), whole.storage_offset()).copy_(mask)
    return memory.as_strided(view.shape, view.stride(), view.storage_offset())
