"""Owners bin their own columns, in the clear: where the edges are, as secrets, and which bin each row is in.

An edge, B - 1 of them for each column whatever it holds, is a secret that its owner knows; which rows lie below each is
a matrix of zeros and ones C that it knows too, and of which nobody else sees more than C under a mask. These cumulative
indicators, not the bins themselves, are what a split needs: "go left" is one of their rows, and their product with the
gradients is the sum of what goes left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.ensemble.missing import ABOVE, EDGE, MISSING, Flags, check_cells, sided, sides
from tacit.errors import DataError, UnusableTable
from tacit.functions.labels import by_owner
from tacit.functions.linear import fractional
from tacit.protocols.binned import Binned
from tacit.protocols.number import Number
from tacit.protocols.remembered import Owned, owned
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS
from tacit.tensor import SecretTensor

__all__ = ["Columns", "binned", "coarse", "edges_of", "parts_of"]

MASKED, SELECTED = 1 << 25, 1 << 24
"""Rows times edges of an owner, and rows times numbers that are chosen for the last level, of a block of rows. More:
fewer rounds; fewer: less memory, some 16 bytes for each of the first, and some 50 for each of the second."""

IN_MEMORY = 1 << 29
"""Bytes of the masked indicators of all owners up to which they stay in memory; more of them are written to a file."""


class Columns(NamedTuple):
    """One owner's columns, binned."""

    edges: Number
    """The largest number of each bin but the last, column after column, with the session's fractional bits."""
    blocks: list[Binned]
    """Which bins the rows are in, some neighbours after the other; the same rows for every owner."""
    columns: int
    """Of these, each of which numbers may be missing in is two; see `missing`."""
    owner: int

    @property
    def candidates(self) -> int:
        """Edges of all columns."""
        return self.blocks[0].edges


def parts_of(x: Tensor | Sequence[Tensor], what: str = "X") -> list[SecretTensor]:
    """The tensors of columns that fit and predict are given, checked to be secret, two-dimensional, of equal length."""
    parts = [x] if isinstance(x, Tensor) else list(x)
    if not parts:
        raise DataError(f"{what} holds no columns: give the owners' secret tensors, [xa, xb]")
    for k, part in enumerate(parts):
        name = what if isinstance(x, Tensor) else f"{what}[{k}]"
        if not isinstance(part, SecretTensor):
            raise DataError(f"{name} is no secret: share it, with tacit.share({name}, owner=…) or tacit.read_csv")
        if part.dim() != 2 or not part.shape[1]:
            raise DataError(f"{name} has shape {tuple(part.shape)}: it must have rows, and one column at least")
        if isinstance(part.share, Bits):
            raise DataError(f"{name} is of dtype bool: share it as numbers, with dtype=torch.int64")
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise DataError(f"the owners' columns in {what} have different numbers of rows: {', '.join(map(str, lengths))}")
    if not lengths[0]:
        raise DataError(f"{what} has no rows")
    return parts  # type: ignore[return-value]


