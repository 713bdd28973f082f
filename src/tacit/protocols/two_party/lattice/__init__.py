"""Products of matrices and of many numbers on ciphertexts of ring-LWE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from tacit.session.session import Session

__all__ = ["Held", "Lattice"]


class Held(NamedTuple):
    """Shares of the parties of this process, who is alone with them, and what is kept with them."""

    parts: Sequence[Tensor]
    alone: int | None
    cipher: dict[Any, Any]


class Lattice:
    """The engine; not there yet."""

    def __init__(self, session: Session, bit_product: Callable[[Tensor | None, Tensor | None], list[Tensor]]) -> None:
        self._session = session

    def bilinear(self, x: Held, y: Held, op: Callable[[Tensor, Tensor], Tensor], *, exact: bool) -> list[Tensor]:
        """Shares of op(x₀, y₁) + op(x₁, y₀)."""
        raise NotImplementedError
