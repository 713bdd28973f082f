"""Random oblivious transfers dealt to both ends at once, in place of the engine: for the formulas on top of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from tacit.session.session import Session

DRAWS = torch.Generator()
"""PyTorch's own generator is public randomness of programs, which no protocol may move."""


def _ring(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape, generator=DRAWS)


class Dealt:
    """Both ends of every transfer, for a process in which both parties are."""

    def __init__(self, session: Session) -> None:
        assert session.party_indices == (0, 1)

    def _both(self, sender: int, offered: Any, chosen: Any) -> list[Any]:
        return [offered, chosen] if sender == 0 else [chosen, offered]

    def words(self, sender: int, count: int) -> list[Any]:
        zero, one, choice = (
            _ring(count),
            _ring(count),
            torch.randint(0, 2, (count,), dtype=torch.uint8, generator=DRAWS),
        )
        return self._both(sender, (zero, one), (choice, torch.where(choice.bool(), one, zero)))

    def bits(self, sender: int, count: int, width: int) -> list[Any]:
        size = (count + 7) // 8
        zero, one = (torch.randint(0, 256, (width, size), dtype=torch.uint8, generator=DRAWS) for _ in range(2))
        choice = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=DRAWS)
        return self._both(sender, (zero, one), (choice, zero ^ choice & (zero ^ one)))

    def digits(self, sender: int, count: int, tables: int) -> list[Any]:
        pads = torch.randint(-(2**31), 2**31, (tables, count), dtype=torch.int32, generator=DRAWS)
        choice = torch.randint(0, 16, (count,), dtype=torch.uint8, generator=DRAWS)
        pad = (pads >> 2 * choice.to(torch.int32) & 3).to(torch.uint8)
        return self._both(sender, (pads,), (choice, pad))

    def order_words(self, *wanted: int) -> Any:
        return SimpleNamespace(entries=self.words(*wanted))

    def order_bits(self, *wanted: int) -> Any:
        return SimpleNamespace(entries=self.bits(*wanted))

    def order_digits(self, *wanted: int) -> Any:
        return SimpleNamespace(entries=self.digits(*wanted))

    def make(self, orders: Any) -> None:
        """All of it is there."""


class DealtLattice:
    """Cross terms computed where both parts are, and shared anew."""

    def __init__(self, session: Session, bit_product: Any) -> None:
        pass

    def bilinear(self, x: Any, y: Any, op: Any, *, exact: bool) -> list[torch.Tensor]:
        total = op(x.parts[0], y.parts[1]) + op(x.parts[1], y.parts[0])
        mask = _ring(*total.shape) if total.numel() else torch.zeros_like(total)
        return [mask, total - mask]
