"""How features are cut into bins: by counts over all sites, asked for finer and finer where many rows lie.

Numbers are seen as 32-bit keys in their order, so that a range of any size is halved in as many steps, and nobody has
to say what a feature's range is. A range that holds no more rows than a bin should, or than `LEAST`, is not cut any
finer, and others are cut into pieces of about a quarter of a bin: the server sees the counts, and finer ones would
tell of single rows what the trees never use.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tacit.federated.vectors import Floats

__all__ = ["QUERIES", "agree", "counts", "keys", "values"]

Keys = npt.NDArray[np.uint32]
TOP = np.uint32(0x80000000)
LOWEST, HIGHEST = 0x00800000, 0xFF7FFFFF
"""The keys of the smallest and of the largest number."""
FIRST = 1 << 20
"""The width of the first ranges, an eighth of a number's size."""
RANGES = 4080
"""How many of them there are: 32 kB a feature."""
LEAST = 8
"""Rows. So many may be in one bin even where `most` bins of fewer rows would do."""
PIECES = 4
"""Into how many ranges one is cut for each bin that its rows would fill: fewer tell less, and take more queries."""
QUERIES = 8
"""A range that is cut holds more rows than one bin: it gets 8 pieces or more, so 7 queries reach a single number."""


def keys(x: npt.NDArray[np.float32]) -> Keys:
    """Return numbers as keys in the same order."""
    bits = (x + np.float32(0)).view(np.uint32)  # -0 is 0
    return np.where(bits & TOP, ~bits, bits | TOP)


def values(key: Keys) -> npt.NDArray[np.float32]:
    """Return the numbers that have these keys."""
    key = np.asarray(key, np.uint32)
    return np.where(key & TOP, key & ~TOP, ~key).view(np.float32)


def counts(rows: npt.NDArray[np.float32], edges: list[Keys]) -> Floats:
    """Return how many rows lie below a feature's first edge, from each to the next, above the last; of all features."""
    found = []
    for x, bounds in zip(rows.T, edges, strict=True):
        place = np.searchsorted(bounds, keys(x[~np.isnan(x)]), side="right")
        found.append(np.bincount(place, minlength=len(bounds) + 1))
    return np.concatenate(found).astype(np.float64)


def agree(
    ask: Callable[[list[Keys]], list[Floats]], features: int, most: int, largest: int = 1 << 24
) -> list[npt.NDArray[np.float32]]:
    """Return the cuts of each feature, at most `most` - 1, which ascend; `ask` returns the counts of all sites.

    No query asks for more than `largest` counts: where that would be needed, ranges stay as they are.
    """
    edges = [_first()] * features
    for query in range(QUERIES):
        found = ask(edges)
        finer = [_finer(bounds, n, most) for bounds, n in zip(edges, found, strict=True)]
        if query == QUERIES - 1 or all(len(new) == 0 for new in finer):
            break
        following = [
            np.union1d(_needed(bounds, n), new).astype(np.uint32)
            for bounds, n, new in zip(edges, found, finer, strict=True)
        ]
        if sum(len(bounds) + 1 for bounds in following) > largest:
            break
        edges = following
    return [_cuts(bounds, n, most) for bounds, n in zip(edges, found, strict=True)]


def _first() -> Keys:
    """Return the edges of the first ranges."""
    return np.arange(LOWEST + FIRST, HIGHEST, FIRST, dtype=np.uint32)


def _ranges(edges: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where each range begins, and where it ends."""
    bounds = edges.astype(np.int64)
    return np.concatenate([[LOWEST], bounds]), np.concatenate([bounds, [HIGHEST + 1]])


def _finer(edges: Keys, found: Floats, most: int) -> Keys:
    """Return edges inside the ranges that hold more rows than a bin should."""
    start, end = _ranges(edges)
    bin_rows = max(found.sum() / most, LEAST)
    heavy = np.flatnonzero((found > bin_rows) & (end - start > 1))
    pieces = np.minimum(PIECES * np.ceil(found / bin_rows), end - start).astype(np.int64)
    new = [np.linspace(start[i], end[i], pieces[i] + 1).astype(np.int64)[1:-1] for i in heavy]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *new])).astype(np.uint32)


def _needed(edges: Keys, found: Floats) -> Keys:
    """Return the edges that part a range with rows from one, with or without; not those between empty ranges."""
    return edges[(found[:-1] > 0) | (found[1:] > 0)]


def _cuts(edges: Keys, found: Floats, most: int) -> npt.NDArray[np.float32]:
    """Return cuts between ranges with rows, in the middle of what is empty between them, for `most` bins or fewer."""
    start, end = _ranges(edges)
    full = np.flatnonzero(found > 0)
    chosen, target = full[:-1], found.sum() / most
    while len(chosen) > most - 1:
        chosen, target = full[_greedy(found[full], target)], target * 1.05
    after = full[np.searchsorted(full, chosen) + 1] if len(chosen) else chosen
    low, high = values((end[chosen] - 1).astype(np.uint32)), values(start[after].astype(np.uint32))
    middle = (low.astype(np.float64) / 2 + high.astype(np.float64) / 2).astype(np.float32)
    cuts = np.where(middle > low, middle, high)
    return np.unique(cuts)


def _greedy(found: Floats, target: float) -> npt.NDArray[np.intp]:
    """Return the last range of each bin but the last one, where bins take as many ranges as hold `target` rows."""
    below = np.cumsum(found)
    last: list[int] = []
    while True:
        first = last[-1] + 1 if last else 0
        already = below[first - 1] if first else 0.0
        end = max(int(np.searchsorted(below, already + target, side="right")), first + 1)
        if end >= len(found):
            return np.array(last, np.intp)
        last.append(end - 1)
