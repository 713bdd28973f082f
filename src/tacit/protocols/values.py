"""Secret tensors as a protocol has them: values, and secret bits. Numbers are in `tacit.protocols.number`.

What a process holds of a value is its `Content`, which is the scheme's; what is known of it is in
`tacit.protocols.remembered`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from tacit.protocols.content import Content, Known, TensorOp
from tacit.protocols.remembered import Facts, Lineage, Storage
from tacit.protocols.scale import Scale, coarsest
from tacit.ring.shapes import broadcast

if TYPE_CHECKING:
    from tacit.protocols.number import Number
    from tacit.protocols.protocol import Protocol

__all__ = ["Bits", "Value"]

MAX_DEPTH = 16
"""Moves a fact is followed through. Longer chains (a loop of x = x + 1) would keep every ancestor alive; models hardly
stack more than a handful of views between two operations."""


class Value:
    """A secret of some shape: what this process holds of it, its storage, and what is known of it."""

    __slots__ = ("_facts", "_version", "content", "protocol", "shadow", "shape", "storage")

    shape: torch.Size
    """The logical shape, the same at every role."""

    def __init__(self, protocol: Protocol, content: Content, storage: Storage) -> None:
        self.protocol = protocol
        self.content = content
        self.shape = content.like.shape
        self.storage = storage
        self._facts = Facts()
        self._version = storage.version
        self.shadow: Tensor | None = None
        """What the content is supposed to be, in a session that checks itself; see `tacit.watch.precision`."""

    @property
    def numel(self) -> int:
        """The number of elements."""
        return self.shape.numel()

    @property
    def whole(self) -> bool:
        """Whether it is all of its storage, each element once: as many of them may also be some, and others twice."""
        if self.numel != self.storage.numel:
            return False
        span = 1
        for size, step in sorted(zip(self.shape, self.content.like.stride(), strict=True), key=lambda d: d[1]):
            if size > 1 and step != span:
                return False
            span *= max(size, 1)
        return True

    @property
    def facts(self) -> Facts:
        """What is known of the present content; an in-place write to any view forgets it."""
        if self._version != self.storage.version:
            self._facts, self._version = Facts(), self.storage.version
        return self._facts

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>, shape={tuple(self.shape)})"

    @property
    def scale(self) -> Scale:
        """What is publicly known of its units and size; of bits, nothing."""
        return self.storage.scale

    def _of(self, content: Content, scale: Scale) -> Self:
        """A value of the same kind around another content, in a storage of its own."""
        return type(self)(self.protocol, content, Storage(content.like.numel(), scale))

    def declare(self, **known: Any) -> Self:
        """Say more of a result than follows from its operands, or less: fields of `Scale`. All its views know it then.

        The one way to change a scale but a write. Returns the value itself.
        """
        self.storage.scale = self.storage.scale._replace(**known)
        return self

    def move(self, op: TensorOp, *, view: bool, cut: bool = False) -> Self:
        """Apply an operation that only moves, repeats or drops elements; `view` if the result aliases this storage.

        `cut` as `Lineage` has it.
        """
        content = self.content.move(op, view=view)
        storage = self.storage if view else Storage(content.like.numel(), self.scale)
        out = type(self)(self.protocol, content, storage)
        out.descend(self, lambda known: known.map(op), op, cut=cut)
        public = self.facts.public
        if public is not None:
            out.facts.public = op(public)
        return out

    def strided(self, op: Callable[[Tensor, int], Tensor], reads: Callable[[int], Any]) -> Self:
        """The view op(t, b) by strides, of a storage that begins at b. `reads` is told first how long that is."""
        return type(self)(self.protocol, self.content.strided(op, reads), self.storage)

    def combined(self, op: Callable[..., Tensor], *others: Self) -> Self:
        """op(this, *others), linear in all of them jointly, which have one scale. Local."""
        out = self._of(self.content.combined(op, *(x.content for x in others)), self.scale.linear())
        self.protocol.follow(out, op, [self, *others])
        return out

    def descend(
        self, parent: Value, step: Callable[[Known], Known], move: TensorOp | None = None, *, cut: bool = False
    ) -> None:
        """Say that this content came from a parent's by a step; `move` is the operation, if it only moves elements."""
        facts = parent.facts
        depth = 1 + (facts.lineage.depth if facts.lineage else 0)
        if depth <= MAX_DEPTH:
            self.facts.lineage = Lineage(parent, facts, step, move, depth, cut)

    def origin(self) -> Lineage | None:
        """The lineage, if work on the parent serves this value too and costs no more than work on this value."""
        lineage = self.facts.lineage
        if lineage is None or lineage.parent.numel > self.numel or lineage.parent.facts is not lineage.facts:
            return None
        return lineage

    def fork(self) -> Self:
        """A copy with the same facts: what a caller gets of a memoised value, which must never be written to."""
        out = self._of(self.content.copy(), self.scale)
        out.descend(self, same, lambda t: t)
        return out

    def joined(self, other: Self, dim: int = 0) -> Self:
        """This and another value of the same scale, one after the other along a dimension. Local."""
        if not other.shape[dim]:
            return self
        return self.combined(lambda *pair: torch.cat(pair, dim), other).declare(
            far=max(self.scale.far, other.scale.far), rounded=coarsest(self.scale, other.scale)
        )

    def known_public(self) -> Tensor | None:
        """The content, if it is public by construction."""
        return self.facts.public


class Bits(Value):
    """Secret bits."""

    __slots__ = ()

    @staticmethod
    def stack(bits: Sequence[Bits]) -> Bits:
        """Bits of one shape along a new first dimension."""
        return bits[0].combined(lambda *column: torch.stack(column), *bits[1:])

    def invert(self) -> Bits:
        """Logical not. Local."""
        return self.flipped(torch.ones((), dtype=torch.uint8))

    def flipped(self, bits: Tensor) -> Bits:
        """These bits ^ public ones, which broadcast to their shape. Local."""
        out = self._of(self.content.xor_public(bits), self.scale)
        out.descend(self, lambda known: known.plus(bits))
        return out

    def __xor__(self, other: Bits) -> Bits:
        return self._of(self.content.xor(other.content, broadcast(self.shape, other.shape)), self.scale)

    def __and__(self, other: Bits) -> Bits:
        return self.protocol.conjunction(self, other)

    def __or__(self, other: Bits) -> Bits:
        return (self.invert() & other.invert()).invert()

    def write(self, source: Bits) -> None:
        """Overwrite the content in place; every view sees it."""
        self.content.write(source.content, whole=self.whole)
        self.storage.version += 1

    def arithmetic(self) -> Number:
        """The bits as integers of zero fractional bits. One round, unless the bits are open already."""
        return self.protocol.to_arithmetic(self)


def same(known: Known) -> Known:
    return known


@dataclass(frozen=True, slots=True)
class Multiple:
    """The step to a multiple, by a public integer."""

    k: int

    def __call__(self, known: Known) -> Known:
        return known.map(lambda t: t * self.k)
