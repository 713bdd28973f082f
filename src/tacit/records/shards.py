"""Which rows of a table each rank of its owner has, where all ranks read the same table.

By `rows`, rank i of n has those from i N/n to (i + 1) N/n. By `key`, it has those whose key falls to it:

    rank  =  mix(d0, d1) mod n,    d = the first 128 bits of SHA-256(key)

which is the same at all owners, so people whom two tables have in common meet at one rank, and the ranks' joins
together are the join; rows without a key are dealt out in turns, in an order of what they hold: a database need not
give all ranks one order. The mixing makes digests of one rank look like any others, to whatever matches them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tacit.errors import ConfigError
from tacit.session.ranks import Rank

__all__ = ["SHARDS", "Unkeyed", "check_shards", "own_rows", "rank_of_key"]

SHARDS = ("rows", "key")

ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Of splitmix64."""


class Unkeyed(NamedTuple):
    """Rows without a key, whose digests are random."""

    places: Tensor
    """int64, ascending."""
    hashes: np.ndarray
    """Of all that each row holds, uint64: rows with one hash are alike, so their order says nothing."""


def rank_of_key(digests: Tensor, count: int) -> Tensor:
    """To which of so many ranks each key falls, by its digest [rows, 2]."""
    d = digests.numpy().view(np.uint64)
    with np.errstate(over="ignore"):
        z = d[:, 0] * ODD[0] + d[:, 1]
        z = (z ^ (z >> np.uint64(30))) * ODD[1]
        z = (z ^ (z >> np.uint64(27))) * ODD[2]
        z ^= z >> np.uint64(31)
    return torch.from_numpy((z % np.uint64(count)).astype(np.int64))


def own_rows(shard: str, rank: Rank, rows: int, digests: Tensor | None, unkeyed: Unkeyed | None) -> Tensor:
    """The places of the rows that a rank has."""
    if shard == "rows":
        return torch.arange(rank.index * rows // rank.count, (rank.index + 1) * rows // rank.count)
    assert digests is not None
    assert unkeyed is not None
    of = rank_of_key(digests, rank.count)
    order = np.argsort(unkeyed.hashes)
    of[unkeyed.places[torch.from_numpy(order)]] = torch.arange(len(order)) % rank.count
    return torch.nonzero(of == rank.index).squeeze(1)


def check_shards(shards: Sequence[str | None], *, aligned: bool) -> None:
    """Refuse tables to be joined whose rows do not meet."""
    if len(set(shards)) > 1:
        raise ConfigError("tables that are joined are read by shards alike: give all of them the same shard=…")
    if shards[0] == "rows" and not aligned:
        raise ConfigError(
            'tables that are read by shard="rows" meet if they are in one order only: write shard="key", by which '
            "rows of one key come to one rank, or tacit.join(…, aligned=True)"
        )
