"""Opening a lasting secret element by element: each batch of a data set, each slice of a parameter, once ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.protocols.additive.masks import Mask, MaskValue
from tacit.protocols.additive.source.base import Dealt, Source
from tacit.ring.ring import RING

__all__ = ["OpenedParts", "Places"]


class Places(NamedTuple):
    """Flat positions, to index with, and the shape of what lies there. Neighbours are a slice, which copies nothing."""

    at: Tensor | slice
    shape: torch.Size


class OpenedParts:
    """Which elements of a secret are open, and under which masks. Every role keeps the same books.

    E and a are kept flat, with room for all elements; `places` are the flat positions that a part is made of.
    """

    __slots__ = ("_masks", "_opened", "_plain", "_positions", "_public")

    def __init__(self, shape: torch.Size, hosted: int, *, producer: bool) -> None:
        count = shape.numel()
        self._positions = torch.arange(count).view(shape)
        self._opened = torch.zeros(count, dtype=torch.bool)
        self._public = torch.zeros(count, dtype=RING.dtype) if hosted else None
        self._masks = [torch.zeros(count, dtype=RING.dtype) for _ in range(hosted)]
        self._plain = torch.zeros(count, dtype=RING.dtype) if producer else None

    def places(self, move: Callable[[Tensor], Tensor]) -> Places:
        """The positions of the elements that a move keeps."""
        kept = move(self._positions)
        if kept.is_contiguous() and kept.untyped_storage().data_ptr() == self._positions.untyped_storage().data_ptr():
            start = kept.storage_offset()
            return Places(slice(start, start + kept.numel()), kept.shape)
        return Places(kept.reshape(-1), kept.shape)

    def closed(self, places: Places) -> Places:
        """Those of the positions that are not open yet, each once."""
        index, opened = places.at, self._opened[places.at]
        if isinstance(index, slice):
            if not opened.any():
                return Places(index, opened.shape)
            index = torch.arange(index.start, index.stop)
        missing = index[~opened]
        missing = torch.unique(missing) if missing.numel() else missing
        return Places(missing, missing.shape)

    def draw(self, source: Source, places: Places) -> list[Tensor]:
        """Fresh masks for these positions: the hosted parties' shares of them."""
        index, shape = places
        dealt = source.random_ring(shape)
        for kept, part in zip(self._masks, dealt.parts, strict=True):
            kept[index] = part
        if self._plain is not None and dealt.plain is not None:
            self._plain[index] = dealt.plain
        self._opened[index] = True
        return dealt.parts

    def store(self, places: Places, opened: Tensor | None) -> None:
        """Keep what these positions were opened to."""
        if self._public is not None and opened is not None:
            self._public[places.at] = opened

    def mask(self, places: Places) -> Mask:
        """The masked form of the part at these positions, all of which are open: so they will not change."""

        def at(kept: Tensor) -> Tensor:
            return kept[places.at].view(places.shape)

        dealt = Dealt([at(m) for m in self._masks], None if self._plain is None else at(self._plain))
        return Mask.simple(None if self._public is None else at(self._public), MaskValue(dealt))
