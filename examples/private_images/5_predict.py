"""Ask what is on an image, and be the only one to know the answer, or the image.

python examples/private_images/5_predict.py --to public.json --images 20
"""

from __future__ import annotations

import argparse

from network import NEW, draw

import tacit


def main() -> None:
    """Draw images, ask for each, and compare with what was drawn."""
    parser = argparse.ArgumentParser(description="Have images classified that nobody sees.")
    parser.add_argument("--to", required=True, help="the servers' public file")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--seed", type=int, default=99)
    options = parser.parse_args()
    x, y = draw(options.images, options.seed, of=NEW)
    with tacit.Client(options.to) as client:
        said = client.predict(x).argmax(1)
    print("drawn:", *(NEW[i] for i in y.tolist()))
    print("read: ", *(NEW[i] for i in said.tolist()))
    print(f"{int((said == y).sum())} of {len(y)} recognised")


if __name__ == "__main__":
    main()
