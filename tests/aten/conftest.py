"""One embedded session a test, and random inputs whose seed is printed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

import tacit
from tacit.session.session import Session


@pytest.fixture
def seed() -> int:
    """A fresh seed for each test; `TACIT_TEST_SEED` repeats one that failed."""
    value = int(os.environ.get("TACIT_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TACIT_TEST_SEED={value}")
    return value


@pytest.fixture
def random(seed: int) -> torch.Generator:
    """Public randomness for inputs."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def session() -> Iterator[Session]:
    """All roles in this process."""
    with tacit.session(seed=1) as opened:
        yield opened
