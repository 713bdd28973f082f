"""One embedded session a test, fresh randomness for inputs, and trees as they are, revealed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import tacit
from tacit.ensemble.estimator import Estimator
from tacit.session.session import Session

Array = np.ndarray[Any, Any]


@pytest.fixture
def random() -> np.random.Generator:
    """Randomness for inputs; `TACIT_TEST_SEED` repeats a run that failed."""
    seed = int(os.environ.get("TACIT_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TACIT_TEST_SEED={seed}")
    return np.random.default_rng(seed)


@pytest.fixture
def session() -> Iterator[Session]:
    """All roles in this process."""
    with tacit.session() as opened:
        yield opened


class Revealed(NamedTuple):
    """The trees of a fitted model."""

    columns: Array
    """[trees, nodes]: the column that a node looks at, -1 for none."""
    thresholds: Array
    gains: Array
    leaves: Array
    """[trees, outputs, leaves]."""

    def reached(self, tree: int, x: Array) -> Iterator[tuple[int, Array]]:
        """The nodes of a tree, leaves last, and the rows of x that come there."""
        nodes = self.columns.shape[1]
        rows = {0: np.ones(len(x), dtype=bool)}
        for node in range(2 * nodes + 1):
            yield node, rows[node]
            if node < nodes:
                column = self.columns[tree, node]
                left = np.ones(len(x), dtype=bool) if column < 0 else x[:, column] <= self.thresholds[tree, node]
                rows[2 * node + 1], rows[2 * node + 2] = rows[node] & left, rows[node] & ~left

    def values(self, tree: int, x: Array) -> Array:
        """The value of each row's leaf, [rows, outputs]."""
        nodes = self.columns.shape[1]
        out = np.zeros((len(x), self.leaves.shape[1]))
        for node, rows in self.reached(tree, x):
            if node >= nodes:
                out[rows] = self.leaves[tree, :, node - nodes]
        return out


def revealed(model: Estimator) -> Revealed:
    """The trees of a fitted model as they are."""
    kept = {name: tacit.reveal(part).numpy() for name, part in model.trees_.kept().items()}
    features = kept["features"]
    columns = np.where(features.any(0), features.argmax(0), -1)
    assert set(np.unique(features.sum(0))) <= {0, 1}
    return Revealed(columns, kept["thresholds"], kept["gains"], kept["leaves"])


def shared(x: Array, *sizes: int, owners: tuple[str, ...] = ("alice", "bob")) -> list[torch.Tensor]:
    """Columns of x, so many for each owner."""
    parts = np.split(x, np.cumsum(sizes)[:-1], axis=1)
    return [tacit.share(torch.from_numpy(p), owner=o) for p, o in zip(parts, owners, strict=False)]


def on_grid(x: Array) -> Array:
    """Numbers as fixed point holds them, so that nothing lies on the other side of an edge."""
    return np.round(x * 2**16) / 2**16
