"""Flower's project `quickstart`, copied for a test."""

from __future__ import annotations

import sys
from pathlib import Path

QUICKSTART = Path(__file__).parent / "quickstart"


def forget():
    """Have the interpreter import the project anew."""
    for name in [name for name in sys.modules if name.split(".")[0] == "quickstart"]:
        del sys.modules[name]
