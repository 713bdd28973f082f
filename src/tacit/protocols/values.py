"""Secret-shared tensors: what a role holds of a secret, and secret bits. Numbers are in `tacit.protocols.number`.

The facts that a share knows about its content are in `tacit.protocols.remembered`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import xor
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from tacit.protocols.additive.masks import Premask
from tacit.protocols.remembered import Facts, Lineage, Storage, TensorOp
from tacit.ring.shapes import broadcast

if TYPE_CHECKING:
    from tacit.protocols.number import Number
    from tacit.protocols.protocol import Protocol

__all__ = ["Bits", "Value", "pointwise", "unaliased"]

MAX_DEPTH = 16
"""Moves a fact is followed through. Longer chains (a loop of x = x + 1) would keep every ancestor alive; models hardly
stack more than a handful of views between two operations."""


class Value:
    """A secret of some shape: one tensor for each party hosted here, or a single meta tensor at the producer."""

    __slots__ = ("_facts", "_premask", "_version", "protocol", "raw", "shadow", "storage")

    def __init__(self, protocol: Protocol, tensors: Sequence[Tensor], storage: Storage) -> None:
        self.protocol = protocol
        self.raw = list(tensors)
        """What the parties hold: shares, or shares that are short of a premask."""
        self.storage = storage
        if storage.origin is None:
            storage.origin = self.raw
        self._premask: tuple[Premask, Premask] | None = None
        """The storage's premask, and what this view has of it."""
        self._facts = Facts()
        self._version = storage.version
        self.shadow: Tensor | None = None
        """What the content is supposed to be, in a session that checks itself; see `tacit.watch.precision`."""

    @property
    def tensors(self) -> list[Tensor]:
        """True shares, one for each party hosted here. Every role asks for them at the same point of the program."""
        self.unmask()
        return self.raw

    def unmask(self) -> None:
        """Make true shares of premasked ones, for all views of the storage. The producer deals 8 bytes an element."""
        storage = self.storage
        if storage.premask is not None:
            self.protocol.unmask(storage.whole, storage.premask)
            storage.premask = None

    @property
    def premask(self) -> Premask | None:
        """The mask that is in the shares, where it has not been taken out."""
        whole = self.storage.premask
        if self._premask is not None and self._premask[0] is whole:
            return self._premask[1]
        if whole is not None:  # written to the storage after this view of it was made
            self.unmask()
        return None

    def premasked(self, premask: Premask) -> Self:
        """Say that these shares, all of their storage, are short of a mask."""
        self.storage.premask = premask
        self.storage.whole = self.raw
        self._premask = premask, premask
        return self

    def pack(self) -> None:
        """Make the shares of a result, not of a view, contiguous."""
        self.raw[:] = [t.contiguous() for t in self.raw]

    @property
    def shape(self) -> torch.Size:
        """The logical shape, the same at every role."""
        return self.raw[0].shape

    @property
    def offset(self) -> int:
        """Where it begins in its storage, in elements."""
        origin = self.storage.origin
        if origin is None or origin is self.raw:
            return 0
        return int(self.raw[0].storage_offset() - origin[0].storage_offset())

    def strided(self, op: Callable[[Tensor, int], Tensor], reads: Callable[[int], Any]) -> Self:
        """The view op(t, b) by strides, of a storage that begins at b. `reads` is told first how long that is."""
        origin = self.storage.origin
        assert origin is not None
        first = origin[0]
        extent = 1 + sum((n - 1) * s for n, s in zip(first.shape, first.stride(), strict=True)) if first.numel() else 0
        reads(extent)
        pairs = zip(self.tensors, origin, strict=True)
        return self._like([op(t, int(whole.storage_offset())) for t, whole in pairs], self.storage)

    @property
    def numel(self) -> int:
        """The number of elements."""
        return self.raw[0].numel()

    @property
    def facts(self) -> Facts:
        """What is known of the present content; an in-place write to any view forgets it."""
        if self._version != self.storage.version:
            self._facts, self._version = Facts(), self.storage.version
        return self._facts

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>, shape={tuple(self.shape)})"

    def _like(self, tensors: Sequence[Tensor], storage: Storage | None = None) -> Self:
        """A share of the same kind and scale around other tensors."""
        if storage is None:
            storage = Storage(tensors[0].numel(), self.storage.frac_bits, self.storage.headroom)
            storage.precise, storage.wide = self.storage.precise, self.storage.wide
            storage.far = self.storage.far
        return type(self)(self.protocol, tensors, storage)

    def move(self, op: TensorOp, *, view: bool) -> Self:
        """Apply an operation that only moves, repeats or drops elements; `view` if the result aliases this storage."""
        premask = self.premask
        moved = [op(t) for t in self.raw]
        if premask is None:
            out = self._like(moved, self.storage if view else None)
        else:
            whole = self.storage.premask
            premask = premask.map(op, moved[0].shape, onto=False)  # elements may be repeated
            if view and whole is not None:
                out = self._like(moved, self.storage)
                out._premask = whole, premask
            else:
                out = self._like(unaliased(moved, self.raw)).premasked(premask)
        out._descend(self, lambda mask: mask.map(op), op)
        out.sized_as(self)
        public = self.facts.public
        if public is not None:
            out.facts.public = op(public)
        return out

    def _descend(self, parent: Value, mask: Callable[[Any], Any], move: TensorOp | None) -> None:
        facts = parent.facts
        depth = 1 + (facts.lineage.depth if facts.lineage else 0)
        if depth <= MAX_DEPTH:
            self.facts.lineage = Lineage(parent, facts, mask, move, depth)

    def origin(self) -> Lineage | None:
        """The lineage, if work on the parent serves this share too and costs no more than work on this share."""
        lineage = self.facts.lineage
        if lineage is None or lineage.parent.numel > self.numel or lineage.parent.facts is not lineage.facts:
            return None
        return lineage

    def fork(self) -> Self:
        """A copy with the same facts: what a caller gets of a memoised share, which must never be written to."""
        premask = self.premask
        out = self._like([t.clone() for t in self.raw])
        out._descend(self, lambda mask: mask, lambda t: t)
        out.sized_as(self)
        return out if premask is None else out.premasked(premask)

    def sized_as(self, other: Value) -> None:
        """Say that what is known of the size of another's elements is true of these."""
        if other.storage is not self.storage:
            self.storage.positive, self.storage.bounded = other.storage.positive, other.storage.bounded

    def joined(self, other: Self, dim: int = 0) -> Self:
        """This and another share of the same scale, one after the other along a dimension. Local."""
        if not other.shape[dim]:
            return self
        out = self._like([torch.cat(pair, dim) for pair in zip(self.tensors, other.tensors, strict=True)])
        out.storage.far = max(self.storage.far, other.storage.far)
        return out

    def known_public(self) -> Tensor | None:
        """The content, if it is public by construction."""
        return self.facts.public


