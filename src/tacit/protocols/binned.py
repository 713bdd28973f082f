"""Rows in bins that one party knows: of every column, which bin each row is in.

    C[k, i] = [row i is in bin k of its column, or below]        k over all bins but the last, column after column

What trees ask of a secret is its sum over such rows, C w, and where rows go that a secret edge parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.ring import kernels

__all__ = ["Binned"]


class Binned:
    """The bins of one owner's rows. Public are the owner and how many rows, columns and bins there are."""

    __slots__ = ("bins", "codes", "columns", "owner", "rows", "scheme", "spilled")

    def __init__(
        self, owner: int, codes: Tensor | None, *, columns: int, rows: int, bins: int, spilled: bool = False
    ) -> None:
        self.owner, self.columns, self.rows, self.bins = owner, columns, rows, bins
        self.codes = codes
        """The bin of each row, uint8 [columns, rows], at the owner."""
        self.spilled = spilled
        """Whether what is large, and read once for each product, belongs into a file."""
        self.scheme: Any = None
        """What the scheme has made of it."""

    @property
    def edges(self) -> int:
        """Bins but the last, of all columns."""
        return self.columns * (self.bins - 1)

    def indicators(self, start: int, stop: int) -> Tensor:
        """Rows of C transposed, at the owner: int64 [rows, edges]."""
        assert self.codes is not None
        codes = self.codes[:, start:stop].t().unsqueeze(2)
        below = codes <= torch.arange(self.bins - 1, dtype=torch.uint8)
        return below.to(torch.int64).reshape(stop - start, self.edges)

    def sums(self, w: Tensor) -> Tensor:
        """C w for ring elements [rows, columns of w], at the owner: the sums of all bins up to each."""
        assert self.codes is not None
        each = kernels.on(w).bin_sums(self.codes, w, self.bins)
        return each.cumsum(1)[:, :-1].reshape(self.edges, w.shape[1])

    def __repr__(self) -> str:
        return f"Binned(<hidden>, {self.rows} rows, {self.columns} columns, {self.bins} bins)"
