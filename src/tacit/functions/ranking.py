"""How well scores rank rows of two classes: what is counted of the rows in the order of their scores.

Rows are sorted with their labels, and never counted apart: ties count as ties. Nothing grows with the square of the
number of rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from tacit.functions.linear import fractional
from tacit.functions.maximum import Maximum
from tacit.functions.reciprocal import INVERSE, WORKING_BITS, quotient
from tacit.functions.step import Octaves
from tacit.functions.whole import floor
from tacit.protocols.number import Number
from tacit.protocols.values import Bits

__all__ = ["MOST_WEIGHT", "WEIGHT_BITS", "Ranking", "area", "average_precision", "largest_gap", "ranking"]

WEIGHT_BITS = 12
"""Fractional bits of weights that are no integers. More: finer weights; fewer: larger sums of them, whose squares, of
24, must stay below 2^(62 - 24)."""

MOST_WEIGHT = 19
"""The sum of such weights stays below 2^19; the number of rows below 2^22."""

ROWS = 1 << 14
"""Quotients at a time. More: fewer rounds; fewer: less memory, of which each takes some kilobytes."""

LABEL_BITS = 2
"""A score s and a label y are sorted as 4 s + y, so that two neighbours are tied where they differ by less than 2.
Where it costs nothing, y goes beside s."""


class Ranking(NamedTuple):
    """Rows by ascending score: sums over all rows up to each, and where a group of equal scores ends."""

    ends: Bits
    """[the next score is another one]; the last row's is 1."""
    positives: Number
    """The weight of positive rows up to here."""
    rows: Number
    """The weight of rows up to here."""


def ranking(score: Number, label: Number, weight: Number | None = None) -> Ranking:
    """Sort rows by score and add up their labels.

    Shape: [n], n >= 1.   Domain: |score| < 2^(57 - f), and of two parties alone 2^(62 - f); labels 0 and 1;
    weights >= 0, see `WEIGHT_BITS`.
    Error: none, once scores are truncated to the session's fractional bits.
    Cost: that of sorting n numbers, and 10 rounds.   Reveals: nothing.
    """
    protocol = score.protocol
    count = score.shape[0]
    score, label = score.settle(protocol.frac_bits).rescaled(0), label.rescaled(0)
    packed = protocol.prices.carried
    key = score.times_integer(1 << LABEL_BITS) + label if packed else score
    key, *beside = protocol.in_order(key, *([] if packed else [label]), *([] if weight is None else [weight]))
    label = key - floor(key, LABEL_BITS).times_integer(1 << LABEL_BITS) if packed else beside.pop(0)
    last = protocol.public_bits(torch.ones(1, dtype=torch.uint8))
    if count > 1:
        steps = key.linear(lambda t: t[1:] - t[:-1])
        ends = protocol.less(steps, [2 if packed else 1])[0].invert().joined(last)
    else:
        ends = last
    if weight is None:
        rows = protocol.public(torch.arange(1, count + 1), 0)
        return Ranking(ends, _running(label), rows)
    (weight,) = beside
    return Ranking(ends, _running(protocol.multiply(label, weight)), _running(weight))


def known_order(order: torch.Tensor, ends: torch.Tensor, label: Number, weight: Number | None = None) -> Ranking:
    """The same for scores that are public: their order, and where groups of equal ones end. One round, or none."""
    protocol = label.protocol
    count = len(order)
    label = label.rescaled(0).move(lambda t: t[order.to(t.device)], view=False)
    public_ends = protocol.public_bits(ends.to(torch.uint8))
    if weight is None:
        return Ranking(public_ends, _running(label), protocol.public(torch.arange(1, count + 1), 0))
    weight = weight.move(lambda t: t[order.to(t.device)], view=False)
    return Ranking(public_ends, _running(protocol.multiply(label, weight)), _running(weight))


def _running(x: Number) -> Number:
    return x.linear(lambda t: t.cumsum(0))


def area(ranks: Ranking) -> Number:
    """Return the area under the ROC curve: the chance that a positive row has the higher score, ties counting half.

    With P and N up to each row, and p, n up to the end of the group before its own:

        AUC - 1/2  =  (Σ_ends (P - p) (N + n) - P_all N_all) / (2 P_all N_all)

    Where one class has no weight, it is 1/2.
    Error: <= 2^-19.   Cost: 2 rounds for each of 2 log2 n steps, and 11; about 50 bytes a row.
    """
    protocol = ranks.rows.protocol
    at, before = _at_ends(ranks)
    gained = at[0] - before[0]
    negatives = (at[1] - at[0]) + (before[1] - before[0])
    (gained,) = protocol.select([(ranks.ends, gained)])
    twice = protocol.multiply(gained, negatives).sum([0])
    positive, negative = _totals(ranks)
    pairs = protocol.multiply(positive, negative)
    share = quotient(fractional(twice - pairs), _denominator(pairs.times_integer(2)))
    return _plus(share, 0.5)


