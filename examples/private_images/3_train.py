"""Learn new digits from encrypted images, beginning with the feature layers of old ones.

All roles run this file. server0 shares the feature layers it has pre-trained. They are frozen: their weights are opened
(under masks) once, nothing is differentiated through them, and since they do not change, each image passes them once,
however many epochs follow. Then the classifier is trained on what they found, by momentum SGD and cross-entropy, with
the softmax computed on secrets. What is revealed is how many held-out images are recognised after each epoch. If the
providers submitted features instead of images, the classifier starts right away.

    tacit run examples/private_images/3_train.py --config config.json --as server0
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.serve import SecretDataset

sys.path.insert(0, str(Path(__file__).parent))
from network import NEW, classifier, features


def found(layers: nn.Module, data: SecretDataset) -> Tensor:
    """What the frozen feature layers find in the images of a data set."""
    if "features" in data.names:
        return data["features"]
    with torch.no_grad():
        return torch.cat([layers(part) for part in data["image"].split(50)])


def recognised(head: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """How many labels the classifier finds; a secret."""
    head.eval()
    with torch.no_grad():
        return sum(head(a).argmax(1).eq(b).sum() for a, b in zip(x.split(100), y.split(100), strict=True))


def main() -> None:
    """Share the feature layers, train the classifier, save both."""
    parser = argparse.ArgumentParser(description="Fine-tune a classifier on encrypted images.")
    parser.add_argument("--features", default="features.safetensors", help="server0's pre-trained layers")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--held-out", default="held-out")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--out", default="checkpoint")
    parser.add_argument("--reveal", metavar="FILE", help="give server0 the trained weights: for a rehearsal only")
    options = parser.parse_args()
    start = time.perf_counter()
    with tacit.session() as session:
        owner = session.parties[0]
        layers, head = features(options.width), classifier(len(NEW), options.width)
        if tacit.is_role(owner):
            layers.load_state_dict(load_file(options.features))
        layers, head = tacit.share(layers.requires_grad_(False), owner=owner), tacit.share(head)
        data, held_out = tacit.open_dataset(options.dataset), tacit.open_dataset(options.held_out)
        x, y, x_test, y_test = found(layers, data), data["label"], found(layers, held_out), held_out["label"]
        optimizer = torch.optim.SGD(head.parameters(), lr=options.rate, momentum=0.9)
        for epoch in range(1, options.epochs + 1):
            head.train()
            for batch, target in tacit.batches(x, y, size=32):
                optimizer.zero_grad()
                F.cross_entropy(head(batch), target).backward()
                optimizer.step()
            count = tacit.reveal(recognised(head, x_test, y_test), to=session.parties, name="number recognised")
            if tacit.is_role(owner):
                seconds = time.perf_counter() - start
                print(f"epoch {epoch}: {count / len(y_test):.1%} of {len(y_test)} recognised after {seconds:.0f} s")
        trained = nn.Sequential(layers, head).state_dict()
        tacit.save(trained, options.out)
        if options.reveal:
            shown = {name: tacit.reveal(weights, to=owner, name=name) for name, weights in trained.items()}
            if tacit.is_role(owner):
                save_file(shown, options.reveal)
        if tacit.is_role(owner):
            print(f"{len(y)} images: {session.meter.cost}")


if __name__ == "__main__":
    main()
