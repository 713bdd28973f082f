"""Classify images that the server never sees with a model that the client never sees.

Bob, the server, trains a perceptron (784-500-10, ReLU) in plain PyTorch on digits of his own and shares it. Alice, the
client, shares images and, to measure how good the service is, their labels. Prediction is plain PyTorch, too, only that
nobody sees the images, the model, or any prediction: the one number revealed is how many images were recognised.

    tacit local examples/secure_classification/classify.py                    # three processes on this machine
    tacit run examples/secure_classification/classify.py --config config.json --as alice
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit

sys.path.insert(0, str(Path(__file__).parent))
from handwriting import digits, real_digits


def architecture(pixels: int) -> nn.Module:
    """What both sides know of the model."""
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 500), nn.ReLU(), nn.Linear(500, 10))


def train(images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """What the server does at home: nothing here is secret."""
    model = architecture(images[0].numel())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model


def data(kind: str, of: str, count: int) -> tuple[Tensor, Tensor]:
    """The images of a side, "server" or "client", with their labels."""
    if kind == "drawn":
        images, labels = digits(count, seed={"server": 1, "client": 2}[of])
    else:
        images, labels = real_digits()
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).numpy()
        chosen = order[:-500] if of == "server" else order[-500:][:count]
        images, labels = images[chosen], labels[chosen]
    return torch.from_numpy(images), torch.from_numpy(labels)


def main() -> None:
    """Share the model and the images, predict, and reveal the count."""
    parser = argparse.ArgumentParser(description="Classify a client's images with a server's model.")
    parser.add_argument("--digits", choices=["drawn", "real"], default="drawn", help="28×28 drawn or 8×8 scanned ones")
    parser.add_argument("--images", type=int, default=500, help="how many the client has; at most 500 real ones")
    parser.add_argument("--training-images", type=int, default=6000, help="how many drawn ones the server trains on")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    side = 28 if options.digits == "drawn" else 8

    with tacit.session() as session:
        model = architecture(side * side)
        if tacit.is_role("bob"):
            with torch.random.fork_rng():  # what one role draws alone must not move the generator that all share
                model = train(*data(options.digits, "server", options.training_images), options.epochs)
        images = labels = None
        if tacit.is_role("alice"):
            images, labels = data(options.digits, "client", options.images)

        model = tacit.share(model, owner="bob")
        shape = (options.images, side, side)
        images = tacit.share(images, owner="alice", shape=shape, dtype=torch.float32)
        labels = tacit.share(labels, owner="alice", shape=shape[:1], dtype=torch.int64)

        before = session.meter.cost
        with torch.no_grad():
            predictions = model(images).argmax(dim=1)
            recognised = predictions.eq(labels).sum()
        cost = session.meter.cost - before
        count = tacit.reveal(recognised, to="alice", name="number of images recognised")

        if tacit.is_role("alice"):
            print(f"{int(count)} of {options.images} images recognised ({count / options.images:.1%}); {cost}")


if __name__ == "__main__":
    main()
