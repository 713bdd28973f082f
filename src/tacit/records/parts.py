"""Batches of rows that are shared when they are used, and never all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from tacit.api import current_session
from tacit.data.batches import batches
from tacit.tensor import SecretTensor

__all__ = ["Part", "in_batches"]

Part = tuple[SecretTensor, ...]


def in_batches(
    part: Callable[[Tensor], Part],
    chosen: Tensor,
    *,
    size: int,
    epochs: int,
    shuffle: bool,
    progress: bool,
    drop_last: bool,
) -> Iterator[Part]:
    """`tacit.batches` of what `part` shares of the rows that are chosen."""
    session = current_session()
    shown = progress and (session.embedded or session.role == session.parties[0])
    order = batches(chosen, size=size, epochs=epochs, shuffle=shuffle, progress=shown, drop_last=drop_last)
    return (part(places) for (places,) in order)
