"""A world of the additive scheme that writes down what is opened."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tacit.protocols.additive.opening import Masking, Opening
from tacit.protocols.additive.protocol import Additive
from tacit.protocols.additive.source.base import Source
from tacit.session.session import Session

from ..world import World


class Watched(Masking):
    """Opens, and writes down what is opened and what is left of it without each party's own share."""

    def __init__(self, session: Session, source: Source) -> None:
        super().__init__(session, source)
        self.opened: dict[str, list[torch.Tensor]] = {}

    def open(self, openings: Sequence[Opening]) -> list[torch.Tensor | None]:
        values = super().open(openings)
        for opening, value in zip(openings, values, strict=True):
            assert value is not None
            rests = [value - t if value.dtype == torch.int64 else value ^ t for t in opening.tensors]
            for kind, seen in enumerate([value, *rests]):
                label = "opened" if kind == 0 else f"opened, without the share of party {kind - 1}"
                self.opened.setdefault(label, []).append(seen.contiguous().view(-1).view(torch.uint8))
        return values


class WatchedWorld(World):
    """All roles in one process, watched."""

    protocol: Additive

    def __init__(self, parties: int) -> None:
        super().__init__(parties)
        self.watched = Watched(self.session, self.protocol._source)
        self.protocol._masking = self.watched
