"""Places in ascending order, from comparisons that are asked for many at a time: quicksort by several pivots at once.

Of each segment some elements are compared with each other, all pairs, and every few of them in their order is a pivot.
By as many comparisons as a binary search takes, every other element finds the pivots that it lies between. Short
segments are compared as a whole. So n elements take about n log2 n comparisons, in some 1.3 log2 n calls.

Which are asked for follows from the answers to those before, and from nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.errors import DataError

__all__ = ["Compare", "ascending"]

Compare = Callable[[Tensor, Tensor], Tensor]
"""Whether elements come before others: two lists of them to bool. No two elements are equal."""

SHORT = 8
"""Elements of a segment that all pairs are compared of. More: fewer calls; fewer: fewer comparisons, (n - 1) / 2 for an
element."""

SIEVES = ((9, 1, 3), (20, 2, 7), (96, 3, 15), (512, 4, 31), (2048, 4, 63))
"""From so many elements on, 2^k parts by the pivots of a sample of so many. More parts: fewer calls; a larger sample:
parts of a more even size, for the comparison of all its pairs."""

LEAST_APART = 64
"""More than twice the parts and pivots of a segment."""


class _Sieve(NamedTuple):
    """What segments that are cut alike need."""

    starts: Tensor
    sizes: Tensor
    sample: Tensor
    """The elements that are compared with each other: [segments, sample]."""
    parts_log2: int
    """0 where the sample is the segment."""

    def pairs(self) -> tuple[Tensor, Tensor]:
        """All pairs of a sample."""
        first, second = torch.triu_indices(self.sample.shape[1], self.sample.shape[1], 1)
        return self.sample[:, first].reshape(-1), self.sample[:, second].reshape(-1)

    def ranks(self, before: Tensor) -> Tensor:
        """The place of each element in its sample, from what comes first of each pair.

        Of three that each come before another, as differences do that have wrapped, no order would ever be found.
        """
        first, second = torch.triu_indices(self.sample.shape[1], self.sample.shape[1], 1)
        one = before.view(len(self.sample), -1).to(torch.int64)
        ranks = torch.zeros(self.sample.shape, dtype=torch.int64)
        ranks = ranks.index_add(1, second, one).index_add(1, first, 1 - one)
        if not torch.equal(ranks.sort(dim=1).values, torch.arange(ranks.shape[1]).expand(ranks.shape)):
            raise DataError("what is sorted holds numbers that lie further apart than 2^63 in the ring: divide them")
        return ranks


class _Search:
    """A binary search among the pivots of a sieve, for all elements of its segments beside the sample."""

    def __init__(self, sieve: _Sieve, ranks: Tensor, order: Tensor, keys: Tensor) -> None:
        self.levels = sieve.parts_log2
        width = sieve.sample.shape[1]
        each = (width + 1) >> self.levels
        in_order = sieve.sample.gather(1, ranks.argsort(1))
        self._pivots = in_order[:, each - 1 :: each]
        rest = sieve.sizes - width
        self._segment = torch.arange(len(rest)).repeat_interleave(rest)
        places = torch.arange(len(self._segment)) - (rest.cumsum(0) - rest)[self._segment]
        self._places = sieve.starts[self._segment] + width + places
        self._elements = order[self._places]
        self._part = torch.zeros_like(self._elements)
        self._keys = keys
        at_sample = (sieve.starts[:, None] + torch.arange(width)).view(-1)
        is_pivot = (ranks + 1) % each == 0
        keys[at_sample] += (2 * (ranks // each) + is_pivot.to(torch.int64)).view(-1)

    def asked(self, level: int) -> tuple[Tensor, Tensor]:
        """Each element, and the pivot in the middle of what is left for it."""
        middle = ((2 * self._part + 1) << (self.levels - 1 - level)) - 1
        return self._elements, self._pivots[self._segment, middle]

    def told(self, before: Tensor) -> None:
        """Go to one side of that pivot."""
        self._part = 2 * self._part + 1 - before.to(torch.int64)

    def end(self) -> None:
        """Say which parts elements belong to."""
        self._keys[self._places] += 2 * self._part


def ascending(compare: Compare, sizes: Sequence[int]) -> Tensor:
    """Return the elements 0 .. n - 1 in ascending order within each of several segments, which follow each other."""
    total = sum(sizes)
    order = torch.arange(total)
    lengths = torch.tensor(list(sizes), dtype=torch.int64)
    starts = lengths.cumsum(0) - lengths
    while True:
        starts, lengths = starts[lengths > 1], lengths[lengths > 1]
        if not len(starts):
            return order
        keys = torch.arange(total) * LEAST_APART  # what is in its place stays there
        inside = starts.repeat_interleave(lengths)
        offsets = torch.arange(len(inside)) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        keys[inside + offsets] = inside * LEAST_APART
        _cut(compare, list(_sieves(order, starts, lengths)), order, keys)
        turned = keys.argsort(stable=True)
        order = order[turned]
        _, lengths = keys[turned].unique_consecutive(return_counts=True)
        starts = lengths.cumsum(0) - lengths


def _sieves(order: Tensor, starts: Tensor, lengths: Tensor) -> Iterator[_Sieve]:
    """Segments by what is done to them."""
    for size in range(2, SHORT + 1):
        here = starts[lengths == size]
        if len(here):
            yield _Sieve(here, torch.full_like(here, size), order[here[:, None] + torch.arange(size)], 0)
    ends = [least for least, _, _ in SIEVES[1:]] + [int(lengths.max()) + 1]
    for (least, parts_log2, width), end in zip(SIEVES, ends, strict=True):
        chosen = (lengths >= least) & (lengths < end)
        here = starts[chosen]
        if len(here):
            yield _Sieve(here, lengths[chosen], order[here[:, None] + torch.arange(width)], parts_log2)


def _cut(compare: Compare, sieves: Sequence[_Sieve], order: Tensor, keys: Tensor) -> None:
    """Add to the keys of places the part of its segment that an element belongs to."""
    answers = _many(compare, [sieve.pairs() for sieve in sieves])
    searches = []
    for sieve, answer in zip(sieves, answers, strict=True):
        ranks = sieve.ranks(answer)
        if sieve.parts_log2:
            searches.append(_Search(sieve, ranks, order, keys))
        else:
            keys[(sieve.starts[:, None] + torch.arange(sieve.sample.shape[1])).view(-1)] += ranks.view(-1)
    for level in range(max((s.levels for s in searches), default=0)):
        going = [s for s in searches if level < s.levels]
        for search, answer in zip(going, _many(compare, [s.asked(level) for s in going]), strict=True):
            search.told(answer)
    for search in searches:
        search.end()


def _many(compare: Compare, asked: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Answers to several questions in one call."""
    left, right = (torch.cat([pair[k] for pair in asked]) for k in (0, 1))
    return list(compare(left, right).split([len(pair[0]) for pair in asked]))
