from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture
def random() -> torch.Generator:
    """Randomness for inputs; `TACIT_TEST_SEED` repeats a run that failed."""
    seed = int(os.environ.get("TACIT_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TACIT_TEST_SEED={seed}")
    return torch.Generator().manual_seed(seed)
