"""The model of the server, for `tacit serve`: a perceptron that it trains on digits of its own when it starts.

    tacit serve examples/secure_classification/model.py --config server.json

Nothing here is secret to the server, and only `classify.architecture` is known to clients, as a graph of operators.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from classify import data, train

INPUT = (28, 28)


def load() -> nn.Module:
    """Train the model; `TRAINING_IMAGES` says on how many drawn digits."""
    count = int(os.environ.get("TRAINING_IMAGES", "6000"))
    return train(*data("drawn", "server", count), epochs=10)
