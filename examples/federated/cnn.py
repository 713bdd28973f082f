"""A convolutional network from ten sites' digits, and predictions in which nobody sees model and image.

Each site trains a PyTorch CNN with FedProx's proximal term; Flower federates it; the server sees averages only. Then
the owner of the model and the owner of the images predict under multi-party computation: `tacit.share` both, call the
model, reveal the answers to the owner of the images alone.

    python examples/federated/cnn.py
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedProx
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from digits.data import load, split

import tacit
from tacit.federated import LocalGrid, PairwiseMasks, SecureAggregation, SecureAggregationMod, Settings, enroll

SITES = 10
FORM = PairwiseMasks(Settings(minimum=5, limit=8.0, max_examples=1000))
ROSTER, IDENTITIES = enroll(f"site-{i}" for i in range(SITES))
LEARNING_RATE = 0.05
LOCAL_EPOCHS = 4

app = ClientApp(
    mods=[SecureAggregationMod(FORM, lambda c: (IDENTITIES[f"site-{c.node_config['partition-id']}"], ROSTER))]
)


def network() -> nn.Sequential:
    """Return the network, with the same random weights each time."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 5 * 5, 10),
    )  # fmt: skip


@cache
def digits(data: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return training images, training labels, test images, test labels."""
    x, y, x_test, y_test = load(data)
    images = [torch.tensor(part, dtype=torch.float32).view(-1, 1, 28, 28) for part in (x, x_test)]
    return images[0], torch.tensor(y), images[1], torch.tensor(y_test)


def fit(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, mu: float = 0.0) -> float:
    """Train by SGD with momentum, held back by mu/2 times the squared distance from the start; return the loss."""
    start = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9)
    loss = torch.zeros(())
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            away = sum(((p - p0) ** 2).sum() for p, p0 in zip(model.parameters(), start, strict=True))
            (loss + mu / 2 * away).backward()
            optimizer.step()
    return float(loss.detach())


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on one site's digits."""
    x, y, _, _ = digits(str(context.run_config["data"]))
    rows = torch.tensor(split(y.numpy(), SITES)[int(context.node_config["partition-id"])])
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    loss = fit(model, x[rows], y[rows], LOCAL_EPOCHS, float(message.content["config"]["proximal-mu"]))
    metrics = MetricRecord({"num-examples": len(rows), "train-loss": loss})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


def federate(data: str, rounds: int) -> nn.Module:
    """Return the network that all sites trained."""
    strategy = SecureAggregation(FedProx(fraction_evaluate=0, proximal_mu=0.01), ROSTER, FORM)
    grid = LocalGrid(app, SITES, run_config={"data": data})
    result = strategy.start(grid, ArrayRecord(network().state_dict()), num_rounds=rounds)
    model = network()
    model.load_state_dict(result.arrays.to_torch_state_dict())
    return model


def accuracy(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of right answers."""
    return float((scores.argmax(dim=1) == labels).float().mean())


def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Predict with Alice's model on Bob's images; only Bob gets the scores."""
    with tacit.session():
        secret_model = tacit.share(model, owner="alice")
        scores = secret_model(tacit.share(images, owner="bob"))
        revealed: torch.Tensor = tacit.reveal(scores.detach(), to="bob", name="scores")
    return revealed


def walk(data: str, rounds: int, secret: int) -> dict[str, float]:
    """Return the accuracy of pooled training, of the federated network, and of that network on secret images."""
    x, y, x_test, y_test = digits(data)
    pooled = network()
    fit(pooled, x, y, rounds * LOCAL_EPOCHS)
    model = federate(data, rounds)
    with torch.no_grad():
        plain, clear = pooled(x_test), model(x_test)
    scores = predict(model, x_test[:secret])
    return {
        "pooled": accuracy(plain, y_test),
        "federated": accuracy(clear, y_test),
        "secret images": secret,
        "secret": accuracy(scores, y_test[:secret]),
        "same images in clear": accuracy(clear[:secret], y_test[:secret]),
        "largest difference of a score": float((scores - clear[:secret]).abs().max()),
    }


def main() -> None:
    """Walk, and print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", choices=["drawn", "real"], default="real")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--secret", type=int, default=100, help="how many images to predict on under MPC")
    options = parser.parse_args()
    torch.set_num_threads(1)  # these images are small: more threads only wait for each other
    print(json.dumps(walk(options.data, options.rounds, options.secret), indent=1))


if __name__ == "__main__":
    main()
