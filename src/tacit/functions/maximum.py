"""The largest element along a dimension, which of them it is, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.protocols.number import Number
from tacit.protocols.protocol import Prices
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS

__all__ = ["Maximum", "Plan", "even_plan", "extra_of_near", "levels"]

LARGEST = 10
"""Players of the largest group: a winner is the conjunction of so many bits less one, and tables double with each."""

REMEMBERED = 64, 1 << 14
"""So many levels of at most so many pairs, whose places are remembered, for maxima of one shape come again and again.
More: memory, 34 MB at most as it is, some 32 bytes a pair; fewer: they are counted anew."""

Sizes = tuple[int, ...]
Plan = tuple[Sizes, ...]


class Told(NamedTuple):
    """What a level tells of differences."""

    gap: float | None
    largest: bool
    blur: int
    """Below which one may count as none."""
    most: int | None
    """|d| < 2^most."""

    def of(self, d: Number) -> tuple[Bits, Bits | None]:
        """[d > 0]; and [d < -gap], one after the other with [d <= gap], if there is a gap. Of the least, of -d."""
        first = 1 if self.largest else 0
        if self.gap is None:
            (below,) = d.protocol.less(d, [first], near=self.blur, most=self.most)
            return below.invert() if self.largest else below, None
        edge = round(self.gap * 2.0**d.frac_bits)
        most = None if self.most is None else max(self.most, edge.bit_length() + 2)
        below, far_below, not_above = d.protocol.less(d, [first, -edge, edge + 1], most=most)
        if self.largest:
            return below.invert(), far_below.joined(not_above)
        return below, not_above.joined(far_below).invert()


class Level(NamedTuple):
    """One level: who is ahead of its group, of `players` and of how many in each group."""

    players: int
    sizes: Sizes
    won: Bits
    """Of the players in groups; those after them meet nobody and go on."""
    advance: Callable[[], Number]
    """The values of those who go on: one more round."""
    near: Bits | None
    """Of the same players, whether nobody of its group is ahead by more than the gap, if one was asked for."""

    @property
    def following(self) -> Tensor:
        """The place in the next level of whoever goes on from each player's group."""
        sizes = torch.tensor(self.sizes + (1,) * (self.players - sum(self.sizes)))
        return torch.repeat_interleave(torch.arange(len(sizes)), sizes)


class Maximum:
    """The largest (smallest) of x along its first dimension, by levels of groups in which all pairs are compared.

    Who is ahead of all others in its group goes on; at a tie it is the earlier one. Groups of two need one comparison
    for each player that leaves, and 4 rounds a level; larger ones need fewer levels, of 5 rounds, and more comparisons.
    The cheapest sizes follow from the shape alone.

    Exact; of an untruncated product the first level compares all bits, but where only a value is asked for, and further
    ones what is left of truncation.
    Shape: [n, ..] -> [..].   Domain: differences below 2^62 in the ring.
    Cost: 5 rounds for up to 10 elements of few rows, at most 4 for each of ceil(log2 n) levels and 1 more for an
    untruncated product; 50 bytes, 5 of them online, for each comparison, of which there are n - 1 or more.
    Reveals: nothing.
    """

    def __init__(
        self,
        x: Number,
        *,
        largest: bool = True,
        plan: Plan | None = None,
        gap: float | None = None,
        value: bool = False,
    ) -> None:
        """`plan` has the sizes of the groups of each level, for a caller who knows better ones; `gap` see `near`.

        If only a `value` near the largest is asked for, of two products that differ by less than two units that they
        are truncated to the earlier one may go on: one digit in four is not compared then. Not of three, of which each
        might lose to another one.
        """
        self._like = x
        self._levels: list[Level] = []
        dropped = x.frac_bits - x.settled_bits
        self.most = VALUE_BITS + 1 - dropped if dropped > 0 else None
        """|d| < 2^most, of differences of what was truncated, if it was: below 2^62 as products, and two units more."""
        plan = plan or _plan(x.shape[0], x.shape[1:].numel(), x.protocol.prices)
        pairs = bool(plan) and max(plan[0]) == 2
        blur = 2 << dropped if value and gap is None and dropped > 0 and pairs else 0
        for sizes in plan:
            x = self._levels[-1].advance() if self._levels else x
            told = Told(gap, largest, 0, self.most) if self._levels else Told(gap, largest, blur, None)
            self._levels.append((_matches if _alone(x, sizes) else _groups)(x, sizes, told))
        self._first = x

    @cached_property
    def values(self) -> Number:
        """The largest. The last round is that of its selection."""
        found = self._levels[-1].advance() if self._levels else self._first.settle()
        return found.move(lambda t: t[0], view=False)

    @cached_property
    def winner(self) -> Bits:
        """[element i is the first largest], of the shape of x: i, or whoever was ahead of it, has won on each level.

        Cost: none after `values`, else the round of the last level's bits, if these are not the answer.
        """
        if not self._levels:
            return self._like.protocol.public_bits(torch.ones(self._like.shape, dtype=torch.uint8))
        return self._like.protocol.all_of(self._through([level.won for level in self._levels]))

    @cached_property
    def near(self) -> Bits:
        """[on no level whoever an element, or its winner, met was ahead by more than `gap`], of the shape of x.

        So what is near is below the largest by at most the gap of each level, and what is not by more than one gap.
        Cost: none after `values` of a single level; of several, the round of these bits is that of `values`, before it.
        """
        if not self._levels:
            return self._like.protocol.public_bits(torch.ones(self._like.shape, dtype=torch.uint8))
        found = self._through([level.near for level in self._levels if level.near is not None])
        if len(found) > 1:
            self._like.protocol.together(self._levels[-1].won, *found)
        return self._like.protocol.all_of(found)

    def _through(self, bits: Sequence[Bits]) -> list[Bits]:
        """For each level, the bit of every element of x, or of whoever has won over it there; set for who rested."""
        places = torch.arange(self._like.shape[0])
        found = []
        for level, bit in zip(self._levels, bits, strict=True):
            resting = places >= sum(level.sizes)
            found.append(_picked(bit, torch.where(resting, sum(level.sizes), places), resting))
            places = level.following[places]
        return found

    @cached_property
    def indices(self) -> Number:
        """The first place of the largest. One more round than `values`, and none if there is but one level."""
        if not self._levels:
            return self._like.protocol.public(torch.zeros(self._like.shape[1:], dtype=torch.int64), 0)
        places = torch.arange(self._like.shape[0]).view(-1, *[1] * (len(self._like.shape) - 1))
        return self.winner.arithmetic().linear(lambda t: (t * places.to(t.device)).sum(0))


