"""Have digits classified by a server that does not see them, with a model that does not leave it.

    python examples/secure_classification/client.py public.json --images 20

The client needs Tacit, the server's public file and its images, and nothing of the model.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import tacit

sys.path.insert(0, str(Path(__file__).parent))
from classify import data


def main() -> None:
    """Ask about some drawn digits, and say how many were recognised: this client alone knows."""
    parser = argparse.ArgumentParser(description="Ask a server about images of digits.")
    parser.add_argument("public", help="the file that `tacit keygen --public` wrote")
    parser.add_argument("--images", type=int, default=20)
    options = parser.parse_args()
    images, labels = data("drawn", "client", options.images)

    with tacit.Client(options.public) as client:
        start = time.perf_counter()
        scores = client.predict(images)
        seconds = time.perf_counter() - start

    count = int(scores.argmax(dim=1).eq(labels).sum())
    print(f"{count} of {options.images} images recognised ({count / options.images:.1%}), {seconds:.2f} s")


if __name__ == "__main__":
    main()
