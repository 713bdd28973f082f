"""Learn what strokes are, from digits that anybody may see.

A network for images has two parts: feature layers, which find what all images of a kind have in common, and a
classifier. The clinic of this story has public images of the digits 0 to 4, and trains both parts on them in plain
PyTorch. It keeps the feature layers; what 5 to 9 look like it will learn from images that nobody shows.

    python examples/private_images/1_pretrain.py --out features.safetensors
"""

from __future__ import annotations

import argparse

import torch
from network import OLD, classifier, draw, features
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F


def main() -> None:
    """Train with Adam, and write the feature layers."""
    parser = argparse.ArgumentParser(description="Pre-train feature layers on public images.")
    parser.add_argument("--out", default="features.safetensors")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=int, default=32, help="channels of the convolutions")
    options = parser.parse_args()
    torch.manual_seed(1)
    x, y = draw(options.images, seed=1, of=OLD)
    network = nn.Sequential(features(options.width), classifier(len(OLD), options.width))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(options.epochs):
        for rows in torch.randperm(len(y)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
    save_file(network[0].state_dict(), options.out)
    x, y = draw(500, seed=2, of=OLD)
    with torch.no_grad():
        correct = (network.eval()(x).argmax(1) == y).float().mean()
    print(f"{options.out}: learned on {options.images} images of 0 to 4; {correct:.1%} of others are recognised")


if __name__ == "__main__":
    main()
