"""Federated analytics: what a column has over all sites, by queries whose answers are summed under masks.

A client answers with `tally` of its values, the server reads `Tally` from the sum:

    @app.query("ages")                                        tally(ages, edges, "age")
    SecureGrid(grid, roster, FORM).ask("ages")                Tally.of(total, "age").mean
"""

from __future__ import annotations

import hashlib
import math
import struct
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

    Domain: sums and squares of a site, about the center, below 2^64: else the query raises. So a column of times since
    1970 needs a center, and one of nanoseconds other units.
    Error: that of float64; of squares also 2^-52, so numbers that spread over less than 10^-5 lose digits of `std`, and
    a column whose mean lies more than 10^6 deviations from the center does, too.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    missing = np.isnan(x)
    x = x[~missing]
    if not np.isfinite(x).all():
        raise UpdateError(f"{name} holds an infinite number, which has no sum")
    if not math.isfinite(center):
        raise ValueError(f"the center of {name} must be a number, not {center}")
    bounds = np.asarray(edges, dtype=np.float64)
    if not (np.diff(bounds) > 0).all():
        raise ValueError("the edges of a histogram must ascend")
    with np.errstate(over="ignore"):
        moved = np.clip(x - center, -(2.0**80), 2.0**80)  # far beyond what is summed, and its square is a number
    counts = np.bincount(np.searchsorted(bounds, x, side="right"), minlength=len(bounds) + 1)
    record = MetricRecord(
        {
            f"{name}.count": len(x),
            f"{name}.missing": int(missing.sum()),
            f"{name}.about": [1, *_marks(struct.pack("<d", center + 0.0)), *_marks(_digest(bounds))],
            f"{name}.sum": math.fsum(moved),
            f"{name}.squares": math.fsum(moved**2),
        }
    )
    if len(bounds):
        record[f"{name}.histogram"] = counts.tolist()
    return record


WORDS = 4
"""Of 16 bits, in what sites must have alike. Their squares are whole numbers that any number of sites may add up."""


def _digest(bounds: npt.NDArray[np.float64]) -> bytes:
    return hashlib.sha256((bounds + 0.0).tobytes()).digest()[: 2 * WORDS]


def _marks(content: bytes) -> list[int]:
    """Return the words of what is the same at every site, and their squares: n sum w^2 = (sum w)^2 only then."""
    words = struct.unpack(f"<{WORDS}H", content)
    return [*words, *(word**2 for word in words)]


def _common(sites: int, marks: list[int]) -> bytes | None:
    """Return what all sites had, from the sums of their marks; None if they differed."""
    words, squares = marks[:WORDS], marks[WORDS:]
    if sites < 1 or len(squares) != WORDS or any(sites * s != w**2 for w, s in zip(words, squares, strict=True)):
        return None
    each = [word // sites for word in words]
    return struct.pack(f"<{WORDS}H", *each) if all(0 <= word < 1 << 16 for word in each) else None


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
            sites, *marks = map(round, total[f"{name}.about"])  # type: ignore[arg-type]
            count, missing = round(float(total[f"{name}.count"])), round(float(total[f"{name}.missing"]))  # type: ignore[arg-type]
            moved, squares = float(total[f"{name}.sum"]), float(total[f"{name}.squares"])  # type: ignore[arg-type]
            bins = total.get(f"{name}.histogram", [])
        except KeyError:
            raise UpdateError(f"the answer to the query holds no tally named {name!r}") from None
        if not count:
            return cls(0, missing, 0.0, math.nan, math.nan, tuple(map(round, bins)))  # type: ignore[arg-type]
        if (words := _common(sites, marks[: 2 * WORDS])) is None:
            raise UpdateError(f"sites have summed {name} about different centers")
        if _common(sites, marks[2 * WORDS :]) is None:
            raise UpdateError(f"sites have counted {name} between different edges")
        (center,), mean = struct.unpack("<d", words), moved / count
        std = math.sqrt(max(squares / count - mean**2, 0.0))
        return cls(count, missing, moved + count * center, center + mean, std, tuple(map(round, bins)))  # type: ignore[arg-type]
