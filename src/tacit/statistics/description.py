"""`tacit.describe`: means, deviations, quantiles and correlations of columns, whoever holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import tacit.aten  # noqa: F401 - registers the operators
from tacit.errors import DataError
from tacit.functions.linear import fractional
from tacit.functions.moments import moments
from tacit.statistics.given import table_of
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, secret

__all__ = ["Description", "describe"]

MOST_INFLATION = 128.0
"""Beyond, the inverse is off by more than is said. With it, columns differ by a twelfth of a deviation."""

LEAST_INFLATION = 0.75
"""Inflation is 1 at least; what is less by more than rounding is none."""

MOST_OFF = 0.125
"""What a column of R X may be off by in all. More: some that others make up are taken for ones with an inverse; less:
among many columns, large inflation is taken for none that there is."""


@dataclass(frozen=True, slots=True)
class Description:
    """What `describe` returns: secrets, and None for what was not asked for. `tacit.reveal` takes it as a whole."""

    columns: tuple[str, ...]
    rows: int
    mean: Tensor
    """Of each column."""
    std: Tensor
    """Of a sample, with n - 1, as pandas has it; of a constant, 0."""
    correlation: Tensor | None
    """[columns, columns]; 0 with a constant, whose correlation is none."""
    levels: tuple[float, ...]
    """Of the quantiles."""
    quantiles: Tensor | None
    """[levels, columns]."""
    vif: Tensor | None
    """Variance inflation of each column; of a constant 1, of columns that others make up, and beyond it, 128."""


def describe(
    table: Any,
    *,
    columns: Sequence[str] | None = None,
    quantiles: Sequence[float] = (0.25, 0.5, 0.75),
    correlation: bool = True,
    vif: bool = False,
    least_rows: int = 100,
    sample: int = 10_000,
) -> Description:
    """Describe the columns of a secret table: a tensor [rows, columns], or what was read or joined.

    Nothing is revealed: the result holds secrets. Reveal what may be known, by name, as the policy allows:
    `tacit.reveal(found.mean, to="alice", name="means")`. Each number that is revealed says something of the rows, and
    the difference of two descriptions of almost the same rows says what single rows are.

    Args:
        table: the secrets.
        columns: their names, where the table does not know them.
        quantiles: between 0 and 1, by a line between two rows, as pandas' and NumPy's; none if empty. The ends, 0 and
            1, which are single rows, are refused.
        correlation: whether to correlate the columns, of all owners.
        vif: whether to compute the variance inflation of each column, 1 / (1 - R²) of its regression on the others.
        least_rows: tables of fewer rows are refused.
        sample: with more rows, quantiles are those of so many, drawn in public.

    Domain: |x| < 2^30.   Error: see `tacit.functions.moments`; quantiles 2^-15 of their sample's,
    which are off by about 1 / (2 √sample) of the ranks; inflation 2^-8 relative.
    Cost: see `tacit.functions.moments`; for quantiles that of sorting each column.   Reveals: nothing.
    """
    x, names = table_of(table, columns, least_rows, "tacit.describe")
    levels = _levels(quantiles)
    if type(sample) is not int or sample < least_rows:
        raise DataError(f"sample is a number of rows, {least_rows} at least, not {sample!r}")
    found = moments(arithmetic(x))
    related = secret(found.correlation, torch.float32)
    inflation = None
    if vif:
        constant = found.varies.invert()
        alone = torch.diag(secret(constant.arithmetic(), torch.int64).to(torch.float32))
        inflation = _inflation(related + alone)
    return Description(
        columns=names,
        rows=x.shape[0],
        mean=secret(found.mean.fork(), torch.float32),
        std=secret(found.deviation, torch.float32),
        correlation=related if correlation else None,
        levels=levels,
        quantiles=_quantiles(x, levels, sample) if levels else None,
        vif=inflation,
    )


def _inflation(correlation: Tensor) -> Tensor:
    """The diagonal of the inverse X of R, from 1 to `MOST_INFLATION`.

    Of columns that others make up there is no inverse, and what is found for one is no such thing: for a vector v with
    R v = 0, v R X = 0, so the column i of R X - 1 has a sum of magnitudes of |v_i| / max |v| at least.
    """
    inverse = torch.linalg.inv(correlation)
    off = (correlation @ inverse - torch.eye(len(correlation))).abs().sum(0)
    found = inverse.diagonal().clone()
    none = (off > MOST_OFF) | (found > MOST_INFLATION) | (found < LEAST_INFLATION)
    return torch.where(none, MOST_INFLATION, found.clamp(min=1.0))


def _levels(quantiles: Sequence[float]) -> tuple[float, ...]:
    levels = tuple(float(q) for q in quantiles)
    if not all(0 < q < 1 for q in levels):
        raise DataError("quantiles lie between 0 and 1; the least and the largest number are single rows'")
    return levels


def _quantiles(x: SecretTensor, levels: Sequence[float], sample: int) -> Tensor:
    """[levels, columns]: a (1 - t) + b t, of neighbours a and b in the sorted column, at the place q (n - 1)."""
    if x.shape[0] > sample:
        chosen = torch.randperm(x.shape[0])[:sample]
        x = x[chosen]  # type: ignore[assignment]
    share = fractional(arithmetic(x)).settle(x._protocol.frac_bits)
    (ordered,) = x._protocol.in_order(share.rescaled(0))
    ordered = ordered.rescaled(share.frac_bits)
    last = x.shape[0] - 1
    places = [min(int(q * last), last - 1) for q in levels]
    parts = torch.tensor([q * last - p for q, p in zip(levels, places, strict=True)], dtype=torch.float32)
    low, high = (
        secret(ordered.move(lambda t, k=k: t[torch.tensor([p + k for p in places])], view=False), torch.float32)  # type: ignore[misc]
        for k in (0, 1)
    )
    assert all(map(math.isfinite, parts.tolist()))
    return low + (high - low) * parts[:, None]
