from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

import tacit
from tacit.session.session import Session


@pytest.fixture
def random() -> torch.Generator:
    """Randomness for inputs; `TACIT_TEST_SEED` repeats a run that failed."""
    seed = int(os.environ.get("TACIT_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TACIT_TEST_SEED={seed}")
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def session() -> Iterator[Session]:
    """All roles in this process."""
    with tacit.session(seed=1) as opened:
        yield opened
