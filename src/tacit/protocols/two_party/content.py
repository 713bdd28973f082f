"""Halves: what either party holds of a secret, where the two parts add up to it.

An owner's value is the owner's part, and the other part is zero. Such a content is *alone* at its owner: operations on
it that nobody else's data joins cost nothing, and products leave out what zero is a factor of. Both parties know who is
alone, for it follows from the program. The columns of two owners side by side are no longer alone, but sums over one
owner's columns are taken before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add, xor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

from tacit.protocols.content import Content, TensorOp, extent

if TYPE_CHECKING:
    from tacit.protocols.values import Value

__all__ = ["Halves", "halves_of"]


class Root:
    """What all views of one storage have in common: its parts as a whole, and who is alone with them."""

    __slots__ = ("alone", "kept", "parts")

    def __init__(self, parts: list[Tensor], alone: int | None) -> None:
        self.parts = parts
        self.alone = alone
        self.kept: dict[Any, Any] = {}
        """What is worked out of the present elements once and holds only as long as nobody writes to them."""


class Halves(Content):
    """A tensor for each party of this process: ring elements that add up to the secret, or bits that XOR to it."""

    __slots__ = ("_indices", "_root", "_view", "parts_here")

    def __init__(
        self, parts: list[Tensor], indices: Sequence[int], alone: int | None = None, root: Root | None = None
    ) -> None:
        self.parts_here = parts
        self._indices = indices
        self._view = root is not None
        self._root = Root(parts, alone) if root is None else root

    def _new(self, parts: list[Tensor], alone: int | None) -> Halves:
        return Halves(parts, self._indices, alone)

    @property
    def alone(self) -> int | None:
        """The party whose part is all of it, while the other's is zero; None if both have a part."""
        return self._root.alone

    @property
    def kept(self) -> dict[Any, Any]:
        """What a protocol keeps with these elements until anything of their storage is written to.

        Views of the same elements in the same order are alike: a layer's weight is transposed at each use.
        """
        if not self._view:
            return self._root.kept
        if self.like.untyped_storage().data_ptr() != self._root.parts[0].untyped_storage().data_ptr():
            return {}  # a copy that was taken for a view
        here: dict[Any, Any] = self._root.kept.setdefault(("view", self.offset, self.shape, self.like.stride()), {})
        return here

    # --- as PyTorch sees it ----------------------------------------------------------------------------------------

    @property
    @override
    def like(self) -> Tensor:
        return self.parts_here[0]

    @property
    @override
    def offset(self) -> int:
        return int(self.like.storage_offset() - self._root.parts[0].storage_offset()) if self._view else 0

    @override
    def pack(self) -> None:
        self.parts_here = [t.contiguous() for t in self.parts_here]
        self._root.parts = self.parts_here

    # --- operations ------------------------------------------------------------------------------------------------

    @override
    def move(self, op: TensorOp, *, view: bool) -> Halves:
        parts = [op(t) for t in self.parts_here]
        return Halves(parts, self._indices, root=self._root) if view else self._new(parts, self.alone)

    @override
    def strided(self, op: Callable[[Tensor, int], Tensor], reads: Callable[[int], Any]) -> Halves:
        whole = self._root.parts
        reads(extent(whole[0]))
        parts = [op(t, int(w.storage_offset())) for t, w in zip(self.parts_here, whole, strict=True)]
        return Halves(parts, self._indices, root=self._root)

    @override
    def linear(self, op: TensorOp, *, onto: bool = False, shape: torch.Size | None = None) -> Halves:
        return self._new([op(t) for t in self.parts_here], self.alone)

    @override
    def combined(self, op: Callable[..., Tensor], *others: Halves) -> Halves:
        rows = zip(self.parts_here, *(x.parts_here for x in others), strict=True)
        return self._new([op(*row) for row in rows], _common(self, *others))

    @override
    def end_to_end(self, others: Sequence[Halves]) -> Halves:
        rows = zip(self.parts_here, *(x.parts_here for x in others), strict=True)
        return self._new([torch.cat([t.reshape(-1) for t in row]) for row in rows], _common(self, *others))

    @override
    def copy(self) -> Halves:
        return self._new([t.clone() for t in self.parts_here], self.alone)

    @override
    def add(self, other: Halves, shape: torch.Size) -> Halves:
        return self.combined(add, other)

    @override
    def subtract(self, other: Halves, shape: torch.Size) -> Halves:
        return self.combined(torch.sub, other)

    @override
    def add_public(self, c: Tensor, shape: torch.Size) -> Halves:
        return self._beside(c, add, shape)

    @override
    def xor(self, other: Halves, shape: torch.Size) -> Halves:
        return self.combined(xor, other)

    @override
    def xor_public(self, bits: Tensor) -> Halves:
        return self._beside(bits, xor, self.shape)

    def _beside(self, public: Tensor, op: Callable[[Tensor, Tensor], Tensor], shape: torch.Size) -> Halves:
        """What is public joins the part of whoever is alone, or of the first party."""
        holder = self.alone or 0
        parts = []
        for index, t in zip(self._indices, self.parts_here, strict=True):
            parts.append(op(t, public.to(t.device)) if index == holder else t.expand(shape).clone())
        return self._new(parts, self.alone)

    @override
    def write(self, source: Halves, *, whole: bool) -> None:
        for t, s in zip(self.parts_here, source.parts_here, strict=True):
            t.copy_(s)
        if whole:
            self._root.alone = source.alone
        elif self._root.alone != source.alone:
            self._root.alone = None
        self._root.kept.clear()

    # --- where it leaves the scheme --------------------------------------------------------------------------------

    @override
    def parts(self) -> list[Tensor]:
        return self.parts_here

    @override
    def assembled(self) -> Tensor:
        first, second = self.parts_here
        return first ^ second if first.dtype == torch.uint8 else first + second


def _common(*contents: Halves) -> int | None:
    """The party that is alone with all of them, if there is one."""
    first = contents[0].alone
    return first if all(x.alone == first for x in contents) else None


def halves_of(value: Value) -> Halves:
    """The content of a value of this scheme."""
    content = value.content
    assert isinstance(content, Halves)
    return content
