"""What a process holds of a secret tensor: the part of a value that a scheme keeps as it likes.

A `Content` is ring elements, or bits of value 0 or 1, in whatever form a scheme has them. What all schemes must be able
to do with it, without a message to anybody, is here: operations that are linear over the ring.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["Content", "Known", "TensorOp", "extent"]

TensorOp = Callable[[Tensor], Tensor]


def extent(whole: Tensor) -> int:
    """How many elements of memory a tensor spans, from its first to its last."""
    return 1 + sum((n - 1) * s for n, s in zip(whole.shape, whole.stride(), strict=True)) if whole.numel() else 0


class Known(ABC):
    """Something that a scheme knows of a content (a mask it was opened under), and that follows it where it goes."""

    __slots__ = ()

    @abstractmethod
    def map(self, op: TensorOp) -> Known:
        """The same of op(x), for an operation that is linear over the ring and whose result is no larger."""

    @abstractmethod
    def plus(self, public: Tensor) -> Known:
        """The same of x + c, or of bits ^ c, for public elements that broadcast to x."""


class Content(ABC):
    """What a process holds of a secret. All operations are local, but for `parts` and `write` where a scheme says so.

    Views share memory: what is written to one is seen in all of them.
    """

    __slots__ = ()

    # --- as PyTorch sees it ----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """A tensor of its shape and strides, the same at every role. Its elements mean nothing."""

    @property
    def shape(self) -> torch.Size:
        """The logical shape."""
        return self.like.shape

    @property
    @abstractmethod
    def offset(self) -> int:
        """Where it begins in its storage, in elements."""

    @abstractmethod
    def pack(self) -> None:
        """Make a result, which no view has been taken of, contiguous."""

    # --- operations ------------------------------------------------------------------------------------------------

    @abstractmethod
    def move(self, op: TensorOp, *, view: bool) -> Self:
        """Apply an operation that only moves, repeats or drops elements; `view` if the result aliases this memory."""

    @abstractmethod
    def strided(self, op: Callable[[Tensor, int], Tensor], reads: Callable[[int], Any]) -> Self:
        """The view op(t, b) by strides, of a storage that begins at b. `reads` is told first how long that is."""

    @abstractmethod
    def linear(self, op: TensorOp, *, onto: bool = False, shape: torch.Size | None = None) -> Self:
        """Apply an operation that is linear over the ring.

        `onto` says that it takes every value there is of the result's shape. `shape` is the result's, if known.
        """

    @abstractmethod
    def combined(self, op: Callable[..., Tensor], *others: Self) -> Self:
        """op(this, *others), linear in all of them jointly: a concatenation, a sum at some places."""

    @abstractmethod
    def end_to_end(self, others: Sequence[Self]) -> Self:
        """The elements of this and others, one after the other, in one dimension."""

    @abstractmethod
    def copy(self) -> Self:
        """The same in memory of its own."""

    @abstractmethod
    def add(self, other: Self, shape: torch.Size) -> Self:
        """The sum, of this shape."""

    @abstractmethod
    def subtract(self, other: Self, shape: torch.Size) -> Self:
        """The difference, of this shape."""

    @abstractmethod
    def add_public(self, c: Tensor, shape: torch.Size) -> Self:
        """The sum with public ring elements, of this shape."""

    @abstractmethod
    def xor(self, other: Self, shape: torch.Size) -> Self:
        """The exclusive or of bits, of this shape."""

    @abstractmethod
    def xor_public(self, bits: Tensor) -> Self:
        """The exclusive or with public bits that broadcast to this shape."""

    @abstractmethod
    def write(self, source: Self, *, whole: bool) -> None:
        """Overwrite it in place with a source of its shape; `whole` if that is all of its storage."""

    # --- where it leaves the scheme --------------------------------------------------------------------------------

    @abstractmethod
    def parts(self) -> list[Tensor]:
        """What each hosted party holds, one tensor a party: to be kept, and adopted again. May take a message.

        Every role asks at the same point of the program.
        """

    @abstractmethod
    def assembled(self) -> Tensor:
        """The ring elements or bits themselves, where all of them are in this process; nothing is changed for it.

        For a session that checks itself, which is embedded: there is nobody to hide them from.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>, shape={tuple(self.shape)})"
