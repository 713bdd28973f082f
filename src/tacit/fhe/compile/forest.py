"""Trees of any origin to a `ForestProgram`: conditions over a table of bits (`conditions.py`), values as integers.

On a path only the tightest condition from either side matters for each column, so a leaf is a box, with at most two
conditions a column.

`n_bits` bounds the table: 2^n_bits - 1 thresholds a column. A column with fewer keeps its own, exactly; one with more
has its thresholds moved to that many of them, evenly over their uses. With `hide_thresholds` all columns use the
quantiles of the representative rows instead: the client then does not learn which thresholds the model uses, at the
price of larger messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tacit.errors import DataError, FheError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.compile.conditions import Table, Tree, always_left, entries, line_of, table_of
from tacit.fhe.compile.linear import nearest_integers
from tacit.fhe.encode import Affine, Encoder, Float, LeafEncoder, MixedBits, MixedLeaves, Thermometer
from tacit.fhe.forest_program import ForestProgram, LeafProgram
from tacit.fhe.layout import Index, Int
from tacit.fhe.read import ForestReader, Head, PlainReader, VoteReader

VALUE_BITS = 15
"""Bits of a channel's sum. They fix the plaintext modulus (the next prime), and each bit more costs two bits of
flooding: the secret factors grow with the modulus and its room shrinks. The rounding of 100 trees then adds up to
2e-4 of the largest possible sum (rms); 17 bits would push forests of a few hundred leaves into a ring of degree 8192,
twice the time and the bytes."""


EVERY_THRESHOLD = 40
"""Bits of a table that keeps all thresholds."""

MOST_VOTES = 1 << 15
"""Trees whose votes are counted. Counts are exact, whatever their number; the bound keeps them within 16 bits."""


@dataclass(frozen=True)
class Units:
    """What an integer stands for: tree T's value v is (v - centre_T) / scale of its channel and output.

    The centre is the middle of a tree's values, so that what they have in common (the mean of a target far from zero)
    takes none of the bits. Each output has a scale of its own. The centres' sum is public, in the head.
    """

    centre: Float
    scale: Float
    shift: Float

    @classmethod
    def of(cls, trees: Sequence[Tree]) -> Units:
        """Return the units in which the sum over the trees just fits into `VALUE_BITS`."""
        limit = (1 << (VALUE_BITS - 1)) - len(trees) - 1  # each tree's rounding adds at most half a unit
        if limit < 1 << (VALUE_BITS - 2):
            raise FheError(f"{len(trees)} trees are too many: their rounding would drown the sum of their values")
        channel = np.array([tree.channel for tree in trees])
        ends = [(leaves.min(axis=0), leaves.max(axis=0)) for leaves in (t.value[t.feature < 0] for t in trees)]
        centre = np.stack([(low + high) / 2 for low, high in ends])
        reach = np.zeros((int(channel.max()) + 1, centre.shape[1]))
        shift = np.zeros_like(reach)
        np.add.at(reach, channel, np.stack([(high - low) / 2 for low, high in ends]))
        np.add.at(shift, channel, centre)
        return cls(centre, np.where(reach > 0, reach / limit, 1.0), shift)

    def integers(self, trees: Sequence[Tree]) -> list[Int]:
        """Return the integers at the nodes of each tree."""
        return [
            nearest_integers((tree.value - centre) / self.scale[tree.channel])
            for tree, centre in zip(trees, self.centre, strict=True)
        ]


def forest_program(trees: Sequence[Tree], table: Table, values: Sequence[Int], votes: int = 0) -> ForestProgram:
    """Return the program of trees with these integers at their nodes."""
    leaf: list[int] = []
    slot: list[int] = []
    sign: list[int] = []
    condition: list[int] = []
    offset: list[int] = []
    owner: list[int] = []
    fork: list[int] = []
    left: list[Int] = []
    right: list[Int] = []
    count = 0
    for number, (tree, value) in enumerate(zip(trees, values, strict=True)):
        for entry in entries(tree, table):
            needed = 0
            for bits, weight in entry.conditions():
                leaf += [len(offset)] * len(bits)
                slot += bits
                sign += [weight] * len(bits)
                condition += [count] * len(bits)
                needed += weight < 0
                count += 1
            offset.append(needed)
            owner.append(number)
            fork.append(entry.fork)
            left.append(value[entry.left])
            right.append(value[entry.right])
    low, high = np.stack(left), np.stack(right)
    channel = [trees[number].channel for number in owner]
    return ForestProgram(
        bits=max(len(table), 1),
        leaf=_indices(leaf), slot=_indices(slot), sign=_integers(sign), offset=_integers(offset),
        tree=_indices(owner), channel=_indices(channel), values=low, fork=_indices(fork), step=high - low, votes=votes,
        condition=_indices(condition) if count < len(leaf) else None,
    )  # fmt: skip


def _indices(values: list[int]) -> Index:
    return np.array(values, dtype=np.intp)


def _integers(values: list[int]) -> Int:
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True)
class Forest:
    """Trees with what surrounds them: how they compare and what the sum of a channel means."""

    trees: Sequence[Tree]
    single: bool
    head: Callable[[Float, Float], Head]
    """Makes the head from the scales of the integer sums and what is to be added to them."""
    labels: Sequence[Int] | None = None
    """Where each leaf says one label: that label at each node."""
    classes: int = 0


@dataclass(frozen=True)
class Hiding:
    """What a client must not learn about a forest, and how many bits its thresholds get."""

    n_bits: int
    thresholds: bool
    structure: bool


def compile_forest(forest: Forest, x: Float, hide: Hiding, before: Affine | None = None) -> Compiled:
    """Return the program, encoder, reader and head of a forest over the columns of x, behind `before`."""
    if not hide.structure:
        if hide.thresholds:
            raise DataError("hide_thresholds=True hides nothing with hide_structure=False: choose one")
        return _open_forest(forest, x, before)
    seen = before(x) if before is not None else x
    if not (mix := mixed(forest, seen)):
        forest = replace(forest, trees=[replace(tree, missing_left=None) for tree in forest.trees])
    table = table_of(forest.trees, seen.shape[1], hide.n_bits, seen if hide.thresholds else None)
    encoder: Encoder = Thermometer(x.shape[1], table.line // 2, table.threshold, forest.single, before)
    if mix:
        encoder = _bits(table, x.shape[1], forest, before)
    count = len(forest.trees)
    if forest.labels is not None and count < MOST_VOTES:
        program = forest_program(forest.trees, table, forest.labels, forest.classes)
        votes = VoteReader(program.leaves, count, forest.classes)
        return Compiled(program, encoder, votes, forest.head(np.ones(1), np.zeros(1)))
    units = Units.of(forest.trees)
    channels = len(units.scale)
    program = forest_program(forest.trees, table, units.integers(forest.trees))
    reader = ForestReader(
        tuple(np.bincount(program.channel, minlength=channels).tolist()),
        tuple(sum(tree.channel == c for tree in forest.trees) for c in range(channels)),
        program.values.shape[1],
    )
    return Compiled(program, encoder, reader, forest.head(units.scale.ravel(), units.shift.ravel()))


def mixed(forest: Forest, x: Float) -> bool:
    """Return whether a client must know missing values or categories: if the rows or the trees have them."""
    return bool(np.isnan(x).any()) or any(tree.sets for tree in forest.trees)


def _bits(table: Table, columns: int, forest: Forest, before: Affine | None) -> MixedBits:
    """Return the encoder of a table of bits."""
    feature, sets = table.line // 2, table.categories
    return MixedBits(
        columns,
        _indices([*feature.tolist(), *(column for column, _, _ in sets)]),
        np.array([*table.threshold.tolist(), *(value for _, _, value in sets)]),
        _indices([*(table.line % 2).tolist(), *(kind for _, kind, _ in sets)]),
        forest.single,
        before,
    )


def _open_forest(forest: Forest, x: Float, before: Affine | None) -> Compiled:
    """Return the program of trees that the client has: it hides the values of their leaves only."""
    columns, seen = x.shape[1], x if before is None else before(x)
    table = table_of(forest.trees, seen.shape[1], EVERY_THRESHOLD, None) if mixed(forest, seen) else None
    integers, scale, shift = _integer_values(forest)
    tests: list[tuple[int, ...]] = []
    parts: list[tuple[Int, Float, Int, Int]] = []
    values, owner, channel, root = [], [], [], []
    nodes = leaves = 0
    for number, (tree, value) in enumerate(zip(forest.trees, integers, strict=True)):
        order = _preorder(tree)
        place = np.full(len(tree.feature), -1, dtype=np.int64)
        place[order] = nodes + np.arange(len(order))
        feature = tree.feature[order]
        leaf = feature < 0
        left, right = place[tree.left[order]], place[tree.right[order]]
        left[leaf] = leaves + np.arange(leaf.sum())
        right[leaf] = -1
        parts.append((feature, tree.threshold[order], left, right))
        if table is not None:
            tests += [_asked(tree, node, table) for node in order.tolist()]
        root.append(nodes)
        values.append(value[order][leaf])
        owner += [number] * int(leaf.sum())
        channel += [tree.channel] * int(leaf.sum())
        nodes, leaves = nodes + len(order), leaves + int(leaf.sum())
    feature, threshold, left, right = (np.concatenate(column) for column in zip(*parts, strict=True))
    encoder: Encoder = LeafEncoder(columns, _indices(root), feature, threshold, left, right, forest.single, before)
    if table is not None:
        ends = np.cumsum([0, *map(len, tests)], dtype=np.intp)
        flat = _indices([bit for bits in tests for bit in bits])
        mixed_bits = _bits(table, columns, forest, before)
        encoder = MixedLeaves(mixed_bits, _indices(root), feature, left, right, ends, flat)
    program = LeafProgram(_indices(owner), _indices(channel), np.concatenate(values))
    return Compiled(program, encoder, PlainReader(), forest.head(scale, shift))


def _asked(tree: Tree, node: int, table: Table) -> tuple[int, ...]:
    """Return the bits of which one is 1 if a row goes right at a node."""
    feature = int(tree.feature[node])
    if feature < 0 or always_left(tree, node):
        return ()
    if node in tree.sets:
        return table.indicators(feature, tree.sets[node])
    return (table.slot(line_of(tree, node), float(tree.threshold[node])),)


def _integer_values(forest: Forest) -> tuple[list[Int], Float, Float]:
    """Return the integers at the nodes of each tree, their scales and what is added: votes are counted exactly."""
    if forest.labels is not None and len(forest.trees) < MOST_VOTES:
        classes = np.arange(max(forest.classes - 1, 1))
        return [(label == classes).astype(np.int64) for label in forest.labels], np.ones(1), np.zeros(1)
    units = Units.of(forest.trees)
    return units.integers(forest.trees), units.scale.ravel(), units.shift.ravel()


def _preorder(tree: Tree) -> Index:
    """Return the nodes that a tree really has, each after its parent."""
    order, stack = [], [0]
    while stack:
        node = stack.pop()
        order.append(node)
        if tree.feature[node] >= 0:
            stack += [int(tree.right[node]), int(tree.left[node])]
    return _indices(order)


def constant_term(trees: Sequence[Tree], x: Float, margins: Float) -> Float:
    """Return what a boosted model adds to the sum of its trees: margins less that sum, the same in all rows."""
    sums = np.zeros((len(x), 1 + max(tree.channel for tree in trees)))
    for tree in trees:
        sums[:, tree.channel] += tree.value[tree.leaf_of(x), 0]
    rest = margins.reshape(len(x), -1) - sums
    middle: Float = np.median(rest, axis=0)
    spread = np.abs(rest - middle).max()
    if spread > 1e-4 * (1 + np.abs(margins).max()):
        raise FheError(
            "this boosted model does not start from a constant (init=estimator?), or compares in an unknown way"
        )
    return middle
