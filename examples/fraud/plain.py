"""Train the fraud model as nobody may in earnest: in plain PyTorch, on all the data in one place.

The same code as `train.py` without secrets: the same initial weights, the same batches in the same order. It shows what
the secret run must come to, and, trained on each owner's columns alone, why the owners cooperate.

    python examples/fraud/plain.py --directory tacit-run
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tacit.data import batches, read_table


class Result(NamedTuple):
    """A trained model's weights, and its accuracy and AUC on the people held out."""

    weights: Tensor
    accuracy: float
    auc: float


def train(x: Tensor, label: Tensor, epochs: int, learning_rate: float) -> nn.Module:
    """Fit logistic regression."""
    model = nn.Linear(x.shape[1], 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for batch, target in batches(x, label, size=128, epochs=epochs, progress=False):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(batch), target).backward()
        optimizer.step()
    return model


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, label: Tensor) -> Result:
    """Return what the model is worth on people it has not seen."""
    score = model(x)
    correct = (score > 0) == (label > 0.5)
    in_order = score[label > 0.5][:, None] > score[label < 0.5]
    return Result(model.weight.detach()[0], float(correct.float().mean()), float(in_order.float().mean()))


def run(x: Tensor, label: Tensor, *, epochs: int, learning_rate: float, held_out: int, seed: int) -> Result:
    """Train on all rows but the last `held_out`, and evaluate on those."""
    torch.manual_seed(seed)
    known = len(x) - held_out
    model = train(x[:known], label[:known], epochs, learning_rate)
    return evaluate(model, x[known:], label[known:])


def compare(directory: Path, **settings: float) -> dict[str, Result]:
    """Train on the pooled columns and on each owner's alone."""
    alice = read_table(directory / "aliceTrainFile.csv")
    bob, label = read_table(directory / "bobTrainFileWithLabel.csv").split("label")
    xa, xb = alice.standardized().values.float(), bob.standardized().values.float()
    y = label.values.float()
    columns = {"pooled": torch.cat([xa, xb], dim=1), "alice alone": xa, "bob alone": xb}
    return {name: run(x, y, **settings) for name, x in columns.items()}


def main() -> None:
    """Print accuracy and AUC of the three models."""
    parser = argparse.ArgumentParser(description="Train the fraud model on plain data.")
    parser.add_argument("--directory", type=Path, default=Path("tacit-run"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    for name, result in compare(**vars(options)).items():
        print(f"{name:12} accuracy {result.accuracy:.3f}   AUC {result.auc:.3f}")


if __name__ == "__main__":
    main()
