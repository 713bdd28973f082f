"""Weight of evidence and information value: how much a column, cut into bins, says of a label of two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import tacit.aten  # noqa: F401 - registers the operators
from tacit.aten.rows import weight_of
from tacit.errors import DataError
from tacit.functions.linear import fractional
from tacit.functions.logarithm import log
from tacit.metrics.given import column, number_of, positive
from tacit.protocols.number import Number
from tacit.ring import kernels
from tacit.statistics.given import table_of
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, secret

__all__ = ["Evidence", "weight_of_evidence"]

MOST_BINS = 100


@dataclass(frozen=True, slots=True)
class Evidence:
    """What `weight_of_evidence` returns: secrets, but for the names."""

    columns: tuple[str, ...]
    counts: Tensor
    """Rows in each bin, [columns, bins]; 0 for a bin of too few."""
    positives: Tensor
    """Those of the class 1; likewise."""
    woe: Tensor
    """log of the bin's part of all positive rows over its part of all others, [columns, bins]; 0 likewise."""
    iv: Tensor
    """Information value of each column: the sum over bins of the difference of these parts times the logarithm."""


def weight_of_evidence(
    table: Any,
    label: Any,
    *,
    bins: int | Sequence[float] | Mapping[str, Sequence[float]] = 5,
    columns: Sequence[str] | None = None,
    pos_label: float | None = None,
    least_rows: int = 100,
    least_in_bin: int = 20,
) -> Evidence:
    """Cut columns into bins, and compare the classes of a secret label in each.

    Half a row of each class is added to each bin before the logarithm, so that none is infinite. A bin of fewer than
    `least_in_bin` rows counts as empty: all that is said of it is 0, and how many rows it has nobody learns, even when
    all is revealed.

    Args:
        table: the secrets, as `tacit.describe` takes them.
        label: two classes, secret or not; labels other than `pos_label` are the other class.
        bins: edges for all columns, or by name: bins are (-∞, e_1), [e_1, e_2), …, [e_k, ∞). Or a number of bins of
            equally many rows, in the order of each column, by ranks: rows with equal numbers may fall into two of them.
        columns: names of the columns, where the table does not know them.
        pos_label: the label of the positive class, 1 by default.
        least_rows: tables of fewer rows are refused.
        least_in_bin: see above.

    Domain: rows below 2^20.   Error: 2^-14 of logarithms, 2^-12 of values.
    Cost: with edges a comparison of each number with each, from one opening; else that of sorting each column.
    Reveals: nothing.
    """
    x, names = table_of(table, columns, least_rows, "weight_of_evidence")
    y = positive(column(label, "weight_of_evidence", "label"), pos_label, "weight_of_evidence")
    if len(y) != x.shape[0]:
        raise DataError(f"weight_of_evidence needs columns of one length, and they have {x.shape[0]} and {len(y)}")
    if weight_of(label) is not None:
        raise DataError(
            "of the rows of this label some are nobody's: weight_of_evidence takes one whose rows all count"
        )
    if type(least_in_bin) is not int or least_in_bin < 1:
        raise DataError(f"least_in_bin is a number of rows from 1 on, not {least_in_bin!r}")
    one = number_of(y, x).rescaled(0)
    if isinstance(bins, int):
        if isinstance(bins, bool) or not 2 <= bins <= min(MOST_BINS, x.shape[0] // least_in_bin):
            most = min(MOST_BINS, x.shape[0] // least_in_bin)
            raise DataError(f"there are from 2 to {most} bins of {least_in_bin} rows and more here, not {bins!r}")
        counts, positives = _by_rank(x, one, bins)
    else:
        counts, positives = _by_edges(x, one, _edges(bins, names))
    return _evidence(names, counts, positives, one.sum([0]), x.shape[0], least_in_bin)


def _edges(bins: Any, names: Sequence[str]) -> list[list[float]]:
    if isinstance(bins, Mapping):
        if set(bins) != set(names):
            raise DataError("bins by name have edges for every column, and for no other")
        rows = [list(bins[name]) for name in names]
    else:
        rows = [list(bins)] * len(names)
    if len({len(row) for row in rows}) > 1:
        raise DataError("all columns have the same number of bins: repeat the last edge of shorter ones")
    if not 1 <= len(rows[0]) < MOST_BINS:
        raise DataError(f"bins have from 1 to {MOST_BINS - 1} edges")
    if any(not all(a <= b for a, b in pairwise(row)) or any(e != e for e in row) for row in rows):
        raise DataError("edges of bins are numbers in ascending order")
    return [[float(e) for e in row] for row in rows]


def _by_edges(x: SecretTensor, one: Number, edges: list[list[float]]) -> tuple[Number, Number]:
    """Rows and positive rows of each bin: sums of [x >= edge] and of its products with the label."""
    protocol = x._protocol
    found = []
    for row in torch.tensor(edges, dtype=torch.float64).t().contiguous():
        found.append(arithmetic((x >= row.to(torch.float32)).to(torch.int64)))
    above = found[0].combined(lambda *t: torch.stack(t), *found[1:])  # [edges, rows, columns]
    rows = above.sum([1])
    positive = protocol.bilinear(one, above, kernels.matmul)  # [edges, columns]
    total, ones = x.shape[0], one.sum([0])
    return _steps(rows, protocol.public(torch.tensor(total), 0)), _steps(positive, ones)


def _steps(above: Number, total: Number) -> Number:
    """[columns, bins] from what lies above each edge, and all."""
    first = total.move(lambda t: t.reshape(1, 1).expand(1, above.shape[1]), view=False)
    zero = above.protocol.public(torch.zeros((1, above.shape[1]), dtype=torch.int64), 0)
    whole = first.combined(lambda *t: torch.cat(t), above, zero)
    return whole.linear(lambda t: (t[:-1] - t[1:]).t().contiguous())


def _by_rank(x: SecretTensor, one: Number, bins: int) -> tuple[Number, Number]:
    """The same for bins of equally many rows, up to one, of the sorted column."""
    protocol = x._protocol
    count, width = x.shape
    share = fractional(arithmetic(x)).settle(protocol.frac_bits).rescaled(0)
    labels = one.move(lambda t: t[:, None].expand(count, width), view=False)
    _, labels = protocol.in_order(share, labels)
    ends = [count * (k + 1) // bins for k in range(bins)]
    sizes = [b - a for a, b in zip([0, *ends], ends, strict=False)]
    positives = labels.linear(lambda t: torch.stack([p.sum(0) for p in t.split(sizes)], 1))
    public = torch.tensor(sizes).expand(width, bins).contiguous()
    return protocol.public(public, 0), positives


def _evidence(
    names: tuple[str, ...], counts: Number, positives: Number, ones: Number, rows: int, least: int
) -> Evidence:
    """WoE = log((p + 1/2) / (n + 1/2)) - log(P / N), and IV = Σ (p / P - n / N) WoE."""
    protocol = counts.protocol
    (few,) = protocol.less(counts, [least])
    enough = few.invert()
    counts, positives = protocol.select([(enough, counts), (enough, positives)])
    negatives = counts - positives
    others = protocol.public(torch.tensor(rows), 0) - ones
    both = positives.combined(lambda p, n: torch.stack([p, n]), negatives)
    half = both.times_integer(2).plus(torch.tensor(1))
    logs = log(half.lifted(protocol.frac_bits), least=1.0, most=2.0**22)  # log 2 falls out of the difference
    totals = ones.combined(lambda p, n: torch.stack([p, n]), others)
    ends = log(totals.lifted(protocol.frac_bits), most=2.0**21, zero=0.0)
    woe = logs.linear(lambda t: t[0] - t[1])
    overall = ends.linear(lambda t: (t[0] - t[1]).expand(woe.shape).contiguous())
    (woe,) = protocol.select([(enough, woe.settle(protocol.frac_bits) - overall.settle(protocol.frac_bits))])
    evidence = secret(woe, torch.float32)
    parts = secret(both, torch.int64) / secret(totals, torch.int64)[:, None, None]
    return Evidence(
        names,
        secret(counts, torch.int64),
        secret(positives, torch.int64),
        evidence,
        ((parts[0] - parts[1]) * evidence).sum(1),
    )
