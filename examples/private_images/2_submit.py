"""Give images to nobody in particular: each server gets a share, which says nothing on its own.

A provider is anybody with the servers' public file. It runs no server and is gone when the servers have confirmed. With
`--features` it applies the public feature layers at home and submits what they find: the servers then need not compute
them under encryption, at the price that the feature layers are known to all providers.

    python examples/private_images/2_submit.py --to public.json --dataset digits --images 500 --seed 11
"""

from __future__ import annotations

import argparse

import torch
from network import NEW, draw, features
from safetensors.torch import load_file

import tacit


def main() -> None:
    """Draw images, as other people have photos, and submit them with their labels."""
    parser = argparse.ArgumentParser(description="Submit encrypted images.")
    parser.add_argument("--to", required=True, help="the servers' public file")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--seed", type=int, required=True, help="another one for each provider")
    parser.add_argument("--features", help="the public feature layers, to be applied here")
    options = parser.parse_args()
    x, y = draw(options.images, options.seed, of=NEW)
    if options.features:
        saved = load_file(options.features)
        layers = features(width=len(saved["0.bias"]))
        layers.load_state_dict(saved)
        with torch.no_grad():
            x = layers(x)
    with tacit.Client(options.to) as client:
        print(client.submit({"features" if options.features else "image": x, "label": y}, options.dataset))


if __name__ == "__main__":
    main()
