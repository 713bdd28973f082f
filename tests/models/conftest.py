"""One embedded session a test, and the examples' own modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import tacit
from tacit.session.session import Session

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def session() -> Iterator[Session]:
    """All roles in this process."""
    torch.manual_seed(0)
    with tacit.session(seed=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def drawn() -> ModuleType:
    """The pen of the secure-classification example."""
    folder = str(EXAMPLES / "secure_classification")
    sys.path.insert(0, folder)
    yield importlib.import_module("handwriting")
    sys.path.remove(folder)
