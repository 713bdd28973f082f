"""Transfers that are made before they are asked for, as long as there is room: those that the step before asked for.

Both ends have to know the same of what is there, so what counts is what a program asks for, alike at both: kinds of
orders, and how many of each. Entries are handed out once, or let go of.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from tacit.protocols.two_party.transfers.order import Kind, Order

__all__ = ["ROOM_BYTES", "Ahead"]

ROOM_BYTES = 1 << 28
"""Bytes of entries that wait at an end, at most. More: longer steps are made ahead as a whole (a comparison takes some
80 bytes); less: less memory. It is no setting of a role, for both ends have to have the same."""


class Ahead:
    """What is there, what has been asked for since the last time that more was wanted, and what is still to be made."""

    def __init__(self, room: int = ROOM_BYTES) -> None:
        self._room = room
        self.size = 0
        """Bytes, at the end that has more of them, of what is there or pending."""
        self._there: dict[Kind, deque[list[Any]]] = {}
        self._asked: Counter[Kind] = Counter()
        self._step: Counter[Kind] = Counter()
        self._blank: dict[Kind, Order[Any]] = {}
        """An order of each kind, of which nothing is made."""
        self.pending: tuple[deque[Order[Any]], deque[Order[Any]]] = deque(), deque()
        """Orders that are to be made ahead, by their sender, the first ones first. They count as there."""

    @property
    def waiting(self) -> int:
        """Orders that are there."""
        return sum(map(len, self._there.values()))

    def fill(self, order: Order[Any]) -> bool:
        """Give an order what was made for one of its kind, if there is some."""
        if not order.count:
            return False
        kind = order.kind
        if kind in self._asked:
            self._asked[kind] += 1
        else:
            self._asked[kind] = 1
            self._blank[kind] = order.again()
        there = self._there.get(kind)
        if not there:
            return False
        order.fill(there.popleft())
        self.size -= order.layout.size
        return True

    def want(self, steps: int) -> None:
        """See that what the step before took is made, so many times, as far as there is room."""
        if self._asked:
            self._step, self._asked = self._asked, Counter()
            self._let_go()
        waiting = Counter({kind: len(there) for kind, there in self._there.items()})
        waiting.update(order.kind for queue in self.pending for order in queue)
        for _ in range(steps):
            for kind, count in self._step.items():
                blank, lacking = self._blank[kind], max(count - waiting[kind], 0)
                waiting[kind] -= count - lacking
                for _ in range(lacking):
                    if self.size + blank.layout.size > self._room:
                        break
                    self.pending[blank.sender].append(blank.again())
                    self.size += blank.layout.size

    def keep(self, order: Order[Any]) -> None:
        """Have an order that was pending and is made now."""
        self._there.setdefault(order.kind, deque()).append(order.entries)

    def _let_go(self) -> None:
        """Forget what the step before had no use for: nobody gets it any more."""
        self._blank = {kind: self._blank[kind] for kind in self._step}
        self._there = {kind: there for kind, there in self._there.items() if kind in self._step}
        there = sum(self._blank[kind].layout.size * len(row) for kind, row in self._there.items())
        for queue in self.pending:
            kept = [order for order in queue if order.kind in self._step]
            queue.clear()
            queue.extend(kept)
            there += sum(order.layout.size for order in kept)
        self.size = there
