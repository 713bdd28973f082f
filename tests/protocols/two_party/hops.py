"""What two parties send each other, by file, sender and kind."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import pytest
import torch

from tacit.protocols.two_party import exchange
from tacit.session.session import Session


class Hops:
    """Takes down what is sent in hops of these files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, modules: Sequence[ModuleType]) -> None:
        self.notes: dict[tuple[str, int, torch.dtype], list[torch.Tensor]] = {}
        for module in modules:
            monkeypatch.setattr(module, "hop", lambda s, notes, at=module.__name__: self.hop(s, notes, at))

    def hop(self, session: Session, notes: list[exchange.Note], at: str) -> list[torch.Tensor | None]:
        for note in notes:
            assert note.tensor is not None
            self.notes.setdefault((at, note.sender, note.dtype), []).append(note.tensor.clone().reshape(-1))
        return exchange.hop(session, notes)
