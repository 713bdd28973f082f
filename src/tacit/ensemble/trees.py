"""Secret trees of full depth: what fitting leaves, and what every prediction goes through.

A tree has at each inner node a one-hot row over the columns, which says the column it looks at, and a threshold; x goes
left where x <= threshold. A node that splits nothing looks at no column and has the threshold 1, so all go left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.api import reveal
from tacit.ensemble.columns import Columns, coarse
from tacit.ensemble.grow import Grown, children, leaf_values
from tacit.errors import TacitError
from tacit.protocols.number import Number
from tacit.protocols.remembered import owned
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import encode
from tacit.ring.kernels import matmul
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, secret

__all__ = ["Split", "Trees"]

CHUNK = 1 << 20
"""Rows times nodes that are compared at a time. More: fewer rounds for many rows; fewer: less memory, some 400 bytes
for each."""

Reduce = Callable[[Tensor], Tensor]


class Split(NamedTuple):
    """A node of a tree that sends rows left where x[column] <= threshold; node i has the children 2 i + 1, 2 i + 2."""

    tree: int
    node: int
    column: int
    threshold: float
    missing_left: bool = False
    """Where rows go whose number is missing, if any may be."""


class Given(NamedTuple):
    """The splits on one owner's columns, which it has."""

    party: int
    first: int
    columns: int
    features: Tensor | None
    """[columns, trees, inner nodes], at the owner."""
    thresholds: Tensor | None
    """[trees, inner nodes], with the session's fractional bits, at the owner. Zero where it has no split."""


