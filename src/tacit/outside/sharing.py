"""Shares for people who are no computing parties: cut by whoever has a content, joined by whoever may know a result.

A content is one or several flat tensors of ring elements. Of n holders one gets

    x - Σ PRG(seed_j)   (mod 2^64),

and each of the others nothing but its fresh seed, from which it makes its share itself. Every share is uniform on its
own, and so are any n - 1 of them together. Who has all of them adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.ring.prg import Stream, derive_key

__all__ = ["SEED_BYTES", "Cut", "cut", "expand", "join", "pieces"]

SEED_BYTES = 16
"""As long as the keys that are derived from it: more would not make a share any safer."""

PIECE_BYTES = 1 << 20
"""Contents are made, sent and written in pieces of this size, so that memory stays small. Larger: fewer system calls.
Holders of a seed must cut alike, so it is a part of the format."""


class Cut:
    """The shares of a content, for holders in their order. Make one with `cut`."""

    def __init__(self, content: Sequence[Tensor], seeds: Sequence[bytes | None], purpose: str) -> None:
        self._content, self._purpose = content, purpose
        self.seeds = tuple(seeds)
        """A seed for each holder, None for the one that gets its share in full."""

    def __repr__(self) -> str:
        return f"Cut(<hidden>, for {len(self.seeds)} holders)"

    def rest(self) -> Iterator[Tensor]:
        """The share of the holder without a seed, x - Σ PRG(seed_j), in pieces."""
        sizes = [x.numel() for x in self._content]
        drawn = [expand(seed, sizes, self._purpose) for seed in self.seeds if seed is not None]
        for (place, part), *masks in zip(pieces(sizes), *drawn, strict=True):
            yield reduce(torch.sub, masks, self._content[place][part])


def cut(content: Sequence[Tensor], holders: int, purpose: str, *, explicit: int = 0) -> Cut:
    """Cut ring elements into fresh shares.

    Args:
        content: flat int64 tensors.
        holders: how many shares there are, two at least.
        purpose: of the shares, a text that both ends know: a seed of one purpose means nothing for another.
        explicit: the place of the holder that gets its share in full.
    """
    if holders < 2 or not 0 <= explicit < holders:
        raise DataError(f"a content is cut for two holders or more, not {holders}, one of which has place {explicit}")
    if any(x.dtype != torch.int64 or x.dim() != 1 for x in content):
        raise DataError("a content is cut as flat tensors of ring elements, torch.int64: encode it first")
    seeds = [None if place == explicit else os.urandom(SEED_BYTES) for place in range(holders)]
    return Cut(content, seeds, purpose)


def expand(seed: bytes, sizes: Sequence[int], purpose: str) -> Iterator[Tensor]:
    """The share that a seed stands for, of tensors with so many elements, in pieces."""
    if len(seed) != SEED_BYTES:
        raise DataError(f"the seed of a share has {SEED_BYTES} bytes, not {len(seed)}")
    stream = Stream(derive_key(seed, purpose))
    for _, part in pieces(sizes):
        yield stream.ring((part.stop - part.start,))


def join(shares: Sequence[Tensor]) -> Tensor:
    """The content of which these are all the shares: their sum."""
    if len(shares) < 2 or any(x.shape != shares[0].shape or x.dtype != torch.int64 for x in shares):
        raise DataError("the shares of one content are two or more tensors of ring elements of the same shape")
    return reduce(add, shares)


def pieces(sizes: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """The tensor and its elements of each piece, in the order in which a content travels."""
    step = PIECE_BYTES // 8
    for place, count in enumerate(sizes):
        for start in range(0, count, step):
            yield place, slice(start, min(start + step, count))
