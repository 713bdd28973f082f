"""Matches in the open: all tables are in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from tacit.protocols.matching import Match, Matcher, ascending, partners
from tacit.protocols.number import Number
from tacit.protocols.plain.protocol import Plain

__all__ = ["InTheOpen"]


class InTheOpen(Matcher):
    """Compares the digests themselves."""

    def __init__(self, protocol: Plain) -> None:
        self._protocol = protocol

    @override
    def match(
        self, owners: Sequence[str], sizes: Sequence[int], digests: Mapping[str, Tensor], *, left: bool = False
    ) -> Match:
        orders = {owner: ascending(digests[owner]) for owner in owners}
        table = partners([digests[owner][orders[owner]] for owner in owners], left=left)
        columns = zip(owners, table.unbind(1), strict=True)
        return _Seen(self._protocol, len(table), {o: _own(orders[o], column) for o, column in columns})


class _Seen(Match):
    def __init__(self, protocol: Plain, rows: int, places: dict[str, Tensor]) -> None:
        self.rows = rows
        self._protocol, self._places = protocol, places

    @override
    def told(self) -> dict[str, Tensor]:
        return self._places

    @override
    def picked(self, owner: str, x: Tensor | None, width: int, frac_bits: int) -> Number:
        assert x is not None
        place = self._places[owner]
        rows = torch.cat([x, torch.zeros(1, width, dtype=x.dtype)])[place]  # -1 is the last one
        return self._protocol.share(rows, owner, rows.shape, frac_bits)


def _own(order: Tensor, places: Tensor) -> Tensor:
    """Places in a table, of places in ascending order."""
    return torch.cat([order, torch.tensor([-1])])[places]
