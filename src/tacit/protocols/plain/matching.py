"""Matches in the open: all tables are in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from tacit.protocols.matching import Match, Matcher, hidden_among, partners
from tacit.protocols.number import Number
from tacit.protocols.plain.protocol import Plain

__all__ = ["InTheOpen"]


class InTheOpen(Matcher):
    """Compares the digests themselves."""

    def __init__(self, protocol: Plain) -> None:
        self._protocol, self.session = protocol, protocol.session

    @override
    def match(
        self,
        owners: Sequence[str],
        sizes: Sequence[int],
        digests: Mapping[str, Tensor],
        *,
        left: bool = False,
        reveal: str = "members",
        alternatives: int = 1,
    ) -> Match:
        table = partners([digests[owner] for owner in owners], left=left)
        padded = reveal == "nothing" and not left
        if padded:
            table = hidden_among(table, min(sizes))
        places = dict(zip(owners, table.unbind(1), strict=True))
        return _Seen(self._protocol, places, padded=padded)


class _Seen(Match):
    def __init__(self, protocol: Plain, places: dict[str, Tensor], *, padded: bool) -> None:
        self.rows = len(next(iter(places.values())))
        self.common = None if padded else self.rows
        self._protocol, self._places, self.session = protocol, places, protocol.session

    @override
    def told(self) -> dict[str, Tensor]:
        return self._places

    @override
    def picked(self, owner: str, x: Tensor | None, width: int, frac_bits: int) -> Number:
        assert x is not None
        place = self._places[owner]
        rows = torch.cat([x, torch.zeros(1, width, dtype=x.dtype)])[place]  # -1 is the last one
        return self._protocol.share(rows, owner, rows.shape, frac_bits)

    @override
    def weight(self, frac_bits: int) -> Number | None:
        if self.common is not None:
            return None
        owner, place = next(iter(self._places.items()))
        ones = (place >= 0).long()[:, None] << frac_bits
        return self._protocol.share(ones, owner, ones.shape, frac_bits)
