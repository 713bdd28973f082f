"""A convolutional network from ten sites' digits, and predictions in which nobody sees model and image.

Each site trains a PyTorch CNN for an epoch a round; Flower federates it, with momentum at the server, which sees only
averages. Then the owner of the model and the owner of the images predict under multi-party computation:
`tacit.share` both, call the model, reveal the answers to the owner of the images alone.

    python examples/federated/cnn.py
    python examples/federated/cnn.py --seeds 5              # is federated as good as pooled? five times, and the mean
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
from flwr.serverapp.strategy import FedAvgM
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from digits.data import load, split

import tacit
from tacit.federated import LocalGrid, PairwiseMasks, SecureAggregation, SecureAggregationMod, Settings, enroll

SITES = 10
FORM = PairwiseMasks(Settings(minimum=5, limit=8.0, max_examples=1000))
ROSTER, IDENTITIES = enroll(f"site-{i}" for i in range(SITES))
ROUNDS = 60
LEARNING_RATE, MOMENTUM = 0.2, 0.5
"""At the sites: one epoch a round in large steps. More epochs a round need fewer rounds, but sites with unlike digits
pull the model apart: with four, accuracy stays lower however long one trains."""
SERVER_MOMENTUM = 0.7
"""Carries the direction that the sites agree on from round to round."""
DECAY = 0.97
"""Of the learning rate, from round to round, so that training comes to rest. Faster: it stops too early."""
SHIFT = 2
"""Each batch is moved by up to so many pixels, for which the frame of the digits has room: hands do so, too."""

app = ClientApp(
    mods=[SecureAggregationMod(FORM, lambda c: (IDENTITIES[f"site-{c.node_config['partition-id']}"], ROSTER))]
)


def network(seed: int = 7) -> nn.Sequential:
    """Return the network, with the same random weights for a seed each time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
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


def fit(model: nn.Module, x: torch.Tensor, y: torch.Tensor, lr: float, momentum: float) -> float:
    """Train for an epoch by SGD with momentum; return the last loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    loss = torch.zeros(())
    for rows in torch.randperm(len(x)).split(32):
        down, right = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[rows].roll((down, right), dims=(2, 3))), y[rows])
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on one site's digits."""
    x, y, _, _ = digits(str(context.run_config["data"]))
    rows = torch.tensor(split(y.numpy(), SITES)[int(context.node_config["partition-id"])])
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    round_ = int(message.content["config"]["server-round"])
    loss = fit(model, x[rows], y[rows], LEARNING_RATE * DECAY**round_, MOMENTUM)
    metrics = MetricRecord({"num-examples": len(rows), "train-loss": loss})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


def federate(data: str, rounds: int, seed: int) -> nn.Module:
    """Return the network that all sites trained."""
    strategy = SecureAggregation(FedAvgM(fraction_evaluate=0, server_momentum=SERVER_MOMENTUM), ROSTER, FORM)
    grid = LocalGrid(app, SITES, run_config={"data": data})
    result = strategy.start(grid, ArrayRecord(network(seed).state_dict()), num_rounds=rounds)
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


def train_both(data: str, rounds: int, seed: int = 7) -> tuple[nn.Module, nn.Module]:
    """Return the network trained on all digits in one place, as many epochs, and the federated one, of one seed."""
    x, y, _, _ = digits(data)
    torch.manual_seed(seed)
    pooled = network(seed)
    for epoch in range(rounds):
        fit(pooled, x, y, 0.05 * DECAY**epoch, 0.9)
    return pooled, federate(data, rounds, seed)


def walk(data: str, rounds: int, secret: int) -> dict[str, float]:
    """Return the accuracy of pooled training, of the federated network, and of that network on secret images."""
    _, _, x_test, y_test = digits(data)
    pooled, model = train_both(data, rounds)
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


def compare(data: str, rounds: int, seeds: int) -> dict[str, list[float]]:
    """Return the accuracies of pooled and of federated training for some seeds, of weights and of order."""
    _, _, x_test, y_test = digits(data)
    found: dict[str, list[float]] = {"pooled": [], "federated": []}
    for seed in range(seeds):
        for name, model in zip(found, train_both(data, rounds, seed), strict=True):
            with torch.no_grad():
                found[name].append(accuracy(model(x_test), y_test))
    return found | {f"mean {name}": [sum(values) / seeds] for name, values in found.items()}


def main() -> None:
    """Walk, and print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", choices=["drawn", "real"], default="real")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--secret", type=int, default=100, help="how many images to predict on under MPC")
    parser.add_argument("--seeds", type=int, help="only compare pooled and federated, for so many seeds")
    options = parser.parse_args()
    torch.set_num_threads(1)  # these images are small: more threads only wait for each other
    if options.seeds:
        print(json.dumps(compare(options.data, options.rounds, options.seeds), indent=1))
    else:
        print(json.dumps(walk(options.data, options.rounds, options.secret), indent=1))


if __name__ == "__main__":
    main()
