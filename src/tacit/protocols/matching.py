"""Whose rows belong together: what a scheme offers for it, and what is the same in all of them.

A row is known by a digest of its key, two words of 64 bits, which its owner has made. Of 10^9 rows, two of different
keys have one digest with probability 2^-69.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.protocols.in_step import in_step
from tacit.protocols.number import Number
from tacit.ring.prg import Stream
from tacit.session.session import Session

__all__ = [
    "DIGEST_WORDS",
    "Match",
    "Matcher",
    "ascending",
    "hidden_among",
    "ordered_at_random",
    "paired",
    "partners",
    "permutation",
    "places",
]

DIGEST_WORDS = 2


class Match(ABC):
    """Rows of some tables that belong together, in an order that was drawn at random."""

    session: Session
    rows: int
    """How many they are, those that are only there to hide their number among them."""
    common: int | None
    """How many belong together; None if nobody is to know."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name in {"told", "picked", "weight", "presence"} & cls.__dict__.keys():
            setattr(cls, name, in_step(cls.__dict__[name]))

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

    def weight(self, frac_bits: int) -> Number | None:
        """1 for rows that belong together and 0 for others, [rows, 1]; None if all do. Reveals: nothing."""
        return None

    def presence(self, owner: str, frac_bits: int) -> Number | None:
        """1 for rows that an owner has and 0 for others, [rows, 1]; None where `picked` has to make it of ones.

        Reveals: nothing.
        """
        return None


class Matcher(ABC):
    """How a scheme finds matches."""

    session: Session

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "match" in cls.__dict__:
            cls.match = in_step(cls.match)  # type: ignore[method-assign]

    @abstractmethod
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
        """Match tables of so many rows, whose digests (int64 [rows, 2]) are given at their owners, without repetitions.

        With k alternatives a row has k digests [rows, 2 k], those of one place being comparable; rows that an earlier
        one brings together are taken. Inner: the people of all tables. With `left`, those of the first one. Only what
        `told` says is kept from the result if `reveal` is "size", and how many they are as well if it is "nothing".
        Reveals: how many, to all roles, unless it is "nothing".
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

    Tables are int64 [rows, 2 k], for k alternatives. -1 stands where a table has nobody.
    """
    base = tables[0]
    columns = [torch.arange(len(base))]
    for other in tables[1:]:
        pairs = zip(other.split(DIGEST_WORDS, 1), base.split(DIGEST_WORDS, 1), strict=True)
        columns.append(paired([places(theirs, ours) for theirs, ours in pairs], len(other)))
    found = torch.stack(columns, dim=1)
    if not left:
        found = found[(found >= 0).all(dim=1)]
    return ordered_at_random(found)


def paired(candidates: Sequence[Tensor], count: int) -> Tensor:
    """For each row, its partner among `count`, -1 for none: the first candidate that no row has by an earlier one."""
    out = candidates[0]
    for later in candidates[1:]:
        taken = torch.zeros(count + 1, dtype=torch.bool)
        taken[out] = True
        out = torch.where((out < 0) & ~taken[later], later, out)
    return out


def hidden_among(table: Tensor, count: int) -> Tensor:
    """`partners` among so many rows, the others of which are of nobody, in an order drawn here."""
    nobody = torch.full((count - len(table), table.shape[1]), -1)
    return ordered_at_random(torch.cat([table, nobody]))


def ordered_at_random(rows: Tensor) -> Tensor:
    """Rows in an order drawn here."""
    return rows[permutation(Stream(os.urandom(16)), len(rows))]


def places(table: Tensor, wanted: Tensor) -> Tensor:
    """Where the wanted digests stand in a table, -1 for those that do not."""
    if bool((table[1:, 0] > table[:-1, 0]).all()):
        return _places_in_order(table, wanted)
    order = ascending(table)
    at = _places_in_order(table[order], wanted)
    return torch.cat([order, torch.tensor([-1])])[at]


def _places_in_order(table: Tensor, wanted: Tensor) -> Tensor:
    """Where the wanted digests stand in a table that is ascending, -1 for those that do not."""
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
