"""Ciphertexts that are kept with the values they are of, as long as there is room: the least recently used ones go.

Both parties have to know the same of what is kept, so what counts is what a program does, alike everywhere: uses in
their order, and sizes that follow from shapes; never what a garbage collector did, or how much memory is free.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

__all__ = ["LARGEST_BYTES", "ROOM_BYTES", "Keeper"]

ROOM_BYTES = 1 << 30
"""Bytes of ciphertexts that a party keeps of the other's. More: more layers, or data, are encrypted once; less: less
memory. A layer of 784 x 500 has 20 MB."""

LARGEST_BYTES = ROOM_BYTES // 4
"""Of one value. What is larger is encrypted at each use, or the other factor is."""


class Keeper:
    """What is kept, in the order of uses."""

    def __init__(self, room: int = ROOM_BYTES) -> None:
        self._room = room
        self._size = 0
        self._entries: OrderedDict[tuple[int, Hashable], tuple[dict[Any, Any], Any, int]] = OrderedDict()

    def put(self, into: dict[Any, Any], key: Hashable, what: Any, size: int) -> None:
        """Keep something of so many bytes in a value's dictionary, and let go of what was not used for longest."""
        place = id(into), key  # the dictionary lives as long as the entry
        if place in self._entries:
            self._size -= self._entries.pop(place)[2]
        into[key] = what
        self._entries[place] = into, what, size
        self._size += size
        while self._size > self._room:
            (_, oldest), (held, gone, freed) = self._entries.popitem(last=False)
            self._size -= freed
            if held.get(oldest) is gone:
                del held[oldest]

    def used(self, held: dict[Any, Any], key: Hashable) -> None:
        """Say that something has been used again."""
        if (id(held), key) in self._entries:
            self._entries.move_to_end((id(held), key))
