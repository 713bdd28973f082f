"""Whose rows belong together: what a scheme offers for it, and what is the same in all of them.

A row is known by a digest of its key, two words of 64 bits, which its owner has made. Of 10^9 rows, two of different
keys have one digest with probability 2^-69.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tacit.protocols.number import Number
from tacit.ring.prg import Stream

__all__ = ["DIGEST_WORDS", "Match", "Matcher", "ascending", "partners", "permutation", "places"]

DIGEST_WORDS = 2


class Match(ABC):
    """Rows of some tables that belong together, in an order that was drawn at random."""

    rows: int
    """How many they are."""

    @abstractmethod
    def told(self) -> dict[str, Tensor]:
        """Which rows of its own table each owner has there, at the owners hosted here; -1 for none.

        Reveals: to each owner, which of its rows matched.
        """

    @abstractmethod
    def picked(self, owner: str, x: Tensor | None, width: int, frac_bits: int) -> Number:
        """These rows of ring elements x [rows, width] that an owner knows; zeros where it has none.

        Reveals: nothing.
        """


class Matcher(ABC):
    """How a scheme finds matches."""

    @abstractmethod
    def match(
        self, owners: Sequence[str], sizes: Sequence[int], digests: Mapping[str, Tensor], *, left: bool = False
    ) -> Match:
        """Match tables of so many rows, whose digests (int64 [rows, 2]) are given at their owners, without repetitions.

        Inner: the people of all tables. With `left`, those of the first one. Reveals: how many, to all roles.
        """


def ascending(digests: Tensor) -> Tensor:
    """The places of digests in ascending order, equal ones in the order in which they stand."""
    heads, tails = digests.contiguous().numpy().T
    order = np.argsort(np.ascontiguousarray(heads))  # in vectors, which a stable sort is not
    ordered = heads[order]
    if (ordered[1:] == ordered[:-1]).any():
        order = np.lexsort((tails, heads))
    return torch.from_numpy(order)


def partners(tables: Sequence[Tensor], *, left: bool = False) -> Tensor:
    """The places that belong together, a row for each person and a column for each table, in an order drawn here.

    The digests of each table are ascending and without repetitions. -1 stands where a table has nobody.
    """
    base = tables[0]
    found = torch.stack([torch.arange(len(base)), *(places(other, base) for other in tables[1:])], dim=1)
    if not left:
        found = found[(found >= 0).all(dim=1)]
    return found[permutation(Stream(os.urandom(16)), len(found))]


def places(table: Tensor, wanted: Tensor) -> Tensor:
    """Where the wanted digests stand in a table, -1 for those that do not."""
    found = torch.full((len(wanted),), -1)
    if not len(table) or not len(wanted):
        return found
    heads, tails = table[:, 0].contiguous(), table[:, 1]
    at = torch.searchsorted(heads, wanted[:, 0].contiguous())
    longest = int(torch.unique_consecutive(heads, return_counts=True)[1].max())  # 1, but for digests that begin alike
    for step in range(longest):
        place = (at + step).clamp(max=len(table) - 1)
        same = (heads[place] == wanted[:, 0]) & (tails[place] == wanted[:, 1])
        found = torch.where(same, place, found)
    return found


def permutation(stream: Stream, count: int) -> Tensor:
    """A uniform permutation: the order of uniform words, of which two are equal with probability below n^2 2^-65."""
    return stream.ring((count,)).argsort(stable=True)
