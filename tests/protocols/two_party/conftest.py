"""Randomness for the tests of two parties."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> int:
    """A fresh seed for each test; `TACIT_TEST_SEED` repeats one that failed."""
    value = int(os.environ.get("TACIT_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TACIT_TEST_SEED={value}")
    torch.manual_seed(value)
    return value