class Bits(Value):
    """Secret bits: XOR shares, one bit to a byte of value 0 or 1."""

    __slots__ = ()

    @staticmethod
    def stack(bits: Sequence[Bits]) -> Bits:
        """Bits of one shape along a new first dimension."""
        return bits[0]._like([torch.stack(column) for column in zip(*[b.tensors for b in bits], strict=True)])

    def invert(self) -> Bits:
        """Logical not. Local."""
        return self.flipped(torch.ones((), dtype=torch.uint8))

    def flipped(self, bits: Tensor) -> Bits:
        """These bits ^ public ones, which broadcast to their shape. Local."""
        out = self._like([t ^ bits if i == 0 else t.clone() for i, t in self.protocol.indexed(self.tensors)])
        out._descend(self, lambda mask: mask.flip(bits), None)
        return out

    def __xor__(self, other: Bits) -> Bits:
        return self._like(pointwise(xor, broadcast(self.shape, other.shape), self.tensors, other.tensors))

    def __and__(self, other: Bits) -> Bits:
        return self.protocol.conjunction(self, other)

    def __or__(self, other: Bits) -> Bits:
        return (self.invert() & other.invert()).invert()

    def write(self, source: Bits) -> None:
        """Overwrite the content in place; every view sees it."""
        for mine, theirs in zip(self.tensors, source.tensors, strict=True):
            mine.copy_(theirs)
        self.storage.version += 1

    def arithmetic(self) -> Number:
        """The bits as integers of zero fractional bits. One round, unless the bits are masked already."""
        return self.protocol.to_arithmetic(self)


def pointwise(op: Callable[..., Tensor], shape: torch.Size, *columns: Sequence[Tensor]) -> list[Tensor]:
    """op on what each hosted party holds of some shares, whose result has this shape.

    The producer holds meta tensors, on which PyTorch takes 70 µs for a sum. So where no strides have to be found, which
    decide about views and must be the same at every role, the result is made here.
    """
    like = columns[0][0]
    if like.is_meta and all(t.is_contiguous() for (t,) in columns):
        return [torch.empty(shape, dtype=like.dtype, device="meta")]
    return [op(*row) for row in zip(*columns, strict=True)]


def unaliased(results: list[Tensor], operands: list[Tensor]) -> list[Tensor]:
    """Results in memory of their own: a mask is taken out of shares in place, and out of these only."""
    return [
        r.clone(memory_format=torch.contiguous_format)
        if r.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
        else r
        for r, x in zip(results, operands, strict=True)
    ]