@dataclass
class Trees:
    """Trees of one depth, secret but for their number."""

    features: Number
    """[columns, trees, inner nodes], integers 0 and 1."""
    thresholds: Number
    """[trees, inner nodes]."""
    gains: Number
    """[trees, inner nodes]: by how much each split lowered twice the loss."""
    leaves: Number
    """[trees, outputs, leaves]."""
    given: list[Given] | None = None
    """What the owners have of the splits, if they were given them."""

    @classmethod
    def of(cls, columns: Sequence[Columns], grown: Sequence[Grown]) -> Trees:
        """What is kept of batches that were grown on some columns. Two rounds."""
        first = grown[0]
        splits = first.splits.combined(lambda *t: torch.cat(t, 1), *(g.splits for g in grown[1:]))
        hot = splits.arithmetic()
        candidates, trees, nodes = hot.shape
        protocol = hot.protocol
        counts = [c.columns for c in columns]
        per = (candidates - 1) // sum(counts)
        features = hot.linear(lambda t: t[1:].unflatten(0, (-1, per)).sum(1))
        always = protocol.public(torch.full((1,), 1 << protocol.frac_bits), protocol.frac_bits)
        edges = always
        for c in columns:
            edges = edges.joined(c.edges)
        row = edges.move(lambda t: t.unsqueeze(0), view=False)
        thresholds = protocol.bilinear(row, hot.move(lambda t: t.flatten(1), view=False), matmul)
        shaped = thresholds.move(lambda t: t.view(trees, nodes), view=False)
        return cls(features, shaped, _joined([g.gains for g in grown]), _joined([g.leaves for g in grown]))

    @property
    def columns(self) -> int:
        """How many columns a row has, of which numbers may be missing in counted twice."""
        return self.features.shape[0]

    @property
    def count(self) -> int:
        """How many trees there are."""
        return self.leaves.shape[0]

    @property
    def depth(self) -> int:
        """Of each tree."""
        return self.leaves.shape[2].bit_length() - 1

    def give_splits(self, columns: Sequence[Columns], owners: Sequence[str] | None = None) -> None:
        """Reveal to every owner, or to these, which nodes look at which of its columns, and their thresholds."""
        protocol = self.leaves.protocol
        parties = protocol.session.parties
        bits = protocol.frac_bits
        given = []
        start = 0
        for c in columns:
            owner, stop = parties[c.owner], start + c.columns
            if owners is not None and owner not in owners:
                start = stop
                continue
            mine = self.features.move(lambda t, a=start, b=stop: t[a:b], view=False)  # type: ignore[misc]
            hot = reveal(secret(mine, torch.int64), to=owner, name=f"splits of {owner}")
            here = mine.sum([0])
            edges = reveal(
                secret(protocol.multiply(here, self.thresholds), torch.float64), to=owner, name=f"splits of {owner}"
            )
            edges = None if edges is None else encode(edges, bits)
            given.append(Given(c.owner, start, c.columns, hot, edges))
            start = stop
        self.given = given

    def splits_of(self, party: int) -> list[Split] | None:
        """What a party was given; None in the processes of others.

        Raises:
            TacitError: if it was given nothing.
        """
        mine = [g for g in self.given or () if g.party == party]
        if not mine:
            raise TacitError("this owner was not given its splits: fit with reveal_splits=True, or a list of owners")
        if any(g.features is None or g.thresholds is None for g in mine):
            return None
        unit = 2.0**-self.leaves.protocol.frac_bits
        found = []
        for g in mine:
            assert g.features is not None
            assert g.thresholds is not None
            for column, tree, node in g.features.nonzero().tolist():
                found.append(Split(tree, node, g.first + column, float(g.thresholds[tree, node]) * unit))
        return sorted(found)

    def values(self, parts: Sequence[SecretTensor], reduce: Reduce) -> Number:
        """A linear function of the leaves' values of each row, which `reduce` makes of [rows, trees, outputs].

        Shape: rows of all columns, in the order of `fit`, in parts of one owner or of nobody.
        Domain: |x - threshold| < 2^(62 - f).   Error: none but that of the leaves.
        Cost: 4 rounds, and 1 for each level of a tree, for every `CHUNK`.   Reveals: nothing.
        """
        chunks = [self._values(rows, reduce) for rows in self._chunks(parts)]
        return chunks[0] if len(chunks) == 1 else _joined(chunks)

    def _chunks(self, parts: Sequence[SecretTensor]) -> Iterator[list[Number]]:
        numbers = [coarse(arithmetic(p)) for p in parts]
        rows = max(1, CHUNK // self.thresholds.numel)
        for start in range(0, len(parts[0]), rows):
            stop = start + rows
            yield [x.move(lambda t, a=start, b=stop: t[a:b], view=False) for x in numbers]  # type: ignore[misc]

    def _values(self, parts: Sequence[Number], reduce: Reduce) -> Number:
        protocol = self.leaves.protocol
        below = self._below_by_owners(parts)
        if below is None:
            below = protocol.less(self._looked_at(parts), [1])[0]
        paths: Bits | None = None
        start = 0
        for level in range(self.depth):
            stop = start + (1 << level)
            go = below.move(lambda t, a=start, b=stop: t[:, :, a:b], view=False)  # type: ignore[misc]
            if paths is None:
                paths = children(go, go.invert())
            else:
                left = paths & go
                paths = children(left, paths ^ left)
            start = stop
        assert paths is not None
        return leaf_values(paths, self.leaves).linear(reduce)

    def _below_by_owners(self, parts: Sequence[Number]) -> Bits | None:
        """[the row goes left at the node], by owners who have their splits and these columns. Local."""
        if self.given is None or [g.columns for g in self.given] != [p.shape[1] for p in parts]:
            return None
        known = [owned(p.facts) for p in parts]
        if any(k is None or k.party != g.party for k, g in zip(known, self.given, strict=True)):
            return None
        protocol = self.leaves.protocol
        shape = (parts[0].shape[0], *self.thresholds.shape)
        none = self.features.sum([0]).plus(torch.tensor(1))  # even where it looks at a column
        go = protocol.parity(none).move(lambda t: t.unsqueeze(0).expand(shape), view=False)
        for k, g in zip(known, self.given, strict=True):
            value = None
            if k is not None and k.value is not None and g.features is not None and g.thresholds is not None:
                looked = matmul(k.value, g.features.flatten(1)).view(shape)
                value = ((looked <= g.thresholds) & g.features.any(0)).to(torch.uint8)
            go = go ^ protocol.share_bits(value, protocol.session.parties[g.party], shape)
        return go

    def _looked_at(self, parts: Sequence[Number]) -> Number:
        """Each row's number in the column that each node looks at, less the threshold: [rows, trees, nodes]."""
        protocol = self.leaves.protocol
        flat = self.features.move(lambda t: t.flatten(1), view=False)
        protocol.together(flat, *parts)
        total: Number | None = None
        start = 0
        for x in parts:
            stop = start + x.shape[1]
            mine = flat.move(lambda t, a=start, b=stop: t[a:b], view=False)  # type: ignore[misc]
            product = protocol.bilinear(x, mine, matmul)
            total, start = (product if total is None else total + product), stop
        assert total is not None
        shape = self.thresholds.shape
        edges = self.thresholds.move(lambda t: t.reshape(1, -1).expand(parts[0].shape[0], -1), view=False)
        return (total - edges).move(lambda t: t.view(-1, *shape), view=False)

    def kept(self) -> dict[str, Any]:
        """The secrets, for a checkpoint."""
        return {
            "features": secret(self.features.fork(), torch.int64),
            "thresholds": secret(self.thresholds.fork()),
            "gains": secret(self.gains.fork()),
            "leaves": secret(self.leaves.fork()),
        }

    @classmethod
    def restored(cls, kept: dict[str, Any]) -> Trees:
        """What `kept` gave, in this session."""
        features, thresholds, gains, leaves = (
            arithmetic(kept[name]) for name in ("features", "thresholds", "gains", "leaves")
        )
        return cls(features, thresholds, gains, leaves)


def _joined(numbers: Sequence[Number]) -> Number:
    return numbers[0].combined(lambda *t: torch.cat(t), *numbers[1:])
