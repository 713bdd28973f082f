"""Ask what is on an image, and be the only one to know the answer, or the image.

    python examples/private_images/5_predict.py --to public.json --images 20

In a rehearsal, where `3_train.py --reveal` has written the weights that nobody knows otherwise, `--beside` compares the
service's scores with those of plain PyTorch.
"""

from __future__ import annotations

import argparse
import sys

from network import NEW, classifier, draw, features
from safetensors.torch import load_file
from torch import Tensor, nn

import tacit

TOLERANCE = 0.005
"""By how much a score may differ from plain PyTorch's: the arithmetic's rounding, summed over a thousand products."""


def plain(path: str, x: Tensor) -> Tensor:
    """Scores of the network with these weights, in the clear."""
    saved = load_file(path)
    width = len(saved["0.0.bias"])
    network = nn.Sequential(features(width), classifier(len(NEW), width))
    network.load_state_dict(saved)
    return network.eval()(x).detach()


def main() -> None:
    """Draw images, ask for each, and compare with what was drawn."""
    parser = argparse.ArgumentParser(description="Have images classified that nobody sees.")
    parser.add_argument("--to", required=True, help="the servers' public file")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--beside", metavar="FILE", help="the trained weights, to compare with plain PyTorch")
    options = parser.parse_args()
    x, y = draw(options.images, options.seed, of=NEW)
    with tacit.Client(options.to) as client:
        scores = client.predict(x)
    said = scores.argmax(1)
    print("drawn:", *(NEW[i] for i in y.tolist()))
    print("read: ", *(NEW[i] for i in said.tolist()))
    if options.beside:
        want = plain(options.beside, x)
        apart, same = float((scores - want).abs().max()), int((said == want.argmax(1)).sum())
        print(f"plain PyTorch, same weights: the same answer {same} of {len(y)} times, scores within {apart:.5f}")
        if apart > TOLERANCE:
            sys.exit("the service does not compute the network")
    print(f"{int((said == y).sum())} of {len(y)} recognised")


if __name__ == "__main__":
    main()
