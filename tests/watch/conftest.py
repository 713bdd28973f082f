"""One embedded session a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tacit
from tacit.session.session import Session


@pytest.fixture
def session_of_all() -> Iterator[Session]:
    """All roles in this process."""
    with tacit.session(seed=1) as opened:
        yield opened