def average_precision(ranks: Ranking) -> Number:
    """Return Σ (R_i - R_(i-1)) P_i over thresholds i, of precisions P and recalls R. Where no row is positive, 0.

    Error: <= 2^-17.   Cost: 2 rounds for each of 2 log2 n steps, and 25; for each 16,384 rows 10 more, about 200 bytes
    a row.
    """
    protocol = ranks.rows.protocol
    at, before = _at_ends(ranks)
    (gained,) = protocol.select([(ranks.ends, at[0] - before[0])])
    above = _last(ranks.positives) - before[0]
    called = _last(ranks.rows) - before[1]
    total = None
    for start in range(0, ranks.ends.numel, ROWS):
        part = slice(start, start + ROWS)
        gain, hits, all_ = (x.move(lambda t, part=part: t[part], view=False) for x in (gained, above, called))  # type: ignore[misc]
        precision = _share_of(hits, all_, most=_most(ranks))
        found = protocol.multiply(gain, precision).sum([0])
        total = found if total is None else total + found
    assert total is not None
    return quotient(total.settle(), _denominator(_last(ranks.positives)))


def largest_gap(ranks: Ranking) -> Number:
    """Return the Kolmogorov-Smirnov distance max |P / P_all - N / N_all| over thresholds. With one class only, 0.

    Error: <= 2^-19.   Cost: 14 rounds, and those of a maximum of 2 n; about 40 bytes a row.
    """
    protocol = ranks.rows.protocol
    chosen = protocol.select([(ranks.ends, ranks.positives), (ranks.ends, _shaped(ranks.rows))])
    positive, negative = _totals(ranks)
    whole = _last(ranks.rows)
    gap = protocol.multiply(chosen[0], whole) - protocol.multiply(chosen[1], _last(ranks.positives))
    both = gap.linear(lambda t: torch.cat([t, -t]))
    gap = Maximum(both.settle(WEIGHT_BITS)).values
    return quotient(fractional(gap), _denominator(protocol.multiply(positive, negative)))


def _shaped(x: Number) -> Number:
    return x


def _totals(ranks: Ranking) -> tuple[Number, Number]:
    """The weights of both classes."""
    positive = _last(ranks.positives)
    return positive, _last(ranks.rows) - positive


def _last(x: Number) -> Number:
    return x.move(lambda t: t[-1], view=False)


def _denominator(x: Number) -> Number:
    return x.declare(positive=True)


def _plus(x: Number, c: float) -> Number:
    return x.plus(torch.tensor(round(c * 2**x.frac_bits)))


def _most(ranks: Ranking) -> float:
    """What the weights of all rows stay below."""
    return float(ranks.ends.numel) if not ranks.rows.frac_bits else 2.0**MOST_WEIGHT


def _share_of(part: Number, whole: Number, most: float) -> Number:
    """part / whole for 0 <= part <= whole <= most, with 24 fractional bits; 0 / 0 is 0.

    (part 2^-e) (1 / z), with z = whole 2^-e in [1/4, 1).
    """
    protocol = part.protocol
    octaves = Octaves(whole, least=2.0**-whole.frac_bits, most=most)
    scale = octaves.scale()
    protocol.together(part, whole, scale)
    scaled, z = protocol.multiply(part, scale), octaves.scaled(scale)
    protocol.together(scaled, z)
    inverse = protocol.harmonics(z, INVERSE).settle(WORKING_BITS)
    return protocol.multiply(scaled.settle(WORKING_BITS), inverse).settle(WORKING_BITS)


def _at_ends(ranks: Ranking) -> tuple[list[Number], list[Number]]:
    """[positives, rows] at each row, and at the end of the group before the one that it is in."""
    protocol = ranks.rows.protocol
    rows = [ranks.positives, ranks.rows]
    both = rows[0].combined(lambda *t: torch.stack(t), rows[1])
    flags = ranks.ends.move(lambda t: t.expand(2, *t.shape), view=False)
    (held,) = protocol.select([(flags, both)])
    latest = _latest(ranks.ends, held)
    before = latest.linear(lambda t: torch.nn.functional.pad(t[:, :-1], (1, 0)))
    return rows, [before.move(lambda t, k=k: t[k], view=False) for k in range(2)]  # type: ignore[misc]


def _latest(flags: Bits, values: Number) -> Number:
    """For each place the value at the last flagged place up to it, of values that are zero where no flag is.

    Pairs of neighbours become one, (f ∨ g, w + (1 - g) v), until one is left, and what is found for each pair is filled
    in at its first places.   Shape: [n] and [k, n].   Cost: 2 ceil(log2 n) rounds, 8 bytes for each value and step.
    """
    protocol = values.protocol
    count = flags.numel
    if count == 1:
        return values
    even, odd = slice(0, count - 1, 2), slice(1, None, 2)
    first, second = (flags.move(lambda t, s=s: t[s], view=False) for s in (even, odd))  # type: ignore[misc]
    v, w = (values.move(lambda t, s=s: t[:, s], view=False) for s in (even, odd))  # type: ignore[misc]
    protocol.together(first, second, v)
    pairs = _latest(first | second, _unless(second, v).added(w))
    later = flags.move(lambda t: t[2::2], view=False)
    if not later.numel:
        return values.combined(lambda x, p: torch.stack([x[:, :1], p], 2).flatten(1), pairs)
    above = pairs.move(lambda t: t[:, : later.numel], view=False)
    filled = _unless(later, above).added(values.move(lambda t: t[:, 2::2], view=False))

    def woven(x: torch.Tensor, p: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        out = x.clone()
        out[:, 1::2] = p
        out[:, 2::2] = f
        return out

    return values.combined(woven, pairs, filled)


def _unless(flags: Bits, values: Number) -> Number:
    """Values where no flag is, and zero where one is."""
    free = flags.invert().move(lambda t: t.expand(values.shape), view=False)
    (out,) = values.protocol.select([(free, values)])
    return out
