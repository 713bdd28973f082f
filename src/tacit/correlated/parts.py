"""Opening a lasting secret element by element: each batch of a data set, each slice of a parameter, once ever."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tacit.correlated.dealing import Dealing, Dealt
from tacit.correlated.masks import Mask, Secret

__all__ = ["OpenedParts", "draw_mask"]


def draw_mask(dealing: Dealing, shape: torch.Size, holder: int | None) -> Dealt:
    """A fresh mask, known to the producer and, where one party owns what it masks, to that party."""
    return dealing.random_ring(shape) if holder is None else dealing.private_ring(shape, holder)


class OpenedParts:
    """Which elements of a secret are open, and under which masks. Every role keeps the same books.

    E and a are kept flat, with room for all elements; `places` are the flat positions that a part is made of.
    """

    __slots__ = ("_masks", "_opened", "_plain", "_positions", "_public", "holder")

    def __init__(self, shape: torch.Size, hosted: int, holder: int | None, *, producer: bool) -> None:
        count = shape.numel()
        self.holder = holder
        self._positions = torch.arange(count).view(shape)
        self._opened = torch.zeros(count, dtype=torch.bool)
        self._public = torch.zeros(count, dtype=torch.int64) if hosted else None
        self._masks = [torch.zeros(count, dtype=torch.int64) for _ in range(hosted)]
        self._plain = torch.zeros(count, dtype=torch.int64) if producer else None

    def places(self, move: Callable[[Tensor], Tensor]) -> Tensor:
        """The positions of the elements that a move keeps, in the shape of its result."""
        return move(self._positions)

    def closed(self, places: Tensor) -> Tensor:
        """Those of the positions that are not open yet, each once."""
        flat = places.reshape(-1)
        missing = flat[~self._opened[flat]]
        return torch.unique(missing) if missing.numel() else missing

    def draw(self, dealing: Dealing, places: Tensor) -> list[Tensor]:
        """Fresh masks for these positions: the hosted parties' shares of them."""
        dealt = draw_mask(dealing, places.shape, self.holder)
        for kept, part in zip(self._masks, dealt.parts, strict=True):
            kept[places] = part
        if self._plain is not None and dealt.plain is not None:
            self._plain[places] = dealt.plain
        self._opened[places] = True
        return dealt.parts

    def store(self, places: Tensor, opened: Tensor | None) -> None:
        """Keep what these positions were opened to."""
        if self._public is not None and opened is not None:
            self._public[places] = opened

    def mask(self, places: Tensor) -> Mask:
        """The masked form of the part at these positions, all of which are open."""
        dealt = Dealt([m[places] for m in self._masks], None if self._plain is None else self._plain[places])
        secret = Secret(dealt, self.holder)
        return Mask.simple(None if self._public is None else self._public[places], secret)
