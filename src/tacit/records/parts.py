"""Rows that are shared when they are used, and never all at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tacit.api import active_protocol, current_session
from tacit.data.batches import batches, progress_bar
from tacit.errors import ConfigError, DataError
from tacit.functions.collective import Collective
from tacit.tensor import SecretTensor

__all__ = ["InParts", "Part", "places_of"]

Part = tuple[SecretTensor, ...]


class InParts(ABC):
    """A table, or several that are joined, whose rows are shared when they are used."""

    columns: Any
    """The names of its columns."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows there are; everybody knows that."""

    @property
    @abstractmethod
    def sharded(self) -> bool:
        """Whether this rank has some of the rows, and others have the rest."""

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

        Of tables that ranks read by shards each has batches of its own rows, all ranks equally many: as in PyTorch's
        DistributedSampler, those with fewer rows take some of theirs twice or, with `drop_last`, others leave some out.
        """
        session = current_session()
        chosen = torch.arange(len(self)) if rows is None else places_of(rows, len(self))
        shown = progress and (session.embedded or session.role == session.parties[0])
        if self.sharded:
            how = {"shuffle": shuffle, "progress": shown, "drop_last": drop_last}
            return map(self._part_of, _alike(self, chosen, size, epochs, **how))
        order = batches(chosen, size=size, epochs=epochs, shuffle=shuffle, progress=shown, drop_last=drop_last)
        return (self._part_of(places) for (places,) in order)


def _alike(
    table: InParts, chosen: Tensor, size: int, epochs: int, *, shuffle: bool, progress: bool, drop_last: bool
) -> Iterator[Tensor]:
    """Places of rows in batches, as many at this rank as at the others: all tell each other how many rows they have."""
    if size < 1 or epochs < 0:
        raise DataError(f"batches need a size of at least 1 and no fewer than 0 epochs, not {size} and {epochs}")
    if not dist.is_initialized():
        raise ConfigError(
            "ranks that read by shards tell each other how many rows they have by torch.distributed: call "
            'torch.distributed.init_process_group("gloo") before batches(…)'
        )
    told = Collective(active_protocol(), dist.group.WORLD, f"batches of {size} of {table.columns}").tell(
        str(len(chosen)).encode()
    )
    counts = list(map(int, told))
    length = min(counts) // size * size if drop_last else max(counts)
    if not length:
        raise DataError(f"a rank has {min(counts)} rows, fewer than a batch of {size}, and drop_last=True leaves none")
    return _orders(chosen, length, size, epochs, shuffle=shuffle, progress=progress)


def _orders(chosen: Tensor, length: int, size: int, epochs: int, *, shuffle: bool, progress: bool) -> Iterator[Tensor]:
    with progress_bar(-(-length // size) * epochs, progress) as advance:
        for epoch in range(epochs):
            order = chosen[torch.randperm(len(chosen))] if shuffle else chosen
            order = order.repeat(-(-length // len(order)))[:length]
            for places in order.split(size):
                yield places
                advance(f"epoch {epoch + 1}/{epochs}")


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
