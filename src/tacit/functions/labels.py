"""Secret class labels and positions, which their owner knows: checked there, and spread into rows there, at no cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.functions.reciprocal import reciprocal
from tacit.functions.step import Steps
from tacit.protocols.fallbacks import one_hot
from tacit.protocols.in_the_clear import computed, sharing
from tacit.protocols.number import Number
from tacit.protocols.remembered import Owned, owned, within
from tacit.protocols.scale import SLACK_BITS
from tacit.protocols.values import Bits
from tacit.session.ledger import source_line

__all__ = ["by_owner", "check_within", "hot", "hot_bits", "inverse_count", "known_within", "wrapped"]

T = TypeVar("T")

MOST_COUNTED = 128
"""Up to so many rows the inverse of a count is looked up: 4 rounds in the place of 9. More: more comparisons of 5 bytes
each, one for every row."""


def by_owner(x: Number, compute: Callable[[Tensor], Tensor], shape: Sequence[int], frac_bits: int = 0) -> Number | None:
    """What the party that shared x computes of it, and shares in its turn; None if no single party knows x.

    `compute` depends on its argument, and on what is in its closure: plain values and public tensors that never change.

    Cost: that of sharing the result.   Reveals: nothing, but that `compute` did not raise.
    """
    known = owned(x.facts)
    if known is None:
        return None
    return _shared(x, known, compute, lambda value, owner: x.protocol.share(value, owner, shape, frac_bits))


def _shared(
    x: Number, known: Owned, compute: Callable[[Tensor], Tensor], share: Callable[[Tensor | None, str], T]
) -> T:
    """What the party that knows x computes of it, shared: `share` takes it, None at the other roles, and the owner."""
    with sharing():
        value = None if known.value is None else computed(compute, known.value)
        return share(value, x.protocol.session.parties[known.party])


def check_within(index: Tensor, allowed: range, what: str, ignore: int | None = None) -> None:
    """Raise for the first of somebody's own integers that is none of those allowed. Its value is not told."""
    wrong = (index < allowed.start) | (index >= allowed.stop)
    if ignore is not None:
        wrong &= index != ignore
    if bool(wrong.any()):
        place = tuple(int(i) for i in wrong.nonzero()[0])
        beside = "" if ignore is None else f", nor {ignore}"
        raise DataError(
            f"{what} holds a number at index {place[0] if len(place) == 1 else place} that is none of "
            f"{allowed.start} to {allowed.stop - 1}{beside}"
        )


def known_within(x: Number, allowed: range) -> bool:
    """Whether x is publicly known to be one of these integers."""
    found = within(x.facts)
    return found is not None and found.start >= allowed.start and found.stop <= allowed.stop


def hot(index: Number, count: int, dim: int, what: str, *, outside: bool = False, ignore: int | None = None) -> Number:
    """[index = j] for j = 0 .. count - 1 along `dim`, where `index` has one element, as integers.

    An owner's own are checked and spread by the owner. With `outside`, others that are none of these give zeros; what
    is to be ignored may be among the owner's, and gives zeros too.

    Shape: [.., 1, ..] -> [.., count, ..].   Domain: integers 0 <= index < count.
    Cost: none for what one party owns, else 1 round, 8 bytes, and 8 from the producer for each place; with `outside`
    4 rounds, 8 bytes and 4.375 for each place.   Reveals: nothing.
    """
    shape = torch.Size((*index.shape[:dim], count, *index.shape[dim + 1 :]))
    column = torch.arange(count).view(-1, *[1] * (len(shape) - dim - 1))

    def spread(t: Tensor) -> Tensor:
        check_within(t, range(count), what, ignore)
        return ((t == column) & (t != (count if ignore is None else ignore))).to(torch.int64)

    found = by_owner(index, spread, shape)
    if found is not None:
        return found
    if outside and not known_within(index, range(count)):
        return _steps(index, range(count + 1), dim).arithmetic()
    _look(index, range(count), what)
    places = index.move(lambda t: t.squeeze(dim), view=False)
    return index.protocol.hot(places, count).move(lambda t: t.movedim(-1, dim), view=False)


def hot_bits(index: Number, count: int, dim: int, what: str) -> Bits:
    """As `hot`, as bits.

    Domain: integers 0 <= index < count.
    Cost: none for what one party owns, else 3 rounds, 8 bytes and 4.25 for each place.   Reveals: nothing.
    """
    known = owned(index.facts)
    if known is None:
        _look(index, range(count), what)
        return one_hot(index, count, dim)
    column = torch.arange(count).view(-1, *[1] * (len(index.shape) - dim - 1))

    def spread(t: Tensor) -> Tensor:
        check_within(t, range(count), what)
        return (t == column).to(torch.uint8)

    shape = (*index.shape[:dim], count, *index.shape[dim + 1 :])
    return _shared(index, known, spread, lambda value, owner: index.protocol.share_bits(value, owner, shape))


def _look(index: Number, allowed: range, what: str) -> None:
    """Check positions that no party owns, where anybody can: public ones, secret ones if the session looks at ranges.

    Cost: none without `range_check`; else, for what is not known to be within, 8 rounds and two comparisons for each.
    Reveals: then, whether all are within, and nothing else.
    """
    public, guard = index.known_public(), index.protocol.session.guard
    if public is not None:
        check_within(public, allowed, what)
    elif guard is not None and not known_within(index, allowed):
        low, high = index.protocol.less(index, [allowed.start, allowed.stop])
        guard.require(
            low ^ high,
            f"{what} of shape {tuple(index.shape)} ({source_line()}) holds a number that is none of {allowed.start} to "
            f"{allowed.stop - 1}; what it would choose is nothing, or something else",
        )
        index.facts.within = allowed


def _steps(index: Number, edges: range, dim: int) -> Bits:
    """[index = j] for all j of the edges but the last."""
    below = index.protocol.less(index, edges)
    rows = Bits.stack([b ^ a for a, b in pairwise(below)])
    return rows.move(lambda t: t.movedim(0, dim).squeeze(dim + 1), view=False)


def wrapped(index: Number, count: int, dim: int, what: str) -> Number:
    """As `hot`, where negative numbers count from the end.

    Domain: integers -count <= index < count.
    Cost: that of `hot`, twice the bytes for what no party owns.   Reveals: nothing.
    """
    if known_within(index, range(count)):
        return hot(index, count, dim, what)

    def from_start(t: Tensor) -> Tensor:
        check_within(t, range(-count, count), what)
        return torch.where(t < 0, t + count, t)

    positive = by_owner(index, from_start, index.shape)
    if positive is not None:
        return hot(positive, count, dim, what)
    both = hot(index.plus(torch.tensor(count)), 2 * count, dim, what)
    return both.linear(lambda t: t.unflatten(dim, (2, count)).sum(dim))


def inverse_count(count: Number, most: int) -> Number:
    """1 / count for a whole number of at most `most`, and 0 for none.

    Shape: any.   Domain: integers 0 <= count <= most.   Error: <= 2^-20 relative.
    Cost: 4 rounds for up to 128, else 9.   Reveals: nothing.
    """
    if most > MOST_COUNTED:
        return reciprocal(count)
    frac_bits = count.protocol.frac_bits + SLACK_BITS
    return Steps(count, range(1, most + 1)).function([0.0, *(1 / n for n in range(1, most + 1))], frac_bits)
