"""Flower sends nothing home from tests, and logs only what is wrong."""

from __future__ import annotations

import logging
import os

import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr")
logging.getLogger("flwr").setLevel(logging.ERROR)
