"""Answer with a model that no server knows, for images that no server sees.

All roles keep the trained network loaded, each its share of it. What a client sends are shares of an image, what it
gets are shares of the scores.

    tacit serve examples/private_images/4_serve.py --config config.json --as server0
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

import tacit

sys.path.insert(0, str(Path(__file__).parent))
from network import INPUT, NEW, classifier, features

__all__ = ["INPUT", "load"]

CHECKPOINT = "checkpoint"
"""Where 3_train.py has saved this role's share, in the folder that the service is started in."""


def load() -> nn.Module:
    """The network of the checkpoint."""
    saved = tacit.load(CHECKPOINT)
    width = len(saved["0.0.bias"])
    network = nn.Sequential(features(width), classifier(len(NEW), width))
    network.load_state_dict(saved, assign=True)
    return network.eval()
