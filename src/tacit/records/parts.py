"""Rows that are shared when they are used, and never all at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tacit.api import current_session
from tacit.data.batches import batches
from tacit.errors import DataError
from tacit.tensor import SecretTensor

__all__ = ["InParts", "Part", "places_of"]

Part = tuple[SecretTensor, ...]


class InParts(ABC):
    """A table, or several that are joined, whose rows are shared when they are used."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are; everybody knows that."""

    @abstractmethod
    def _part_of(self, rows: Tensor) -> Part:
        """The rows at some places."""

    def __getitem__(self, rows: Any) -> Part:
        """Some rows, by places, a mask or a slice: (x, y), or (x,) without a label.

        Only they are shared, unless `x` has been asked for before, or nobody knows who is in a joined table.
        """
        return self._part_of(places_of(rows, len(self)))

    def batches(
        self,
        size: int,
        epochs: int = 1,
        *,
        rows: Any = None,
        shuffle: bool = True,
        progress: bool = True,
        drop_last: bool = False,
    ) -> Iterator[Part]:
        """`tacit.batches` of (x, y), of all rows or of some, of which each is shared when its batch comes.

        So nobody holds all of them as shares, nor, of tables that were read with on_disk=…, in memory.
        Each epoch sends what sharing sends, which `tacit.batches(table.x, table.y, …)` sends once.
        """
        session = current_session()
        chosen = torch.arange(len(self)) if rows is None else places_of(rows, len(self))
        shown = progress and (session.embedded or session.role == session.parties[0])
        order = batches(chosen, size=size, epochs=epochs, shuffle=shuffle, progress=shown, drop_last=drop_last)
        return (self._part_of(places) for (places,) in order)


def places_of(rows: Any, count: int, empty: str = "there must be one row at least") -> Tensor:
    """Places of rows, for a mask of all rows, a slice, or places; an error in these words where there are none."""
    try:
        wanted = rows if isinstance(rows, slice) else torch.as_tensor(rows)
        places = torch.arange(count)[wanted] if isinstance(wanted, slice) or len(wanted) else torch.arange(0)
    except (IndexError, TypeError, ValueError, RuntimeError):
        raise DataError(f"rows are a mask of {count} rows, a slice, or places of rows below {count}") from None
    if not places.numel():
        raise DataError(empty)
    return places