def _alone(x: Number, sizes: Sizes) -> bool:
    """Whether only differences of neighbours need to be opened."""
    return max(sizes) == 2 and x.frac_bits <= x.protocol.frac_bits


def _matches(x: Number, sizes: Sizes, told: Told) -> Level:
    """Neighbours, with d = right - left: left + [d > 0] d goes on, or left + [d < 0] d."""
    half = len(sizes)
    left, right, rest = (
        x.move(_slice(*s), view=False) for s in ((0, 2 * half, 2), (1, 2 * half, 2), (2 * half, None, 1))
    )
    d = right - left
    right_wins, close = told.of(d)
    players = torch.arange(2 * half)
    first = players % 2 == 0

    def advance() -> Number:
        (step,) = d.protocol.select([(right_wins, d)])
        return (left + step).joined(rest)

    near = None if close is None else _picked(close, players // 2 + half * first, ~first)
    return Level(x.shape[0], sizes, _picked(right_wins, players // 2, first), advance, near)


def _groups(x: Number, sizes: Sizes, told: Told) -> Level:
    """All pairs of a group, by one opening of its elements: E_j - E_i is x_j - x_i under the mask a_j - a_i."""
    active = sum(sizes)
    settled = x.settle()
    x.protocol.together(x)  # an untruncated product was opened to truncate it
    pairs, winners = _pairs(sizes)
    ahead, close = told.of(_differences(x, *pairs))  # [the later one is larger], or smaller
    met = len(pairs[0])
    ranks = [_picked(ahead, k, f) for k, f in winners]
    nears = [] if close is None else [_picked(close, k + met * f, ~f) for k, f in winners]
    x.protocol.together(*(bits for bits in (*ranks, *nears) if bits.shape[0] > 1))
    won, near = _of_all(ranks), _of_all(nears) if nears else None

    def advance() -> Number:
        playing, rest = (settled.move(_slice(*s), view=False) for s in ((0, active, 1), (active, None, 1)))
        (chosen,) = x.protocol.select([(won, playing)])
        return chosen.linear(lambda t: _totals(t, sizes)).joined(rest)

    return Level(x.shape[0], sizes, won, advance, near)


def _totals(t: Tensor, sizes: Sizes) -> Tensor:
    """The sum of each group, of all groups of one size at once."""
    totals, at = [], 0
    for size, group in groupby(sizes):
        count = len(list(group))
        first, *rest = t[at : at + size * count].unflatten(0, (count, size)).unbind(1)
        totals.append(sum(rest, first))
        at += size * count
    return totals[0] if len(totals) == 1 else torch.cat(totals)


def _of_all(groups: Sequence[Bits]) -> Bits:
    """The conjunctions over the opponents of each player, [opponents, players, ..], of one size after another."""
    first, *rest = (bits.protocol.all_of([_row(bits, k) for k in range(bits.shape[0])]) for bits in groups)
    for group in rest:
        first = first.joined(group)
    return first


def _differences(x: Number, first: Tensor, second: Tensor) -> Number:
    """x_j - x_i for pairs of elements i < j."""

    def op(t: Tensor) -> Tensor:
        return t[second.to(t.device)] - t[first.to(t.device)]

    d = _taken(x, second).added(-_taken(x, first))
    d.descend(x, lambda known: known.map(op))
    return d


def _pairs(sizes: Sizes) -> tuple[tuple[Tensor, Tensor], list[tuple[Tensor, Tensor]]]:
    """`_counted`, which is remembered where there are few."""
    few = sum(s * (s - 1) // 2 for s in sizes) <= REMEMBERED[1]
    return _counted(sizes) if few else _counted.__wrapped__(sizes)


@lru_cache(REMEMBERED[0])
def _counted(sizes: Sizes) -> tuple[tuple[Tensor, Tensor], list[tuple[Tensor, Tensor]]]:
    """The elements of all pairs; and for groups of one size, of each of their players, the pair in which it meets its
    k-th opponent, and whether it is the earlier one there, both as [opponents, players]."""
    firsts, seconds, winners = [], [], []
    start = met = 0
    for size, group in groupby(sizes):
        count = len(list(group))
        first, second = torch.triu_indices(size, size, 1)
        number = torch.zeros(size, size, dtype=torch.int64)
        number[first, second] = number[second, first] = torch.arange(len(first))
        others = torch.tensor([[j for j in range(size) if j != i] for i in range(size)]).T  # [opponent, player]
        pairs = number[others, torch.arange(size)]
        earlier = others > torch.arange(size)
        base = torch.arange(count)[:, None]
        firsts.append((first + size * base + start).flatten())
        seconds.append((second + size * base + start).flatten())
        winners.append(((pairs[:, None] + len(first) * base + met).flatten(1), earlier.repeat(1, count)))
        start, met = start + size * count, met + len(first) * count
    return (torch.cat(firsts), torch.cat(seconds)), winners


def _picked(bits: Bits, places: Tensor, flips: Tensor) -> Bits:
    """bits[places] ^ flips, where one place beyond the end holds zeros. What is open stays open."""

    def op(t: Tensor) -> Tensor:
        padded = torch.constant_pad_nd(t, [0, 0] * (t.dim() - 1) + [0, 1])
        return padded[places.to(t.device)]

    return bits.move(op, view=False).flipped(flips.to(torch.uint8).view(*flips.shape, *[1] * (len(bits.shape) - 1)))


def _row(bits: Bits, k: int) -> Bits:
    return bits.move(lambda t: t[k], view=False)


def _taken(x: Number, places: Tensor) -> Number:
    return x.move(lambda t: t[places.to(t.device)], view=False)


def _slice(start: int, stop: int | None, step: int) -> Callable[[Tensor], Tensor]:
    return lambda t: t[start:stop:step]


def extra_of_near(players: int, rows: int, prices: Prices) -> int:
    """The bytes that `near` takes more than comparing each element once.

    A pair is compared with two more thresholds, at a part of the price of its first one.
    """
    plan = _plan(players, rows, prices)
    pairs = sum(s * (s - 1) // 2 for sizes in plan for s in sizes)
    tables = sum(s * _table(s - 1) for sizes in plan for s in sizes) // 8
    return rows * (2 * prices.again * pairs + tables - prices.compared * players)


def levels(players: int, rows: int, prices: Prices) -> int:
    """How many levels the cheapest plan has."""
    return len(_plan(players, rows, prices))


@cache
def _plan(players: int, rows: int, prices: Prices) -> Plan:
    """The sizes of the groups of each level, of those with more than one player."""
    return _cheapest(players, rows, prices)[1]


@cache
def _cheapest(players: int, rows: int, prices: Prices) -> tuple[int, Plan]:
    if players <= 1:
        return 0, ()
    options = []
    for most in range(2, min(players, LARGEST) + 1):
        groups = -(-players // most)
        size, larger = divmod(players, groups)
        sizes = (size + 1,) * larger + (size,) * (groups - larger)
        rest, plan = _cheapest(groups, rows, prices)
        options.append((_cost(sizes, rows, prices) + rest, (tuple(s for s in sizes if s > 1), *plan)))
    return min(options, key=lambda option: option[0])


@cache
def even_plan(players: int, rows: int, prices: Prices) -> tuple[int, Plan]:
    """Levels of groups of one size s, for so many players or more, which are s to the power of the levels.

    Where some players can never win, there may be more of them: groups of a size take one round together, where groups
    of two take two. And groups may be larger, with two rounds for the conjunction of up to a hundred bits.
    """
    options = []
    for levels in range(1, max(players, 2).bit_length() + 1):
        size = next(s for s in range(2, players + 2) if s**levels >= players)
        groups = [size ** (levels - 1 - k) for k in range(levels)]
        if size <= LARGEST**2:
            cost = sum(_cost((size,) * n, rows, prices) for n in groups)
            options.append((cost, size**levels, tuple((size,) * n for n in groups)))
    _, count, plan = min(options)
    return count, plan


def _cost(sizes: Sizes, rows: int, prices: Prices) -> int:
    """What a level costs, in bytes."""
    if max(sizes) == 2:
        return 4 * prices.round + rows * (prices.compared + prices.chosen) * sizes.count(2)
    compared = prices.compared * sum(s * (s - 1) // 2 for s in sizes)
    tables = sum(s * _table(s - 1) for s in sizes) // 8
    rounds = 5 if max(sizes) <= LARGEST + 1 else 6
    return rounds * prices.round + rows * (compared + tables + prices.chosen * sum(sizes))


def _table(bits: int) -> int:
    """The bits that a conjunction is looked up in: of more than ten, ten at a time."""
    return (bits // LARGEST << LARGEST) + (1 << bits % LARGEST)
