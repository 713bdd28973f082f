"""Integers: a secret's ring elements or bits as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from tacit.protocols.content import Content, TensorOp, extent

__all__ = ["Integers"]


class Integers(Content):
    """One tensor: ring elements as int64, whose sums and products wrap, or bits as bytes of value 0 or 1."""

    __slots__ = ("_base", "parties", "tensor")

    def __init__(self, tensor: Tensor, parties: int, base: Tensor | None = None) -> None:
        self.tensor = tensor
        self.parties = parties
        """How many parties there are, which `parts` is asked for."""
        self._base = base
        """What this is a view of; None for all of a storage."""

    def _new(self, tensor: Tensor) -> Integers:
        return Integers(tensor, self.parties)

    # --- as PyTorch sees it ----------------------------------------------------------------------------------------

    @property
    @override
    def like(self) -> Tensor:
        return self.tensor

    @property
    @override
    def offset(self) -> int:
        return 0 if self._base is None else int(self.tensor.storage_offset() - self._base.storage_offset())

    @override
    def pack(self) -> None:
        self.tensor = self.tensor.contiguous()

    # --- operations ------------------------------------------------------------------------------------------------

    @override
    def move(self, op: TensorOp, *, view: bool) -> Integers:
        return Integers(op(self.tensor), self.parties, self._root if view else None)

    @override
    def strided(self, op: Callable[[Tensor, int], Tensor], reads: Callable[[int], Any]) -> Integers:
        root = self._root
        reads(extent(root))
        return Integers(op(self.tensor, int(root.storage_offset())), self.parties, root)

    @override
    def linear(self, op: TensorOp, *, onto: bool = False, shape: torch.Size | None = None) -> Integers:
        return self._new(op(self.tensor))

    @override
    def combined(self, op: Callable[..., Tensor], *others: Integers) -> Integers:
        return self._new(op(self.tensor, *(x.tensor for x in others)))

    @override
    def end_to_end(self, others: Sequence[Integers]) -> Integers:
        return self._new(torch.cat([x.tensor.reshape(-1) for x in (self, *others)]))

    @override
    def copy(self) -> Integers:
        return self._new(self.tensor.clone())

    @override
    def add(self, other: Integers, shape: torch.Size) -> Integers:
        return self._new(self.tensor + other.tensor)

    @override
    def subtract(self, other: Integers, shape: torch.Size) -> Integers:
        return self._new(self.tensor - other.tensor)

    @override
    def add_public(self, c: Tensor, shape: torch.Size) -> Integers:
        return self._new(self.tensor + c)

    @override
    def xor(self, other: Integers, shape: torch.Size) -> Integers:
        return self._new(self.tensor ^ other.tensor)

    @override
    def xor_public(self, bits: Tensor) -> Integers:
        return self._new(self.tensor ^ bits)

    @override
    def write(self, source: Integers, *, whole: bool) -> None:
        self.tensor.copy_(source.tensor)

    # --- where it leaves the scheme --------------------------------------------------------------------------------

    @override
    def parts(self) -> list[Tensor]:
        """All of it at the first party, and zeros at the others: parts that add up, as those of every scheme do."""
        return [self.tensor, *(torch.zeros_like(self.tensor) for _ in range(self.parties - 1))]

    @override
    def assembled(self) -> Tensor:
        return self.tensor.clone()

    @property
    def _root(self) -> Tensor:
        return self.tensor if self._base is None else self._base
