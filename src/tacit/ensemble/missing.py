"""Columns in which numbers may be missing: each is two, one with what is missing above all numbers, one with it below.

A split of the first sends rows without a number right, one of the second sends them left. So the best of all candidates
says where they go, as XGBoost's default direction does; and prediction needs nothing new. Which columns these are is
public, and whether any number is missing there is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.data.table import ABSENT
from tacit.errors import ConfigError, UnusableTable
from tacit.functions.labels import by_owner
from tacit.protocols.number import Number
from tacit.protocols.remembered import owned
from tacit.tensor import SecretTensor
from tacit.tensor.operands import secret

__all__ = ["ABOVE", "BELOW", "MISSING", "Flags", "check_cells", "doubled", "flagged", "sided", "sides"]

MISSING = ABSENT
"""What stands for a number that is missing."""

EDGE = 2.0**29
"""Numbers of columns where some may be missing are below this in magnitude, so no more than half of `MISSING`."""

ABOVE, BELOW = 1, -1
"""Where what is missing stands in a column's copy."""

Flags = tuple[bool, ...]
"""Of each column, whether numbers may be missing there."""


def flagged(missing: bool | Sequence[int], columns: int) -> Flags:
    """What the parameter `missing` says of so many columns."""
    if isinstance(missing, bool):
        return (missing,) * columns
    chosen = None if isinstance(missing, str) or not isinstance(missing, Sequence) else list(missing)
    if chosen is None or not all(type(k) is int and 0 <= k < columns for k in chosen):
        raise ConfigError(f"missing is True, False or a list of columns from 0 to {columns - 1}, not {missing!r}")
    return tuple(k in chosen for k in range(columns))


def sides(flags: Flags) -> list[tuple[int, int]]:
    """The columns that trees look at: which it is, and `ABOVE`, `BELOW` or 0 for where what is missing stands.

    At a tie the first wins, which sends what is missing right, as XGBoost does where nothing is.
    """
    return [(k, side) for k, may in enumerate(flags) for side in ((ABOVE, BELOW) if may else (0,))]


def check_cells(x: Tensor, flags: Flags, frac_bits: int) -> None:
    """Raise, at the owner of columns [columns, rows], for a number missing where none may be, and for one too large.

    Which they are is told to nobody else.
    """
    missing, edge = round(MISSING * 2.0**frac_bits), round(EDGE * 2.0**frac_bits)
    for k, (column, may) in enumerate(zip(x, flags, strict=True)):
        gone = column == missing
        if not may and bool(gone.any()):
            raise UnusableTable(
                f"in column {k} of these the number of row {int(gone.nonzero()[0, 0])} is missing: make the estimator "
                "with missing=True, or with a list of all columns where numbers may be missing"
            )
        if may and bool((~gone & ((column >= edge) | (column <= -edge))).any()):
            raise UnusableTable(f"column {k} of these may miss numbers, so those it has are below {EDGE:g}: scale them")


def sided(column: Tensor, side: int, frac_bits: int) -> Tensor:
    """A column of ring elements with what is missing where this copy has it."""
    missing = round(MISSING * 2.0**frac_bits)
    return torch.where(column == missing, -missing, column) if side == ABOVE else column


def doubled(parts: Sequence[SecretTensor], flags: Flags) -> list[SecretTensor]:
    """Rows to predict, with two columns for each where numbers may be missing.

    Shape: [rows, columns] of each part.   Domain: `MISSING`, and numbers below 2^29.
    Cost: none for what an owner has, else 4 rounds and 16 bytes for each number of such a column.   Reveals: nothing.
    """
    out, start = [], 0
    for part in parts:
        mine, start = flags[start : start + part.shape[1]], start + part.shape[1]
        out.append(_doubled(part, mine))
    return out


def _doubled(part: SecretTensor, flags: Flags) -> SecretTensor:
    x = part.share
    assert isinstance(x, Number)
    order = sides(flags)

    def both(t: Tensor) -> Tensor:
        turned = t.t()
        check_cells(turned, flags, x.frac_bits)
        return torch.stack([sided(turned[k], side, x.frac_bits) for k, side in order], 1)

    known = owned(x.facts)
    if known is not None and not any(flags):
        if known.value is not None:
            check_cells(known.value.t(), flags, x.frac_bits)
        return part
    found = by_owner(x, both, (x.shape[0], len(order)), x.frac_bits)
    if found is None:
        found = _by_all(x, order) if any(flags) else x
    return secret(found, part.dtype)


def _by_all(x: Number, order: Sequence[tuple[int, int]]) -> Number:
    """Of rows that nobody knows:  x + 2^31 [x < -2^29], beside x."""
    columns = [k for k, side in order if side == ABOVE]
    some = x.move(lambda t: t[:, columns], view=False)
    gone = x.protocol.less(some, [-round(EDGE * 2.0**x.frac_bits)])[0].arithmetic()
    up = gone.times_integer(round(-2 * MISSING * 2.0**x.frac_bits)).declare(frac_bits=x.frac_bits, positive=False)
    above = some.added(up)
    width = x.shape[1]
    places = [width + columns.index(k) if side == ABOVE else k for k, side in order]
    return x.combined(lambda a, b: torch.cat([a, b], 1)[:, places], above)
