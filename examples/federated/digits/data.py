"""Digits of 28 by 28 pixels, drawn or real, and how they are spread unevenly over the sites.

`drawn` makes them up: each digit is a few pen strokes through fixed points, seen through a random small rotation,
shear, scaling and shift, with a pen of random width, and with noise on the paper. `real` are the 1,797 handwritten
digits that scikit-learn ships, each pixel tripled and framed. Both from one seed.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

SIZE = 28
CLASSES = 10
FEATURES = SIZE * SIZE

STROKES = {
    0: ["35 33 31 41 61 63 65 55 35"],
    1: ["42 51 55", "45 65"],
    2: ["32 41 51 62 63 35 65"],
    3: ["31 61 43 53 64 55 35"],
    4: ["55 51 34 64"],
    5: ["61 31 33 53 64 55 35"],
    6: ["51 32 34 45 55 64 53 34"],
    7: ["31 61 45", "43 63"],
    8: ["43 32 41 51 62 53 43 34 45 55 64 53"],
    9: ["63 43 32 41 51 62 64 45"],
}
"""Where the pen goes: columns 3 to 6 and rows 1 to 5 of a grid, a polyline for each stroke."""

WOBBLE = 0.22
"""Standard deviation of the entries of the random linear map, about the identity. At 0.22 a linear classifier reads
about nine digits of ten, as it does on real handwriting; at 0.1 it reads them all."""
NOISE = 0.15
"""Standard deviation of the noise on each pixel."""


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` drawn digits, as rows of 784 numbers from 0 to 1, and which they are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    return np.stack([_draw(int(label), rng) for label in labels]), labels


def _draw(label: int, rng: np.random.Generator) -> np.ndarray:
    pixels = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1).reshape(-1, 1, 2).astype(float)
    turn = np.eye(2) + WOBBLE * rng.normal(size=(2, 2))
    shift = SIZE / 2 + rng.normal(size=2)
    width = rng.uniform(0.8, 1.6)
    starts, ends = [], []
    for stroke in STROKES[label]:
        points = np.array([[int(x) - 4.5, int(y) - 3.0] for x, y in stroke.split()]) * 4.2
        points = points @ turn.T + shift
        starts.append(points[:-1])
        ends.append(points[1:])
    a, b = np.concatenate(starts), np.concatenate(ends)
    along = b - a
    t = np.clip(((pixels - a) * along).sum(-1) / (along**2).sum(-1), 0, 1)
    distance = np.linalg.norm(pixels - (a + t[..., None] * along), axis=-1).min(axis=1)
    ink = 1 / (1 + np.exp(2.5 * (distance - width)))
    return np.clip(ink + NOISE * rng.normal(size=FEATURES), 0, 1)


def real() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's handwritten digits, 8 by 8 pixels made 28 by 28."""
    images, labels = load_digits(return_X_y=True)
    large = [np.pad(np.kron(image, np.ones((3, 3))), 2) for image in images.reshape(-1, 8, 8)]
    return np.stack(large).reshape(len(images), -1) / 16, labels


def load(name: str, seed: int = 7, count: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return training images, training labels, test images, test labels of `drawn` or `real`; a quarter is for test."""
    x, y = real() if name == "real" else drawn(count, seed)
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = order[: len(x) // 4], order[len(x) // 4 :]
    return x[train], y[train], x[test], y[test]


def split(labels: np.ndarray, sites: int, seed: int = 7) -> list[np.ndarray]:
    """Return each site's rows: the largest site has about ten times as many as the smallest, and other digits.

    Each site has its own taste for each digit (Dirichlet, concentration 2), and at least two images of every one.
    """
    rng = np.random.default_rng(seed)
    sizes = np.geomspace(1, 10, sites)
    parts: list[list[int]] = [[] for _ in range(sites)]
    for digit in range(CLASSES):
        rows = rng.permutation(np.flatnonzero(labels == digit))
        least, rest = rows[: 2 * sites], rows[2 * sites :]
        shares = sizes * rng.dirichlet(np.full(sites, 2.0))
        cuts = np.cumsum(shares / shares.sum() * len(rest)).astype(int)[:-1]
        for site, (own, more) in enumerate(zip(np.split(least, sites), np.split(rest, cuts), strict=True)):
            parts[site] += [*own, *more]
    return [np.array(sorted(part)) for part in parts]
