"""Train one fraud model on columns that a bank and a tax office do not show each other.

Alice, the bank, has 16 features of 7,000 people in `aliceTrainFile.csv`. Bob, the tax office, has 16 others of the same
people, in the same order, in `bobTrainFileWithLabel.csv`, and knows who committed fraud. The model is logistic
regression, trained as anybody would in PyTorch; only that nobody sees the data, the gradients or the model.

Three things come out. Alice alone learns the weights. The last 1,000 people, whom training never touches, tell how good
the model is: the roles compute, still on secrets, how many of them it classifies correctly and how many pairs of a
fraudulent and an honest person it puts in the right order, and reveal these counts to Alice and Bob. Accuracy and AUC
follow from the counts; no prediction about any person is revealed to anyone, and no label leaves Bob.

    tacit local examples/fraud/train.py                                       # three processes on this machine
    tacit run examples/fraud/train.py --config config.json --as alice         # one role, on its own machine
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import tacit
from tacit.data import columns


def train(x: Tensor, label: Tensor, epochs: int, learning_rate: float) -> nn.Module:
    """Fit logistic regression; every line but `tacit.share` is what it would be on plain tensors."""
    model = tacit.share(nn.Linear(x.shape[1], 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for batch, target in tacit.batches(x, label, size=128, epochs=epochs):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(batch), target).backward()
        optimizer.step()
    return model


@torch.no_grad()
def count(score: Tensor, label: Tensor) -> Tensor:
    """Return three counts: people classified correctly, frauds, and (fraud, honest) pairs scored in the right order."""
    correct = ((score > 0) == (label > 0.5)).sum()
    in_order = label.T @ (score > score.T).float() @ (1 - label)
    return torch.stack([correct.float(), label.sum(), in_order.sum()])


def main() -> None:
    """Train, evaluate, and let Alice print or write down what she learns."""
    parser = argparse.ArgumentParser(description="Train a fraud model on two owners' columns.")
    parser.add_argument("--directory", type=Path, default=Path("tacit-run"), help="where the CSV files are")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--held-out", type=int, default=1000, help="rows at the end that only the evaluation uses")
    parser.add_argument("--seed", type=int, default=7, help="of public randomness: initial weights, order of rows")
    parser.add_argument("--report", type=Path, help="where Alice writes her results as JSON instead of printing them")
    options = parser.parse_args()

    with tacit.session() as session:
        torch.manual_seed(options.seed)
        xa = tacit.read_csv(options.directory / "aliceTrainFile.csv", owner="alice", standardize=True)
        xb, label = tacit.read_csv(
            options.directory / "bobTrainFileWithLabel.csv", owner="bob", label="label", standardize=True
        )
        x = torch.cat([xa, xb], dim=1)
        known = len(x) - options.held_out

        before = session.meter.cost
        model = train(x[:known], label[:known], options.epochs, options.learning_rate)
        training = session.meter.cost - before
        counts = count(model(x[known:]), label[known:])
        counts = tacit.reveal(counts, to=["alice", "bob"], name="counts on held-out people")
        evaluation = session.meter.cost - before - training
        weights = tacit.reveal(model.weight, to="alice", name="weights")

        if tacit.is_role("alice"):
            correct, frauds, in_order = counts.tolist()
            of_alice, of_bob = weights[0].split([xa.shape[1], xb.shape[1]])
            report = {
                "weights": {
                    "alice": dict(zip(columns(xa), of_alice.tolist(), strict=True)),
                    "bob": dict(zip(columns(xb), of_bob.tolist(), strict=True)),
                },
                "accuracy": correct / options.held_out,
                "auc": in_order / (frauds * (options.held_out - frauds)),
                "cost": {"training": asdict(training), "evaluation": asdict(evaluation)},
                "revealed": [asdict(entry) for entry in session.ledger.entries],
            }
            if options.report:
                options.report.write_text(json.dumps(report))
            else:
                print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
