"""What an owner has shared, while nobody has written to it: shares and masks that take no memory.

E = x - a is public, and a is the next piece of a key stream. All that a party holds of a large secret follows from E
and, at its owner, from x, of which small numbers take half the memory of ring elements:

    the owner's mask      a = x - E
    shares                E at the first party, a at the owner, zero elsewhere; x at an owner who is the first party

So they are worked out when they are asked for, which is seldom: a product takes E and x as they are, see `product.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.content import TensorOp
from tacit.ring.ring import RING
from tacit.ring.short import widened

__all__ = ["LARGE", "Given", "nothing"]

LARGE = 1 << 19
"""Elements from which on a secret is held so. Fewer: less memory for small ones; more: no pass for what is small and
used often."""


class Given:
    """E and, where its owner is hosted, x, of which E and x have the same views."""

    __slots__ = ("indices", "kept", "opened", "owner")

    def __init__(self, opened: Tensor, kept: Tensor | None, owner: int, indices: Sequence[int]) -> None:
        self.opened = opened
        self.kept = kept
        """x as `shortened` has made it, contiguous as E is."""
        self.owner = owner
        self.indices = indices

    @property
    def place(self) -> int | None:
        """The place of the owner among the parties hosted here."""
        return None if self.kept is None else self.indices.index(self.owner)

    @property
    def value(self) -> Tensor:
        """x, in the ring; at the owner."""
        assert self.kept is not None
        return widened(self.kept)

    @property
    def mask(self) -> Tensor:
        """a, in memory of its own; at the owner."""
        return self.value - self.opened

    @property
    def whole(self) -> Given:
        """The same with x in ring elements, whose sums and products fit nothing shorter."""
        return Given(self.opened, None if self.kept is None else self.value, self.owner, self.indices)

    def map(self, op: TensorOp, opened: Tensor) -> Given:
        """The same of op(x), given op(E), for an op that moves elements, or one that is linear if this is `whole`."""
        return Given(opened, None if self.kept is None else op(self.kept), self.owner, self.indices)

    def shares(self) -> list[Tensor]:
        """The hosted parties' shares, in memory of their own."""
        return self._shares(self.opened.clone(), self.kept)

    def moved(self, view: Tensor, op: TensorOp) -> list[Tensor] | None:
        """Shares of op of the elements that lie where a view of E has its, in memory of their own.

        For an op that only moves elements. None if it does not copy them.
        """
        opened, kept = op(view), self.kept
        if opened.untyped_storage().data_ptr() == view.untyped_storage().data_ptr():
            return None
        if kept is not None:
            at = view.storage_offset() - self.opened.storage_offset() + kept.storage_offset()
            kept = op(kept.as_strided(view.shape, view.stride(), at))
        return self._shares(opened, kept)

    def _shares(self, opened: Tensor, kept: Tensor | None) -> list[Tensor]:
        out = []
        for index in self.indices:
            if index != self.owner:
                out.append(opened if index == 0 else torch.zeros_like(opened))
            elif kept is not None:
                out.append(kept.to(RING.dtype, copy=True) if index == 0 else widened(kept) - opened)
        return out

    def __repr__(self) -> str:
        return "Given(<hidden>)"


def nothing(shape: Sequence[int], *, here: bool = True) -> Tensor:
    """Zeros in no memory: the share of a mask that another party holds; or what cannot be computed with."""
    return torch.zeros((), dtype=RING.dtype, device="cpu" if here else "meta").expand(tuple(shape))
