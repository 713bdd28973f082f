"""Split scikit-learn's breast cancer data between two owners, in the files that the fraud example reads.

569 tumours with 30 measurements each: Alice gets the first 15 columns, Bob the other 15 and the diagnosis (1 is
malignant). Rows are put in a seeded random order, because the data set comes in an order of its own.

    python examples/fraud/breast_cancer.py --directory tacit-run/breast-cancer
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from generate import ALICE_FILE, BOB_FILE, write_csv
from sklearn.datasets import load_breast_cancer


def write_missing(directory: Path, seed: int = 7) -> list[Path]:
    """Write both owners' files unless both are there; return those written."""
    alice, bob = directory / ALICE_FILE, directory / BOB_FILE
    if alice.exists() and bob.exists():
        return []
    data = load_breast_cancer()
    order = np.random.default_rng(seed).permutation(len(data.target))
    x, label = data.data[order], 1 - data.target[order]
    names = [name.replace(" ", "_") for name in data.feature_names]
    write_csv(alice, names[:15], x[:, :15])
    write_csv(bob, names[15:], x[:, 15:], label)
    return [alice, bob]


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description="Split scikit-learn's breast cancer data between two owners.")
    parser.add_argument("--directory", type=Path, default=Path("tacit-run/breast-cancer"))
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    written = write_missing(options.directory, options.seed)
    print("wrote " + " and ".join(map(str, written)) if written else "both files are there already")


if __name__ == "__main__":
    main()
