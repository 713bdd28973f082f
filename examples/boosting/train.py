"""Boost trees on columns that a bank and a tax office do not show each other.

The files are those of the fraud example: Alice, the bank, has 16 features of 7,000 people, Bob, the tax office, 16
others and who committed fraud. Nobody sees the data, a gradient, a split or a leaf. Three things come out: how many of
the last 1,000 people, whom training never touches, are classified correctly, and how many pairs of a fraudulent and an
honest person are put in the right order, which Alice and Bob learn; and how much each column has helped, which Alice
learns.

    python examples/fraud/generate.py --directory tacit-run
    tacit local examples/boosting/train.py                                    # three processes on this machine
    tacit run examples/boosting/train.py --config config.json --as alice      # one role, on its own machine
    python examples/boosting/plain.py                                         # XGBoost, on all columns in one place
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

import tacit
from tacit.data import columns
from tacit.ensemble import GradientBoostingClassifier


def count(score: Tensor, label: Tensor) -> Tensor:
    """Return three counts: people classified correctly, frauds, and (fraud, honest) pairs scored in the right order."""
    correct = ((score > 0) == (label > 0.5)).sum()
    in_order = label.T @ (score > score.T).float() @ (1 - label)
    return torch.stack([correct.float(), label.sum(), in_order.sum()])


def main() -> None:
    """Train, evaluate, and let Alice print or write down what she learns."""
    parser = argparse.ArgumentParser(description="Boost trees on two owners' columns.")
    parser.add_argument("--directory", type=Path, default=Path("tacit-run"), help="where the CSV files are")
    parser.add_argument("--trees", type=int, default=20)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--bins", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.3)
    parser.add_argument("--held-out", type=int, default=1000, help="rows at the end that only the evaluation uses")
    parser.add_argument("--report", type=Path, help="where Alice writes her results as JSON instead of printing them")
    parser.add_argument("--plot", type=Path, help="where Alice draws how much each column has helped")
    options = parser.parse_args()

    with tacit.session() as session:
        xa = tacit.read_csv(options.directory / "aliceTrainFile.csv", owner="alice")
        xb, label = tacit.read_csv(options.directory / "bobTrainFileWithLabel.csv", owner="bob", label="label")
        known = len(label) - options.held_out
        model = GradientBoostingClassifier(
            n_estimators=options.trees,
            max_depth=options.depth,
            max_bins=options.bins,
            learning_rate=options.learning_rate,
            base_score=0.5,
        )

        before = session.meter.cost
        model.fit([xa[:known], xb[:known]], label[:known])
        training = session.meter.cost - before
        score = model.decision_function([xa[known:], xb[known:]]).unsqueeze(1)
        counts = tacit.reveal(count(score, label[known:]), to=["alice", "bob"], name="counts on held-out people")
        gains = tacit.reveal(model.feature_importances_, to="alice", name="gains of columns")

        if tacit.is_role("alice"):
            correct, frauds, in_order = counts.tolist()
            names = [*columns(xa), *columns(xb)]
            gained = dict(zip(names, (gains / gains.sum()).tolist(), strict=True))
            report = {
                "accuracy": correct / options.held_out,
                "auc": in_order / (frauds * (options.held_out - frauds)),
                "importances": dict(sorted(gained.items(), key=lambda item: -item[1])),
                "cost": asdict(training),
                "rounds a tree": training.rounds / options.trees,
            }
            if options.plot:
                draw(report["importances"], options.plot)
            if options.report:
                options.report.write_text(json.dumps(report))
            else:
                print(json.dumps(report, indent=2))


def draw(importances: dict[str, float], path: Path) -> None:
    """Bars of how much each column has lowered the loss, the largest on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 8), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(importances)[::-1], list(importances.values())[::-1], color="teal")
    axes.set_xlabel("share of what all splits gained")
    figure.savefig(path)


if __name__ == "__main__":
    main()
