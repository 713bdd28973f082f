"""Boost the same trees with XGBoost, on all columns in one place: what `train.py` is compared with.

Columns are binned as their owners do it, and XGBoost splits the numbers of the bins, so both see the same candidates.

    python examples/boosting/plain.py --directory tacit-run
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.ensemble.columns import edges_of


def binned(x: NDArray[np.float64], bins: int, known: int) -> NDArray[np.int64]:
    """The bin of each number, by the edges of the first `known` rows."""
    units = torch.from_numpy(np.round(x.astype(np.float32) * 65536.0).astype(np.int64))
    columns = [column.contiguous() for column in units.unbind(1)]
    return torch.stack([torch.bucketize(c, edges_of(c[:known], bins)) for c in columns], 1).numpy()


def main() -> None:
    """Train, evaluate, print."""
    import xgboost
    from sklearn.metrics import roc_auc_score

    parser = argparse.ArgumentParser(description="Boost trees on both owners' columns with XGBoost.")
    parser.add_argument("--directory", type=Path, default=Path("tacit-run"))
    parser.add_argument("--trees", type=int, default=20)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--bins", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.3)
    parser.add_argument("--held-out", type=int, default=1000)
    options = parser.parse_args()

    xa = np.genfromtxt(options.directory / "aliceTrainFile.csv", delimiter=",", skip_header=1)
    both = np.genfromtxt(options.directory / "bobTrainFileWithLabel.csv", delimiter=",", skip_header=1)
    known = len(xa) - options.held_out
    x, label = binned(np.hstack([xa, both[:, :-1]]), options.bins, known), both[:, -1]
    model = xgboost.XGBClassifier(
        n_estimators=options.trees,
        max_depth=options.depth,
        learning_rate=options.learning_rate,
        tree_method="hist",
        base_score=0.5,
        n_jobs=1,
    )
    model.fit(x[:known], label[:known])
    p = model.predict_proba(x[known:])[:, 1]
    held = label[known:]
    print(json.dumps({"accuracy": float(((p > 0.5) == held).mean()), "auc": float(roc_auc_score(held, p))}, indent=2))


if __name__ == "__main__":
    main()
