"""Write digits by a seeded pen, 28×28 pixels each, as different from one another as people's handwriting is.

A digit is a few strokes: lines and pieces of ellipses. For each image they are bent, sheared, turned, stretched and
moved at random, then drawn with a pen of random width as grey values between 0 and 1, and a little noise is added. The
ten digits are equally frequent. `real_digits` are scikit-learn's 1,797 scanned ones of 8×8 pixels, written by people.

    python examples/secure_classification/handwriting.py --seed 7       # shows one of each in the terminal
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

SIZE = 28
POINTS = 12
"""Corners of a curved stroke. More: rounder digits; fewer: faster drawing."""

TILT, SHEAR, STRETCH, SHIFT, BEND = 0.22, 0.22, 0.16, 1.8, 0.035
"""How far a digit is turned (radians), sheared, stretched (shares), moved (pixels) and bent (shares), at one standard
deviation or, for the shift, at most. Larger: harder to read. Here a small network reads 97 of 100."""

PEN = (0.55, 1.25)
"""Half the width of the pen in pixels, from the finest to the broadest."""

Floats = NDArray[np.float64]


def line(*corners: tuple[float, float]) -> Floats:
    """A stroke through corners, with x to the right and y down, both between 0 and 1."""
    return np.array(corners)


def arc(x: float, y: float, width: float, height: float, start: float, stop: float) -> Floats:
    """A piece of an ellipse around (x, y), from one angle to another; 0 is on the right and 90 at the bottom."""
    angle = np.radians(np.linspace(start, stop, POINTS))
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], 1)


STROKES: tuple[tuple[Floats, ...], ...] = (
    (arc(0.5, 0.5, 0.27, 0.42, 0, 360),),
    (line((0.34, 0.26), (0.54, 0.08), (0.54, 0.92)),),
    (np.concatenate([arc(0.5, 0.31, 0.26, 0.23, 180, 390), line((0.22, 0.92), (0.8, 0.92))]),),
    (arc(0.45, 0.29, 0.27, 0.21, 205, 450), arc(0.45, 0.71, 0.3, 0.21, -90, 150)),
    (line((0.62, 0.92), (0.62, 0.08), (0.2, 0.64), (0.84, 0.64)),),
    (np.concatenate([line((0.76, 0.08), (0.32, 0.08), (0.28, 0.46)), arc(0.48, 0.66, 0.28, 0.26, -120, 145)]),),
    (arc(0.72, 0.6, 0.46, 0.54, 255, 180), arc(0.5, 0.68, 0.25, 0.24, 0, 360)),
    (line((0.22, 0.08), (0.78, 0.08), (0.42, 0.92)),),
    (arc(0.5, 0.28, 0.21, 0.2, 0, 360), arc(0.5, 0.7, 0.26, 0.22, 0, 360)),
    (arc(0.5, 0.32, 0.24, 0.24, 0, 360), line((0.74, 0.32), (0.7, 0.62), (0.58, 0.92))),
)


def digits(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw digits: images [count, 28, 28] between 0 and 1, and which digit each is. The same seed gives the same."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count)
    images = np.empty((count, SIZE, SIZE), np.float32)
    for digit, strokes in enumerate(STROKES):
        (mine,) = np.nonzero(labels == digit)
        for start in range(0, len(mine), 100):  # distances of 100 images to all strokes are some 20 MB
            part = mine[start : start + 100]
            images[part] = _draw(strokes, len(part), random)
    return images, labels


def real_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """scikit-learn's scanned digits: images [1797, 8, 8] between 0 and 1, and which digit each is."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8) / 16).astype(np.float32), labels.astype(np.int64)


def _draw(strokes: tuple[Floats, ...], count: int, random: np.random.Generator) -> Floats:
    """Grey values from the distance of each pixel to the nearest stroke."""
    starts = np.concatenate([stroke[:-1] for stroke in strokes])
    ends = np.concatenate([stroke[1:] for stroke in strokes])
    a, b = _distort(np.stack([starts, ends]), count, random)  # [count, segments, 2], in pixels
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).reshape(-1, 1, 2)
    d = (b - a)[:, None]
    v = grid - a[:, None]  # [count, pixels, segments, 2]
    along = np.clip((v * d).sum(-1) / np.maximum((d * d).sum(-1), 1e-9), 0, 1)
    distance = np.sqrt(((v - along[..., None] * d) ** 2).sum(-1).min(-1))
    pen = random.uniform(*PEN, (count, 1))
    ink = np.clip(pen + 0.5 - distance, 0, 1) * random.uniform(0.75, 1, (count, 1))
    return np.clip(ink + random.normal(0, 0.02, ink.shape), 0, 1).reshape(count, SIZE, SIZE)


def _distort(points: Floats, count: int, random: np.random.Generator) -> Floats:
    """Bend, stretch, shear, turn and move points [2, segments, 2], to pixels [2, count, segments, 2]."""
    p = np.broadcast_to(points[:, None] - 0.5, (2, count, *points.shape[1:]))
    phase = random.uniform(0, 2 * np.pi, (2, count, 1))
    bend = random.normal(0, BEND, (2, count, 1))
    x = p[..., 0] + bend[0] * np.sin(2 * np.pi * p[..., 1] + phase[0])
    y = p[..., 1] + bend[1] * np.sin(2 * np.pi * p[..., 0] + phase[1])
    x = x * np.exp(random.normal(0, STRETCH, (count, 1))) + random.normal(0, SHEAR, (count, 1)) * y
    y = y * np.exp(random.normal(0, STRETCH / 2, (count, 1)))
    angle = random.normal(0, TILT, (count, 1))
    turned = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], -1)
    shift = random.uniform(-SHIFT, SHIFT, (count, 1, 2))
    return turned * 20 + (SIZE - 1) / 2 + shift


def main() -> None:
    """Show one of each digit."""
    parser = argparse.ArgumentParser(description="Draw digits.")
    parser.add_argument("--seed", type=int, default=7)
    images, labels = digits(200, parser.parse_args().seed)
    for digit in range(10):
        image = images[np.argmax(labels == digit)]
        for pair in image.reshape(SIZE // 2, 2, SIZE).mean(1):
            print("".join(" .:-=+*#%@"[int(v * 9.99)] for v in pair))


if __name__ == "__main__":
    main()
