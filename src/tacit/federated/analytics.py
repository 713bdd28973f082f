"""Federated analytics: what a column has over all sites, by queries whose answers are summed under masks.

A client answers with `tally` of its values, the server reads `Tally` from the sum:

    @app.query("ages")                                        tally(ages, edges, "age")
    SecureGrid(grid, roster, FORM).ask("ages")                Tally.of(total, "age").mean
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from flwr.app import MetricRecord

from tacit.errors import UpdateError

__all__ = ["Tally", "tally"]


def tally(values: npt.ArrayLike, edges: Sequence[float] = (), name: str = "x", *, center: float = 0.0) -> MetricRecord:
    """Return what sums up over sites of numbers: how many, how many are missing, sums, and counts between the edges.

    The histogram has a bin below the first edge, one from each edge to below the next, and one from the last edge on.
    `edges` and `center`, a rough mean about which squares are summed, are the same at every site. NaN is missing. What
    is summed hides the sites; a bin with one row in all of them still tells of that row.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    missing = np.isnan(x)
    x = x[~missing]
    if not np.isfinite(x).all():
        raise UpdateError(f"{name} holds an infinite number, which has no sum")
    bounds = np.asarray(edges, dtype=np.float64)
    if not (np.diff(bounds) > 0).all():
        raise ValueError("the edges of a histogram must ascend")
    counts = np.bincount(np.searchsorted(bounds, x, side="right"), minlength=len(bounds) + 1)
    record = MetricRecord(
        {
            f"{name}.count": len(x),
            f"{name}.missing": int(missing.sum()),
            f"{name}.centers": [1.0, center, center**2],
            f"{name}.sum": math.fsum(x - center),
            f"{name}.squares": math.fsum((x - center) ** 2),
        }
    )
    if len(bounds):
        record[f"{name}.histogram"] = counts.tolist()
    return record


@dataclass(frozen=True)
class Tally:
    """What a column has over all sites."""

    count: int
    missing: int
    sum: float
    mean: float
    std: float
    """The standard deviation, divided by count."""
    histogram: tuple[int, ...] = ()

    @classmethod
    def of(cls, total: MetricRecord, name: str = "x") -> Self:
        """Read the sum of all sites' `tally`."""
        try:
            sites, centers, squared = total[f"{name}.centers"]  # type: ignore[misc]
            count, missing = round(float(total[f"{name}.count"])), round(float(total[f"{name}.missing"]))  # type: ignore[arg-type]
            moved, squares = float(total[f"{name}.sum"]), float(total[f"{name}.squares"])  # type: ignore[arg-type]
            bins = total.get(f"{name}.histogram", [])
        except KeyError:
            raise UpdateError(f"the answer to the query holds no tally named {name!r}") from None
        if not count:
            return cls(0, missing, 0.0, math.nan, math.nan, tuple(map(round, bins)))  # type: ignore[arg-type]
        center, mean = centers / sites, moved / count
        if abs(squared / sites - center**2) > 1e-9 * center**2:
            raise UpdateError(f"sites have summed {name} about different centers")
        std = math.sqrt(max(squares / count - mean**2, 0.0))
        return cls(count, missing, moved + count * center, center + mean, std, tuple(map(round, bins)))  # type: ignore[arg-type]