def binned(
    parts: Sequence[SecretTensor], bins: int, flags: Flags, *, first: int | None = None, chosen: int = 1
) -> list[Columns]:
    """Have every owner bin its columns, by the edges of all rows or of the first so many.

    What is missing in the columns with a flag has a bin more, which all columns get then.
    `chosen` is how many numbers a row will have on the last level of trees.

    Raises:
        DataError: if no single party knows a part.
    """
    numbers = []
    for part in parts:
        x = part.share
        assert isinstance(x, Number)
        if owned(x.facts) is None:
            raise DataError(
                "no single owner knows these columns, so nobody can bin them: give fit a list of each owner's own "
                "secrets, [xa, xb], as tacit.read_csv, tacit.share(…, owner=…) and x_of of a join return them, not "
                "what is joined or computed of them"
            )
        numbers.append(coarse(x))
    rows = len(parts[0])
    starts = [sum(x.shape[1] for x in numbers[:k]) for k in range(len(numbers))]
    mine = [flags[start : start + x.shape[1]] for start, x in zip(starts, numbers, strict=True)]
    bins += any(flags)
    widths = [len(sides(f)) * (bins - 1) for f in mine]
    step = max(1, min(MASKED // max(widths), SELECTED // chosen))
    spilled = 8 * rows * sum(widths) > IN_MEMORY
    return [
        _binned(x, bins, f, first or rows, step, spare=any(flags), spilled=spilled)
        for x, f in zip(numbers, mine, strict=True)
    ]


def coarse(x: Number) -> Number:
    """x with the session's fractional bits. No round for what one party owns, who owns the result.

    Domain: |x| < 2^(62 - f), which an owner of integers checks.
    """
    bits = x.frac_bits - x.protocol.frac_bits
    if bits > 0:
        found = by_owner(x, lambda t: t >> bits, x.shape, x.protocol.frac_bits)
        return x.settle(x.protocol.frac_bits) if found is None else found
    out, known = fractional(x), owned(x.facts)
    if known is not None and bits:
        value = known.value
        if value is not None and value.numel() and int(value.abs().max()) >> VALUE_BITS + bits:
            raise UnusableTable(f"whole numbers that trees look at are below 2^{VALUE_BITS + bits}: scale these")
        out.facts.owned = Owned(known.party, None if value is None else value << -bits)
    return out


def _binned(x: Number, bins: int, flags: Flags, first: int, step: int, *, spare: bool, spilled: bool) -> Columns:
    known = owned(x.facts)
    assert known is not None
    rows, columns = x.shape[0], len(sides(flags))

    found = codes = None
    if known.value is not None:
        turned = known.value.t()
        check_cells(turned, flags, x.frac_bits)
        given = [(turned[k, :first], side) for k, side in sides(flags)]
        found = torch.stack(
            [_edges(column, side, bins - 1, x.frac_bits) if spare else edges_of(column, bins) for column, side in given]
        )
        turned = torch.stack([sided(turned[k], side, x.frac_bits) for k, side in sides(flags)])
        codes = torch.searchsorted(found, turned).to(torch.uint8)
    owner = x.protocol.session.parties[known.party]
    cuts = x.protocol.share(None if found is None else found.view(-1), owner, (columns * (bins - 1),), x.frac_bits)
    blocks = []
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        mine = None if codes is None else codes[:, start:stop].contiguous()
        shape = {"columns": columns, "rows": stop - start, "bins": bins}
        blocks.append(Binned(known.party, mine, **shape, spilled=spilled))
    return Columns(cuts, blocks, columns, known.party)


def _edges(x: Tensor, side: int, bins: int, frac_bits: int) -> Tensor:
    """B - 1 edges of a column, and one between the numbers that it has and what is missing, if any may be anywhere."""
    if not side:
        return torch.cat([edges_of(x, bins), x.max().view(1)])
    x = x[x != round(MISSING * 2.0**frac_bits)]
    between = torch.full((1,), round(side * EDGE * 2.0**frac_bits), dtype=x.dtype)
    inner = edges_of(x, bins) if len(x) else between.expand(bins - 1)
    return torch.cat([inner, between] if side == ABOVE else [between, inner])


def edges_of(x: Tensor, bins: int) -> Tensor:
    """B - 1 edges of a column of ring elements, so that about as many rows lie between any two.

    An edge lies halfway between two numbers of the column. Where there are no more of them than bins, each gets its
    own; what edges are too many repeat the largest number, below which everything is, and split nothing.
    """
    values, counts = x.unique(return_counts=True)
    if len(values) > bins:
        upto = counts.cumsum(0)
        wanted = torch.arange(1, bins) * (len(x) / bins)
        last = torch.searchsorted(upto, wanted.to(upto.dtype)).clamp(max=len(values) - 2).unique()
    else:
        last = torch.arange(len(values) - 1)
    low, high = values[last], values[last + 1]
    out: Tensor = values[-1:].repeat(bins - 1)
    out[: len(last)] = low + (high - low) // 2
    return out
